// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.LongVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * The Vector API, large moduli: the quotient estimated in double precision, the remainder exact in
 * 64 bits.
 *
 * <p>Exact for every modulus m from 2^13 to 2^63 - 1 and every hash a from 0 to 2^63 - 1. The
 * estimate p of a / m rounds four times, a, m, the reciprocal and the product, each time by at most
 * 2^-53 of the value. A modulus below 2^53 is not rounded: three roundings then, of a value of at
 * most 2^63 / 2^13 = 2^50, and |p - a / m| &lt; 3.01 * 2^-3 &lt; 0.38. A larger modulus has a / m
 * of at most 2^10, and the difference is below 2^-40. As p lies from 0 to 2^51, adding 2^52 rounds
 * it to the nearest integer q, |q - p| &le; 1/2, and leaves q in the lower 52 bits of the sum. So
 * |q - a / m| &lt; 0.88 and |a - q m| &lt; m: a 64-bit subtraction gives that difference exactly,
 * whatever q m wrapped to, and one addition of m at most is left to do.
 *
 * <p>Neither fused multiplication nor conversion of vectors between long and double is used: not
 * every processor has them for vectors, and without them they would be very slow.
 */
final class QuotientHashKernel implements HashKernel {
  private static final VectorSpecies<Long> LONGS = LongVector.SPECIES_PREFERRED;
  private static final int LANES = LONGS.length();
  private static final double TWO_52 = 0x1p52;
  private static final long TWO_52_BITS = Double.doubleToRawLongBits(TWO_52);

  /** The smallest modulus for which this is exact. */
  static final long SMALLEST_MODULUS = 1L << 13;

  private final HashTerms terms;
  private final long[] reciprocals;

  /**
   * Prepares the moduli.
   *
   * @param terms moduli from {@link #SMALLEST_MODULUS}
   */
  QuotientHashKernel(HashTerms terms) {
    this.terms = terms;
    reciprocals = new long[terms.columns()];
    for (int i = 0; i < reciprocals.length; i++) {
      reciprocals[i] = Double.doubleToRawLongBits(1.0 / terms.moduli()[i]);
    }
  }

  @Override
  public void openWindows(int[] ids, int from, int positions, long[] out, int outFrom) {
    terms.openWindows(this, ids, from, positions, out, outFrom);
  }

  @Override
  public void reduce(long[] rows, int from, int positions) {
    long[] moduli = terms.moduli();
    long[] offsets = terms.offsets();
    int heads = terms.heads();
    int columns = moduli.length;
    for (int order = 0; order < columns; order += heads) {
      if (heads < LANES) {
        narrow(moduli, reciprocals, offsets, order, heads, rows, from + order, positions);
        continue;
      }
      // The first heads come last: the first column holds the hash. Where the lanes do not divide
      // the heads, two vectors overlap and agree on what both hold: no mask, no padding.
      for (int head = heads - LANES; head > 0; head -= LANES) {
        wide(moduli, reciprocals, offsets, order, head, rows, from + order, positions);
      }
      wide(moduli, reciprocals, offsets, order, 0, rows, from + order, positions);
    }
  }

  /** As many heads as lanes, for all positions. */
  private static void wide(
      long[] moduli,
      long[] reciprocals,
      long[] offsets,
      int order,
      int head,
      long[] rows,
      int from,
      int positions) {
    int columns = moduli.length;
    LongVector modulus = LongVector.fromArray(LONGS, moduli, order + head);
    LongVector offset = LongVector.fromArray(LONGS, offsets, order + head);
    DoubleVector reciprocal =
        LongVector.fromArray(LONGS, reciprocals, order + head).reinterpretAsDoubles();
    for (int p = 0, i = from; p < positions; p++, i += columns) {
      long hash = rows[i];
      LongVector quotient =
          reciprocal.mul((double) hash).add(TWO_52).reinterpretAsLongs().sub(TWO_52_BITS);
      LongVector rest = LongVector.broadcast(LONGS, hash).sub(quotient.mul(modulus));
      rest = rest.add(modulus.and(rest.lanewise(VectorOperators.ASHR, Long.SIZE - 1)));
      rest.add(offset).intoArray(rows, i + head);
    }
  }

  /** Fewer heads than lanes. */
  private static void narrow(
      long[] moduli,
      long[] reciprocals,
      long[] offsets,
      int order,
      int heads,
      long[] rows,
      int from,
      int positions) {
    int columns = moduli.length;
    for (int p = 0, i = from; p < positions; p++, i += columns) {
      long hash = rows[i];
      for (int head = 0; head < heads; head++) {
        long modulus = moduli[order + head];
        double quotient = hash * Double.longBitsToDouble(reciprocals[order + head]);
        long rest = hash - (Double.doubleToRawLongBits(quotient + TWO_52) - TWO_52_BITS) * modulus;
        rows[i + head] = offsets[order + head] + rest + (modulus & (rest >> 63));
      }
    }
  }
}
