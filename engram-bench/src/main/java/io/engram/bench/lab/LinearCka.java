// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

/**
 * Similarity of what two layers represent: centred kernel alignment with the linear kernel
 * (Kornblith et al., 2019).
 *
 * <p>CKA(X, Y) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = X X' and L = Y Y' over the same
 * n tokens. HSIC is the unbiased estimator (Song et al., 2012), because with few tokens and many
 * features the biased one calls any two layers alike: with the diagonals of K and L set to zero,
 *
 * <pre>
 * HSIC(K, L) = [tr(K L) + (1'K1)(1'L1) / ((n - 1)(n - 2)) - 2 (1'K L1) / (n - 2)] / (n (n - 3))
 * </pre>
 *
 * <p>CKA does not change when features are rotated, scaled together or shifted. It is 1 for the
 * same features, and about 0, possibly a little less, for unrelated ones.
 */
public final class LinearCka {
  private static final int FEWEST = 4;

  private LinearCka() {}

  /**
   * The similarity of two layers.
   *
   * @param x features of one layer, [tokens][width]
   * @param y features of another layer, [the same tokens][any width]
   * @return at most 1, but for rounding
   * @throws IllegalArgumentException if there are fewer than 4 tokens, or not as many of both, or a
   *     layer is constant
   */
  public static double of(float[][] x, float[][] y) {
    if (x.length != y.length || x.length < FEWEST) {
      throw new IllegalArgumentException(
          "found "
              + x.length
              + " and "
              + y.length
              + " tokens, expected the same number and at least "
              + FEWEST);
    }
    double[][] k = kernel(x);
    double[][] l = kernel(y);
    double xx = hsic(k, k);
    double yy = hsic(l, l);
    if (!(xx > 0) || !(yy > 0)) {
      throw new IllegalArgumentException(
          "a layer that is the same at all tokens is like no other (HSIC "
              + xx
              + " and "
              + yy
              + ")");
    }
    return hsic(k, l) / Math.sqrt(xx * yy);
  }

  private static double[][] kernel(float[][] features) {
    int n = features.length;
    int width = features[0].length;
    // Centred first: the estimator does not need it, but large means would cost digits.
    double[] mean = new double[width];
    for (float[] row : features) {
      for (int d = 0; d < width; d++) {
        mean[d] += row[d] / n;
      }
    }
    double[][] centred = new double[n][width];
    for (int i = 0; i < n; i++) {
      for (int d = 0; d < width; d++) {
        centred[i][d] = features[i][d] - mean[d];
      }
    }
    double[][] kernel = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < i; j++) {
        double dot = 0;
        for (int d = 0; d < width; d++) {
          dot += centred[i][d] * centred[j][d];
        }
        kernel[i][j] = dot;
        kernel[j][i] = dot;
      }
    }
    return kernel;
  }

  private static double hsic(double[][] k, double[][] l) {
    int n = k.length;
    double trace = 0;
    double sumK = 0;
    double sumL = 0;
    double cross = 0;
    for (int i = 0; i < n; i++) {
      double rowK = 0;
      double rowL = 0;
      for (int j = 0; j < n; j++) {
        trace += k[i][j] * l[i][j];
        rowK += k[i][j];
        rowL += l[i][j];
      }
      sumK += rowK;
      sumL += rowL;
      cross += rowK * rowL;
    }
    return (trace + sumK * sumL / ((n - 1.0) * (n - 2.0)) - 2 * cross / (n - 2.0))
        / (n * (n - 3.0));
  }
}
