// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import org.apache.commons.math3.stat.inference.TTest;

/**
 * By how much one setting differs from another with the same seeds, which gave both the same data
 * in the same order.
 *
 * @param difference the first less the second
 * @param pValue two-sided, of Student's paired t-test that there is no difference; NaN of a single
 *     pair, 0 where all pairs differ by the very same amount
 */
public record Paired(Estimate difference, double pValue) {
  /**
   * Compares.
   *
   * @param first values by seed
   * @param second values of the same seeds in the same order
   * @return the comparison
   * @throws IllegalArgumentException if there are not as many of both
   */
  public static Paired of(double[] first, double[] second) {
    if (first.length != second.length) {
      throw new IllegalArgumentException(
          first.length + " values cannot be paired with " + second.length);
    }
    double[] differences = new double[first.length];
    for (int i = 0; i < first.length; i++) {
      differences[i] = first[i] - second[i];
    }
    Estimate difference = Estimate.of(differences);
    double p = Double.NaN;
    if (first.length > 1) {
      // Without any spread the statistic is 0 / 0 or infinite.
      p =
          difference.deviation() == 0
              ? (difference.mean() == 0 ? 1 : 0)
              : new TTest().pairedTTest(first, second);
    }
    return new Paired(difference, p);
  }

  /**
   * Whether the test says that there is a difference.
   *
   * @return whether p is less than 0.05
   */
  public boolean significant() {
    return pValue < 1 - Estimate.CONFIDENCE;
  }

  /**
   * For people.
   *
   * @param decimals digits after the point
   * @return such as {@code -0.123 ± 0.010 (p = 0.002)}
   */
  public String text(int decimals) {
    String p =
        Double.isNaN(pValue)
            ? ""
            : pValue < 0.001 ? " (p < 0.001)" : " (p = %.3f)".formatted(pValue);
    return difference.text(decimals) + p;
  }
}
