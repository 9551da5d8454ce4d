// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * A table whose every byte follows from its row id, so that whoever reads a row can tell whether it
 * is the right one. No row is all zeros, no two are alike, no scale byte is 255.
 *
 * @param seed another table for another seed
 * @param valueBytes value bytes of a row, a multiple of 8
 * @param scaleBytes scale bytes of a row, a multiple of 8
 */
record RowPattern(long seed, int valueBytes, int scaleBytes) {
  private static final ValueLayout.OfLong WORD =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  /** Keeps a byte from being 255, and every other even value possible. */
  private static final long EVEN_BYTES = 0xFEFEFEFEFEFEFEFEL;

  RowPattern {
    if (valueBytes % 8 != 0 || scaleBytes % 8 != 0) {
      throw new IllegalArgumentException("rows of " + valueBytes + " and " + scaleBytes);
    }
  }

  int rowBytes() {
    return valueBytes + scaleBytes;
  }

  private static long mix(long v) {
    v = (v ^ v >>> 30) * 0xBF58476D1CE4E5B9L;
    v = (v ^ v >>> 27) * 0x94D049BB133111EBL;
    return v ^ v >>> 31;
  }

  private long start(long row) {
    return mix(seed + row * GOLDEN);
  }

  private long word(long start, int index) {
    long word = mix(start + index * GOLDEN);
    return index * 8 < valueBytes ? word : word & EVEN_BYTES;
  }

  private void put(long row, int from, int to, MemorySegment out, long at) {
    long start = start(row);
    for (int i = from / 8; i < to / 8; i++) {
      out.set(WORD, at + 8L * i - from, word(start, i));
    }
  }

  void putRow(long row, MemorySegment out, long at) {
    put(row, 0, rowBytes(), out, at);
  }

  void putValues(long row, MemorySegment out, long at) {
    put(row, 0, valueBytes, out, at);
  }

  void putScales(long row, MemorySegment out, long at) {
    put(row, valueBytes, rowBytes(), out, at);
  }

  boolean matches(long row, MemorySegment in, long at) {
    long start = start(row);
    for (int i = 0; i < rowBytes() / 8; i++) {
      if (in.get(WORD, at + 8L * i) != word(start, i)) {
        return false;
      }
    }
    return true;
  }

  /** Byte of a stored row, values first. */
  int byteOf(long row, int index) {
    return (int) (word(start(row), index / 8) >>> (8 * (index % 8))) & 0xFF;
  }
}
