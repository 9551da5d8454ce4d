// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class NarrowFloatTest {
  /** The values of PyTorch's float8_e4m3fn and float8_e8m0fnu, null for NaN. */
  @Test
  void allCodesAgreeWithTheGoldenTables() {
    JsonArray e4m3 = Golden.json("fp8_tables.json").getAsJsonArray("e4m3fn");
    JsonArray e8m0 = Golden.json("fp8_tables.json").getAsJsonArray("e8m0fnu");
    assertEquals(256, e4m3.size());
    assertEquals(256, e8m0.size());
    for (int code = 0; code < 256; code++) {
      double value = e4m3.get(code).isJsonNull() ? Double.NaN : e4m3.get(code).getAsDouble();
      assertEquals(value, NarrowFloat.e4m3((byte) code), "E4M3 code " + code);
      double scale = e8m0.get(code).isJsonNull() ? Double.NaN : e8m0.get(code).getAsDouble();
      assertEquals(scale, NarrowFloat.e8m0((byte) code), "E8M0 code " + code);
    }
    assertEquals(-0f, NarrowFloat.e4m3((byte) 0x80));
  }

  /** sign * mantissa * 2^exponent, by the definition of the format. */
  private static double reference(int bits, int exponentBits, int mantissaBits) {
    int bias = (1 << (exponentBits - 1)) - 1;
    int exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1);
    int mantissa = bits & ((1 << mantissaBits) - 1);
    double sign = (bits >> (exponentBits + mantissaBits) & 1) == 0 ? 1 : -1;
    if (exponent == (1 << exponentBits) - 1) {
      return mantissa == 0 ? sign * Double.POSITIVE_INFINITY : Double.NaN;
    }
    return exponent == 0
        ? sign * Math.scalb((double) mantissa, 1 - bias - mantissaBits)
        : sign
            * Math.scalb((double) (mantissa | (1 << mantissaBits)), exponent - bias - mantissaBits);
  }

  @Test
  void allCodesOfTheSixteenBitFormatsHaveTheirValue() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      assertEquals(reference(bits, 8, 7), NarrowFloat.bf16((short) bits), "bfloat16 " + bits);
      assertEquals(reference(bits, 5, 10), NarrowFloat.f16((short) bits), "binary16 " + bits);
    }
  }

  /** The nearest of two neighbours, the even one if both are as near. */
  private static short nearestBf16(float value) {
    if (Float.isNaN(value)) {
      return 0x7FC0;
    }
    int down = Float.floatToRawIntBits(value) >>> 16;
    double low = reference(down, 8, 7);
    // The next code up is the neighbour away from zero; beyond the largest that is 2^128.
    double high =
        (down & 0x7FFF) == 0x7F7F ? Math.copySign(0x1p128, value) : reference(down + 1, 8, 7);
    double below = Math.abs(value - low);
    double above = Math.abs(high - value);
    if (Float.isInfinite(value) || below < above) {
      return (short) down;
    }
    return (short) (above < below ? down + 1 : down + (down & 1));
  }

  @Test
  void roundsToTheNearestBfloat16AndTiesToEven() {
    RandomGenerator random = Seeds.random("NarrowFloatTest.roundsToTheNearest");
    for (int high = 0; high < 1 << 16; high++) {
      for (int low : new int[] {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, random.nextInt(1 << 16)}) {
        float value = Float.intBitsToFloat(high << 16 | low);
        assertEquals(nearestBf16(value), NarrowFloat.toBf16(value), () -> "value " + value);
      }
    }
    assertEquals((short) 0x7F80, NarrowFloat.toBf16(Float.MAX_VALUE));
    assertEquals((short) 0x8000, NarrowFloat.toBf16(-Float.MIN_VALUE));
    assertEquals((short) 1, NarrowFloat.toBf16(0x1.8p-134f));
    assertEquals((short) 0, NarrowFloat.toBf16(0x1p-134f));
  }

  @Test
  void everyNarrowValueSurvivesTheWayThere() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      float value = NarrowFloat.bf16((short) bits);
      if (!Float.isNaN(value)) {
        assertEquals((short) bits, NarrowFloat.toBf16(value));
      }
    }
    for (int code = 0; code < 256; code++) {
      float value = NarrowFloat.e4m3((byte) code);
      assertTrue(Float.isNaN(value) || value == NarrowFloat.bf16(NarrowFloat.toBf16(value)));
    }
  }

  @Test
  void scaledCodesAreProductsOrAreRefused() {
    for (int scale = 0; scale < 256; scale++) {
      for (int code = 0; code < 256; code++) {
        byte[] codes = {1, 2, (byte) code, 3};
        byte[] scales = {127, (byte) scale};
        short[] out = new short[4];
        int refused = NarrowFloat.widenScaled(codes, scales, 2, out);
        assertEquals(reference(1, 4, 3), NarrowFloat.bf16(out[0]));
        assertEquals(reference(2, 4, 3), NarrowFloat.bf16(out[1]));
        boolean number = scale != 255 && (code & 0x7F) != 0x7F;
        // The definition of E4M3 differs from the others where they have infinities.
        double e4m3 =
            (code & 0x78) == 0x78
                ? Math.copySign(256 * (1 + (code & 7) / 8.0), (byte) code)
                : reference(code, 4, 3);
        double product = e4m3 * Math.scalb(1.0, scale - 127);
        double step = Math.max(0x1p-133, Math.ulp((float) product) * 0x1p16);
        boolean held = product % step == 0 && Math.abs(product) < 0x1p128;
        if (!number || !held) {
          assertEquals(2, refused, "code " + code + " scale " + scale);
        } else if (refused < 0) {
          assertEquals(product, NarrowFloat.bf16(out[2]), "code " + code + " scale " + scale);
        } else {
          // The next code may be one that is refused, but not this one.
          assertEquals(3, refused, "code " + code + " scale " + scale);
          assertTrue(scale < 3, "scale " + scale);
        }
      }
    }
    assertEquals(-1, NarrowFloat.widenScaled(new byte[0], new byte[0], 32, new short[0]));
  }
}
