// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.lettuce.core.cluster.SlotHash;
import java.nio.charset.StandardCharsets;

/**
 * How a table's rows are cut into values and what their keys are: {@code
 * engram:NAME:GENERATION:CHUNK}, the chunk as eight hexadecimal digits. No part of a key is in
 * braces, so the values of a table spread over all slots.
 */
final class Chunks {
  private static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.US_ASCII);
  private static final int DIGITS = 8;

  /** What a value takes beside its bytes in the server's allocator. */
  private static final int STRING_HEADER = 16;

  /** Values fill a size class of the server's allocator; this one, unless a row is larger. */
  private static final int VALUE_CLASS = 1 << 20;

  private final byte[] prefix;
  private final long rowCount;
  private final int rowBytes;
  private final int rowsPerValue;
  private final int count;

  Chunks(String name, String generation, long rowCount, int rowBytes, int rowsPerValue) {
    prefix = ("engram:" + name + ":" + generation + ":").getBytes(StandardCharsets.US_ASCII);
    this.rowCount = rowCount;
    this.rowBytes = rowBytes;
    this.rowsPerValue = rowsPerValue;
    long values = (rowCount - 1) / rowsPerValue + 1;
    if (values > 1 << 26 || (long) rowsPerValue * rowBytes > 512L << 20) {
      throw new IllegalArgumentException(
          name
              + ": "
              + values
              + " values of "
              + rowsPerValue
              + " rows of "
              + rowBytes
              + " bytes, expected at most 2^26 of at most 512 MiB");
    }
    count = (int) values;
  }

  /** As many rows as fill a size class. */
  static int rowsPerValue(int rowBytes) {
    return Math.max(1, (VALUE_CLASS - STRING_HEADER) / rowBytes);
  }

  /** What the server's allocator (jemalloc: four classes to each doubling) takes for a value. */
  static long allocated(long valueBytes) {
    long bytes = valueBytes + STRING_HEADER;
    long spacing = Math.max(16, Long.highestOneBit(bytes - 1) / 4);
    return (bytes + spacing - 1) / spacing * spacing;
  }

  int count() {
    return count;
  }

  int rowsPerValue() {
    return rowsPerValue;
  }

  int ofRow(long row) {
    return (int) (row / rowsPerValue);
  }

  /** Where in its value a row starts, in bytes. */
  int offset(long row, int chunk) {
    return (int) (row - (long) chunk * rowsPerValue) * rowBytes;
  }

  long firstRow(int chunk) {
    return (long) chunk * rowsPerValue;
  }

  int rows(int chunk) {
    return (int) Math.min(rowsPerValue, rowCount - firstRow(chunk));
  }

  int bytes(int chunk) {
    return rows(chunk) * rowBytes;
  }

  byte[] key(int chunk) {
    byte[] key = new byte[prefix.length + DIGITS];
    putKey(chunk, key, 0);
    return key;
  }

  int keyBytes() {
    return prefix.length + DIGITS;
  }

  int putKey(int chunk, byte[] out, int at) {
    System.arraycopy(prefix, 0, out, at, prefix.length);
    for (int i = 0; i < DIGITS; i++) {
      out[at + prefix.length + i] = HEX[(chunk >>> (4 * (DIGITS - 1 - i))) & 15];
    }
    return at + keyBytes();
  }

  /** The slot of each chunk's key. */
  char[] slots() {
    char[] slots = new char[count];
    byte[] key = new byte[keyBytes()];
    for (int chunk = 0; chunk < count; chunk++) {
      putKey(chunk, key, 0);
      slots[chunk] = (char) SlotHash.getSlot(key);
    }
    return slots;
  }
}
