// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.gating.ConvState;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.hash.Lookback;
import java.nio.file.Path;
import java.util.List;

/**
 * Memory inside a decode loop over plain arrays, as an engine without a tensor library has it. ND4J
 * is not started.
 */
public final class PlainArrayDecoder {
  private PlainArrayDecoder() {}

  /**
   * Decodes a few tokens with the memory of a checkpoint.
   *
   * @param arguments a checkpoint directory with a convolution, such as {@code golden/qwen_mini}
   */
  public static void main(String[] arguments) {
    try (EngramMemory memory = EngramMemory.open(Path.of(arguments[0]))) {
      EngramConfig config = memory.config();
      int layer = config.layerIds().getFirst();
      GateKernel kernel = GateKernel.load(memory, layer);

      // What one sequence carries from step to step.
      Lookback past = Lookback.start();
      ConvState state = kernel.newState(0);

      int channels = config.gate().streams() * config.gate().width();
      long[] rowIds = new long[config.hashing().columns()];
      float[] rows = new float[config.rowWidth()];
      float[] delta = new float[channels];
      int[] tokens = {17, 4, 256, 4, 99};
      for (int t = 0; t < tokens.length; t++) {
        float[] streams = hiddenState(tokens[t], channels);
        memory.rowIds(layer, tokens, t, 1, past, rowIds, 0);
        memory.table(layer).gather(rowIds, 0, rowIds.length, rows, 0);
        kernel.forward(GateCall.of(1, 1, rows, streams, delta).withStates(List.of(state)));
        for (int i = 0; i < channels; i++) {
          streams[i] += delta[i];
        }
        past = past.advance(tokens[t]);
        System.out.printf(
            "token %d: first row %d, first channel %.4f%n", tokens[t], rowIds[0], streams[0]);
      }
    }
  }

  /** Stands for the blocks of the model before this layer. */
  private static float[] hiddenState(int token, int channels) {
    float[] streams = new float[channels];
    for (int i = 0; i < channels; i++) {
      streams[i] = (float) Math.sin(token + i);
    }
    return streams;
  }
}
