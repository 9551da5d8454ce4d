// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

/**
 * The number formats narrower than float32 that tables and weights are stored in. Every stored
 * value widens to float32 exactly.
 *
 * <p>Sources: OCP 8-bit floating point specification (E4M3), OCP microscaling formats specification
 * (E8M0), IEEE 754-2019 (binary16); bfloat16 as PyTorch rounds to it.
 */
public final class NarrowFloat {
  private static final int QUIET_NAN_BF16 = 0x7FC0;
  private static final int SMALLEST_NORMAL_E4M3 = Float.floatToRawIntBits(0x1p-6f);
  private static final float[] E4M3 = new float[256];

  static {
    for (int code = 0; code < E4M3.length; code++) {
      int exponent = code >> 3 & 15;
      int mantissa = code & 7;
      float magnitude =
          (code & 0x7F) == 0x7F
              ? Float.NaN
              : exponent == 0 ? mantissa * 0x1p-9f : Math.scalb(1 + mantissa / 8f, exponent - 7);
      E4M3[code] = (code & 0x80) == 0 ? magnitude : -magnitude;
    }
  }

  private NarrowFloat() {}

  /**
   * The value of an FP8 E4M3 code: no infinities, NaN at 0x7F and 0xFF, at most 448.
   *
   * @param code the stored byte
   * @return its value
   */
  public static float e4m3(byte code) {
    return E4M3[code & 0xFF];
  }

  /**
   * Rounds to FP8 E4M3, to nearest, ties to even.
   *
   * @param value any value
   * @return the code; of 448 with its sign for what is larger, infinities included, and 0x7F for
   *     every NaN
   */
  public static byte toE4m3(float value) {
    if (Float.isNaN(value)) {
      return 0x7F;
    }
    int bits = Float.floatToRawIntBits(value);
    int sign = bits >>> 24 & 0x80;
    int magnitude = bits & 0x7FFF_FFFF;
    if (magnitude < SMALLEST_NORMAL_E4M3) {
      // Steps of 2^-9; eight of them are the code of the smallest normal number.
      return (byte) (sign | (int) Math.rint(Math.abs(value) * 0x1p9));
    }
    int rounded = magnitude + 0x7_FFFF + (magnitude >>> 20 & 1);
    int code = (rounded >>> 20) - ((127 - 7) << 3);
    return (byte) (sign | Math.min(code, 0x7E));
  }

  /**
   * The value of a UE8M0 scale: 2^(code - 127), also 2^-127 for code 0, and NaN for code 255.
   *
   * @param code the stored byte, taken as unsigned
   * @return a power of two or NaN
   */
  public static float e8m0(byte code) {
    int exponent = code & 0xFF;
    return switch (exponent) {
      case 0 -> 0x1p-127f;
      case 255 -> Float.NaN;
      default -> Float.intBitsToFloat(exponent << 23);
    };
  }

  /**
   * The value of a bfloat16.
   *
   * @param bits the stored bits
   * @return its value
   */
  public static float bf16(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  /**
   * Rounds to bfloat16, to nearest, ties to even.
   *
   * @param value any value
   * @return the bits; 0x7FC0 for every NaN
   */
  public static short toBf16(float value) {
    if (Float.isNaN(value)) {
      return QUIET_NAN_BF16;
    }
    int bits = Float.floatToRawIntBits(value);
    return (short) ((bits + 0x7FFF + (bits >>> 16 & 1)) >>> 16);
  }

  /**
   * Widens a row of FP8 E4M3 codes, of which some columns each share a UE8M0 scale, to bfloat16. A
   * code has three mantissa bits, so that its product with a power of two is a bfloat16 number
   * unless it is too large or too small.
   *
   * @param codes the codes of the row
   * @param scales the scales of the row, one for each {@code block} columns
   * @param block columns that share a scale
   * @param out receives as many bits as there are codes
   * @return the first column whose product is NaN or no finite bfloat16 number, and where {@code
   *     out} ends; -1 if there is none
   */
  public static int widenScaled(byte[] codes, byte[] scales, int block, short[] out) {
    for (int from = 0; from < codes.length; from += block) {
      float scale = e8m0(scales[from / block]);
      int to = Math.min(from + block, codes.length);
      for (int column = from; column < to; column++) {
        float value = e4m3(codes[column]) * scale;
        int bits = Float.floatToRawIntBits(value);
        if ((bits & 0xFFFF) != 0 || !Float.isFinite(value)) {
          return column;
        }
        out[column] = (short) (bits >>> 16);
      }
    }
    return -1;
  }

  /**
   * The value of an IEEE half precision number.
   *
   * @param bits the stored bits
   * @return its value
   */
  public static float f16(short bits) {
    return Float.float16ToFloat(bits);
  }
}
