// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.RivalException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Sees to it that two sides of a comparison did the same work. */
final class Disagreement {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private Disagreement() {}

  /** Refuses bytes that are not the same. */
  static void check(String rival, MemorySegment expected, MemorySegment found) {
    long at = expected.mismatch(found);
    if (at >= 0) {
      throw new RivalException(
          "%s computed something else: %d bytes differ from the library's %d at byte %d"
              .formatted(rival, found.byteSize(), expected.byteSize(), at));
    }
  }

  /**
   * Refuses floats that are further apart than a share of the largest expected one.
   *
   * @param tolerance the share
   */
  static void check(String rival, MemorySegment expected, MemorySegment found, double tolerance) {
    if (expected.byteSize() != found.byteSize()) {
      throw new RivalException(
          "%s gave %d bytes, the library %d"
              .formatted(rival, found.byteSize(), expected.byteSize()));
    }
    double largest = 0;
    double apart = 0;
    for (long at = 0; at < expected.byteSize(); at += Float.BYTES) {
      double value = expected.get(FLOAT, at);
      double difference = Math.abs(value - found.get(FLOAT, at));
      largest = Math.max(largest, Math.abs(value));
      // A NaN is never the larger one: it has to be met before it is compared.
      apart = Double.isNaN(difference) ? Double.POSITIVE_INFINITY : Math.max(apart, difference);
    }
    if (!(apart <= tolerance * largest)) {
      throw new RivalException(
          "%s computed something else: values up to %.3g are up to %.3g apart"
              .formatted(rival, largest, apart));
    }
  }
}
