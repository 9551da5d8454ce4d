// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.gating.EngramGraph;
import io.engram.gating.GraphTrainer;
import io.engram.train.AdamOptions;
import io.engram.train.TableOptimizer;
import io.engram.vocab.TokenMap;
import java.util.Arrays;
import java.util.Map;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.learning.config.Adam;

/**
 * A SameDiff model with memory: each token follows from the two before it, which the embedding of
 * one token cannot know. Dense weights are trained by ND4J's Adam, the table by ours.
 */
public final class SameDiffTraining {
  private static final int VOCABULARY = 16;
  private static final int TOKENS = 64;

  private SameDiffTraining() {}

  /**
   * Trains, and prints the loss as it falls.
   *
   * @param arguments not used
   */
  public static void main(String[] arguments) {
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(VOCABULARY, VOCABULARY)
            .layers(1)
            .headsPerOrder(2)
            .slotsPerHead(512)
            .headDim(8)
            .streams(2)
            .width(16)
            .build();
    int width = config.gate().width();
    int[] text = new int[TOKENS + 1];
    for (int t = 2; t < text.length; t++) {
      text[t] = (5 * text[t - 1] + 3 * text[t - 2] * text[t - 1] + 1) % VOCABULARY;
    }
    int[] tokens = Arrays.copyOf(text, TOKENS);
    int[] labels = Arrays.copyOfRange(text, 1, TOKENS + 1);

    try (EngramMemory memory = EngramMemory.create(config, TokenMap.identity(VOCABULARY), 1);
        TableOptimizer table =
            TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT.learningRate(5 * 4e-3))) {
      SameDiff graph = SameDiff.create();
      SDVariable ids = graph.placeHolder("tokens", DataType.INT32, -1);
      SDVariable next = graph.placeHolder("labels", DataType.INT32, -1);
      SDVariable rows = graph.placeHolder("rows", DataType.FLOAT, -1, -1, config.rowWidth());
      Nd4j.getRandom().setSeed(1);
      SDVariable embedding = graph.var("embedding", Nd4j.randn(DataType.FLOAT, VOCABULARY, width));
      SDVariable head = graph.var("head", Nd4j.randn(DataType.FLOAT, width, VOCABULARY).muli(0.2));
      // Not gather: its gradient is a loop over the tokens in this version of SameDiff.
      SDVariable chosen = graph.oneHot(ids, VOCABULARY, -1, 1, 0, DataType.FLOAT);
      SDVariable hidden = graph.mmul(chosen, embedding);
      SDVariable streams = graph.reshape(graph.stack(1, hidden, hidden), -1, TOKENS, 2, width);
      EngramGraph engram =
          EngramGraph.add(
              graph,
              "engram1",
              config.gate(),
              config.conv(),
              config.rowWidth(),
              memory.weights(1),
              streams,
              rows);
      SDVariable mixed = graph.reshape(streams.add(engram.output()).mean(2), -1, width);
      // Not SameDiff's own loss: its gradient does not heed what is done to it, such as the mean.
      SDVariable wanted = graph.oneHot(next, VOCABULARY, -1, 1, 0, DataType.FLOAT);
      SDVariable logSoftmax = graph.nn().logSoftmax(graph.mmul(mixed, head));
      logSoftmax.mul(wanted).sum(1).mean().mul(-1).rename("loss");
      graph.setLossVariables("loss");

      GraphTrainer trainer = new GraphTrainer(graph, new Adam(4e-3), Map.of("rows", table));
      long[] rowIds = memory.rowIds(1, tokens);
      for (int step = 0; step <= 60; step++) {
        double loss =
            trainer.step(
                Map.of(
                    "tokens", Nd4j.createFromArray(tokens),
                    "labels", Nd4j.createFromArray(labels),
                    "rows",
                        Nd4j.createFromArray(memory.table(1).gather(rowIds))
                            .reshape(1, TOKENS, config.rowWidth())),
                Map.of("rows", rowIds));
        if (step % 20 == 0) {
          System.out.printf("step %d: loss %.3f%n", step, loss);
        }
      }
      // What was trained, back into the memory: from here it is saved with its table.
      engram.weights().copyTo(memory.weights(1));
    }
  }
}
