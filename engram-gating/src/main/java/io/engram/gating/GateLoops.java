// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.hash.kernel.KernelChoice;
import java.lang.invoke.MethodHandles;

/**
 * The inner loops of the gate, on heap arrays alone: whatever the memory of a caller is, mapped
 * files included, it is copied before a vector load sees it.
 *
 * <p>Element-wise loops give the same bits in both twins. Sums give the same bits for the same
 * arguments whatever else is computed in the same call, so that a token's result does not depend on
 * the tokens beside it; between the twins they differ in the order of summation.
 *
 * <p>No state, safe to share.
 */
interface GateLoops {
  /** The twin that this JVM runs. */
  GateLoops CHOSEN =
      KernelChoice.make(
          MethodHandles.lookup(), GateLoops.class, ScalarGateLoops::new, "VectorGateLoops");

  /** Whether none of the values is NaN or infinite. */
  boolean finite(float[] x, int from, int count);

  /** bfloat16 to float32. */
  void widen(short[] x, float[] out, int count);

  /** float32 to bfloat16, to nearest even. */
  void narrow(float[] x, short[] out, int count);

  /** Length of the scratch of a sum: those of a tile of 16, in vectors of up to 16 lanes. */
  int LANES = 16 * 16;

  /**
   * out[t * rows + r] = sum over e of panel[r * width + e] * x[t * width + e], for a few rows r and
   * any number of tokens t. Partial sums are in float32 and added up in double precision: what is
   * lost there would be magnified by the gate's square root.
   *
   * @param lanes scratch, at least {@link #LANES} long
   */
  void multiply(
      float[] panel, int rows, float[] x, int tokens, int width, double[] out, float[] lanes);

  /** The same with partial sums in double precision. */
  void multiply(
      double[] panel, int rows, double[] x, int tokens, int width, double[] out, double[] lanes);

  /**
   * The three sums of a gate, in double precision: sums[0] = x . x, sums[1] = y . y, sums[2] = x .
   * y . w.
   *
   * @param lanes scratch, at least {@link #LANES} long
   */
  void gateSums(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] w,
      int wFrom,
      int count,
      double[] sums,
      double[] lanes);

  /**
   * The sum of squares in double precision.
   *
   * @param lanes scratch, at least {@link #LANES} long
   */
  double sumOfSquares(float[] x, int from, int count, double[] lanes);

  /** out[i] = x[i] * factor * w[i]. */
  void scale(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] out,
      int outFrom,
      int count);

  /** out[i] += x[i] * w[i]. */
  void addProduct(float[] x, int xFrom, float[] w, int wFrom, float[] out, int outFrom, int count);

  /** out[i] += x[i] * factor. */
  void addScaled(float[] x, int xFrom, float factor, float[] out, int outFrom, int count);

  /** x[i] = SiLU(x[i]) = x[i] / (1 + exp(-x[i])). */
  void silu(float[] x, int from, int count);
}
