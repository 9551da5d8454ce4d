// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

/**
 * SiLU in float32, to about two units in the last place: of one exponential, written with
 * operations that the Vector API has too, so that both twins give the same bits.
 */
final class Silu {
  /** Beyond it the exponential would leave the normal numbers. */
  static final float LIMIT = 87f;

  static final float LOG2_E = (float) 1.4426950408889634;

  /** Adding it leaves the nearest integer in the low bits. */
  static final float ROUNDER = 12582912f;

  static final int ROUNDER_BITS = Float.floatToRawIntBits(ROUNDER);

  /** ln 2 in two parts, the first short enough that its product with an exponent is exact. */
  static final float LN2_HIGH = 0x1.62ep-1f;

  static final float LN2_LOW = (float) (0.6931471805599453 - LN2_HIGH);

  /** 1 / k! for k = 7 to 0: the Taylor series, exact to 6e-9 for |r| up to ln(2) / 2. */
  static final float C7 = 1f / 5040;

  static final float C6 = 1f / 720;
  static final float C5 = 1f / 120;
  static final float C4 = 1f / 24;
  static final float C3 = 1f / 6;
  static final float C2 = 0.5f;

  private Silu() {}

  static float of(float x) {
    return x / (1f + inverse(x));
  }

  /** The derivative: s + x * s * (1 - s) of the sigmoid s of x. */
  static float slope(float x) {
    float inverse = inverse(x);
    float sigmoid = 1f / (1f + inverse);
    return sigmoid + x * sigmoid * (inverse * sigmoid);
  }

  /** exp(-x), within the normal numbers. */
  private static float inverse(float x) {
    float z = Math.min(Math.max(-x, -LIMIT), LIMIT);
    float shifted = z * LOG2_E + ROUNDER;
    float n = shifted - ROUNDER;
    float r = z - n * LN2_HIGH - n * LN2_LOW;
    float p = (((((C7 * r + C6) * r + C5) * r + C4) * r + C3) * r + C2) * r;
    p = (p + 1f) * r + 1f;
    float power =
        Float.intBitsToFloat((Float.floatToRawIntBits(shifted) - ROUNDER_BITS + 127) << 23);
    return p * power;
  }
}
