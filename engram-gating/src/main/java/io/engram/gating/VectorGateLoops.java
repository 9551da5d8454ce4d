// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
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

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  /** The upper one of two bfloat16 values in an int. */
  private static final int HIGH = 0xFFFF0000;

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
  public int panelWidth() {
    return 2 * F.length();
  }

  @Override
  public int doublePanelWidth() {
    return 2 * D.length();
  }

  /*
   * Eight sums in registers. Twelve would ask less of the loads, but the compiler spills one of
   * them on processors with sixteen registers, and unrolls none of these loops well by hand: either
   * halves the speed.
   */

  @Override
  public void tile(
      float[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      float[] out,
      int outFrom,
      int stride,
      boolean add) {
    FloatVector s00 = FloatVector.zero(F);
    FloatVector s01 = FloatVector.zero(F);
    FloatVector s10 = FloatVector.zero(F);
    FloatVector s11 = FloatVector.zero(F);
    FloatVector s20 = FloatVector.zero(F);
    FloatVector s21 = FloatVector.zero(F);
    FloatVector s30 = FloatVector.zero(F);
    FloatVector s31 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      long w = at + (long) k * (2L * F.vectorByteSize());
      int t = xFrom + k * TOKENS;
      FloatVector w0 = FloatVector.fromMemorySegment(F, panel, w, ORDER);
      FloatVector w1 = FloatVector.fromMemorySegment(F, panel, w + F.vectorByteSize(), ORDER);
      FloatVector x0 = FloatVector.broadcast(F, x[t]);
      s00 = x0.fma(w0, s00);
      s01 = x0.fma(w1, s01);
      FloatVector x1 = FloatVector.broadcast(F, x[t + 1]);
      s10 = x1.fma(w0, s10);
      s11 = x1.fma(w1, s11);
      FloatVector x2 = FloatVector.broadcast(F, x[t + 2]);
      s20 = x2.fma(w0, s20);
      s21 = x2.fma(w1, s21);
      FloatVector x3 = FloatVector.broadcast(F, x[t + 3]);
      s30 = x3.fma(w0, s30);
      s31 = x3.fma(w1, s31);
    }
    if (add) {
      s00 = s00.add(FloatVector.fromArray(F, out, outFrom));
      s01 = s01.add(FloatVector.fromArray(F, out, outFrom + F.length()));
      s10 = s10.add(FloatVector.fromArray(F, out, outFrom + stride));
      s11 = s11.add(FloatVector.fromArray(F, out, outFrom + stride + F.length()));
      s20 = s20.add(FloatVector.fromArray(F, out, outFrom + 2 * stride));
      s21 = s21.add(FloatVector.fromArray(F, out, outFrom + 2 * stride + F.length()));
      s30 = s30.add(FloatVector.fromArray(F, out, outFrom + 3 * stride));
      s31 = s31.add(FloatVector.fromArray(F, out, outFrom + 3 * stride + F.length()));
    }
    s00.intoArray(out, outFrom);
    s01.intoArray(out, outFrom + F.length());
    s10.intoArray(out, outFrom + stride);
    s11.intoArray(out, outFrom + stride + F.length());
    s20.intoArray(out, outFrom + 2 * stride);
    s21.intoArray(out, outFrom + 2 * stride + F.length());
    s30.intoArray(out, outFrom + 3 * stride);
    s31.intoArray(out, outFrom + 3 * stride + F.length());
  }

  @Override
  public void row(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    FloatVector s4 = FloatVector.zero(F);
    FloatVector s5 = FloatVector.zero(F);
    FloatVector s6 = FloatVector.zero(F);
    FloatVector s7 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      long w0 = at + (long) k * (2L * F.vectorByteSize());
      long w1 = w0 + panelBytes;
      long w2 = w1 + panelBytes;
      long w3 = w2 + panelBytes;
      FloatVector v = FloatVector.broadcast(F, x[xFrom + k]);
      s0 = v.fma(FloatVector.fromMemorySegment(F, panels, w0, ORDER), s0);
      s1 = v.fma(FloatVector.fromMemorySegment(F, panels, w0 + F.vectorByteSize(), ORDER), s1);
      s2 = v.fma(FloatVector.fromMemorySegment(F, panels, w1, ORDER), s2);
      s3 = v.fma(FloatVector.fromMemorySegment(F, panels, w1 + F.vectorByteSize(), ORDER), s3);
      s4 = v.fma(FloatVector.fromMemorySegment(F, panels, w2, ORDER), s4);
      s5 = v.fma(FloatVector.fromMemorySegment(F, panels, w2 + F.vectorByteSize(), ORDER), s5);
      s6 = v.fma(FloatVector.fromMemorySegment(F, panels, w3, ORDER), s6);
      s7 = v.fma(FloatVector.fromMemorySegment(F, panels, w3 + F.vectorByteSize(), ORDER), s7);
    }
    if (add) {
      s0 = s0.add(FloatVector.fromArray(F, out, outFrom));
      s1 = s1.add(FloatVector.fromArray(F, out, outFrom + F.length()));
      s2 = s2.add(FloatVector.fromArray(F, out, outFrom + 2 * F.length()));
      s3 = s3.add(FloatVector.fromArray(F, out, outFrom + 3 * F.length()));
      s4 = s4.add(FloatVector.fromArray(F, out, outFrom + 4 * F.length()));
      s5 = s5.add(FloatVector.fromArray(F, out, outFrom + 5 * F.length()));
      s6 = s6.add(FloatVector.fromArray(F, out, outFrom + 6 * F.length()));
      s7 = s7.add(FloatVector.fromArray(F, out, outFrom + 7 * F.length()));
    }
    s0.intoArray(out, outFrom);
    s1.intoArray(out, outFrom + F.length());
    s2.intoArray(out, outFrom + 2 * F.length());
    s3.intoArray(out, outFrom + 3 * F.length());
    s4.intoArray(out, outFrom + 4 * F.length());
    s5.intoArray(out, outFrom + 5 * F.length());
    s6.intoArray(out, outFrom + 6 * F.length());
    s7.intoArray(out, outFrom + 7 * F.length());
  }

  @Override
  public void tile(
      double[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      double[] out,
      int outFrom,
      int stride,
      boolean add) {
    DoubleVector s00 = DoubleVector.zero(D);
    DoubleVector s01 = DoubleVector.zero(D);
    DoubleVector s10 = DoubleVector.zero(D);
    DoubleVector s11 = DoubleVector.zero(D);
    DoubleVector s20 = DoubleVector.zero(D);
    DoubleVector s21 = DoubleVector.zero(D);
    DoubleVector s30 = DoubleVector.zero(D);
    DoubleVector s31 = DoubleVector.zero(D);
    for (int k = 0; k < depth; k++) {
      long w = at + (long) k * (long) F.vectorByteSize();
      int t = xFrom + k * TOKENS;
      DoubleVector w0 =
          (DoubleVector) FloatVector.fromMemorySegment(F_HALF, panel, w, ORDER).castShape(D, 0);
      DoubleVector w1 =
          (DoubleVector)
              FloatVector.fromMemorySegment(F_HALF, panel, w + F_HALF.vectorByteSize(), ORDER)
                  .castShape(D, 0);
      DoubleVector x0 = DoubleVector.broadcast(D, x[t]);
      s00 = x0.fma(w0, s00);
      s01 = x0.fma(w1, s01);
      DoubleVector x1 = DoubleVector.broadcast(D, x[t + 1]);
      s10 = x1.fma(w0, s10);
      s11 = x1.fma(w1, s11);
      DoubleVector x2 = DoubleVector.broadcast(D, x[t + 2]);
      s20 = x2.fma(w0, s20);
      s21 = x2.fma(w1, s21);
      DoubleVector x3 = DoubleVector.broadcast(D, x[t + 3]);
      s30 = x3.fma(w0, s30);
      s31 = x3.fma(w1, s31);
    }
    if (add) {
      s00 = s00.add(DoubleVector.fromArray(D, out, outFrom));
      s01 = s01.add(DoubleVector.fromArray(D, out, outFrom + D.length()));
      s10 = s10.add(DoubleVector.fromArray(D, out, outFrom + stride));
      s11 = s11.add(DoubleVector.fromArray(D, out, outFrom + stride + D.length()));
      s20 = s20.add(DoubleVector.fromArray(D, out, outFrom + 2 * stride));
      s21 = s21.add(DoubleVector.fromArray(D, out, outFrom + 2 * stride + D.length()));
      s30 = s30.add(DoubleVector.fromArray(D, out, outFrom + 3 * stride));
      s31 = s31.add(DoubleVector.fromArray(D, out, outFrom + 3 * stride + D.length()));
    }
    s00.intoArray(out, outFrom);
    s01.intoArray(out, outFrom + D.length());
    s10.intoArray(out, outFrom + stride);
    s11.intoArray(out, outFrom + stride + D.length());
    s20.intoArray(out, outFrom + 2 * stride);
    s21.intoArray(out, outFrom + 2 * stride + D.length());
    s30.intoArray(out, outFrom + 3 * stride);
    s31.intoArray(out, outFrom + 3 * stride + D.length());
  }

  @Override
  public void row(
      double[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      double[] out,
      int outFrom,
      boolean add) {
    DoubleVector s0 = DoubleVector.zero(D);
    DoubleVector s1 = DoubleVector.zero(D);
    DoubleVector s2 = DoubleVector.zero(D);
    DoubleVector s3 = DoubleVector.zero(D);
    DoubleVector s4 = DoubleVector.zero(D);
    DoubleVector s5 = DoubleVector.zero(D);
    DoubleVector s6 = DoubleVector.zero(D);
    DoubleVector s7 = DoubleVector.zero(D);
    for (int k = 0; k < depth; k++) {
      long w0 = at + (long) k * (long) F.vectorByteSize();
      long w1 = w0 + panelBytes;
      long w2 = w1 + panelBytes;
      long w3 = w2 + panelBytes;
      DoubleVector v = DoubleVector.broadcast(D, x[xFrom + k]);
      DoubleVector p0 =
          (DoubleVector) FloatVector.fromMemorySegment(F_HALF, panels, w0, ORDER).castShape(D, 0);
      s0 = v.fma(p0, s0);
      DoubleVector p1 =
          (DoubleVector)
              FloatVector.fromMemorySegment(F_HALF, panels, w0 + F_HALF.vectorByteSize(), ORDER)
                  .castShape(D, 0);
      s1 = v.fma(p1, s1);
      DoubleVector p2 =
          (DoubleVector) FloatVector.fromMemorySegment(F_HALF, panels, w1, ORDER).castShape(D, 0);
      s2 = v.fma(p2, s2);
      DoubleVector p3 =
          (DoubleVector)
              FloatVector.fromMemorySegment(F_HALF, panels, w1 + F_HALF.vectorByteSize(), ORDER)
                  .castShape(D, 0);
      s3 = v.fma(p3, s3);
      DoubleVector p4 =
          (DoubleVector) FloatVector.fromMemorySegment(F_HALF, panels, w2, ORDER).castShape(D, 0);
      s4 = v.fma(p4, s4);
      DoubleVector p5 =
          (DoubleVector)
              FloatVector.fromMemorySegment(F_HALF, panels, w2 + F_HALF.vectorByteSize(), ORDER)
                  .castShape(D, 0);
      s5 = v.fma(p5, s5);
      DoubleVector p6 =
          (DoubleVector) FloatVector.fromMemorySegment(F_HALF, panels, w3, ORDER).castShape(D, 0);
      s6 = v.fma(p6, s6);
      DoubleVector p7 =
          (DoubleVector)
              FloatVector.fromMemorySegment(F_HALF, panels, w3 + F_HALF.vectorByteSize(), ORDER)
                  .castShape(D, 0);
      s7 = v.fma(p7, s7);
    }
    if (add) {
      s0 = s0.add(DoubleVector.fromArray(D, out, outFrom));
      s1 = s1.add(DoubleVector.fromArray(D, out, outFrom + D.length()));
      s2 = s2.add(DoubleVector.fromArray(D, out, outFrom + 2 * D.length()));
      s3 = s3.add(DoubleVector.fromArray(D, out, outFrom + 3 * D.length()));
      s4 = s4.add(DoubleVector.fromArray(D, out, outFrom + 4 * D.length()));
      s5 = s5.add(DoubleVector.fromArray(D, out, outFrom + 5 * D.length()));
      s6 = s6.add(DoubleVector.fromArray(D, out, outFrom + 6 * D.length()));
      s7 = s7.add(DoubleVector.fromArray(D, out, outFrom + 7 * D.length()));
    }
    s0.intoArray(out, outFrom);
    s1.intoArray(out, outFrom + D.length());
    s2.intoArray(out, outFrom + 2 * D.length());
    s3.intoArray(out, outFrom + 3 * D.length());
    s4.intoArray(out, outFrom + 4 * D.length());
    s5.intoArray(out, outFrom + 5 * D.length());
    s6.intoArray(out, outFrom + 6 * D.length());
    s7.intoArray(out, outFrom + 7 * D.length());
  }

  @Override
  public int pairLanes() {
    return F.length();
  }

  @Override
  public void rowOfPairs(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add) {
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = FloatVector.zero(F);
    FloatVector s2 = FloatVector.zero(F);
    FloatVector s3 = FloatVector.zero(F);
    FloatVector s4 = FloatVector.zero(F);
    FloatVector s5 = FloatVector.zero(F);
    FloatVector s6 = FloatVector.zero(F);
    FloatVector s7 = FloatVector.zero(F);
    for (int k = 0; k < depth; k++) {
      long w0 = at + (long) k * I.vectorByteSize();
      long w1 = w0 + panelBytes;
      long w2 = w1 + panelBytes;
      long w3 = w2 + panelBytes;
      FloatVector v = FloatVector.broadcast(F, x[xFrom + k]);
      IntVector p0 = IntVector.fromMemorySegment(I, panels, w0, ORDER);
      s0 = v.fma(p0.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats(), s0);
      s1 = v.fma(p0.and(HIGH).reinterpretAsFloats(), s1);
      IntVector p1 = IntVector.fromMemorySegment(I, panels, w1, ORDER);
      s2 = v.fma(p1.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats(), s2);
      s3 = v.fma(p1.and(HIGH).reinterpretAsFloats(), s3);
      IntVector p2 = IntVector.fromMemorySegment(I, panels, w2, ORDER);
      s4 = v.fma(p2.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats(), s4);
      s5 = v.fma(p2.and(HIGH).reinterpretAsFloats(), s5);
      IntVector p3 = IntVector.fromMemorySegment(I, panels, w3, ORDER);
      s6 = v.fma(p3.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats(), s6);
      s7 = v.fma(p3.and(HIGH).reinterpretAsFloats(), s7);
    }
    if (add) {
      s0 = s0.add(FloatVector.fromArray(F, out, outFrom));
      s1 = s1.add(FloatVector.fromArray(F, out, outFrom + F.length()));
      s2 = s2.add(FloatVector.fromArray(F, out, outFrom + 2 * F.length()));
      s3 = s3.add(FloatVector.fromArray(F, out, outFrom + 3 * F.length()));
      s4 = s4.add(FloatVector.fromArray(F, out, outFrom + 4 * F.length()));
      s5 = s5.add(FloatVector.fromArray(F, out, outFrom + 5 * F.length()));
      s6 = s6.add(FloatVector.fromArray(F, out, outFrom + 6 * F.length()));
      s7 = s7.add(FloatVector.fromArray(F, out, outFrom + 7 * F.length()));
    }
    s0.intoArray(out, outFrom);
    s1.intoArray(out, outFrom + F.length());
    s2.intoArray(out, outFrom + 2 * F.length());
    s3.intoArray(out, outFrom + 3 * F.length());
    s4.intoArray(out, outFrom + 4 * F.length());
    s5.intoArray(out, outFrom + 5 * F.length());
    s6.intoArray(out, outFrom + 6 * F.length());
    s7.intoArray(out, outFrom + 7 * F.length());
  }

  @Override
  public void pairsToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, int count) {
    for (int i = 0; i < count; i += 2 * F.length()) {
      IntVector pairs = IntVector.fromMemorySegment(I, in, inAt + (long) i * Short.BYTES, ORDER);
      long at = outAt + (long) i * Float.BYTES;
      pairs
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats()
          .intoMemorySegment(out, at, ORDER);
      pairs.and(HIGH).reinterpretAsFloats().intoMemorySegment(out, at + F.vectorByteSize(), ORDER);
    }
  }

  @Override
  public void quadsToF32(
      MemorySegment in,
      long inAt,
      MemorySegment factors,
      long factorsAt,
      int vectors,
      MemorySegment out,
      long outAt,
      int count) {
    FloatVector even = FloatVector.fromMemorySegment(F, factors, factorsAt, ORDER);
    long second = factorsAt + (vectors - 1L) * F.vectorByteSize();
    FloatVector odd = FloatVector.fromMemorySegment(F, factors, second, ORDER);
    // A number that is subnormal in E4M3 is so in float32, which some processors are slow with: it
    // is rarer than one in ten thousand of what a network's weights are.
    for (int i = 0; i < count; i += 4 * F.length()) {
      IntVector quads = IntVector.fromMemorySegment(I, in, inAt + i, ORDER);
      IntVector t0 = quads.lanewise(VectorOperators.LSHL, 24);
      IntVector t1 = quads.lanewise(VectorOperators.LSHL, 16);
      IntVector t2 = quads.lanewise(VectorOperators.LSHL, 8);
      IntVector t3 = quads;
      FloatVector v0 =
          t0.and(0x80000000)
              .or(t0.and(0x7F000000).lanewise(VectorOperators.LSHR, 4))
              .reinterpretAsFloats()
              .mul(even);
      FloatVector v1 =
          t1.and(0x80000000)
              .or(t1.and(0x7F000000).lanewise(VectorOperators.LSHR, 4))
              .reinterpretAsFloats()
              .mul(odd);
      FloatVector v2 =
          t2.and(0x80000000)
              .or(t2.and(0x7F000000).lanewise(VectorOperators.LSHR, 4))
              .reinterpretAsFloats()
              .mul(even);
      FloatVector v3 =
          t3.and(0x80000000)
              .or(t3.and(0x7F000000).lanewise(VectorOperators.LSHR, 4))
              .reinterpretAsFloats()
              .mul(odd);
      long at = outAt + (long) i * Float.BYTES;
      v0.intoMemorySegment(out, at, ORDER);
      v1.intoMemorySegment(out, at + F.vectorByteSize(), ORDER);
      v2.intoMemorySegment(out, at + 2L * F.vectorByteSize(), ORDER);
      v3.intoMemorySegment(out, at + 3L * F.vectorByteSize(), ORDER);
    }
  }

  /** Adds up the lanes of some sums. */
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
  public void addTap(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] tap,
      int tapFrom,
      float[] out,
      int outFrom,
      int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector product =
          FloatVector.fromArray(F, x, xFrom + i)
              .mul(factor)
              .mul(FloatVector.fromArray(F, w, wFrom + i))
              .mul(FloatVector.fromArray(F, tap, tapFrom + i));
      FloatVector.fromArray(F, out, outFrom + i).add(product).intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor * w[wFrom + i] * tap[tapFrom + i];
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

  @Override
  public void siluGradient(
      float[] x, int xFrom, float[] g, int gFrom, float[] out, int outFrom, int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector v = FloatVector.fromArray(F, x, xFrom + i);
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
      FloatVector inverse = p.mul(power);
      FloatVector sigmoid = FloatVector.broadcast(F, 1f).div(inverse.add(1f));
      FloatVector slope = sigmoid.add(v.mul(sigmoid).mul(inverse.mul(sigmoid)));
      FloatVector.fromArray(F, g, gFrom + i).mul(slope).intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] = g[gFrom + i] * Silu.slope(x[xFrom + i]);
    }
  }

  @Override
  public void addScaledProduct(
      float[] x,
      int xFrom,
      float factor,
      float[] y,
      int yFrom,
      float[] out,
      int outFrom,
      int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector product =
          FloatVector.fromArray(F, x, xFrom + i)
              .mul(factor)
              .mul(FloatVector.fromArray(F, y, yFrom + i));
      FloatVector.fromArray(F, out, outFrom + i).add(product).intoArray(out, outFrom + i);
    }
    for (; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor * y[yFrom + i];
    }
  }

  @Override
  public void twoDots(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] z,
      int zFrom,
      int count,
      double[] sums,
      double[] lanes) {
    DoubleVector xz = DoubleVector.zero(D);
    DoubleVector yz = DoubleVector.zero(D);
    int bound = D.loopBound(count);
    int i = 0;
    for (; i < bound; i += D.length()) {
      DoubleVector a = (DoubleVector) FloatVector.fromArray(F_HALF, x, xFrom + i).castShape(D, 0);
      DoubleVector b = (DoubleVector) FloatVector.fromArray(F_HALF, y, yFrom + i).castShape(D, 0);
      DoubleVector c = (DoubleVector) FloatVector.fromArray(F_HALF, z, zFrom + i).castShape(D, 0);
      xz = a.fma(c, xz);
      yz = b.fma(c, yz);
    }
    xz.intoArray(lanes, 0);
    yz.intoArray(lanes, D.length());
    sums(lanes, 2, sums, 0);
    for (; i < count; i++) {
      double c = z[zFrom + i];
      sums[0] += x[xFrom + i] * c;
      sums[1] += y[yFrom + i] * c;
    }
  }

  @Override
  public void gateGradients(
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
      int count) {
    int bound = F.loopBound(count);
    int i = 0;
    for (; i < bound; i += F.length()) {
      FloatVector a = FloatVector.fromArray(F, x, from + i);
      FloatVector b = FloatVector.fromArray(F, y, from + i);
      FloatVector c = FloatVector.fromArray(F, w, wFrom + i);
      b.mul(c).mul(f).add(a.mul(xFactor)).intoArray(xOut, xOutFrom + i);
      a.mul(c).mul(f).add(b.mul(yFactor)).intoArray(yOut, i);
      FloatVector.fromArray(F, products, productsFrom + i)
          .add(a.mul(b).mul(f))
          .intoArray(products, productsFrom + i);
    }
    for (; i < count; i++) {
      float a = x[from + i];
      float b = y[from + i];
      float c = w[wFrom + i];
      xOut[xOutFrom + i] = b * c * f + a * xFactor;
      yOut[i] = a * c * f + b * yFactor;
      products[productsFrom + i] += a * b * f;
    }
  }
}
