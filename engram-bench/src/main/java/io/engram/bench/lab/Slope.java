// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import org.apache.commons.math3.stat.regression.SimpleRegression;

/**
 * A straight line by least squares.
 *
 * @param slope change of y for a change of x by 1
 * @param halfWidth of the 95 % confidence interval of the slope; NaN of fewer than 3 points
 * @param intercept y at 0
 * @param rSquare share of y's variance that the line explains
 * @param pValue two-sided, that the slope is 0; NaN of fewer than 3 points
 * @param count points
 */
public record Slope(
    double slope, double halfWidth, double intercept, double rSquare, double pValue, int count) {
  /**
   * The line through some points.
   *
   * @param x at least two different values
   * @param y as many values
   * @return the line
   * @throws IllegalArgumentException if there are fewer than two different x, or not as many y
   */
  public static Slope of(double[] x, double[] y) {
    if (x.length != y.length) {
      throw new IllegalArgumentException(x.length + " values of x with " + y.length + " of y");
    }
    SimpleRegression line = new SimpleRegression();
    for (int i = 0; i < x.length; i++) {
      line.addData(x[i], y[i]);
    }
    if (Double.isNaN(line.getSlope())) {
      throw new IllegalArgumentException("a line needs at least two different values of x");
    }
    boolean sure = x.length > 2;
    return new Slope(
        line.getSlope(),
        sure ? line.getSlopeConfidenceInterval(1 - Estimate.CONFIDENCE) : Double.NaN,
        line.getIntercept(),
        line.getRSquare(),
        sure ? line.getSignificance() : Double.NaN,
        x.length);
  }
}
