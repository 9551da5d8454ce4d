// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.table.NarrowFloat;

/**
 * From float32 to FP8 E4M3 with UE8M0 scales, as the released V4.1 quantises: the scale of a block
 * is the smallest power of two under which its largest magnitude is at most 448, that is
 * 2^ceil(log2(amax / 448)), and values are rounded to nearest, ties to even. Nothing saturates, and
 * a block of values that are already codes times a power of two comes out as the same values.
 *
 * <p>No scale is below 2^-124, so that every product is a bfloat16 number, as readers of the layout
 * expect; what is lost by that is below 2^-133. The scale of a block of zeros is 1.
 */
final class Fp8Quantizer {
  private static final int BIAS = 127;
  private static final int SMALLEST = -124;

  private Fp8Quantizer() {}

  /**
   * The scale of a block.
   *
   * @param amax its largest magnitude, finite
   * @return the exponent of the power of two
   */
  static int exponent(float amax) {
    if (amax == 0) {
      return 0;
    }
    // 448 is 1.75 * 2^8.
    int exponent = Math.getExponent(amax);
    float mantissa = Math.scalb(amax, -exponent);
    return Math.max(SMALLEST, exponent - 8 + (mantissa > 1.75f ? 1 : 0));
  }

  /** The code of a scale. */
  static byte scaleCode(int exponent) {
    return (byte) (exponent + BIAS);
  }

  /**
   * The largest magnitude of some values.
   *
   * @return not less than any of them; NaN if one of them is NaN
   */
  static float largest(float[] values, int from, int to, float before) {
    float largest = before;
    for (int i = from; i < to; i++) {
      largest = Math.max(largest, Math.abs(values[i]));
    }
    return largest;
  }

  /** The codes of values under a scale. */
  static void quantize(float[] values, int from, int to, int exponent, byte[] out, int at) {
    float factor = Math.scalb(1f, -exponent);
    for (int i = from; i < to; i++) {
      out[at + i - from] = NarrowFloat.toE4m3(values[i] * factor);
    }
  }
}
