// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.table.NarrowFloat;
import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@Tag("once")
class Fp8QuantizerTest {
  @Test
  void everyCodeIsItsOwnValuesCode() {
    for (int code = 0; code < 256; code++) {
      float value = NarrowFloat.e4m3((byte) code);
      int expected = Float.isNaN(value) ? 0x7F : code;
      assertEquals(expected, NarrowFloat.toE4m3(value) & 0xFF);
    }
    assertEquals(0x7E, NarrowFloat.toE4m3(Float.POSITIVE_INFINITY));
    assertEquals((byte) 0xFE, NarrowFloat.toE4m3(-1e9f));
  }

  /** Against a search of all codes for the nearest one, the even one of two. */
  @Test
  void roundingIsToNearestEven() {
    RandomGenerator random = Seeds.random("Fp8QuantizerTest");
    for (int trial = 0; trial < 20_000; trial++) {
      float value;
      if (trial % 3 == 0) {
        // Halfway between two neighbours, and just beside.
        int code = random.nextInt(0x7E);
        float middle = (NarrowFloat.e4m3((byte) code) + NarrowFloat.e4m3((byte) (code + 1))) / 2;
        int side = random.nextInt(3);
        value = side == 0 ? middle : side == 1 ? Math.nextUp(middle) : Math.nextDown(middle);
      } else {
        value = Math.scalb(random.nextFloat(), random.nextInt(-14, 9));
      }
      value = Math.min(value, 448);
      float signed = random.nextBoolean() ? value : -value;
      assertEquals(
          nearest(value) | (signed < 0 || (signed == 0 && 1 / signed < 0) ? 0x80 : 0),
          NarrowFloat.toE4m3(signed) & 0xFF,
          () -> "of " + signed);
    }
  }

  private static int nearest(float value) {
    int best = 0;
    for (int code = 1; code < 0x7F; code++) {
      double distance = Math.abs((double) NarrowFloat.e4m3((byte) code) - value);
      double before = Math.abs((double) NarrowFloat.e4m3((byte) best) - value);
      if (distance < before || (distance == before && (code & 1) == 0)) {
        best = code;
      }
    }
    return best;
  }

  @ParameterizedTest
  @CsvSource({
    "448, 0",
    "448.00003, 1",
    "447.9, 0",
    "224, -1",
    "224.1, 0",
    "1, -8",
    "1.75, -8",
    "1.7500001, -7",
    "1e-4, -22",
    "3.4028235e38, 120",
    "1e-38, -124",
    "1.4e-45, -124",
    "0, 0"
  })
  void theScaleIsTheSmallestThatHoldsTheBlock(float amax, int exponent) {
    assertEquals(exponent, Fp8Quantizer.exponent(amax));
    assertTrue(amax <= 448 * Math.scalb(1.0, exponent));
  }

  /** Half a step of the mantissa, or half of the smallest step of the block. */
  @Test
  void theErrorIsHalfAStep() {
    RandomGenerator random = Seeds.random("Fp8QuantizerTest");
    float[] block = new float[32];
    byte[] codes = new byte[32];
    for (int trial = 0; trial < 2000; trial++) {
      int magnitude = random.nextInt(-140, 120);
      for (int i = 0; i < block.length; i++) {
        block[i] = (float) Math.scalb(random.nextGaussian(), magnitude);
      }
      int exponent = Fp8Quantizer.exponent(Fp8Quantizer.largest(block, 0, block.length, 0));
      Fp8Quantizer.quantize(block, 0, block.length, exponent, codes, 0);
      for (int i = 0; i < block.length; i++) {
        double back =
            (double) NarrowFloat.e4m3(codes[i])
                * NarrowFloat.e8m0(Fp8Quantizer.scaleCode(exponent));
        double bound = Math.max(Math.abs(block[i]) / 16, Math.scalb(1.0, exponent - 10));
        float value = block[i];
        assertTrue(Math.abs(back - value) <= bound, () -> value + " became " + back);
      }
    }
  }

  /** Rows of FP8 that were decoded, trained no further and quantised again stay what they were. */
  @Test
  void whatWasFp8StaysAsItIs() {
    RandomGenerator random = Seeds.random("Fp8QuantizerTest");
    float[] block = new float[32];
    byte[] codes = new byte[32];
    for (int trial = 0; trial < 2000; trial++) {
      byte scale = (byte) random.nextInt(3, 240);
      for (int i = 0; i < block.length; i++) {
        int code = random.nextInt(0x7F) | random.nextInt(2) << 7;
        block[i] = NarrowFloat.e4m3((byte) code) * NarrowFloat.e8m0(scale);
      }
      int exponent = Fp8Quantizer.exponent(Fp8Quantizer.largest(block, 0, block.length, 0));
      Fp8Quantizer.quantize(block, 0, block.length, exponent, codes, 0);
      for (int i = 0; i < block.length; i++) {
        assertEquals(
            block[i],
            NarrowFloat.e4m3(codes[i]) * NarrowFloat.e8m0(Fp8Quantizer.scaleCode(exponent)));
      }
    }
  }
}
