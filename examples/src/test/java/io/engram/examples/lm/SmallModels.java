// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;

/** Models of a few hundred parameters, and batches for them. */
final class SmallModels {
  static final int VOCABULARY = 23;
  static final int CONTEXT = 12;
  static final int WIDTH = 8;
  static final int LAYERS = 2;

  private SmallModels() {}

  /** Which variant's memory. */
  enum Memory {
    NONE,
    /**
     * Compressed ids, biases, convolution, the gate of equation 4, what is added to the streams.
     */
    PAPER,
    /** No convolution, streams written in place, the sign of zero. */
    IN_PLACE,
    /** Raw ids in segments, zero-centred norms. */
    SEGMENTS
  }

  /** Every pair of ids means the same. */
  static TokenMap tokenMap(Memory memory) {
    if (memory == Memory.SEGMENTS) {
      return TokenMap.identity(VOCABULARY);
    }
    int[] compressed = new int[VOCABULARY];
    for (int id = 0; id < VOCABULARY; id++) {
      compressed[id] = id / 2;
    }
    return TokenMap.of(compressed);
  }

  static ModelConfig config(FeedForward feedForward, int streams, Memory memory) {
    return new ModelConfig(
        VOCABULARY, CONTEXT, WIDTH, LAYERS, 2, feedForward, streams, memory(memory, streams));
  }

  private static Optional<EngramConfig> memory(Memory memory, int streams) {
    int compressed = (VOCABULARY + 1) / 2;
    return switch (memory) {
      case NONE -> Optional.empty();
      case PAPER ->
          Optional.of(
              EngramConfig.paper()
                  .vocabulary(VOCABULARY, compressed)
                  .fill(0)
                  .gateShape(GateConfig.Shape.PLAIN)
                  .layers(0, 1)
                  .headsPerOrder(2)
                  .slotsPerHead(31)
                  .headDim(4)
                  .streams(streams)
                  .width(WIDTH)
                  .build());
      case SEGMENTS ->
          Optional.of(
              EngramConfig.qwenPle()
                  .rawVocabulary(VOCABULARY)
                  .boundary(3)
                  .layers(1)
                  .headsPerOrder(2)
                  .slotsPerHead(31)
                  .rowAlignment(4)
                  .rowFormat(RowFormat.F32)
                  .conv(Optional.of(new ConvConfig(3, 2, 1e-6f)))
                  .headDim(4)
                  .streams(streams)
                  .width(WIDTH)
                  .build());
      // As V4.1, but for its rounding to bfloat16, through which no difference can be seen.
      case IN_PLACE ->
          Optional.of(
              new EngramConfig(
                  VOCABULARY,
                  true,
                  0,
                  WindowRule.NO_BOUNDARY,
                  WindowRule.Dead.BLOCKS,
                  new HashScheme(
                      compressed,
                      List.of(2, 3, 4),
                      2,
                      List.of(31L, 31L, 31L),
                      List.of(1),
                      0,
                      HashScheme.Generator.NUMPY_PCG64,
                      HashScheme.PrimeSearch.RESTART_PER_ORDER,
                      1),
                  RowFormat.F32,
                  4,
                  new GateConfig(
                      streams,
                      WIDTH,
                      false,
                      GateConfig.Shape.SIGNED_SQRT,
                      GateConfig.ZeroDot.COPY_SIGN,
                      GateConfig.NormWeight.AS_STORED,
                      1e-20f,
                      GateConfig.Rounding.NONE,
                      GateConfig.Residual.IN_PLACE),
                  Optional.empty()));
    };
  }

  static int[][] batch(RandomGenerator random, int sequences, int length) {
    int[][] batch = new int[sequences][length + 1];
    for (int[] sequence : batch) {
      for (int t = 0; t <= length; t++) {
        sequence[t] = random.nextInt(VOCABULARY);
      }
    }
    return batch;
  }

  static double mean(double[][] losses) {
    double sum = 0;
    int count = 0;
    for (double[] sequence : losses) {
      for (double loss : sequence) {
        sum += loss;
        count++;
      }
    }
    return sum / count;
  }
}
