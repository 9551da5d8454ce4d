// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.examples.lm.SmallModels.Memory;
import io.engram.testkit.Seeds;
import io.engram.train.TrainingCheckpoint;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class LanguageModelTest {
  private static final FeedForward MIXTURE = FeedForward.experts(4, 4, 2, 1);
  private static final double RATE = 0.01;

  static Stream<Arguments> models() {
    return Stream.of(
        Arguments.of(FeedForward.gelu(8), 1, Memory.NONE),
        Arguments.of(MIXTURE, 4, Memory.NONE),
        Arguments.of(FeedForward.swiGlu(8), 1, Memory.SEGMENTS),
        Arguments.of(FeedForward.gelu(8), 4, Memory.IN_PLACE),
        Arguments.of(MIXTURE, 2, Memory.PAPER));
  }

  private static LanguageModel model(FeedForward feedForward, int streams, Memory memory) {
    return LanguageModel.create(
        SmallModels.config(feedForward, streams, memory), SmallModels.tokenMap(memory), 11);
  }

  private static float[] values(LanguageModel model) {
    return model.flat().memory().toArray(ValueLayout.JAVA_FLOAT);
  }

  private static byte[] rows(MemoryLayer layer) {
    MemorySegment shard = layer.rows().shards().getFirst();
    return shard.toArray(ValueLayout.JAVA_BYTE);
  }

  private static void assertSame(LanguageModel expected, LanguageModel actual) {
    assertEquals(expected.steps(), actual.steps());
    assertArrayEquals(values(expected), values(actual));
    for (int i = 0; i < expected.memoryLayers().size(); i++) {
      assertArrayEquals(rows(expected.memoryLayers().get(i)), rows(actual.memoryLayers().get(i)));
    }
  }

  private static void train(LanguageModel model, RandomGenerator random, int steps) {
    for (int i = 0; i < steps; i++) {
      model.train(SmallModels.batch(random, 3, SmallModels.CONTEXT), RATE);
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void learnsWhatItSees(FeedForward feedForward, int streams, Memory memory) {
    RandomGenerator random = Seeds.random("learnsWhatItSees");
    try (LanguageModel model = model(feedForward, streams, memory)) {
      int[][] batch = SmallModels.batch(random, 4, SmallModels.CONTEXT);
      double first = model.train(batch, RATE);
      assertEquals(Math.log(SmallModels.VOCABULARY), first, 0.5);
      for (int i = 0; i < 150; i++) {
        model.train(batch, RATE);
      }
      double last = SmallModels.mean(model.losses(batch));
      assertTrue(last < first / 2, first + " became " + last);
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void sameSeedSameBits(FeedForward feedForward, int streams, Memory memory) {
    RandomGenerator random = Seeds.random("sameSeedSameBits");
    int[][][] batches = new int[6][][];
    Arrays.setAll(batches, i -> SmallModels.batch(random, 1 + i, SmallModels.CONTEXT - i));
    try (LanguageModel one = model(feedForward, streams, memory);
        LanguageModel other = model(feedForward, streams, memory)) {
      for (int[][] batch : batches) {
        assertEquals(one.train(batch, RATE), other.train(batch, RATE));
        one.losses(batches[5]);
      }
      assertSame(one, other);
      assertArrayEquals(one.logits(batches[0][0][0]), other.logits(batches[0][0][0]));
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void noLossDependsOnLaterTokens(FeedForward feedForward, int streams, Memory memory) {
    RandomGenerator random = Seeds.random("noLossDependsOnLaterTokens");
    try (LanguageModel model = model(feedForward, streams, memory)) {
      train(model, random, 5);
      int[][] batch = SmallModels.batch(random, 1, SmallModels.CONTEXT);
      double[] losses = model.losses(batch)[0];
      int changed = 1 + random.nextInt(SmallModels.CONTEXT);
      batch[0][changed] = (batch[0][changed] + 1) % SmallModels.VOCABULARY;
      double[] after = model.losses(batch)[0];
      for (int t = 0; t < changed - 1; t++) {
        // An expert's product may round otherwise for another number of tokens.
        double rounding = feedForward.experts() > 0 ? 1e-6 : 0;
        assertEquals(
            losses[t], after[t], rounding, "token " + changed + " changed the loss at " + t);
      }
      assertFalse(losses[changed - 1] == after[changed - 1]);
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void aSavedRunGoesOnToTheBit(
      FeedForward feedForward, int streams, Memory memory, @TempDir Path directory) {
    RandomGenerator random = Seeds.random("aSavedRunGoesOnToTheBit");
    byte[] caller = "batch 4".getBytes(StandardCharsets.UTF_8);
    int[][][] batches = new int[8][][];
    Arrays.setAll(batches, _ -> SmallModels.batch(random, 3, SmallModels.CONTEXT));
    try (LanguageModel straight = model(feedForward, streams, memory);
        LanguageModel resumed =
            LanguageModel.create(
                straight.config(), SmallModels.tokenMap(memory), 12, Recipe.DEFAULT)) {
      for (int i = 0; i < 4; i++) {
        straight.train(batches[i], RATE);
      }
      TrainingCheckpoint.save(directory, straight.state(caller));
      train(resumed, random, 2);
      var restored = TrainingCheckpoint.restore(directory, resumed.state(new byte[0]));
      resumed.restored(restored.step());
      assertArrayEquals(caller, restored.bytes().get(LanguageModel.CALLER));
      assertSame(straight, resumed);
      for (int i = 4; i < batches.length; i++) {
        assertEquals(straight.train(batches[i], RATE), resumed.train(batches[i], RATE));
      }
      assertSame(straight, resumed);
    }
  }

  @ParameterizedTest
  @EnumSource(names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void withTheMemoryOffItsTablesDoNotMatter(Memory memory) {
    RandomGenerator random = Seeds.random("withTheMemoryOffItsTablesDoNotMatter");
    try (LanguageModel model = model(FeedForward.gelu(8), 2, memory)) {
      train(model, random, 20);
      int[][] batch = SmallModels.batch(random, 2, SmallModels.CONTEXT);
      double[][] with = model.losses(batch);
      int[] sequence = Arrays.copyOf(batch[0], SmallModels.CONTEXT);
      for (float[][] gates : model.trace(sequence).gates()) {
        for (float[] gate : gates) {
          for (float g : gate) {
            assertTrue(g > 0 && g < 1, "gate " + g);
          }
        }
      }
      model.memoryOff(true);
      double[][] without = model.losses(batch);
      assertFalse(Arrays.deepEquals(with, without));
      for (float[][] gates : model.trace(sequence).gates()) {
        assertArrayEquals(new float[SmallModels.CONTEXT][2], gates);
      }
      for (MemoryLayer layer : model.memoryLayers()) {
        layer.rows().shards().forEach(shard -> shard.fill((byte) 0));
      }
      assertArrayEquals(without, model.losses(batch));
      model.memoryOff(false);
      assertFalse(Arrays.deepEquals(with, model.losses(batch)));
    }
  }

  @ParameterizedTest
  @MethodSource("models")
  void aTraceEndsInTheModelsPrediction(FeedForward feedForward, int streams, Memory memory) {
    RandomGenerator random = Seeds.random("aTraceEndsInTheModelsPrediction");
    try (LanguageModel model = model(feedForward, streams, memory)) {
      train(model, random, 3);
      int[][] batch = SmallModels.batch(random, 1, SmallModels.CONTEXT);
      int[] sequence = Arrays.copyOf(batch[0], SmallModels.CONTEXT);
      double[] losses = model.losses(batch)[0];
      Trace trace = model.trace(sequence);
      assertEquals(SmallModels.LAYERS + 1, trace.hidden().length);
      List<Integer> layers = model.config().memory().map(EngramConfig::layerIds).orElse(List.of());
      assertEquals(layers, trace.memoryLayers());
      float[][] last = model.logProbabilities(trace.hidden()[SmallModels.LAYERS]);
      for (int t = 0; t < losses.length; t++) {
        assertEquals(-losses[t], last[t][batch[0][t + 1]], 1e-5);
      }
      float[] logits = model.logits(sequence);
      double sum = 0;
      for (float logit : logits) {
        sum += Math.exp(logit);
      }
      for (int id = 0; id < logits.length; id++) {
        assertEquals(logits[id] - Math.log(sum), last[losses.length - 1][id], 1e-5);
      }
      // Before the first layer there is the embedding alone, whatever came before.
      int from = sequence[4] * SmallModels.WIDTH;
      float[] embedding = Arrays.copyOfRange(values(model), from, from + SmallModels.WIDTH);
      assertArrayEquals(embedding, trace.hidden()[0][4], 1e-6f);
    }
  }

  @Test
  void aGradientThatIsNotFiniteChangesNothing() {
    RandomGenerator random = Seeds.random("aGradientThatIsNotFiniteChangesNothing");
    try (LanguageModel model = model(FeedForward.swiGlu(8), 2, Memory.PAPER)) {
      train(model, random, 3);
      int[][] batch = SmallModels.batch(random, 2, SmallModels.CONTEXT);
      Parameter broken =
          model.flat().all().stream()
              .filter(p -> p.name().equals("layer1.feedForward.in"))
              .findFirst()
              .orElseThrow();
      MemorySegment memory = model.flat().memory(broken);
      float before = memory.getAtIndex(ValueLayout.JAVA_FLOAT, 5);
      memory.setAtIndex(ValueLayout.JAVA_FLOAT, 5, Float.NaN);
      model.parametersChanged();
      float[] values = values(model);
      byte[] rows = rows(model.memoryLayers().getFirst());
      ArithmeticException e =
          assertThrows(ArithmeticException.class, () -> model.train(batch, RATE));
      assertTrue(e.getMessage().contains("layer1.feedForward.in at element 5"), e.getMessage());
      assertArrayEquals(values, values(model));
      assertArrayEquals(rows, rows(model.memoryLayers().getFirst()));
      assertEquals(3, model.steps());
      memory.setAtIndex(ValueLayout.JAVA_FLOAT, 5, before);
      model.parametersChanged();
      model.train(batch, RATE);
      assertEquals(4, model.steps());
    }
  }

  @Test
  void countsItsParameters() {
    FeedForward mixture = FeedForward.experts(4, 5, 2, 1);
    int width = SmallModels.WIDTH;
    try (LanguageModel model = model(mixture, 1, Memory.NONE)) {
      long attention = 4L * width * width + width;
      long expert = 3L * width * 4;
      long router = 5L * width + 5;
      long others = (long) SmallModels.VOCABULARY * width + width;
      assertEquals(others + 2 * (attention + width + 6 * expert + router), model.denseParameters());
      assertEquals(model.denseParameters(), model.parameters());
      assertEquals(model.denseParameters() - 2 * 3 * expert, model.activeParameters());
    }
    try (LanguageModel model = model(mixture, 1, Memory.PAPER)) {
      EngramConfig config = model.memory().config();
      long slots = 0;
      for (int layer : config.layerIds()) {
        slots += model.memory().layout(layer).rowCount() * config.headDim();
      }
      assertEquals(model.denseParameters() + slots, model.parameters());
      assertEquals(
          model.denseParameters() - 2 * 3 * 3L * width * 4 + 2L * config.rowWidth(),
          model.activeParameters());
    }
  }

  @Test
  void balancesItsExperts() {
    RandomGenerator random = Seeds.random("balancesItsExperts");
    try (LanguageModel model = model(MIXTURE, 1, Memory.NONE)) {
      train(model, random, 10);
      boolean moved = false;
      for (Parameter parameter : model.flat().all()) {
        if (parameter.kind() == Parameter.Kind.BALANCE) {
          for (float bias : model.flat().memory(parameter).toArray(ValueLayout.JAVA_FLOAT)) {
            assertTrue(Math.abs(bias) < 0.0101, "bias " + bias);
            moved |= bias != 0;
          }
        }
      }
      assertTrue(moved);
    }
  }

  @Test
  void refusesWhatDoesNotFit() {
    try (LanguageModel model = model(FeedForward.gelu(8), 1, Memory.NONE)) {
      assertRefused("no sequences", () -> model.train(new int[0][], RATE));
      assertRefused("expected one length", () -> model.losses(new int[][] {{1, 2}, {1, 2, 3}}));
      assertRefused(
          "token 1 of sequence 0 is 23, expected 0 to 22",
          () -> model.train(new int[][] {{1, 23}}, RATE));
      assertRefused("expected 2 to 13", () -> model.train(new int[][] {new int[14]}, RATE));
      assertRefused("expected 1 to 12", () -> model.logits(new int[13]));
      assertRefused("learningRate is NaN", () -> model.train(new int[][] {{1, 2}}, Double.NaN));
      assertThrows(IllegalStateException.class, model::memory);
    }
    assertRefused(
        "an even number",
        () -> new ModelConfig(9, 4, 6, 1, 2, FeedForward.gelu(4), 1, Optional.empty()));
    assertRefused("3 of 2 experts", () -> FeedForward.experts(4, 2, 3, 0));
    assertRefused(
        "the model has 2 of 8",
        () -> {
          ModelConfig four = SmallModels.config(MIXTURE, 4, Memory.PAPER);
          new ModelConfig(
              four.vocabulary(),
              four.context(),
              four.width(),
              four.layers(),
              four.heads(),
              MIXTURE,
              2,
              four.memory());
        });
  }

  private static void assertRefused(String message, Runnable call) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call::run);
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }
}
