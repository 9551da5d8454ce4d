// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.gating.GateCall;
import io.engram.gating.GateTape;
import java.lang.foreign.MemorySegment;

/** One layer's memory at work on a shard: rows in, streams changed, and back. */
final class MemoryPart {
  private final MemoryLayer layer;
  private final EngramConfig config;
  private final int columns;
  private final int rowWidth;
  private final int channels;
  private final GateTape tape;
  private final LayerWeights weightGradients;
  private int sequences;
  private int length;
  private long[] rowIds = {};
  private float[] rows = {};
  private float[] dRows = {};
  private float[] gates = {};

  MemoryPart(MemoryLayer layer, float[] gradient) {
    this.layer = layer;
    config = layer.memory().config();
    columns = config.hashing().columns();
    rowWidth = config.rowWidth();
    channels = config.gate().streams() * config.gate().width();
    tape = layer.kernel().newTape();
    weightGradients = layer.weights().in(gradient);
  }

  /** Looks up rows of the first {@code length} tokens of some sequences, and lets them in. */
  void forward(int[][] batch, int from, int count, int sequenceLength, Streams streams) {
    sequences = count;
    length = sequenceLength;
    int tokens = sequences * length;
    int ids = Math.multiplyExact(tokens, columns);
    if (rowIds.length < ids) {
      rowIds = new long[ids];
    }
    rows = Loops.atLeast(rows, tokens, rowWidth);
    gates = Loops.atLeast(gates, tokens, config.gate().streams());
    for (int s = 0; s < sequences; s++) {
      layer
          .memory()
          .rowIdsAt(layer.layer(), batch[from + s], 0, length, rowIds, s * length * columns);
    }
    layer.memory().table(layer.layer()).gather(rowIds, 0, ids, rows, 0);
    GateCall call =
        GateCall.of(
                sequences,
                length,
                Dtype.F32,
                segment(rows, rowWidth),
                segment(streams.before(), channels),
                segment(streams.after(), channels))
            .withGates(segment(gates, config.gate().streams()));
    layer.kernel().forward(call, tape);
    if (config.gate().residual() == GateConfig.Residual.DELTA) {
      Loops.add(streams.before(), streams.after(), 0, tokens * channels);
    }
  }

  /** Streams before a layer, and after it or their gradients. */
  @SuppressWarnings("ArrayRecordComponent") // Never compared.
  record Streams(float[] before, float[] after) {}

  /** The gradient of the streams before from that of those after; that of the rows is kept. */
  void backward(Streams gradient) {
    int tokens = sequences * length;
    dRows = Loops.atLeast(dRows, tokens, rowWidth);
    layer
        .kernel()
        .backward(
            tape,
            segment(gradient.after(), channels),
            segment(dRows, rowWidth),
            segment(gradient.before(), channels),
            weightGradients);
    if (config.gate().residual() == GateConfig.Residual.DELTA) {
      Loops.add(gradient.after(), gradient.before(), 0, tokens * channels);
    }
  }

  /** Hands the rows' gradients of the last backward to the table. */
  void collect() {
    layer.gradients().add(rowIds, 0, sequences * length * columns, segment(dRows, rowWidth));
  }

  /** Gates of the last forward, of its first sequence. */
  float[][] gates() {
    int streams = config.gate().streams();
    float[][] copy = new float[length][streams];
    for (int t = 0; t < length; t++) {
      System.arraycopy(gates, t * streams, copy[t], 0, streams);
    }
    return copy;
  }

  private MemorySegment segment(float[] array, int width) {
    return MemorySegment.ofArray(array).asSlice(0, 4L * sequences * length * width);
  }
}
