// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramMemory;
import io.engram.testkit.Seeds;
import io.engram.train.AdamOptions;
import io.engram.train.TableOptimizer;
import io.engram.vocab.TokenMap;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.learning.config.Adam;
import org.nd4j.linalg.learning.config.Sgd;

/** A small model around an Engram: embedding, streams, memory, output layer, cross entropy. */
@Tag("once")
class GraphTrainerTest {
  private static final int VOCABULARY = 12;
  private static final int WIDTH = 6;
  private static final int STREAMS = 2;
  private static final EngramConfig CONFIG =
      EngramConfig.paper()
          .vocabulary(VOCABULARY, VOCABULARY)
          .layers(1)
          .orders(2, 3)
          .headsPerOrder(2)
          .slotsPerHead(40)
          .headDim(4)
          .streams(STREAMS)
          .width(WIDTH)
          .build();

  private static EngramMemory memory() {
    return EngramMemory.create(CONFIG, TokenMap.identity(VOCABULARY), 5);
  }

  private static SameDiff model(EngramMemory memory, int length, DataType type) {
    SameDiff graph = SameDiff.create();
    SDVariable tokens = graph.placeHolder("tokens", DataType.INT32, -1, -1);
    SDVariable labels = graph.placeHolder("labels", DataType.INT32, -1, -1);
    SDVariable rows = graph.placeHolder("rows", type, -1, -1, CONFIG.rowWidth());
    Nd4j.getRandom().setSeed(9);
    SDVariable embedding = graph.var("embedding", Nd4j.randn(type, VOCABULARY, WIDTH));
    SDVariable head = graph.var("head", Nd4j.randn(type, WIDTH, VOCABULARY).muli(0.3));
    // Not gather: its gradient is a loop over the tokens in this version of SameDiff.
    SDVariable chosen =
        graph.oneHot(graph.reshape(tokens, -1), VOCABULARY, -1, 1, 0, DataType.FLOAT).castTo(type);
    SDVariable hidden = graph.mmul(chosen, embedding);
    SDVariable both = graph.stack(1, hidden, hidden);
    SDVariable streams = graph.reshape(both, -1, length, STREAMS, WIDTH);
    EngramGraph engram =
        EngramGraph.add(
            graph,
            "engram1",
            CONFIG.gate(),
            CONFIG.conv(),
            CONFIG.rowWidth(),
            memory.weights(1),
            streams,
            rows);
    SDVariable mixed = streams.add(engram.output()).mean(2);
    SDVariable logits = graph.mmul(graph.reshape(mixed, -1, WIDTH), head);
    // Not SameDiff's own loss: its gradient does not heed what is done to it, such as the mean.
    SDVariable wanted =
        graph.oneHot(graph.reshape(labels, -1), VOCABULARY, -1, 1, 0, DataType.FLOAT).castTo(type);
    graph.nn().logSoftmax(logits).mul(wanted).sum(1).mean().mul(-1).rename("loss");
    graph.setLossVariables("loss");
    return graph;
  }

  /** Each token follows from the two before it, but for a few that are drawn. */
  private static int[][] sequences(RandomGenerator random, int count, int length) {
    int[][] all = new int[count][length + 1];
    for (int[] sequence : all) {
      for (int t = 0; t <= length; t++) {
        sequence[t] =
            t < 2 || random.nextInt(10) == 0
                ? random.nextInt(VOCABULARY)
                : (5 * sequence[t - 1] + 3 * sequence[t - 2] * sequence[t - 1] + 1) % VOCABULARY;
      }
    }
    return all;
  }

  /** A batch as placeholders and row ids. */
  @SuppressWarnings("ArrayRecordComponent") // Data of one step, never compared.
  private record Batch(Map<String, INDArray> placeholders, long[] rowIds) {
    static Batch of(EngramMemory memory, int[][] sequences, DataType type) {
      int length = sequences[0].length - 1;
      int columns = CONFIG.hashing().columns();
      int[][] tokens = new int[sequences.length][];
      int[][] labels = new int[sequences.length][];
      long[] ids = new long[sequences.length * length * columns];
      for (int b = 0; b < sequences.length; b++) {
        tokens[b] = Arrays.copyOf(sequences[b], length);
        labels[b] = Arrays.copyOfRange(sequences[b], 1, length + 1);
        System.arraycopy(
            memory.rowIds(1, tokens[b]), 0, ids, b * length * columns, length * columns);
      }
      Map<String, INDArray> placeholders = new HashMap<>();
      placeholders.put("tokens", Nd4j.createFromArray(tokens));
      placeholders.put("labels", Nd4j.createFromArray(labels));
      placeholders.put(
          "rows",
          Nd4j.createFromArray(memory.table(1).gather(ids))
              .reshape(sequences.length, length, CONFIG.rowWidth())
              .castTo(type));
      return new Batch(placeholders, ids);
    }
  }

