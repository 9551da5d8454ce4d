// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/**
 * The gate's loops in the Vector API.
 *
 * <p>No method takes or returns a vector. Inside a large caller the compiler may stop inlining, and
 * then every vector that crosses a call becomes an object; vectors that have to cross one go by way
 * of an array.
 */
final class VectorGateLoops implements GateLoops {
  /** The machine's own width, up to what the fixed tree of {@link #sums} adds up. */
  private static final VectorShape SHAPE =
      VectorShape.preferredShape().vectorBitSize() > 512
          ? VectorShape.S_512_BIT
          : VectorShape.preferredShape();

  private static final VectorSpecies<Float> F = VectorSpecies.of(float.class, SHAPE);
  private static final VectorSpecies<Double> D = VectorSpecies.of(double.class, SHAPE);
  private static final VectorSpecies<Integer> I = VectorSpecies.of(int.class, SHAPE);

  /** As many floats as {@link #D} has doubles, as many shorts as {@link #F} has floats. */
  private static final VectorShape HALF = VectorShape.forBitSize(SHAPE.vectorBitSize() / 2);

  private static final VectorSpecies<Float> F_HALF = VectorSpecies.of(float.class, HALF);
  private static final VectorSpecies<Short> S_HALF = VectorSpecies.of(short.class, HALF);

  /** Rows and tokens of one tile of a product: 16 sums in registers for 8 loads. */
  private static final int TILE = 4;

  /*
   * Lanes are added in a fixed tree. reduceLanes may add in another order once it is compiled, and
   * then the same token would have other bits before and after.
   */
  private static final VectorShuffle<Double> D_4 = rotation(D, 4);
  private static final VectorShuffle<Double> D_2 = rotation(D, 2);
  private static final VectorShuffle<Double> D_1 = rotation(D, 1);

  private static <T> VectorShuffle<T> rotation(VectorSpecies<T> species, int by) {
    return VectorShuffle.fromOp(species, lane -> (lane + by) % species.length());
  }

