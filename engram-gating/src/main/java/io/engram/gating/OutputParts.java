// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * A projection's outputs divided into ranges of equal size, of which only the last may be shorter.
 * Ranges start at multiples of {@link #STEP}, so that no two of them share a cache line of a row of
 * results, nor a block of a library's layout.
 *
 * @param outputs outputs of the whole
 * @param size outputs of every range but the last
 */
record OutputParts(int outputs, int size) {
  private static final int STEP = 16;

  /**
   * Divides.
   *
   * @param outputs at least 1
   * @param parts how many ranges are wanted, at least 1; few outputs make fewer
   */
  static OutputParts of(int outputs, int parts) {
    if (outputs < 1 || parts < 1) {
      throw new IllegalArgumentException(
          outputs + " outputs in " + parts + " parts, expected at least 1 of both");
    }
    int steps = Math.ceilDiv(Math.ceilDiv(outputs, parts), STEP);
    return new OutputParts(outputs, Math.min(outputs, Math.multiplyExact(steps, STEP)));
  }

  /** How many ranges there are. */
  int count() {
    return Math.ceilDiv(outputs, size);
  }

  /** The first output of a range. */
  int first(int part) {
    return part * size;
  }

  /** How many outputs a range has. */
  int size(int part) {
    return Math.min(size, outputs - first(part));
  }

  /** Refuses what a library would read or write beyond its end, for it checks nothing itself. */
  void check(int part, MemorySegment x, int rowWidth, int tokens, MemorySegment out) {
    Objects.checkIndex(part, count());
    check("x", x, tokens, rowWidth);
    check("out", out, tokens, outputs);
  }

  private static void check(String name, MemorySegment memory, int tokens, int perToken) {
    if (tokens < 0
        || memory.byteSize() < (long) tokens * perToken * Float.BYTES
        || !memory.isNative()) {
      throw new IndexOutOfBoundsException(
          name
              + " is "
              + memory
              + ", expected native memory of "
              + tokens
              + " tokens * "
              + perToken
              + " floats");
    }
  }
}
