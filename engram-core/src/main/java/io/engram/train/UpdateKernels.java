// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.hash.kernel.KernelChoice;
import java.lang.invoke.MethodHandles;

/**
 * The inner loops of gradients and updates, on parts of heap arrays. Every loop gives the same bits
 * in both twins: none fuses a product with a sum, and none sums over elements.
 *
 * <p>Largest magnitudes are returned as the bits of a float without its sign, which are ordered as
 * the numbers are, infinity above them and NaN above that: one integer tells whether all is finite.
 *
 * <p>No state, safe to share.
 */
interface UpdateKernels {
  /** Bits of infinity: what is below is finite. */
  int INFINITE = 0x7F800000;

  /** The twin that this JVM runs. */
  UpdateKernels CHOSEN =
      KernelChoice.make(
          MethodHandles.lookup(),
          UpdateKernels.class,
          ScalarUpdateKernels::new,
          "VectorUpdateKernels");

  /** The largest magnitude. */
  int largest(float[] x, int at, int count);

  /** sums += x. Returns the largest magnitude of the sums. */
  int add(float[] x, int xAt, float[] sums, int at, int count);

  /** x *= factor. Returns the largest magnitude. */
  int scale(float[] x, int at, int count, float factor);

  /** bfloat16 to float32. */
  void widen(short[] x, float[] out, int count);

  /**
   * float32 to bfloat16, up or down by chance so that the mean is the number itself.
   *
   * @param x finite numbers
   * @param key where the chance comes from, with the index of the element and nothing else
   * @return the largest magnitude of the rounded numbers
   */
  int roundByChance(float[] x, short[] out, int count, long key);

  /**
   * One row of Adam.
   *
   * @param w weights, updated
   * @param moments first moments, then second ones, updated
   * @param g gradient
   * @param gAt where in it the row begins
   * @param count elements of a row
   * @param keep1 what remains of the first moments
   * @param take1 what of the gradient is added to them
   * @param keep2 what remains of the second moments
   * @param take2 what of the squared gradient is added to them
   * @param rate learning rate, first moments' bias corrected
   * @param spread factor of the root of a second moment that corrects its bias
   * @param epsilon added to that
   * @return the largest magnitude of weights and moments
   */
  int adam(
      float[] w,
      float[] moments,
      float[] g,
      int gAt,
      int count,
      float keep1,
      float take1,
      float keep2,
      float take2,
      float rate,
      float spread,
      float epsilon);

  /**
   * One row of momentum: m = keep * m + g, then w -= rate * m, or w -= rate * (g + ahead * m) where
   * ahead is not 0.
   *
   * @return the largest magnitude of weights and momentum
   */
  int momentum(
      float[] w, float[] m, float[] g, int gAt, int count, float keep, float rate, float ahead);

  /** w -= rate * g. Returns the largest magnitude of the weights. */
  int descend(float[] w, float[] g, int gAt, int count, float rate);

  /**
   * Nesterov momentum: m = keep * m + take * g, out = ahead * m + take * g.
   *
   * @param out receives where the momentum will be, at outAt
   */
  void nesterov(
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float take,
      float ahead,
      float[] out,
      int outAt);

  /** The sum of (x[i] * factors[i])^2, by four sums of every fourth element. */
  double squares(float[] x, int at, int count, double[] factors);

  /** sums[i] += (x[i] * factor)^2. */
  void addSquares(float[] x, int at, int count, double factor, double[] sums);

  /**
   * One row of balanced momentum: m = keep * m + take * g, and w -= rate * factors[i] * u, the
   * product in double precision.
   *
   * @param u balanced but for its factors
   * @return the largest magnitude of weights and momentum
   */
  int balanced(
      float[] w,
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float take,
      float[] u,
      int uAt,
      double rate,
      double[] factors);
}
