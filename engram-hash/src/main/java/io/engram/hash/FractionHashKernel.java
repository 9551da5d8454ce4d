// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.LongVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The Vector API, moduli of about 2<sup>24</sup>, which all released tables have: the remainder
 * from the fraction of hash / modulus, without a quotient and without a correction.
 *
 * <p>Exact for every modulus m from 2^15 + 1 to 2^25 and every hash h from 0 to 2^63 - 1. Let h = a
 * 2^39 + b with 0 &le; a &lt; 2^24 and 0 &le; b &lt; 2^39, both exact as doubles, and f = (2^39 mod
 * m) / m &lt; 1, so that a f + b / m differs from h / m by an integer, and its fraction is r / m, r
 * = h mod m. It is below 2^24 - 1 + 2^39 / (2^15 + 1) &lt; 2^25 - 1, so that
 *
 * <pre>t = a f + (b / m + (2^25 + 2^-26))</pre>
 *
 * lies from 2^25 to 2^26, where doubles are multiples of 2^-27: the last 27 bits of t are its
 * fraction. What is rounded: f by at most 2^-54, times a below 2^-30; 1 / m by at most 2^-53 of it,
 * times b below 2^-29; both products, where they are not fused with the sums, by at most 2^-30
 * each; both sums by at most 2^-28 each. Together at most 13/8 of 2^-27. As 2^-26 was added, the
 * fraction found is (r + e m) / m with e from 3/8 to 29/8 of 2^-27, and 0 &lt; e m &lt; 1 as m &le;
 * 2^25. So it has not wrapped, and times m and rounded down it is r.
 *
 * <p>The product of the fraction, 27 bits, and m is one of two 32-bit values, which compilers know
 * by the masks: processors below AVX-512 multiply nothing wider at once. Helper methods that take
 * or return vectors are avoided: where one is not inlined, each of its vectors is an object.
 */
final class FractionHashKernel implements HashKernel {
  private static final VectorSpecies<Long> LONGS = LongVector.SPECIES_PREFERRED;
  private static final VectorSpecies<Double> DOUBLES = DoubleVector.SPECIES_PREFERRED;
  private static final VectorSpecies<Integer> IDS =
      VectorSpecies.of(int.class, VectorShape.forBitSize(Math.max(64, LONGS.vectorBitSize() / 2)));
  private static final int LANES = LONGS.length();

  private static final long SMALLEST_MODULUS = (1L << 15) + 1;
  private static final long LARGEST_MODULUS = 1L << 25;
  private static final int LOW_BITS = 39;
  private static final long LOW_MASK = (1L << LOW_BITS) - 1;
  private static final int FRACTION_BITS = 27;
  private static final long FRACTION = (1L << FRACTION_BITS) - 1;
  private static final double BASE = 0x1p25 + 0x1p-26;
  private static final long UINT = 0xFFFFFFFFL;

  /** An integer below 2^52 in the last bits of 2^52 is 2^52 more than itself. */
  private static final double TWO_52 = 0x1p52;

  private static final long TWO_52_BITS = Double.doubleToRawLongBits(TWO_52);

  /** Positions that are hashed before any is reduced: few enough to stay in the nearest cache. */
  private static final int BLOCK = 64;

  /** Where a block's hashes are, and their upper and lower parts as doubles. */
  private static final int HASH = 0;

  private static final int HIGH = BLOCK;
  private static final int LOW = 2 * BLOCK;

  private static final ThreadLocal<long[]> SPLIT =
      ThreadLocal.withInitial(() -> new long[3 * BLOCK]);

  private final HashTerms terms;
  private final double[] high;
  private final double[] low;

  /**
   * Whether this kernel is exact for some terms, and has vectors to fill: vectors of a single lane
   * mean that nothing compiles them.
   */
  static boolean takes(HashTerms terms) {
    return LANES > 1
        && terms.heads() >= LANES
        && terms.allModuliWithin(SMALLEST_MODULUS, LARGEST_MODULUS);
  }

  FractionHashKernel(HashTerms terms) {
    this.terms = terms;
    high = new double[terms.columns()];
    low = new double[terms.columns()];
    for (int c = 0; c < high.length; c++) {
      long modulus = terms.moduli()[c];
      high[c] = (double) ((1L << LOW_BITS) % modulus) / modulus;
      low[c] = 1.0 / modulus;
    }
  }

  @Override
  public void openWindows(int[] ids, int from, int positions, long[] out, int outFrom) {
    int columns = terms.columns();
    int whole = positions - positions % LANES;
    if (whole > 0) {
      long[] split = SPLIT.get();
      for (int done = 0; done < whole; done += BLOCK) {
        block(
            ids, from + done, Math.min(BLOCK, whole - done), split, out, outFrom + done * columns);
      }
    }
    if (whole < positions) {
      terms.openWindows(this, ids, from + whole, positions - whole, out, outFrom + whole * columns);
    }
  }

