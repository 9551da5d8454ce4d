// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class MarkovSourceTest {
  @Test
  void probabilitiesAreADistributionAfterEachContext() {
    RandomGenerator random = Seeds.random("MarkovSourceTest");
    MarkovSource source = new MarkovSource(2, 7, 3, random.nextLong());
    assertEquals(49, source.contexts());
    for (int a = 0; a < 7; a++) {
      for (int b = 0; b < 7; b++) {
        double sum = 0;
        int possible = 0;
        for (int c = 0; c < 7; c++) {
          double p = source.probability(new int[] {a, b, c}, 2);
          sum += p;
          possible += p > 0 ? 1 : 0;
        }
        assertEquals(1, sum, 1e-12);
        assertEquals(3, possible);
      }
    }
  }

  @Test
  void theEntropyIsTheLossOfTheSourceItselfInALongRun() {
    RandomGenerator random = Seeds.random("MarkovSourceTest");
    for (int order = 1; order <= 3; order++) {
      MarkovSource source = new MarkovSource(order, 6, 3, random.nextLong());
      int[] run = source.sequence(400_000, random);
      // Deviation of a symbol's surprisal is below 1.5; neighbours are related, so with room.
      assertEquals(source.entropy(), source.loss(run, order, run.length), 0.02, "order " + order);
    }
  }

  @Test
  void theFloorOfASequenceIsExact() {
    MarkovSource source = new MarkovSource(1, 3, 3, 5);
    int[] tokens = {0, 2, 1};
    double expected =
        -(Math.log(source.probability(tokens, 1)) + Math.log(source.probability(tokens, 2))) / 2;
    assertEquals(expected, source.loss(tokens, 1, 3), 1e-15);
    // Two of three symbols cannot follow.
    MarkovSource sure = new MarkovSource(1, 3, 1, 5);
    assertEquals(0, sure.entropy(), 1e-15);
    int[] run = sure.sequence(50, new SplittableRandom(1));
    assertEquals(0, sure.loss(run, 1, 50), 1e-15);
    run[30] = (run[30] + 1) % 3;
    assertEquals(Double.POSITIVE_INFINITY, sure.loss(run, 1, 50));
  }

  @Test
  void noModelThatKnowsLessReachesTheFloor() {
    // The best order-1 predictor of an order-2 source, counted on the very sequence.
    RandomGenerator random = Seeds.random("MarkovSourceTest");
    MarkovSource source = new MarkovSource(2, 16, 4, random.nextLong());
    int[] run = source.sequence(100_000, random);
    double[][] counts = new double[16][16];
    for (int i = 1; i < run.length; i++) {
      counts[run[i - 1]][run[i]]++;
    }
    double loss = 0;
    for (int i = 2; i < run.length; i++) {
      double[] row = counts[run[i - 1]];
      loss -= Math.log(row[run[i]] / Arrays.stream(row).sum());
    }
    assertTrue(
        loss / (run.length - 2) > source.loss(run, 2, run.length) + 0.5,
        () -> "floor " + source.loss(run, 2, run.length));
  }

  @Test
  void seedsDecide() {
    MarkovSource source = new MarkovSource(2, 8, 2, 3);
    int[] first = source.sequence(100, new SplittableRandom(4));
    assertArrayEquals(first, new MarkovSource(2, 8, 2, 3).sequence(100, new SplittableRandom(4)));
    assertFalse(
        Arrays.equals(first, new MarkovSource(2, 8, 2, 9).sequence(100, new SplittableRandom(4))));
    assertThrows(IllegalArgumentException.class, () -> new MarkovSource(2, 8, 9, 3));
    assertThrows(IllegalArgumentException.class, () -> new MarkovSource(9, 8, 2, 3));
    assertThrows(IllegalArgumentException.class, () -> source.probability(first, 1));
  }
}
