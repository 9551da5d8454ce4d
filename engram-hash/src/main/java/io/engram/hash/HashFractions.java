// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/**
 * What kernels multiply the two parts of a hash by, to find its remainder from the fraction of hash
 * / modulus, without a quotient and without a correction.
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
 * @param high for each column, f
 * @param low for each column, 1 / m
 */
@SuppressWarnings("ArrayRecordComponent")
record HashFractions(double[] high, double[] low) {
  static final long SMALLEST_MODULUS = (1L << 15) + 1;
  static final long LARGEST_MODULUS = 1L << 25;

  /** Bits of b. */
  static final int LOW_BITS = 39;

  static final long LOW_MASK = (1L << LOW_BITS) - 1;

  /** Bits of t that are its fraction. */
  static final int FRACTION_BITS = 27;

  static final long FRACTION = (1L << FRACTION_BITS) - 1;

  /** Where doubles are multiples of 2^-27, and the excess that outweighs what is rounded. */
  static final double BASE = 0x1p25 + 0x1p-26;

  /** Whether all moduli are in the range of the proof. */
  static boolean take(HashTerms terms) {
    return terms.allModuliWithin(SMALLEST_MODULUS, LARGEST_MODULUS);
  }

  static HashFractions of(long[] moduli) {
    double[] high = new double[moduli.length];
    double[] low = new double[moduli.length];
    for (int c = 0; c < moduli.length; c++) {
      high[c] = (double) ((1L << LOW_BITS) % moduli[c]) / moduli[c];
      low[c] = 1.0 / moduli[c];
    }
    return new HashFractions(high, low);
  }
}
