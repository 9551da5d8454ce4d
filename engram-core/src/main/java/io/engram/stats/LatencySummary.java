// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import java.util.Locale;

/**
 * How long something took.
 *
 * @param count how many times it was measured
 * @param p50 nanoseconds that half of them did not exceed, up to 12.5 % too high
 * @param p99 nanoseconds that 99 of 100 did not exceed, up to 12.5 % too high
 * @param max nanoseconds of the longest
 */
public record LatencySummary(long count, long p50, long p99, long max) {
  /** Nothing measured. */
  public static final LatencySummary NONE = new LatencySummary(0, 0, 0, 0);

  @Override
  public String toString() {
    return count == 0
        ? "none"
        : "p50 " + human(p50) + ", p99 " + human(p99) + ", max " + human(max);
  }

  private static String human(long nanos) {
    if (nanos < 1_000) {
      return nanos + " ns";
    }
    if (nanos < 1_000_000) {
      return String.format(Locale.ROOT, "%.1f µs", nanos / 1e3);
    }
    return nanos < 1_000_000_000
        ? String.format(Locale.ROOT, "%.1f ms", nanos / 1e6)
        : String.format(Locale.ROOT, "%.2f s", nanos / 1e9);
  }
}