  @Test
  void gradientsOfTheWholeGraphAreTheDifferencesOfTheLoss() {
    RandomGenerator random = Seeds.random("whole graph");
    try (EngramMemory memory = memory()) {
      SameDiff graph = model(memory, 6, DataType.DOUBLE);
      Batch batch = Batch.of(memory, sequences(random, 2, 6), DataType.DOUBLE);
      Map<String, INDArray> moved = new LinkedHashMap<>();
      moved.put("rows", batch.placeholders().get("rows"));
      for (String name : graph.variableMap().keySet()) {
        if (name.equals("embedding") || name.equals("head") || isWeight(name)) {
          moved.put(name, graph.getVariable(name).getArr());
        }
      }
      // The convolution starts at zero, where half of its gradients are none.
      moved.get("engram1/conv").addi(Nd4j.randn(DataType.DOUBLE, 12, 4).muli(0.3));
      graph.createGradFunction(moved.keySet().toArray(String[]::new));
      Map<String, INDArray> gradients =
          graph.calculateGradients(batch.placeholders(), moved.keySet());
      moved.forEach((name, array) -> {
        double largest = gradients.get(name).amaxNumber().doubleValue();
        assertTrue(largest > 0, name + " has a gradient");
        for (int trial = 0; trial < 12; trial++) {
          long at = random.nextLong(array.length());
          double value = array.getDouble(at);
          array.putScalar(at, value + 1e-5);
          double more = loss(graph, batch);
          array.putScalar(at, value - 1e-5);
          double less = loss(graph, batch);
          array.putScalar(at, value);
          assertEquals(
              (more - less) / 2e-5,
              gradients.get(name).dup('c').data().getDouble(at),
              1e-5 * Math.max(largest, 1e-3),
              name + " element " + at);
        }
      });
    }
  }

  private static boolean isWeight(String name) {
    return name.matches("engram1/(projection|bias|keyNorm|queryNorm|convNorm|conv)");
  }

  private static double loss(SameDiff graph, Batch batch) {
    return graph.output(batch.placeholders(), "loss").get("loss").getDouble(0);
  }

