// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.math.BigDecimal;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class Bfloat16Test {
  @Test
  void aDoubleIsRoundedOnce() {
    // Just above the middle of 1 and the next bfloat16: by way of float32 it would be the middle,
    // and then 1.
    double middle = 1 + 0x1p-8;
    assertEquals(1f, Bfloat16.round(middle));
    assertEquals(1 + 0x1p-7f, Bfloat16.round(Math.nextUp(middle)));
    assertEquals(1f, Bfloat16.round(Math.nextDown(middle)));
    assertEquals(-1 - 0x1p-7f, Bfloat16.round(-Math.nextUp(middle)));
    // A middle with an odd lower neighbour goes up.
    assertEquals(1 + 0x1p-6f, Bfloat16.round(1 + 0x1p-7 + 0x1p-8));
    assertEquals(1 + 0x1p-7f, Bfloat16.round(Math.nextDown(1 + 0x1p-7 + 0x1p-8)));
  }

  @Test
  void specialValuesKeepTheirKind() {
    assertTrue(Float.isNaN(Bfloat16.round(Double.NaN)));
    assertEquals(Float.POSITIVE_INFINITY, Bfloat16.round(Double.POSITIVE_INFINITY));
    assertEquals(Float.NEGATIVE_INFINITY, Bfloat16.round(-1e300));
    assertEquals(Float.POSITIVE_INFINITY, Bfloat16.round(Float.MAX_VALUE));
    assertEquals(-0f, Bfloat16.round(-0.0));
    assertEquals(-0f, Bfloat16.round(-1e-300));
    assertTrue(Float.isNaN(Bfloat16.toFloat(Bfloat16.toBits(Float.intBitsToFloat(0x7f800001)))));
  }

  @Test
  void theNearestIsFound() {
    RandomGenerator random = Seeds.random("nearest bfloat16");
    for (int i = 0; i < 20_000; i++) {
      double value = hard(random);
      float rounded = Bfloat16.round(value);
      int bits = Float.floatToRawIntBits(rounded);
      assertEquals(0, bits & 0xffff, "not a bfloat16: " + rounded);
      BigDecimal exact = new BigDecimal(value);
      BigDecimal distance = exact.subtract(new BigDecimal(rounded)).abs();
      for (int neighbour : new int[] {bits - 0x10000, bits + 0x10000}) {
        float other = Float.intBitsToFloat(neighbour);
        if (Float.isFinite(other) && (neighbour ^ bits) >= 0) {
          int order = distance.compareTo(exact.subtract(new BigDecimal(other)).abs());
          assertTrue(
              order < 0 || (order == 0 && (bits & 0x10000) == 0),
              value + " was rounded to " + rounded + ", not " + other);
        }
      }
    }
  }

  /** Doubles at, beside and near the middle of two bfloat16 values, and anywhere. */
  static double hard(RandomGenerator random) {
    double value = Bfloat16.toFloat((short) random.nextInt(0x0100, 0x7e00));
    double ulp = Math.scalb(1.0, Math.max(Math.getExponent(value), -126) - 7);
    value +=
        switch (random.nextInt(4)) {
          case 0 -> 0.5 * ulp;
          case 1 -> ulp * (0.5 + Math.scalb(random.nextDouble() - 0.5, -random.nextInt(45)));
          case 2 -> ulp * random.nextDouble();
          default -> ulp * random.nextInt(1 << 20) * 0x1p-20;
        };
    return random.nextBoolean() ? value : -value;
  }
}
