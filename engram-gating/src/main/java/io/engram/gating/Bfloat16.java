// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

/** Rounding to bfloat16, to nearest, ties to even, NaN kept. */
final class Bfloat16 {
  private static final int QUIET = 0x0040;

  private Bfloat16() {}

  /** The value of a bfloat16. */
  static float toFloat(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  /** The nearest bfloat16, as its bits. */
  static short toBits(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) ((bits >>> 16) | QUIET);
    }
    return (short) ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16);
  }

  /**
   * The nearest bfloat16 of a double, rounded once. By way of the nearest float it would be rounded
   * twice; a float rounded to odd keeps on which side of a tie the double was.
   */
  static float round(double value) {
    float odd = (float) value;
    double back = odd;
    if (back != value && !Double.isNaN(value)) {
      int bits = Float.floatToRawIntBits(odd);
      if (Math.abs(back) > Math.abs(value)) {
        bits--;
      }
      odd = Float.intBitsToFloat(bits | 1);
    }
    return toFloat(toBits(odd));
  }
}
