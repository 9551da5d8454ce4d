// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class StatisticsTest {
  @Test
  void intervalsAreStudents() {
    // Mean 2, deviation 1; t for 2 degrees of freedom at 97.5 % is 4.302653.
    Estimate three = Estimate.of(1, 2, 3);
    assertEquals(2, three.mean(), 1e-12);
    assertEquals(1, three.deviation(), 1e-12);
    assertEquals(4.302653 / Math.sqrt(3), three.halfWidth(), 1e-5);
    assertEquals("2.00 ± 2.48", three.text(2));
    Estimate one = Estimate.of(5);
    assertTrue(Double.isNaN(one.halfWidth()));
    assertEquals(5, one.low());
    assertEquals("5.0", one.text(1));
    assertThrows(IllegalArgumentException.class, Estimate::of);
    assertThrows(IllegalArgumentException.class, () -> Estimate.of(1, Double.NaN));
  }

  @Test
  void pairingSeesWhatSpreadHides() {
    // Seeds differ by far more than settings do.
    double[] with = {1.0, 2.0, 3.1};
    double[] without = {1.2, 2.19, 3.31};
    Paired paired = Paired.of(with, without);
    assertEquals(-0.2, paired.difference().mean(), 1e-12);
    // Deviation of the differences is 0.01: t = -0.2 / (0.01 / sqrt 3) = -34.64.
    assertEquals(4.302653 * 0.01 / Math.sqrt(3), paired.difference().halfWidth(), 1e-7);
    // Two-sided, 2 degrees of freedom: 1 - t / sqrt(t^2 + 2).
    double t = 0.2 / (0.01 / Math.sqrt(3));
    assertEquals(1 - t / Math.sqrt(t * t + 2), paired.pValue(), 1e-9);
    assertTrue(paired.significant());
    assertFalse(Paired.of(new double[] {1, 2, 3}, new double[] {2, 1, 3.1}).significant());
    assertEquals(1, Paired.of(new double[] {1, 2}, new double[] {1, 2}).pValue());
    assertEquals(0, Paired.of(new double[] {1, 2}, new double[] {2, 3}).pValue());
    assertTrue(Double.isNaN(Paired.of(new double[] {1}, new double[] {2}).pValue()));
    assertThrows(
        IllegalArgumentException.class, () -> Paired.of(new double[] {1}, new double[] {1, 2}));
  }

  @Test
  void slopesHaveIntervals() {
    // By hand: sums of squares 5 of x and of y, products 4.
    Slope slope = Slope.of(new double[] {1, 2, 3, 4}, new double[] {1, 3, 2, 4});
    assertEquals(0.8, slope.slope(), 1e-12);
    assertEquals(0.5, slope.intercept(), 1e-12);
    double error = Math.sqrt((5 - 0.8 * 0.8 * 5) / 2 / 5);
    assertEquals(4.302653 * error, slope.halfWidth(), 1e-5);
    Slope two = Slope.of(new double[] {1, 2}, new double[] {1, 3});
    assertEquals(2, two.slope(), 1e-12);
    assertTrue(Double.isNaN(two.halfWidth()));
    assertThrows(
        IllegalArgumentException.class, () -> Slope.of(new double[] {1, 1}, new double[] {1, 3}));
  }
}
