// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

/**
 * Powers of one number, for a row that missed some steps: at most eight products of tabulated
 * numbers. {@code Math.pow} takes longer, and may differ in the last bit from one platform to
 * another, and with it the row.
 */
final class Powers {
  private static final int DIGIT = 8;

  /** base^(digit * 256^place) at [place * 256 + digit]. */
  private final double[] table = new double[(Long.SIZE / DIGIT) << DIGIT];

  Powers(double base) {
    double unit = base;
    for (int place = 0; place < Long.SIZE / DIGIT; place++) {
      double power = 1;
      for (int digit = 0; digit < 1 << DIGIT; digit++) {
        table[(place << DIGIT) + digit] = power;
        power *= unit;
      }
      unit = power;
    }
  }

  /** The base to a power that is not negative. */
  double of(long exponent) {
    double power = table[(int) exponent & 0xFF];
    int place = 1;
    for (long rest = exponent >>> DIGIT; rest != 0; rest >>>= DIGIT) {
      power *= table[(place << DIGIT) + ((int) rest & 0xFF)];
      place++;
    }
    return power;
  }
}
