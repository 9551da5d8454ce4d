// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.train.TrainingCheckpoint;
import io.engram.vocab.TokenMap;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TrainerTest {
  private static final int CONTEXT = 8;
  private static final Corpus CORPUS = corpus();

  @TempDir Path directory;

  private static Corpus corpus() {
    String text = "one two three four five six seven eight nine ten\n".repeat(60);
    SmallVocabulary vocabulary = SmallVocabulary.choose(List.of(text), 20);
    int[] ids = vocabulary.encode(text);
    return Corpus.ofTokens(vocabulary, "numbers", ids, Arrays.copyOf(ids, 5 * CONTEXT));
  }

  private static LanguageModel model(boolean memory, int width) {
    TokenMap map = CORPUS.vocabulary().tokenMap();
    Optional<EngramConfig> config =
        Optional.of(
                EngramConfig.paper()
                    .vocabulary(map.size(), map.compressedSize())
                    .fill(SmallVocabulary.BOUNDARY)
                    .layers(1)
                    .headsPerOrder(2)
                    .slotsPerHead(97)
                    .headDim(4)
                    .streams(1)
                    .width(width)
                    .build())
            .filter(_ -> memory);
    return LanguageModel.create(
        new ModelConfig(map.size(), CONTEXT, width, 2, 2, FeedForward.gelu(24), 1, config), map, 5);
  }

  private static TrainingPlan plan(double learningRate) {
    return new TrainingPlan(6, 3, learningRate, 2, 0.1, 11, 2, 4, 3);
  }

  private static void assertSame(LanguageModel expected, LanguageModel actual) {
    MemorySegment parameters = expected.flat().memory();
    assertEquals(-1, parameters.mismatch(actual.flat().memory()));
    for (int[][] batch : CORPUS.heldOutBatches(4, 4, CONTEXT)) {
      assertTrue(Arrays.deepEquals(expected.losses(batch), actual.losses(batch)));
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void aResumedRunGivesTheSameBits(boolean memory) {
    try (LanguageModel straight = model(memory, 16);
        LanguageModel before = model(memory, 16);
        LanguageModel after = model(memory, 16)) {
      Trainer whole = new Trainer(straight, CORPUS, plan(3e-3), Optional.empty());
      assertFalse(whole.resume());
      assertTrue(whole.run(Trainer.Listener.NONE));
      assertEquals(6, whole.step());

      Trainer first = new Trainer(before, CORPUS, plan(3e-3), Optional.of(directory));
      assertFalse(first.resume());
      assertFalse(first.run(stopAfter(first, 3)));
      Trainer second = new Trainer(after, CORPUS, plan(3e-3), Optional.of(directory));
      assertTrue(second.resume());
      assertEquals(3, second.step());
      assertSame(before, after);
      assertTrue(second.run(Trainer.Listener.NONE));
      assertSame(straight, after);
      assertEquals(whole.curve().csv(), second.curve().csv());
      assertEquals(List.of(0L, 2L, 4L, 6L), steps(second.curve().heldOut()));
      assertEquals(6, second.curve().training().size());
      assertTrue(
          second.curve().lastHeldOut() < second.curve().heldOut().getFirst().loss(),
          second.curve()::csv);
    }
  }

  private static List<Long> steps(List<LossCurve.Point> points) {
    return points.stream().map(LossCurve.Point::step).toList();
  }

  private static Trainer.Listener stopAfter(Trainer trainer, long steps) {
    return new Trainer.Listener() {
      @Override
      public void trained(long step, double loss, double learningRate) {
        if (step == steps) {
          trainer.stop();
        }
      }
    };
  }

  @Test
  void savesAreMadeAsPlannedAndWhenItIsStopped() {
    List<Long> saved = new ArrayList<>();
    try (LanguageModel model = model(false, 16)) {
      Trainer trainer = new Trainer(model, CORPUS, plan(3e-3), Optional.of(directory));
      trainer.run(
          new Trainer.Listener() {
            @Override
            public void trained(long step, double loss, double learningRate) {
              if (step == 5) {
                trainer.stop();
              }
            }

            @Override
            public void saved(long step, Path save) {
              saved.add(step);
            }
          });
    }
    assertEquals(List.of(3L, 5L), saved);
    assertEquals(2, TrainingCheckpoint.saves(directory).size());
  }

  @Test
  void aCheckpointOfAnotherShapeIsRefused() {
    try (LanguageModel model = model(true, 16)) {
      new Trainer(model, CORPUS, plan(3e-3), Optional.of(directory)).run(Trainer.Listener.NONE);
    }
    try (LanguageModel wider = model(true, 32);
        LanguageModel untouched = model(true, 32)) {
      Trainer trainer = new Trainer(wider, CORPUS, plan(3e-3), Optional.of(directory));
      EngramException e = assertThrows(EngramException.class, trainer::resume);
      assertTrue(e.getMessage().contains("16") && e.getMessage().contains("32"), e.getMessage());
      assertSame(untouched, wider);
    }
  }

  @Test
  void aLossThatIsNotFiniteStopsTheRunAndLeavesTheLastSave() {
    try (LanguageModel model = model(false, 16)) {
      Trainer trainer = new Trainer(model, CORPUS, plan(1e30), Optional.of(directory));
      EngramException e =
          assertThrows(EngramException.class, () -> trainer.run(Trainer.Listener.NONE));
      assertTrue(e.getMessage().contains("training stopped at step"), e.getMessage());
      assertTrue(e.getMessage().contains("saved") || e.getMessage().contains("save is of step"));
    }
  }

  @Test
  void theLearningRateRisesAndFalls() {
    TrainingPlan plan = new TrainingPlan(110, 1, 1, 10, 0.1, 1, 1, 1, 1);
    assertEquals(0.1, plan.learningRate(0), 1e-12);
    assertEquals(1, plan.learningRate(9), 1e-12);
    assertEquals(1, plan.learningRate(10), 1e-12);
    assertEquals(0.1, plan.learningRate(109), 1e-12);
    for (long step = 11; step < 110; step++) {
      assertTrue(plan.learningRate(step) < plan.learningRate(step - 1));
    }
    assertThrows(IllegalArgumentException.class, () -> TrainingPlan.of(0, 1, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> TrainingPlan.of(1, 1, Double.NaN, 1));
  }

  @Test
  void aCurveIsReadAsItWasWritten() {
    LossCurve curve = new LossCurve();
    curve.trained(1, 0.1 + 0.2);
    curve.evaluated(1, Math.PI);
    assertEquals(curve.csv(), LossCurve.fromCsv(curve.csv()).csv());
    assertEquals(curve.training(), LossCurve.fromCsv(curve.csv()).training());
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class, () -> LossCurve.fromCsv(curve.csv() + "2,x,training"));
    assertTrue(e.getMessage().contains("line 4"), e.getMessage());
  }

  @Test
  void theLikeliestTokenIsTakenOrOneIsDrawn() {
    float[] logits = {0, 3, 1, 3};
    List<Integer> lengths = new ArrayList<>();
    int[] likeliest =
        new Sampler(0, 5, 1)
            .continuation(
                ids -> {
                  lengths.add(ids.length);
                  return logits;
                },
                3,
                new int[] {7, 8},
                4);
    assertArrayEquals(new int[] {1, 1, 1, 1}, likeliest);
    assertEquals(List.of(2, 3, 3, 3), lengths);
    int[] counts = new int[4];
    for (int id : new Sampler(1, 3, 9).continuation(_ -> logits, 3, new int[] {0}, 2_000)) {
      counts[id]++;
    }
    // e^-2 against two of 1: a share of 0.063, and none for what is not among three.
    assertEquals(0, counts[0]);
    assertEquals(0.063, counts[2] / 2_000.0, 0.03);
    assertEquals(0.468, counts[1] / 2_000.0, 0.06);
    assertThrows(IllegalArgumentException.class, () -> new Sampler(-1, 1, 1));
  }

  @Test
  void tokensHaveAKind() {
    String[][] cases = {
      {" the", "WORD"}, {"Exception", "PIECE"}, {"_id", "PIECE"}, {"\n    ", "WHITESPACE"},
      {"();\n", "PUNCTUATION"}, {" {@", "PUNCTUATION"}, {"12", "OTHER"}, {"\u00E9", "OTHER"}
    };
    for (String[] one : cases) {
      assertEquals(
          TokenKind.valueOf(one[1]),
          TokenKind.of(one[0].getBytes(java.nio.charset.StandardCharsets.UTF_8)),
          one[0]);
    }
    assertEquals(CORPUS.vocabulary().size(), TokenKind.of(CORPUS.vocabulary()).length);
  }
}
