// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class RepresentationsTest {
  private static float[][] normal(RandomGenerator random, int rows, int columns) {
    float[][] out = new float[rows][columns];
    for (float[] row : out) {
      for (int c = 0; c < columns; c++) {
        row[c] = (float) random.nextGaussian();
      }
    }
    return out;
  }

  @Test
  void divergenceIsThatOfTheTwoDistributions() {
    // p = (1/2, 1/2), q = (1/4, 3/4).
    float[] even = {3, 3};
    float[] uneven = {0, (float) Math.log(3)};
    assertEquals(
        0.5 * Math.log(2) + 0.5 * Math.log(2 / 3.0), LogitLens.divergence(even, uneven), 1e-7);
    assertEquals(
        0.25 * Math.log(0.5) + 0.75 * Math.log(1.5), LogitLens.divergence(uneven, even), 1e-7);
    assertEquals(0, LogitLens.divergence(uneven, new float[] {100, 100 + uneven[1]}), 1e-5);
    assertEquals(
        0.5 * LogitLens.divergence(even, uneven),
        LogitLens.divergence(new float[][] {even, even}, new float[][] {uneven, even}),
        1e-12);
    // Beyond what exp can hold.
    assertEquals(
        2000, LogitLens.divergence(new float[] {1000, -1000}, new float[] {-1000, 1000}), 1e-3);
    assertThrows(IllegalArgumentException.class, () -> LogitLens.divergence(even, new float[] {1}));
  }

  @Test
  void alignmentIsOneOfTheSameFeaturesHoweverTurned() {
    RandomGenerator random = Seeds.random("RepresentationsTest");
    float[][] x = normal(random, 50, 3);
    double angle = random.nextDouble(0, 6);
    float[][] turned = new float[50][3];
    for (int i = 0; i < 50; i++) {
      turned[i][0] = (float) (5 * (Math.cos(angle) * x[i][0] - Math.sin(angle) * x[i][1]) + 7);
      turned[i][1] = (float) (5 * (Math.sin(angle) * x[i][0] + Math.cos(angle) * x[i][1]) - 2);
      turned[i][2] = -5 * x[i][2];
    }
    assertEquals(1, LinearCka.of(x, x), 1e-12);
    assertEquals(1, LinearCka.of(x, turned), 1e-5);
  }

  @Test
  void alignmentOfASmallCaseIsTheFormulas() {
    // One feature: kernels are products. x = (1, -1, 1, -1), y = (1, 1, -1, -1) share nothing, but
    // the estimate without bias is below zero for 4 tokens.
    float[][] x = {{1}, {-1}, {1}, {-1}};
    float[][] y = {{1}, {1}, {-1}, {-1}};
    // Off the diagonal, rows of K and L sum to -1 each: tr(KL) = -4, 1'K1 = 1'L1 = -4, 1'KL1 = 4.
    // tr(KK) = 12, and the rest is the same.
    double rest = 16.0 / 6 - 2 * 4 / 2.0;
    assertEquals((-4 + rest) / (12 + rest), LinearCka.of(x, y), 1e-12);
  }

  @Test
  void unrelatedLayersAreNotAlikeHoweverManyFeatures() {
    RandomGenerator random = Seeds.random("RepresentationsTest");
    double sum = 0;
    for (int i = 0; i < 5; i++) {
      sum += LinearCka.of(normal(random, 60, 200), normal(random, 60, 200)) / 5;
    }
    assertEquals(0, sum, 0.08);
    assertThrows(
        IllegalArgumentException.class, () -> LinearCka.of(new float[6][2], normal(random, 6, 2)));
    assertThrows(
        IllegalArgumentException.class, () -> LinearCka.of(new float[3][2], new float[3][2]));
  }

  @Test
  void alignmentIndexIsTheCentroidOfTheNearestLayers() {
    double[][] similarity = {
      {0.9, 0.1, -0.2},
      {0.3, 0.2, -0.1},
      {0.6, 0.6, -0.3},
    };
    assertArrayEquals(
        new double[] {1.2 / 1.5, 1.4 / 0.8, Double.NaN}, SoftAlignment.index(similarity, 2), 1e-12);
    assertArrayEquals(new double[] {0, 2, Double.NaN}, SoftAlignment.index(similarity, 1), 1e-12);
    assertEquals((0.3 + 1.2) / 1.8, SoftAlignment.index(similarity, 3)[0], 1e-12);
    String message =
        assertThrows(IllegalArgumentException.class, () -> SoftAlignment.index(similarity, 4))
            .getMessage();
    assertTrue(message.contains("expected 1 to 3"), message);
  }
}