  @Override
  public boolean finite(float[] x, int from, int count) {
    // Zero for a finite number, NaN for the others: one test for all instead of one for each.
    FloatVector sums = FloatVector.zero(F);
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      sums = sums.add(FloatVector.fromArray(F, x, from + i).mul(0f));
    }
    float sum = 0;
    for (; i < count; i++) {
      sum += x[from + i] * 0f;
    }
    return sum == 0f && !sums.test(VectorOperators.IS_NAN).anyTrue();
  }

  @Override
  public void widen(short[] x, float[] out, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      IntVector bits = (IntVector) ShortVector.fromArray(S_HALF, x, i).castShape(I, 0);
      bits.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats().intoArray(out, i);
    }
    for (; i < count; i++) {
      out[i] = Bfloat16.toFloat(x[i]);
    }
  }

  @Override
  public void narrow(float[] x, short[] out, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector v = FloatVector.fromArray(F, x, i);
      IntVector bits = v.reinterpretAsInts();
      IntVector high = bits.lanewise(VectorOperators.LSHR, 16);
      IntVector rounded =
          bits.add(0x7fff)
              .add(high.lanewise(VectorOperators.AND, 1))
              .lanewise(VectorOperators.LSHR, 16);
      VectorMask<Integer> nan = v.test(VectorOperators.IS_NAN).cast(I);
      rounded = rounded.blend(high.lanewise(VectorOperators.OR, 0x0040), nan);
      ((ShortVector) rounded.castShape(S_HALF, 0)).intoArray(out, i);
    }
    for (; i < count; i++) {
      out[i] = Bfloat16.toBits(x[i]);
    }
  }

  @Override
  public void multiply(
      float[] panel, int rows, float[] x, int tokens, int width, double[] out, float[] lanes) {
    int t = 0;
    if (rows == TILE) {
      for (; t <= tokens - TILE; t += TILE) {
        tile(panel, x, t * width, width, lanes);
        sums(lanes, TILE * TILE, out, t * TILE);
      }
      for (; t < tokens; t++) {
        column(panel, x, t * width, width, lanes);
        sums(lanes, TILE, out, t * TILE);
      }
      tails(panel, x, tokens, width, out);
    }
    for (; t < tokens; t++) {
      for (int r = 0; r < rows; r++) {
        dot(panel, r * width, x, t * width, width, lanes, out, t * rows + r);
      }
    }
  }

  private static void tile(float[] p, float[] x, int x0, int width, float[] lanes) {
    int p1 = width;
    int p2 = p1 + width;
    int p3 = p2 + width;
    int x1 = x0 + width;
    int x2 = x1 + width;
    int x3 = x2 + width;
    FloatVector s00 = FloatVector.zero(F);
    FloatVector s01 = FloatVector.zero(F);
    FloatVector s02 = FloatVector.zero(F);
    FloatVector s03 = FloatVector.zero(F);
    FloatVector s10 = FloatVector.zero(F);
    FloatVector s11 = FloatVector.zero(F);
    FloatVector s12 = FloatVector.zero(F);
    FloatVector s13 = FloatVector.zero(F);
    FloatVector s20 = FloatVector.zero(F);
    FloatVector s21 = FloatVector.zero(F);
    FloatVector s22 = FloatVector.zero(F);
    FloatVector s23 = FloatVector.zero(F);
    FloatVector s30 = FloatVector.zero(F);
    FloatVector s31 = FloatVector.zero(F);
    FloatVector s32 = FloatVector.zero(F);
    FloatVector s33 = FloatVector.zero(F);
    int bound = F.loopBound(width);
    for (int e = 0; e < bound; e += F.length()) {
      FloatVector a0 = FloatVector.fromArray(F, p, e);
      FloatVector a1 = FloatVector.fromArray(F, p, p1 + e);
      FloatVector a2 = FloatVector.fromArray(F, p, p2 + e);
      FloatVector a3 = FloatVector.fromArray(F, p, p3 + e);
      FloatVector b = FloatVector.fromArray(F, x, x0 + e);
      s00 = a0.fma(b, s00);
      s01 = a1.fma(b, s01);
      s02 = a2.fma(b, s02);
      s03 = a3.fma(b, s03);
      b = FloatVector.fromArray(F, x, x1 + e);
      s10 = a0.fma(b, s10);
      s11 = a1.fma(b, s11);
      s12 = a2.fma(b, s12);
      s13 = a3.fma(b, s13);
      b = FloatVector.fromArray(F, x, x2 + e);
      s20 = a0.fma(b, s20);
      s21 = a1.fma(b, s21);
      s22 = a2.fma(b, s22);
      s23 = a3.fma(b, s23);
      b = FloatVector.fromArray(F, x, x3 + e);
      s30 = a0.fma(b, s30);
      s31 = a1.fma(b, s31);
      s32 = a2.fma(b, s32);
      s33 = a3.fma(b, s33);
    }
    s00.intoArray(lanes, 0);
    s01.intoArray(lanes, F.length());
    s02.intoArray(lanes, 2 * F.length());
    s03.intoArray(lanes, 3 * F.length());
    s10.intoArray(lanes, 4 * F.length());
    s11.intoArray(lanes, 5 * F.length());
    s12.intoArray(lanes, 6 * F.length());
    s13.intoArray(lanes, 7 * F.length());
    s20.intoArray(lanes, 8 * F.length());
    s21.intoArray(lanes, 9 * F.length());
    s22.intoArray(lanes, 10 * F.length());
    s23.intoArray(lanes, 11 * F.length());
    s30.intoArray(lanes, 12 * F.length());
    s31.intoArray(lanes, 13 * F.length());
    s32.intoArray(lanes, 14 * F.length());
    s33.intoArray(lanes, 15 * F.length());
  }

  private static void column(float[] p, float[] x, int x0, int width, float[] lanes) {
    int p1 = width;
    int p2 = p1 + width;
    int p3 = p2 + width;
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    int bound = F.loopBound(width);
    for (int e = 0; e < bound; e += F.length()) {
      FloatVector b = FloatVector.fromArray(F, x, x0 + e);
      s0 = FloatVector.fromArray(F, p, e).fma(b, s0);
      s1 = FloatVector.fromArray(F, p, p1 + e).fma(b, s1);
      s2 = FloatVector.fromArray(F, p, p2 + e).fma(b, s2);
      s3 = FloatVector.fromArray(F, p, p3 + e).fma(b, s3);
    }
    s0.intoArray(lanes, 0);
    s1.intoArray(lanes, F.length());
    s2.intoArray(lanes, 2 * F.length());
    s3.intoArray(lanes, 3 * F.length());
  }

  private static void dot(
      float[] p, int p0, float[] x, int x0, int width, float[] lanes, double[] out, int o0) {
    FloatVector s = FloatVector.zero(F);
    int bound = F.loopBound(width);
    for (int e = 0; e < bound; e += F.length()) {
      s = FloatVector.fromArray(F, p, p0 + e).fma(FloatVector.fromArray(F, x, x0 + e), s);
    }
    s.intoArray(lanes, 0);
    sums(lanes, 1, out, o0);
    out[o0] += tail(p, p0, x, x0, bound, width);
  }

  /** Adds up the lanes of some sums. */
  private static void sums(float[] lanes, int count, double[] out, int from) {
    for (int i = 0; i < count; i++) {
      FloatVector single = FloatVector.fromArray(F, lanes, i * F.length());
      DoubleVector v =
          ((DoubleVector) single.convertShape(VectorOperators.F2D, D, 0))
              .add(single.convertShape(VectorOperators.F2D, D, 1));
      if (D.length() > 4) {
        v = v.add(v.rearrange(D_4));
      }
      if (D.length() > 2) {
        v = v.add(v.rearrange(D_2));
      }
      out[from + i] = v.add(v.rearrange(D_1)).lane(0);
    }
  }

  /** Adds what is left of each product behind the last whole vector. */
  private static void tails(float[] p, float[] x, int tokens, int width, double[] out) {
    int bound = F.loopBound(width);
    for (int t = 0; bound < width && t < tokens; t++) {
      for (int r = 0; r < TILE; r++) {
        out[t * TILE + r] += tail(p, r * width, x, t * width, bound, width);
      }
    }
  }

  private static float tail(float[] p, int p0, float[] x, int x0, int from, int to) {
    float sum = 0;
    for (int e = from; e < to; e++) {
      sum += p[p0 + e] * x[x0 + e];
    }
    return sum;
  }

  @Override
  public void multiply(
      double[] panel, int rows, double[] x, int tokens, int width, double[] out, double[] lanes) {
    int t = 0;
    if (rows == TILE) {
      for (; t <= tokens - TILE; t += TILE) {
        tile(panel, x, t * width, width, lanes);
        sums(lanes, TILE * TILE, out, t * TILE);
      }
      for (; t < tokens; t++) {
        column(panel, x, t * width, width, lanes);
        sums(lanes, TILE, out, t * TILE);
      }
      tails(panel, x, tokens, width, out);
    }
    for (; t < tokens; t++) {
      for (int r = 0; r < rows; r++) {
        dot(panel, r * width, x, t * width, width, lanes, out, t * rows + r);
      }
    }
  }

  private static void tile(double[] p, double[] x, int x0, int width, double[] lanes) {
    int p1 = width;
    int p2 = p1 + width;
    int p3 = p2 + width;
    int x1 = x0 + width;
    int x2 = x1 + width;
    int x3 = x2 + width;
    DoubleVector s00 = DoubleVector.zero(D);
    DoubleVector s01 = DoubleVector.zero(D);
    DoubleVector s02 = DoubleVector.zero(D);
    DoubleVector s03 = DoubleVector.zero(D);
    DoubleVector s10 = DoubleVector.zero(D);
    DoubleVector s11 = DoubleVector.zero(D);
    DoubleVector s12 = DoubleVector.zero(D);
    DoubleVector s13 = DoubleVector.zero(D);
    DoubleVector s20 = DoubleVector.zero(D);
    DoubleVector s21 = DoubleVector.zero(D);
    DoubleVector s22 = DoubleVector.zero(D);
    DoubleVector s23 = DoubleVector.zero(D);
    DoubleVector s30 = DoubleVector.zero(D);
    DoubleVector s31 = DoubleVector.zero(D);
    DoubleVector s32 = DoubleVector.zero(D);
    DoubleVector s33 = DoubleVector.zero(D);
    int bound = D.loopBound(width);
    for (int e = 0; e < bound; e += D.length()) {
      DoubleVector a0 = DoubleVector.fromArray(D, p, e);
      DoubleVector a1 = DoubleVector.fromArray(D, p, p1 + e);
      DoubleVector a2 = DoubleVector.fromArray(D, p, p2 + e);
      DoubleVector a3 = DoubleVector.fromArray(D, p, p3 + e);
      DoubleVector b = DoubleVector.fromArray(D, x, x0 + e);
      s00 = a0.fma(b, s00);
      s01 = a1.fma(b, s01);
      s02 = a2.fma(b, s02);
      s03 = a3.fma(b, s03);
      b = DoubleVector.fromArray(D, x, x1 + e);
      s10 = a0.fma(b, s10);
      s11 = a1.fma(b, s11);
      s12 = a2.fma(b, s12);
      s13 = a3.fma(b, s13);
      b = DoubleVector.fromArray(D, x, x2 + e);
      s20 = a0.fma(b, s20);
      s21 = a1.fma(b, s21);
      s22 = a2.fma(b, s22);
      s23 = a3.fma(b, s23);
      b = DoubleVector.fromArray(D, x, x3 + e);
      s30 = a0.fma(b, s30);
      s31 = a1.fma(b, s31);
      s32 = a2.fma(b, s32);
      s33 = a3.fma(b, s33);
    }
    s00.intoArray(lanes, 0);
    s01.intoArray(lanes, D.length());
    s02.intoArray(lanes, 2 * D.length());
    s03.intoArray(lanes, 3 * D.length());
    s10.intoArray(lanes, 4 * D.length());
    s11.intoArray(lanes, 5 * D.length());
    s12.intoArray(lanes, 6 * D.length());
    s13.intoArray(lanes, 7 * D.length());
    s20.intoArray(lanes, 8 * D.length());
    s21.intoArray(lanes, 9 * D.length());
    s22.intoArray(lanes, 10 * D.length());
    s23.intoArray(lanes, 11 * D.length());
    s30.intoArray(lanes, 12 * D.length());
    s31.intoArray(lanes, 13 * D.length());
    s32.intoArray(lanes, 14 * D.length());
    s33.intoArray(lanes, 15 * D.length());
  }

  private static void column(double[] p, double[] x, int x0, int width, double[] lanes) {
    int p1 = width;
    int p2 = p1 + width;
    int p3 = p2 + width;
    DoubleVector s0 = DoubleVector.zero(D);
    DoubleVector s1 = DoubleVector.zero(D);
    DoubleVector s2 = DoubleVector.zero(D);
    DoubleVector s3 = DoubleVector.zero(D);
    int bound = D.loopBound(width);
    for (int e = 0; e < bound; e += D.length()) {
      DoubleVector b = DoubleVector.fromArray(D, x, x0 + e);
      s0 = DoubleVector.fromArray(D, p, e).fma(b, s0);
      s1 = DoubleVector.fromArray(D, p, p1 + e).fma(b, s1);
      s2 = DoubleVector.fromArray(D, p, p2 + e).fma(b, s2);
      s3 = DoubleVector.fromArray(D, p, p3 + e).fma(b, s3);
    }
    s0.intoArray(lanes, 0);
    s1.intoArray(lanes, D.length());
    s2.intoArray(lanes, 2 * D.length());
    s3.intoArray(lanes, 3 * D.length());
  }

  private static void dot(
      double[] p, int p0, double[] x, int x0, int width, double[] lanes, double[] out, int o0) {
    DoubleVector s = DoubleVector.zero(D);
    int bound = D.loopBound(width);
    for (int e = 0; e < bound; e += D.length()) {
      s = DoubleVector.fromArray(D, p, p0 + e).fma(DoubleVector.fromArray(D, x, x0 + e), s);
    }
    s.intoArray(lanes, 0);
    sums(lanes, 1, out, o0);
    out[o0] += tail(p, p0, x, x0, bound, width);
  }

  private static void sums(double[] lanes, int count, double[] out, int from) {
    for (int i = 0; i < count; i++) {
      DoubleVector v = DoubleVector.fromArray(D, lanes, i * D.length());
      if (D.length() > 4) {
        v = v.add(v.rearrange(D_4));
      }
      if (D.length() > 2) {
        v = v.add(v.rearrange(D_2));
      }
      out[from + i] = v.add(v.rearrange(D_1)).lane(0);
    }
  }

  private static void tails(double[] p, double[] x, int tokens, int width, double[] out) {
    int bound = D.loopBound(width);
    for (int t = 0; bound < width && t < tokens; t++) {
      for (int r = 0; r < TILE; r++) {
        out[t * TILE + r] += tail(p, r * width, x, t * width, bound, width);
      }
    }
  }

  private static double tail(double[] p, int p0, double[] x, int x0, int from, int to) {
    double sum = 0;
    for (int e = from; e < to; e++) {
      sum += p[p0 + e] * x[x0 + e];
    }
    return sum;
  }

  @Override
  public void gateSums(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] w,
      int wFrom,
      int count,
      double[] sums,
      double[] lanes) {
    DoubleVector xx = DoubleVector.zero(D);
    DoubleVector yy = DoubleVector.zero(D);
    DoubleVector xyw = DoubleVector.zero(D);
    int bound = D.loopBound(count);
    int i = 0;
    for (; i < bound; i += D.length()) {
      DoubleVector a = (DoubleVector) FloatVector.fromArray(F_HALF, x, xFrom + i).castShape(D, 0);
      DoubleVector b = (DoubleVector) FloatVector.fromArray(F_HALF, y, yFrom + i).castShape(D, 0);
      DoubleVector c = (DoubleVector) FloatVector.fromArray(F_HALF, w, wFrom + i).castShape(D, 0);
      xx = a.fma(a, xx);
      yy = b.fma(b, yy);
      xyw = a.fma(b.mul(c), xyw);
    }
    xx.intoArray(lanes, 0);
    yy.intoArray(lanes, D.length());
    xyw.intoArray(lanes, 2 * D.length());
    sums(lanes, 3, sums, 0);
    for (; i < count; i++) {
      double a = x[xFrom + i];
      double b = y[yFrom + i];
      sums[0] += a * a;
      sums[1] += b * b;
      sums[2] += a * (b * w[wFrom + i]);
    }
  }

  @Override
  public double sumOfSquares(float[] x, int from, int count, double[] lanes) {
    DoubleVector squares = DoubleVector.zero(D);
    int bound = D.loopBound(count);
    int i = 0;
    for (; i < bound; i += D.length()) {
      DoubleVector a = (DoubleVector) FloatVector.fromArray(F_HALF, x, from + i).castShape(D, 0);
      squares = a.fma(a, squares);
    }
    squares.intoArray(lanes, 0);
    sums(lanes, 1, lanes, 0);
    double sum = lanes[0];
    for (; i < count; i++) {
      sum += (double) x[from + i] * x[from + i];
    }
    return sum;
  }

  @Override
  public void scale(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] out,
      int outFrom,
      int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector.fromArray(F, x, xFrom + i)
          .mul(factor)
          .mul(FloatVector.fromArray(F, w, wFrom + i))
          .intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] = x[xFrom + i] * factor * w[wFrom + i];
    }
  }

  @Override
  public void addProduct(
      float[] x, int xFrom, float[] w, int wFrom, float[] out, int outFrom, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector product =
          FloatVector.fromArray(F, x, xFrom + i).mul(FloatVector.fromArray(F, w, wFrom + i));
      FloatVector.fromArray(F, out, outFrom + i).add(product).intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * w[wFrom + i];
    }
  }

  @Override
  public void addScaled(float[] x, int xFrom, float factor, float[] out, int outFrom, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector product = FloatVector.fromArray(F, x, xFrom + i).mul(factor);
      FloatVector.fromArray(F, out, outFrom + i).add(product).intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor;
    }
  }

  @Override
  public void silu(float[] x, int from, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector v = FloatVector.fromArray(F, x, from + i);
      FloatVector z = v.neg().max(-Silu.LIMIT).min(Silu.LIMIT);
      FloatVector shifted = z.mul(Silu.LOG2_E).add(Silu.ROUNDER);
      FloatVector n = shifted.sub(Silu.ROUNDER);
      FloatVector r = z.sub(n.mul(Silu.LN2_HIGH)).sub(n.mul(Silu.LN2_LOW));
      FloatVector p = r.mul(Silu.C7).add(Silu.C6);
      p = p.mul(r).add(Silu.C5);
      p = p.mul(r).add(Silu.C4);
      p = p.mul(r).add(Silu.C3);
      p = p.mul(r).add(Silu.C2).mul(r).add(1f).mul(r).add(1f);
      FloatVector power =
          shifted
              .reinterpretAsInts()
              .add(127 - Silu.ROUNDER_BITS)
              .lanewise(VectorOperators.LSHL, 23)
              .reinterpretAsFloats();
      v.div(p.mul(power).add(1f)).intoArray(x, from + i);
    }
    for (; i < count; i++) {
      x[from + i] = Silu.of(x[from + i]);
    }
  }
}
