// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

/** What stored bytes mean, computed in double from the definitions of the number formats. */
final class Decoded {
  private Decoded() {}

  static double e4m3(int code) {
    int exponent = code >> 3 & 15;
    int fraction = code & 7;
    if (exponent == 15 && fraction == 7) {
      return Double.NaN;
    }
    double size = exponent == 0 ? fraction * 0x1p-9 : Math.scalb(1 + fraction / 8.0, exponent - 7);
    return code < 128 ? size : -size;
  }

  static double e8m0(int code) {
    return code == 255 ? Double.NaN : Math.scalb(1.0, code - 127);
  }

  /** To the nearest bfloat16, ties to even. */
  static float bf16(double value) {
    if (Double.isNaN(value) || value == 0) {
      return (float) value;
    }
    double step = Math.scalb(1.0, Math.max(Math.getExponent(value), -126) - 7);
    double rounded = Math.rint(value / step) * step;
    return Math.abs(rounded) >= 0x1p128
        ? (float) Math.copySign(Double.POSITIVE_INFINITY, rounded)
        : (float) rounded;
  }

  /** A value of a row of FP8 with a scale for each 32 values. */
  static float fp8Block32(RowPattern pattern, long row, int index) {
    int code = pattern.byteOf(row, index);
    int scale = pattern.byteOf(row, pattern.valueBytes() + index / 32);
    return bf16(e4m3(code) * e8m0(scale));
  }

  /** A value of a row of bfloat16. */
  static float bfloat16(RowPattern pattern, long row, int index) {
    int low = pattern.byteOf(row, 2 * index);
    int high = pattern.byteOf(row, 2 * index + 1);
    return Float.intBitsToFloat(high << 24 | low << 16);
  }

  static boolean equal(float expected, float found) {
    return Float.floatToIntBits(expected) == Float.floatToIntBits(found);
  }
}
