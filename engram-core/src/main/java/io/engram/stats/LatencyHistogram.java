// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAccumulator;

/**
 * Counts durations by magnitude: eight steps for each doubling, so that a quantile is at most 12.5
 * % above the true one. Fixed size, allocates nothing when recording, thread-safe.
 */
public final class LatencyHistogram {
  private static final int STEP_BITS = 3;
  private static final int STEPS = 1 << STEP_BITS;

  private final AtomicLongArray counts = new AtomicLongArray(STEPS * (Long.SIZE - STEP_BITS));
  private final LongAccumulator longest = new LongAccumulator(Math::max, 0);

  /** An empty histogram. */
  public LatencyHistogram() {}

  /**
   * Counts one duration.
   *
   * @param nanos nanoseconds; a negative number, which a clock may show, counts as 0
   */
  public void record(long nanos) {
    long duration = Math.max(0, nanos);
    counts.incrementAndGet(bucket(duration));
    longest.accumulate(duration);
  }

  /** Below eight every value has its own bucket; above, the highest four bits of it decide. */
  private static int bucket(long value) {
    int shift = Long.SIZE - STEP_BITS - 1 - Long.numberOfLeadingZeros(value | STEPS);
    return (shift << STEP_BITS) + (int) (value >>> shift);
  }

  private static long upperEnd(int bucket) {
    if (bucket < 2 * STEPS) {
      return bucket;
    }
    int shift = (bucket >>> STEP_BITS) - 1;
    long step = bucket - ((long) shift << STEP_BITS);
    return ((step + 1) << shift) - 1;
  }

  /**
   * What was counted until now. Recordings that go on meanwhile may be in it or not.
   *
   * @return count, quantiles and maximum
   */
  public LatencySummary summary() {
    long[] copy = new long[counts.length()];
    long total = 0;
    for (int i = 0; i < copy.length; i++) {
      copy[i] = counts.get(i);
      total += copy[i];
    }
    long max = longest.get();
    return new LatencySummary(
        total, quantile(copy, total, 0.5, max), quantile(copy, total, 0.99, max), max);
  }

  private static long quantile(long[] counts, long total, double share, long max) {
    long wanted = (long) Math.ceil(total * share);
    long seen = 0;
    for (int i = 0; i < counts.length; i++) {
      seen += counts[i];
      if (seen >= wanted && seen > 0) {
        return Math.min(max, upperEnd(i));
      }
    }
    return 0;
  }
}