  /** A number of positions that the lanes divide. */
  private void block(int[] ids, int from, int positions, long[] split, long[] out, int outFrom) {
    long[] multipliers = terms.multipliers();
    long multiplier = multipliers[0];
    for (int p = 0; p < positions; p++) {
      split[HASH + p] = ids[from + p] * multiplier;
    }
    if (terms.completes(0)) {
      hashAndSplit(ids, from, 0, positions, split);
      spread(0, positions, split, out, outFrom);
    }
    for (int shift = 1; shift < multipliers.length; shift++) {
      hashAndSplit(ids, from - shift, multipliers[shift], positions, split);
      if (terms.completes(shift)) {
        spread(terms.slots()[shift], positions, split, out, outFrom);
      }
    }
  }

  /** Takes one more id into each hash, and splits it. */
  private static void hashAndSplit(
      int[] ids, int from, long multiplier, int positions, long[] split) {
    LongVector upper = LongVector.broadcast(LONGS, multiplier >>> 32).and(UINT);
    LongVector lower = LongVector.broadcast(LONGS, multiplier).and(UINT);
    for (int p = 0; p < positions; p += LANES) {
      LongVector id =
          ((LongVector)
                  IntVector.fromArray(IDS, ids, from + p)
                      .convertShape(VectorOperators.I2L, LONGS, 0))
              .and(UINT);
      LongVector hash =
          id.mul(upper)
              .lanewise(VectorOperators.LSHL, 32)
              .add(id.mul(lower))
              .lanewise(VectorOperators.XOR, LongVector.fromArray(LONGS, split, HASH + p));
      hash.intoArray(split, HASH + p);
      hash.lanewise(VectorOperators.LSHR, LOW_BITS)
          .or(TWO_52_BITS)
          .reinterpretAsDoubles()
          .sub(TWO_52)
          .reinterpretAsLongs()
          .intoArray(split, HIGH + p);
      hash.and(LOW_MASK)
          .or(TWO_52_BITS)
          .reinterpretAsDoubles()
          .sub(TWO_52)
          .reinterpretAsLongs()
          .intoArray(split, LOW + p);
    }
  }

  /** All heads of one order. */
  private void spread(int order, int positions, long[] split, long[] rows, int from) {
    int heads = terms.heads();
    int columns = terms.columns();
    int head = 0;
    // Where the lanes do not divide the heads, two vectors overlap and agree on what both hold.
    for (; heads - head > LANES; head += 2 * LANES) {
      int a = order + head;
      int b = order + Math.min(head + LANES, heads - LANES);
      switch (columns) {
        case 16 -> pairOf16(a, b, positions, split, rows, from + a);
        case 24 -> pairOf24(a, b, positions, split, rows, from + a);
        default -> pair(a, b, positions, split, rows, from + a, columns);
      }
    }
    if (head < heads) {
      int last = order + heads - LANES;
      single(last, positions, split, rows, from + last, columns);
    }
  }

  /** Two vectors of heads. */
  private void pair(int a, int b, int positions, long[] split, long[] rows, int from, int columns) {
    DoubleVector base = DoubleVector.broadcast(DOUBLES, BASE);
    DoubleVector highA = DoubleVector.fromArray(DOUBLES, high, a);
    DoubleVector highB = DoubleVector.fromArray(DOUBLES, high, b);
    DoubleVector lowA = DoubleVector.fromArray(DOUBLES, low, a);
    DoubleVector lowB = DoubleVector.fromArray(DOUBLES, low, b);
    LongVector modulusA = LongVector.fromArray(LONGS, terms.moduli(), a).and(UINT);
    LongVector modulusB = LongVector.fromArray(LONGS, terms.moduli(), b).and(UINT);
    LongVector offsetA = LongVector.fromArray(LONGS, terms.offsets(), a);
    LongVector offsetB = LongVector.fromArray(LONGS, terms.offsets(), b);
    int apart = b - a;
    for (int p = 0; p < positions; p++) {
      DoubleVector h = LongVector.broadcast(LONGS, split[HIGH + p]).reinterpretAsDoubles();
      DoubleVector l = LongVector.broadcast(LONGS, split[LOW + p]).reinterpretAsDoubles();
      int at = from + p * columns;
      h.fma(highA, l.fma(lowA, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusA)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetA)
          .intoArray(rows, at);
      h.fma(highB, l.fma(lowB, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusB)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetB)
          .intoArray(rows, at + apart);
    }
  }

