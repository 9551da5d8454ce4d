// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class LatencyHistogramTest {
  @Test
  void quantilesAreNeverTooLowAndAtMostAnEighthTooHigh() {
    RandomGenerator random = Seeds.random("LatencyHistogramTest.quantiles");
    for (int round = 0; round < 300; round++) {
      int count = 1 + random.nextInt(500);
      long[] values = new long[count];
      LatencyHistogram histogram = new LatencyHistogram();
      for (int i = 0; i < count; i++) {
        values[i] = random.nextLong() >>> (1 + random.nextInt(62));
        histogram.record(values[i]);
      }
      Arrays.sort(values);
      LatencySummary found = histogram.summary();
      assertEquals(count, found.count());
      assertEquals(values[count - 1], found.max());
      assertClose(values[(int) Math.ceil(count * 0.5) - 1], found.p50());
      assertClose(values[(int) Math.ceil(count * 0.99) - 1], found.p99());
    }
  }

  private static void assertClose(long exact, long found) {
    assertTrue(found >= exact && found - exact <= exact / 8, exact + " as " + found);
  }

  @Test
  void edges() {
    LatencyHistogram histogram = new LatencyHistogram();
    assertEquals("none", histogram.summary().toString());
    histogram.record(-5);
    assertEquals(new LatencySummary(1, 0, 0, 0), histogram.summary());
    histogram.record(Long.MAX_VALUE);
    assertEquals(Long.MAX_VALUE, histogram.summary().p99());
    assertEquals(
        "p50 1.0 µs, p99 12.5 ms, max 2.00 s",
        new LatencySummary(3, 1_000, 12_500_000, 2_000_000_000).toString());
  }
}
