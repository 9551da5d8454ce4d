// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class Crc32cTest {
  private static int of(byte[] bytes, int from, int count) {
    CRC32C crc = new CRC32C();
    crc.update(bytes, from, count);
    return (int) crc.getValue();
  }

  @Test
  void twoPartsGiveTheChecksumOfTheWhole() {
    RandomGenerator random = Seeds.random("Crc32cTest.twoParts");
    for (int round = 0; round < 500; round++) {
      byte[] bytes = new byte[random.nextInt(5000)];
      random.nextBytes(bytes);
      int cut = random.nextInt(bytes.length + 1);
      int rest = bytes.length - cut;
      int whole = of(bytes, 0, bytes.length);
      assertEquals(whole, Crc32c.combine(of(bytes, 0, cut), of(bytes, cut, rest), rest));
      if (rest > 0 && cut > 0) {
        assertNotEquals(whole, Crc32c.combine(of(bytes, 0, cut), of(bytes, cut, rest), rest + 1));
      }
    }
  }

  /** Zeros can be skipped without being there: more of them than an int counts. */
  @Test
  void lengthsAre64BitsWide() {
    int zeros = of(new byte[1], 0, 1);
    long count = 1;
    for (int i = 0; i < 40; i++) {
      zeros = Crc32c.combine(zeros, zeros, count);
      count *= 2;
    }
    int a = of(new byte[] {1, 2, 3}, 0, 3);
    int piecewise = a;
    int part = of(new byte[1 << 16], 0, 1 << 16);
    long partBytes = 1 << 16;
    while (partBytes < count) {
      part = Crc32c.combine(part, part, partBytes);
      partBytes *= 2;
    }
    assertEquals(part, zeros);
    piecewise = Crc32c.combine(piecewise, part, count);
    assertEquals(Crc32c.combine(a, zeros, count), piecewise);
  }
}
