// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.Arrays;
import org.apache.commons.math3.distribution.TDistribution;
import org.apache.commons.math3.stat.descriptive.SummaryStatistics;

/**
 * A mean over seeds, and how sure it is.
 *
 * @param mean the mean
 * @param halfWidth of the 95 % confidence interval by Student's t; NaN of a single value
 * @param deviation standard deviation of the values; NaN of a single value
 * @param count how many values, at least 1
 */
public record Estimate(double mean, double halfWidth, double deviation, int count) {
  /** How often intervals hold what they are of. */
  public static final double CONFIDENCE = 0.95;

  /**
   * The mean of some values.
   *
   * @param values at least one, all finite
   * @return the estimate
   * @throws IllegalArgumentException if there is none, or one is not a number
   */
  public static Estimate of(double... values) {
    SummaryStatistics all = new SummaryStatistics();
    for (double value : values) {
      if (!Double.isFinite(value)) {
        throw new IllegalArgumentException(
            "one of the values is " + value + ", expected finite ones: " + Arrays.toString(values));
      }
      all.addValue(value);
    }
    int count = values.length;
    if (count == 0) {
      throw new IllegalArgumentException("a mean needs at least one value");
    }
    if (count == 1) {
      return new Estimate(values[0], Double.NaN, Double.NaN, 1);
    }
    double t =
        new TDistribution(null, count - 1).inverseCumulativeProbability((1 + CONFIDENCE) / 2);
    return new Estimate(
        all.getMean(),
        t * all.getStandardDeviation() / Math.sqrt(count),
        all.getStandardDeviation(),
        count);
  }

  /**
   * The lower end of the interval.
   *
   * @return the mean less the half width, or the mean where there is no interval
   */
  public double low() {
    return Double.isNaN(halfWidth) ? mean : mean - halfWidth;
  }

  /**
   * The upper end of the interval.
   *
   * @return the mean and the half width, or the mean where there is no interval
   */
  public double high() {
    return Double.isNaN(halfWidth) ? mean : mean + halfWidth;
  }

  /**
   * For people.
   *
   * @param decimals digits after the point
   * @return such as {@code 1.234 ± 0.005}
   */
  public String text(int decimals) {
    String digits = "%." + decimals + "f";
    return Double.isNaN(halfWidth)
        ? digits.formatted(mean)
        : (digits + " ± " + digits).formatted(mean, halfWidth);
  }
}
