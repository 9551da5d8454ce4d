// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.gating.GateTape;
import io.engram.train.AdamOptions;
import io.engram.train.TableGradients;
import io.engram.train.TableOptimizer;
import io.engram.vocab.TokenMap;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;

/**
 * Training by hand on plain arrays: a layer learns to add given numbers to its streams, its table
 * by Adam and its dense weights by gradient descent. ND4J is not started.
 */
public final class PlainTraining {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;

  private PlainTraining() {}

  /**
   * Trains, and prints the loss as it falls.
   *
   * @param arguments not used
   */
  public static void main(String[] arguments) {
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(50, 50)
            .layers(1)
            .headsPerOrder(2)
            .slotsPerHead(512)
            .headDim(8)
            .streams(2)
            .width(16)
            .build();
    int channels = config.gate().streams() * config.gate().width();
    Random random = new Random(1);
    int[] tokens = random.ints(64, 0, 50).toArray();
    float[] streams = gaussian(random, tokens.length * channels);
    float[] wanted = gaussian(random, tokens.length * channels);

    try (EngramMemory memory = EngramMemory.create(config, TokenMap.identity(50), 1);
        TableOptimizer optimizer =
            TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT.learningRate(0.05));
        Arena arena = Arena.ofConfined()) {
      // The kernel reads the memory's own weights again after each step, so that these are trained.
      LayerWeights weights = memory.weights(1);
      LayerWeights gradients =
          LayerWeights.zeros(config.gate(), config.conv(), config.rowWidth(), arena);
      GateKernel kernel = GateKernel.load(memory, 1);
      GateTape tape = kernel.newTape();
      TableGradients tableGradients = new TableGradients(memory.table(1));
      long[] rowIds = memory.rowIds(1, tokens);
      float[] rows = new float[tokens.length * config.rowWidth()];
      float[] out = new float[streams.length];
      float[] outGradient = new float[streams.length];
      MemorySegment rowsGradient = MemorySegment.ofArray(new float[rows.length]);
      MemorySegment streamsGradient = MemorySegment.ofArray(new float[streams.length]);
      for (int step = 0; step <= 60; step++) {
        memory.table(1).gather(rowIds, 0, rowIds.length, rows, 0);
        kernel.forward(GateCall.of(1, tokens.length, rows, streams, out), tape);
        double loss = 0;
        for (int i = 0; i < out.length; i++) {
          float error = out[i] - wanted[i];
          loss += error * error / 2 / out.length;
          outGradient[i] = error / out.length;
        }
        kernel.backward(
            tape, MemorySegment.ofArray(outGradient), rowsGradient, streamsGradient, gradients);
        tableGradients.clear();
        tableGradients.add(rowIds, 0, rowIds.length, rowsGradient);
        optimizer.step(tableGradients);
        descend(weights.projection(), gradients.projection());
        descend(weights.keyNorm(), gradients.keyNorm());
        descend(weights.queryNorm(), gradients.queryNorm());
        weights.bias().ifPresent(w -> descend(w, gradients.bias().orElseThrow()));
        weights.convNorm().ifPresent(w -> descend(w, gradients.convNorm().orElseThrow()));
        weights.conv().ifPresent(w -> descend(w, gradients.conv().orElseThrow()));
        kernel.refresh();
        if (step % 20 == 0) {
          System.out.printf("step %d: loss %.4f%n", step, loss);
        }
      }
    }
  }

  /** Moves a weight against its gradient, and clears the gradient for the next step. */
  private static void descend(Tensor weight, Tensor gradient) {
    for (long i = 0; i < weight.count(); i++) {
      float g = gradient.data().getAtIndex(FLOAT, i);
      weight.data().setAtIndex(FLOAT, i, weight.data().getAtIndex(FLOAT, i) - 0.5f * g);
      gradient.data().setAtIndex(FLOAT, i, 0);
    }
  }

  private static float[] gaussian(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
