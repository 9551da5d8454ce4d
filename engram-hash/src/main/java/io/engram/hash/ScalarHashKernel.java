// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/**
 * Plain Java: the remainder from the upper half of a 128-bit product.
 *
 * <p>Exact for every modulus m from 1 to 2^63 - 1 and every hash a from 0 to 2^63 - 1. Let v =
 * floor((2^64 - 1) / m) and q = floor(a v / 2^64). From v &le; 2^64 / m follows q &le; a / m. From
 * v &ge; (2^64 - 1 - (m - 1)) / m = 2^64 / m - 1 follows a v / 2^64 &ge; a / m - a / 2^64 &gt; a /
 * m - 1/2. So q is the quotient or one less, and a - q m lies from 0 to 2 m - 1, and it is not
 * above a, so that nothing overflows: one subtraction at most is left to do.
 */
final class ScalarHashKernel implements HashKernel {
  private final HashTerms terms;
  private final long[] reciprocals;

  /**
   * Prepares the moduli.
   *
   * @param terms any moduli
   */
  ScalarHashKernel(HashTerms terms) {
    this.terms = terms;
    reciprocals = new long[terms.columns()];
    for (int i = 0; i < reciprocals.length; i++) {
      reciprocals[i] = Long.divideUnsigned(-1, terms.moduli()[i]);
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
    for (int p = 0, i = from; p < positions; p++, i += columns) {
      long hash = 0;
      int next = 0;
      for (int column = 0; column < columns; column++) {
        if (column == next) {
          hash = rows[i + column];
          next += heads;
        }
        long modulus = moduli[column];
        long quotient = Math.unsignedMultiplyHigh(hash, reciprocals[column]);
        long rest = hash - quotient * modulus - modulus;
        // Without a branch: it would be mispredicted at random.
        rows[i + column] = offsets[column] + rest + (modulus & (rest >> 63));
      }
    }
  }
}
