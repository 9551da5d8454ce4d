// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/** Plain Java, moduli of about 2<sup>24</sup>: see {@link HashFractions}, which proves it exact. */
final class ScalarFractionKernel implements HashKernel {
  private final HashTerms terms;
  private final double[] high;
  private final double[] low;

  /**
   * The fastest plain loops that are exact for some terms.
   *
   * @param terms any terms
   * @return the kernel
   */
  static HashKernel orGeneral(HashTerms terms) {
    return HashFractions.take(terms)
        ? new ScalarFractionKernel(terms)
        : new ScalarHashKernel(terms);
  }

  ScalarFractionKernel(HashTerms terms) {
    this.terms = terms;
    HashFractions fractions = HashFractions.of(terms.moduli());
    high = fractions.high();
    low = fractions.low();
  }

  @Override
  public void openWindows(int[] ids, int from, int positions, long[] out, int outFrom) {
    terms.openWindows(this, ids, from, positions, out, outFrom);
  }

  @Override
  public void reduce(long[] rows, int from, int positions) {
    int heads = terms.heads();
    int columns = terms.columns();
    for (int order = 0; order < columns; order += heads) {
      reduce(order, order + heads, rows, from, positions);
    }
  }

  /** The heads of one order. */
  private void reduce(int start, int end, long[] rows, int from, int positions) {
    long[] moduli = terms.moduli();
    long[] offsets = terms.offsets();
    double[] high = this.high;
    double[] low = this.low;
    int columns = moduli.length;
    for (int p = 0, i = from; p < positions; p++, i += columns) {
      long hash = rows[i + start];
      double a = hash >>> HashFractions.LOW_BITS;
      double b = hash & HashFractions.LOW_MASK;
      for (int c = start; c < end; c++) {
        double t = a * high[c] + (b * low[c] + HashFractions.BASE);
        long fraction = Double.doubleToRawLongBits(t) & HashFractions.FRACTION;
        rows[i + c] = offsets[c] + ((fraction * moduli[c]) >>> HashFractions.FRACTION_BITS);
      }
    }
  }
}