  /** The same, compiled for 16 columns: a stride that is known frees the loop of checks. */
  private void pairOf16(int a, int b, int positions, long[] split, long[] rows, int from) {
    DoubleVector base = DoubleVector.broadcast(DOUBLES, BASE);
    DoubleVector highA = DoubleVector.fromArray(DOUBLES, high, a);
    DoubleVector highB = DoubleVector.fromArray(DOUBLES, high, b);
    DoubleVector lowA = DoubleVector.fromArray(DOUBLES, low, a);
    DoubleVector lowB = DoubleVector.fromArray(DOUBLES, low, b);
    LongVector modulusA = LongVector.fromArray(LONGS, terms.moduli(), a).and(UINT);
    LongVector modulusB = LongVector.fromArray(LONGS, terms.moduli(), b).and(UINT);
    LongVector offsetA = LongVector.fromArray(LONGS, terms.offsets(), a);
    LongVector offsetB = LongVector.fromArray(LONGS, terms.offsets(), b);
    int apart = b - a;
    for (int p = 0; p < positions; p++) {
      DoubleVector h = LongVector.broadcast(LONGS, split[HIGH + p]).reinterpretAsDoubles();
      DoubleVector l = LongVector.broadcast(LONGS, split[LOW + p]).reinterpretAsDoubles();
      int at = from + p * 16;
      h.fma(highA, l.fma(lowA, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusA)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetA)
          .intoArray(rows, at);
      h.fma(highB, l.fma(lowB, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusB)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetB)
          .intoArray(rows, at + apart);
    }
  }

  /** The same, compiled for 24 columns. */
  private void pairOf24(int a, int b, int positions, long[] split, long[] rows, int from) {
    DoubleVector base = DoubleVector.broadcast(DOUBLES, BASE);
    DoubleVector highA = DoubleVector.fromArray(DOUBLES, high, a);
    DoubleVector highB = DoubleVector.fromArray(DOUBLES, high, b);
    DoubleVector lowA = DoubleVector.fromArray(DOUBLES, low, a);
    DoubleVector lowB = DoubleVector.fromArray(DOUBLES, low, b);
    LongVector modulusA = LongVector.fromArray(LONGS, terms.moduli(), a).and(UINT);
    LongVector modulusB = LongVector.fromArray(LONGS, terms.moduli(), b).and(UINT);
    LongVector offsetA = LongVector.fromArray(LONGS, terms.offsets(), a);
    LongVector offsetB = LongVector.fromArray(LONGS, terms.offsets(), b);
    int apart = b - a;
    for (int p = 0; p < positions; p++) {
      DoubleVector h = LongVector.broadcast(LONGS, split[HIGH + p]).reinterpretAsDoubles();
      DoubleVector l = LongVector.broadcast(LONGS, split[LOW + p]).reinterpretAsDoubles();
      int at = from + p * 24;
      h.fma(highA, l.fma(lowA, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusA)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetA)
          .intoArray(rows, at);
      h.fma(highB, l.fma(lowB, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusB)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetB)
          .intoArray(rows, at + apart);
    }
  }

  /** One vector of heads. */
  private void single(int a, int positions, long[] split, long[] rows, int from, int columns) {
    DoubleVector base = DoubleVector.broadcast(DOUBLES, BASE);
    DoubleVector highA = DoubleVector.fromArray(DOUBLES, high, a);
    DoubleVector lowA = DoubleVector.fromArray(DOUBLES, low, a);
    LongVector modulusA = LongVector.fromArray(LONGS, terms.moduli(), a).and(UINT);
    LongVector offsetA = LongVector.fromArray(LONGS, terms.offsets(), a);
    for (int p = 0; p < positions; p++) {
      DoubleVector h = LongVector.broadcast(LONGS, split[HIGH + p]).reinterpretAsDoubles();
      DoubleVector l = LongVector.broadcast(LONGS, split[LOW + p]).reinterpretAsDoubles();
      h.fma(highA, l.fma(lowA, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusA)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetA)
          .intoArray(rows, from + p * columns);
    }
  }

  @Override
  public void reduce(long[] rows, int from, int positions) {
    int heads = terms.heads();
    int columns = terms.columns();
    for (int order = 0; order < columns; order += heads) {
      // The first heads come last: the first column holds the hash.
      for (int head = heads - LANES; head > 0; head -= LANES) {
        inPlace(order, head, rows, from + order, positions, columns);
      }
      inPlace(order, 0, rows, from + order, positions, columns);
    }
  }

  private void inPlace(int order, int head, long[] rows, int from, int positions, int columns) {
    int a = order + head;
    DoubleVector base = DoubleVector.broadcast(DOUBLES, BASE);
    DoubleVector highA = DoubleVector.fromArray(DOUBLES, high, a);
    DoubleVector lowA = DoubleVector.fromArray(DOUBLES, low, a);
    LongVector modulusA = LongVector.fromArray(LONGS, terms.moduli(), a).and(UINT);
    LongVector offsetA = LongVector.fromArray(LONGS, terms.offsets(), a);
    for (int p = 0, i = from; p < positions; p++, i += columns) {
      long hash = rows[i];
      DoubleVector h = DoubleVector.broadcast(DOUBLES, (double) (hash >>> LOW_BITS));
      DoubleVector l = DoubleVector.broadcast(DOUBLES, (double) (hash & LOW_MASK));
      h.fma(highA, l.fma(lowA, base))
          .reinterpretAsLongs()
          .and(FRACTION)
          .mul(modulusA)
          .lanewise(VectorOperators.LSHR, FRACTION_BITS)
          .add(offsetA)
          .intoArray(rows, i + head);
    }
  }
}