  @Test
  void trainingLowersTheLossAndMovesOnlyTheRowsThatWereSeen() {
    RandomGenerator random = Seeds.random("training");
    try (EngramMemory memory = memory();
        TableOptimizer table =
            TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT.learningRate(0.05))) {
      SameDiff graph = model(memory, 12, DataType.FLOAT);
      GraphTrainer trainer = new GraphTrainer(graph, new Adam(0.01), Map.of("rows", table));
      int[][] text = sequences(random, 4, 12);
      long rowCount = memory.table(1).rowCount();
      long[] all = LongStream.range(0, rowCount).toArray();
      float[] before = memory.table(1).gather(all);
      Set<Long> seen = new HashSet<>();
      double first = 0;
      double last = 0;
      for (int step = 0; step < 40; step++) {
        Batch batch = Batch.of(memory, text, DataType.FLOAT);
        Arrays.stream(batch.rowIds()).forEach(seen::add);
        last = trainer.step(batch.placeholders(), Map.of("rows", batch.rowIds()));
        first = step == 0 ? last : first;
      }
      assertTrue(first > 0.8 * Math.log(VOCABULARY), "starts near chance: " + first);
      assertTrue(last < 0.5 * first, "from " + first + " to " + last);
      assertEquals(40, trainer.dense().steps());
      assertEquals(40, table.steps());
      float[] after = memory.table(1).gather(all);
      int headDim = memory.table(1).headDim();
      assertTrue(seen.size() < rowCount, "some rows are not seen");
      for (int row = 0; row < rowCount; row++) {
        boolean same =
            Arrays.equals(
                before,
                row * headDim,
                (row + 1) * headDim,
                after,
                row * headDim,
                (row + 1) * headDim);
        assertEquals(!seen.contains((long) row), same, "row " + row);
      }
    }
  }

  @Test
  void whatIsNoNumberIsRefusedAndNothingMoves() {
    try (EngramMemory memory = memory();
        TableOptimizer table = TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT)) {
      SameDiff graph = model(memory, 5, DataType.FLOAT);
      GraphTrainer trainer = new GraphTrainer(graph, new Adam(0.01), Map.of("rows", table));
      Batch batch = Batch.of(memory, sequences(Seeds.random("no number"), 2, 5), DataType.FLOAT);
      INDArray head = graph.getVariable("head").getArr().dup();
      float[] rows = memory.table(1).gather(batch.rowIds());
      batch.placeholders().get("rows").putScalar(7, Float.NaN);
      Map<String, long[]> rowIds = Map.of("rows", batch.rowIds());
      EngramException e =
          assertThrows(EngramException.class, () -> trainer.step(batch.placeholders(), rowIds));
      assertTrue(e.getMessage().contains("NaN"), e.getMessage());
      assertEquals(head, graph.getVariable("head").getArr());
      assertArrayEquals(rows, memory.table(1).gather(batch.rowIds()));
      assertEquals(0, table.steps());
      assertEquals(0, trainer.dense().steps());
      // The trainer is as good as before.
      Batch good = Batch.of(memory, sequences(Seeds.random("good"), 2, 5), DataType.FLOAT);
      trainer.step(good.placeholders(), Map.of("rows", good.rowIds()));
      assertFalse(head.equals(graph.getVariable("head").getArr()));
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    try (EngramMemory memory = memory();
        TableOptimizer table = TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT)) {
      SameDiff graph = model(memory, 5, DataType.FLOAT);
      refused(() -> new GraphTrainer(graph, new Adam(), Map.of("embedding", table)), "placeholder");
      GraphTrainer trainer = new GraphTrainer(graph, new Adam(), Map.of("rows", table));
      Batch batch = Batch.of(memory, sequences(Seeds.random("fit"), 1, 5), DataType.FLOAT);
      refused(() -> trainer.step(batch.placeholders(), Map.of()), "rows");
      refused(() -> trainer.step(batch.placeholders(), Map.of("rows", new long[3])), "3 row ids");
    }
  }

  private static void refused(Executable call, String part) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  /** Adam in double precision, by its definition (Kingma and Ba, algorithm 1). */
  @Test
  void anUpdaterTakesTheStepsOfItsRuleAndGoesOnWhereItWasSaved() {
    INDArray weight = Nd4j.createFromArray(1f, -2f, 3f, 0.5f).reshape(2, 2);
    DenseUpdater updater = new DenseUpdater(new Adam(0.1, 0.9, 0.999, 1e-8), Map.of("w", weight));
    double[] expected = {1, -2, 3, 0.5};
    double[] m = new double[4];
    double[] v = new double[4];
    for (int t = 1; t <= 4; t++) {
      INDArray gradient = Nd4j.createFromArray(0.3f, 4f, -1f * t, 1e-3f).reshape(2, 2).dup('f');
      INDArray kept = gradient.dup();
      updater.step(Map.of("w", gradient));
      assertEquals(kept, gradient);
      for (int i = 0; i < 4; i++) {
        double g = gradient.getDouble(i / 2, i % 2);
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        double rate = 0.1 * Math.sqrt(1 - Math.pow(0.999, t)) / (1 - Math.pow(0.9, t));
        expected[i] -= rate * m[i] / (Math.sqrt(v[i]) + 1e-8);
      }
      assertArrayEquals(expected, weight.dup('c').data().asDouble(), 2e-5);
    }
    INDArray other = Nd4j.zeros(DataType.FLOAT, 2, 2);
    DenseUpdater resumed = new DenseUpdater(new Adam(0.1, 0.9, 0.999, 1e-8), Map.of("w", other));
    updater.tensors().forEach((name, t) -> resumed.tensors().get(name).data().copyFrom(t.data()));
    resumed.restore(updater.steps());
    updater.learningRate(0.02);
    resumed.learningRate(0.02);
    Map<String, INDArray> gradient = Map.of("w", Nd4j.ones(DataType.FLOAT, 2, 2));
    updater.step(gradient);
    resumed.step(gradient);
    assertEquals(weight, other);
    assertEquals(0.02, resumed.learningRate());
    assertEquals(5, resumed.steps());
  }

  @Test
  void aRuleWithoutStateIsOneToo() {
    INDArray weight = Nd4j.ones(DataType.FLOAT, 3);
    new DenseUpdater(new Sgd(0.5), Map.of("w", weight))
        .step(Map.of("w", Nd4j.createFromArray(1f, 2f, -2f)));
    assertArrayEquals(new float[] {0.5f, 0, 2}, weight.toFloatVector());
    refused(
        () -> new DenseUpdater(new Sgd(), Map.of("w", Nd4j.ones(DataType.FLOAT, 2, 3).dup('f'))),
        "contiguous");
    refused(() -> new DenseUpdater(new Sgd(), Map.of("w", weight)).step(Map.of()), "no gradient");
  }
}
