// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.NarrowFloat;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;

/** Rounding by chance: without bias, and without losing what is small. */
class StochasticRoundingTest {
  private final UpdateKernels kernels = UpdateKernels.CHOSEN;

  /**
   * Of each number n draws: up in a share of them that is its distance from the number below,
   * within five standard deviations, for numbers of all sizes and signs, subnormal ones too.
   */
  @Test
  void theMeanIsTheNumberItself() {
    RandomGenerator random = Seeds.random("the mean of rounding");
    int count = 40;
    int draws = 20_000;
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      int bits = random.nextInt() & 0xFF7FFFFF;
      values[i] = Float.intBitsToFloat(i == 0 ? 0x00000123 : i == 1 ? 0xBF808000 : bits);
    }
    long seed = random.nextLong();
    int[] ups = new int[count];
    short[] rounded = new short[count];
    for (int draw = 0; draw < draws; draw++) {
      kernels.roundByChance(values, rounded, count, Chance.key(seed, draw % 100, draw / 100));
      for (int i = 0; i < count; i++) {
        int below = Float.floatToRawIntBits(values[i]) >>> 16;
        int up = (rounded[i] & 0xFFFF) - below;
        assertTrue(up == 0 || up == 1, values[i] + " became " + NarrowFloat.bf16(rounded[i]));
        ups[i] += up;
      }
    }
    for (int i = 0; i < count; i++) {
      double share = (Float.floatToRawIntBits(values[i]) & 0xFFFF) / 65536.0;
      double deviation = Math.sqrt(share * (1 - share) / draws);
      assertEquals(share, (double) ups[i] / draws, 5 * deviation + 1e-9, "" + values[i]);
    }
  }

  /** Neighbours in every direction draw independently: a tenth of the pairs would show. */
  @Test
  void neighboursDrawIndependently() {
    long seed = Seeds.random("neighbours").nextLong();
    int n = 50_000;
    double[] correlations = new double[3];
    for (int i = 0; i < n; i++) {
      int element = i % 64;
      long row = i / 64;
      double here = draw(seed, 5, row, element);
      correlations[0] += here * draw(seed, 5, row, element + 1);
      correlations[1] += here * draw(seed, 5, row + 1, element);
      correlations[2] += here * draw(seed, 6, row, element);
    }
    for (double correlation : correlations) {
      assertEquals(0, correlation / n, 5 / Math.sqrt(n));
    }
  }

  /** Mean 0, variance 1. */
  private static double draw(long seed, long step, long row, int element) {
    int bits = Chance.bits(Chance.key(seed, step, row), element);
    return ((bits >>> 16) / 65535.0 - 0.5) * Math.sqrt(12);
  }

  /** A thousand steps of a thousandth of the spacing of numbers. */
  @Test
  void smallUpdatesAddUpWhereRoundingToNearestLosesThem() {
    long seed = Seeds.random("small updates").nextLong();
    int dim = 512;
    int steps = 1000;
    double rate = 0x1p-7 / 1000;
    RamRowStore store = RamRowStore.create("layer 1", 1, 2 * dim);
    try (EngramTable table = new EngramTable(store, RowFormat.BF16, dim);
        TableOptimizer optimizer =
            TableOptimizer.sgd(
                table, new SgdOptions(rate, 0, false, StepOptions.DEFAULT.seed(seed)))) {
      short[] ones = new short[dim];
      Arrays.fill(ones, NarrowFloat.toBf16(1));
      store.write(0, 1, MemorySegment.ofArray(ones), 0);
      float[] down = new float[dim];
      Arrays.fill(down, -1);
      TableGradients gradients = new TableGradients(table);
      gradients.add(new long[] {0}, 0, 1, Trained.memory(down));
      float nearest = 1;
      for (int step = 0; step < steps; step++) {
        optimizer.step(gradients);
        nearest = NarrowFloat.bf16(NarrowFloat.toBf16((float) (nearest + rate)));
      }
      assertEquals(1f, nearest);
      double mean = 0;
      for (float weight : table.gather(0)) {
        mean += (weight - 1.0) / dim;
      }
      // Each step's variance is less than that of a coin of the spacing, thrown once in a thousand.
      double deviation = 0x1p-7 * Math.sqrt(1.0 / dim);
      assertEquals(0x1p-7, mean, 5 * deviation);
      assertTrue(mean > 0x1p-8, "mean " + mean);
    }
  }

  /** The bits are those of the definition, whatever the twin and wherever a vector ends. */
  @Test
  void bothTwinsDrawTheSame() {
    RandomGenerator random = Seeds.random("twins");
    UpdateKernels plain = new ScalarUpdateKernels();
    for (int count = 1; count < 70; count++) {
      float[] values = Trained.gradients(1, count, random);
      short[] expected = new short[count];
      short[] rounded = new short[count];
      long key = random.nextLong();
      assertEquals(
          plain.roundByChance(values, expected, count, key),
          kernels.roundByChance(values, rounded, count, key));
      assertTrue(Arrays.equals(expected, rounded), "count " + count);
    }
  }
}
