// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The loops in the Vector API. No method takes or returns a vector: inside a large caller the
 * compiler may stop inlining, and then every vector that crosses a call becomes an object.
 */
final class VectorUpdateKernels implements UpdateKernels {
  private static final VectorSpecies<Float> F =
      FloatVector.SPECIES_PREFERRED.vectorBitSize() < 128
          ? FloatVector.SPECIES_128
          : FloatVector.SPECIES_PREFERRED;

  private static final VectorSpecies<Integer> I = F.withLanes(int.class);
  private static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.length() * Short.SIZE));
  private static final int LANES = F.length();
  private static final int MAGNITUDE = 0x7FFFFFFF;
  private static final int HIGH = 0xFFFF0000;

  /** What {@link Chance#bits} adds for the elements of a vector. */
  private static final IntVector STRIDES = IntVector.zero(I).addIndex(1).mul(Chance.STRIDE);

  /**
   * Where vectors of floats and of doubles would have to meet, what the compiler makes is as good.
   */
  private final ScalarUpdateKernels scalar = new ScalarUpdateKernels();

  VectorUpdateKernels() {}

  @Override
  public int largest(float[] x, int at, int count) {
    IntVector largest = IntVector.zero(I);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      largest = largest.max(FloatVector.fromArray(F, x, at + i).reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX), ScalarUpdateKernels.largest(x, at, count, i));
  }

  @Override
  public int add(float[] x, int xAt, float[] sums, int at, int count) {
    IntVector largest = IntVector.zero(I);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector sum =
          FloatVector.fromArray(F, sums, at + i).add(FloatVector.fromArray(F, x, xAt + i));
      sum.intoArray(sums, at + i);
      largest = largest.max(sum.reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.add(x, xAt, sums, at, count, i));
  }

  @Override
  public int scale(float[] x, int at, int count, float factor) {
    IntVector largest = IntVector.zero(I);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector scaled = FloatVector.fromArray(F, x, at + i).mul(factor);
      scaled.intoArray(x, at + i);
      largest = largest.max(scaled.reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.scale(x, at, count, factor, i));
  }

  @Override
  public void widen(short[] x, float[] out, int count) {
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      IntVector bits = (IntVector) ShortVector.fromArray(S, x, i).castShape(I, 0);
      bits.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats().intoArray(out, i);
    }
    for (; i < count; i++) {
      out[i] = Float.intBitsToFloat(x[i] << 16);
    }
  }

  @Override
  public int roundByChance(float[] x, short[] out, int count, long key) {
    IntVector largest = IntVector.zero(I);
    int high = (int) (key >>> 32);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      IntVector chance = STRIDES.add((int) key + i * Chance.STRIDE);
      chance = chance.lanewise(VectorOperators.LSHR, 16).lanewise(VectorOperators.XOR, chance);
      chance = chance.mul(Chance.FACTOR_1);
      chance = chance.lanewise(VectorOperators.LSHR, 15).lanewise(VectorOperators.XOR, chance);
      chance = chance.lanewise(VectorOperators.XOR, high).mul(Chance.FACTOR_2);
      chance = chance.lanewise(VectorOperators.LSHR, 16).lanewise(VectorOperators.XOR, chance);
      IntVector rounded =
          FloatVector.fromArray(F, x, i)
              .reinterpretAsInts()
              .add(chance.lanewise(VectorOperators.LSHR, 16));
      ((ShortVector) rounded.lanewise(VectorOperators.LSHR, 16).castShape(S, 0)).intoArray(out, i);
      largest = largest.max(rounded.and(MAGNITUDE & HIGH));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.roundByChance(x, out, count, key, i));
  }

  @Override
  public int adam(
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
      float epsilon) {
    IntVector largest = IntVector.zero(I);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector gradient = FloatVector.fromArray(F, g, gAt + i);
      FloatVector m = FloatVector.fromArray(F, moments, i).mul(keep1).add(gradient.mul(take1));
      FloatVector v =
          FloatVector.fromArray(F, moments, count + i)
              .mul(keep2)
              .add(gradient.mul(take2).mul(gradient));
      FloatVector weight =
          FloatVector.fromArray(F, w, i)
              .sub(m.mul(rate).div(v.lanewise(VectorOperators.SQRT).mul(spread).add(epsilon)));
      m.intoArray(moments, i);
      v.intoArray(moments, count + i);
      weight.intoArray(w, i);
      largest =
          largest
              .max(m.reinterpretAsInts().and(MAGNITUDE))
              .max(v.reinterpretAsInts().and(MAGNITUDE))
              .max(weight.reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.adam(
            w, moments, g, gAt, count, keep1, take1, keep2, take2, rate, spread, epsilon, i));
  }

  @Override
  public int momentum(
      float[] w, float[] m, float[] g, int gAt, int count, float keep, float rate, float ahead) {
    IntVector largest = IntVector.zero(I);
    boolean plain = ahead == 0;
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector gradient = FloatVector.fromArray(F, g, gAt + i);
      FloatVector moving = FloatVector.fromArray(F, m, i).mul(keep).add(gradient);
      moving.intoArray(m, i);
      largest = largest.max(moving.reinterpretAsInts().and(MAGNITUDE));
      FloatVector direction = plain ? moving : moving.mul(ahead).add(gradient);
      FloatVector weight = FloatVector.fromArray(F, w, i).sub(direction.mul(rate));
      weight.intoArray(w, i);
      largest = largest.max(weight.reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.momentum(w, m, g, gAt, count, keep, rate, ahead, i));
  }

  @Override
  public int descend(float[] w, float[] g, int gAt, int count, float rate) {
    IntVector largest = IntVector.zero(I);
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector weight =
          FloatVector.fromArray(F, w, i).sub(FloatVector.fromArray(F, g, gAt + i).mul(rate));
      weight.intoArray(w, i);
      largest = largest.max(weight.reinterpretAsInts().and(MAGNITUDE));
    }
    return Math.max(
        largest.reduceLanes(VectorOperators.MAX),
        ScalarUpdateKernels.descend(w, g, gAt, count, rate, i));
  }

  @Override
  public void nesterov(
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float take,
      float ahead,
      float[] out,
      int outAt) {
    scalar.nesterov(m, g, gAt, count, keep, take, ahead, out, outAt);
  }

  @Override
  public double squares(float[] x, int at, int count, double[] factors) {
    return scalar.squares(x, at, count, factors);
  }

  @Override
  public void addSquares(float[] x, int at, int count, double factor, double[] sums) {
    scalar.addSquares(x, at, count, factor, sums);
  }

  @Override
  public int balanced(
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
      double[] factors) {
    return scalar.balanced(w, m, g, gAt, count, keep, take, u, uAt, rate, factors);
  }
}
