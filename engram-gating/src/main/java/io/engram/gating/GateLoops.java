// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.hash.kernel.KernelChoice;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;

/**
 * The inner loops of the gate, on heap arrays and on anonymous memory of our own: whatever the
 * memory of a caller is, mapped files included, it is copied before a vector load sees it.
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

  /** Length of the scratch of a sum: three vectors of up to 16 lanes. */
  int LANES = 3 * 16;

  /** Tokens that {@link #tile} multiplies together. */
  int TOKENS = 4;

  /** Panels that {@link #row} multiplies together. */
  int PANELS = 4;

  /** Outputs of one panel where products are summed in float32. */
  int panelWidth();

  /** Outputs of one panel where they are summed in double precision. */
  int doublePanelWidth();

  /**
   * A piece of a product: {@link #TOKENS} tokens, the outputs of one panel, some of the summands.
   * out[t * stride + o] = sum over k of x[xFrom + k * TOKENS + t] * w[k, o], on top of what is
   * there if {@code add}.
   *
   * <p>Each output is one chain of float32 additions over k, the same in {@link #row}: a token's
   * sum does not depend on the tokens beside it.
   *
   * @param x tokens side by side, [depth, TOKENS]
   * @param panel F32 [depth, panelWidth], native byte order, anonymous memory
   * @param at where the panel begins, in bytes
   */
  void tile(
      float[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      float[] out,
      int outFrom,
      int stride,
      boolean add);

  /**
   * The same for one token and {@link #PANELS} panels: out[p * panelWidth + o] = sum over k of
   * x[xFrom + k] * w[p, k, o].
   *
   * @param panelBytes from one panel to the next
   */
  void row(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add);

  /** {@link #tile} in double precision, on a panel of F32 [depth, doublePanelWidth]. */
  void tile(
      double[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      double[] out,
      int outFrom,
      int stride,
      boolean add);

  /** {@link #row} in double precision, on panels of F32 [depth, doublePanelWidth]. */
  void row(
      double[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      double[] out,
      int outFrom,
      boolean add);

  /**
   * How bfloat16 weights are packed, two in an int: of 2 * pairLanes consecutive weights, int i
   * holds weight i in its lower half and weight pairLanes + i in its upper one, so that a vector of
   * ints becomes two of floats by a shift and a mask. A panel's row is one or half such a block.
   */
  int pairLanes();

  /**
   * {@link #row} on panels of bfloat16 pairs, widened in registers.
   *
   * @param at where the first panel begins, in bytes
   */
  void rowOfPairs(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add);

  /**
   * Bfloat16 pairs to F32, both in anonymous memory in native byte order.
   *
   * @param count number of weights, whole blocks
   */
  void pairsToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, int count);

  /** The exponent that {@link #quadsToF32} leaves to its factors: of E4M3 to that of float32. */
  int E4M3_EXPONENT = 120;

  /**
   * E4M3 numbers to F32, both in anonymous memory in native byte order, times a factor each.
   *
   * <p>They are packed four in an int: of 4 * pairLanes consecutive ones, byte b of int i is number
   * b * pairLanes + i. None is NaN. Factors are 2^{@link #E4M3_EXPONENT} times what is wanted, and
   * products are exact.
   *
   * @param factors F32 [vectors, pairLanes]: number n has factor n modulo their count
   * @param vectors 1 or 2
   * @param count number of E4M3 numbers, whole blocks
   */
  void quadsToF32(
      MemorySegment in,
      long inAt,
      MemorySegment factors,
      long factorsAt,
      int vectors,
      MemorySegment out,
      long outAt,
      int count);

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

  /** out[i] += x[i] * factor * w[i] * tap[i], multiplied from the left. */
  void addTap(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] tap,
      int tapFrom,
      float[] out,
      int outFrom,
      int count);

  /** out[i] += x[i] * w[i]. */
  void addProduct(float[] x, int xFrom, float[] w, int wFrom, float[] out, int outFrom, int count);

  /** out[i] += x[i] * factor. */
  void addScaled(float[] x, int xFrom, float factor, float[] out, int outFrom, int count);

  /** x[i] = SiLU(x[i]) = x[i] / (1 + exp(-x[i])). */
  void silu(float[] x, int from, int count);

  /** out[i] = g[i] * SiLU'(x[i]), where SiLU'(x) = s + x * s * (1 - s) of the sigmoid s of x. */
  void siluGradient(
      float[] x, int xFrom, float[] g, int gFrom, float[] out, int outFrom, int count);

  /** out[i] += x[i] * factor * y[i], multiplied from the left. */
  void addScaledProduct(
      float[] x,
      int xFrom,
      float factor,
      float[] y,
      int yFrom,
      float[] out,
      int outFrom,
      int count);

  /**
   * Two sums of products with the same numbers, in double precision: sums[0] = x . z, sums[1] = y .
   * z.
   *
   * @param lanes scratch, at least {@link #LANES} long
   */
  void twoDots(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] z,
      int zFrom,
      int count,
      double[] sums,
      double[] lanes);

  /**
   * The way back through {@link #gateSums}: xOut[i] = y[i] * w[i] * f + x[i] * xFactor, yOut[i] =
   * x[i] * w[i] * f + y[i] * yFactor, products[i] += x[i] * y[i] * f, multiplied from the left.
   *
   * @param from where x and y begin
   */
  void gateGradients(
      float[] x,
      float[] y,
      int from,
      float[] w,
      int wFrom,
      float f,
      float xFactor,
      float yFactor,
      float[] xOut,
      int xOutFrom,
      float[] yOut,
      float[] products,
      int productsFrom,
      int count);
}
