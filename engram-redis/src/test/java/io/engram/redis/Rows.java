// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.SplittableRandom;
import java.util.function.LongConsumer;

/** Rows that are known without being kept: each is its id, the table's salt and noise of both. */
final class Rows implements RowStore {
  static final int BYTES = 264;

  private final long count;
  private final long salt;
  private final LongConsumer before;

  Rows(long count, long salt) {
    this(count, salt, _ -> {});
  }

  /**
   * Rows that do something first.
   *
   * @param before is told the first row of each read
   */
  Rows(long count, long salt, LongConsumer before) {
    this.count = count;
    this.salt = salt;
    this.before = before;
  }

  byte[] row(long id) {
    byte[] row = new byte[BYTES];
    new SplittableRandom(31 * salt + id).nextBytes(row);
    ByteBuffer.wrap(row).putLong(id).putLong(salt);
    return row;
  }

  /** Reads rows of a store and compares each. */
  void check(RowStore store, long... ids) {
    byte[] out = new byte[ids.length * BYTES];
    store.read(ids, 0, ids.length, MemorySegment.ofArray(out), 0);
    for (int i = 0; i < ids.length; i++) {
      byte[] found = new byte[BYTES];
      System.arraycopy(out, i * BYTES, found, 0, BYTES);
      assertArrayEquals(row(ids[i]), found);
    }
  }

  void checkAll(RowStore store) {
    for (long from = 0; from < count; from += 1000) {
      long start = from;
      int rows = (int) Math.min(1000, count - from);
      check(store, java.util.stream.LongStream.range(start, start + rows).toArray());
    }
  }

  @Override
  public String name() {
    return "source";
  }

  @Override
  public long rowCount() {
    return count;
  }

  @Override
  public int rowBytes() {
    return BYTES;
  }

  @Override
  public void read(long[] ids, int from, int rows, MemorySegment out, long outOffset) {
    before.accept(ids[from]);
    for (int i = 0; i < rows; i++) {
      byte[] row = row(ids[from + i]);
      MemorySegment.copy(MemorySegment.ofArray(row), 0, out, outOffset + (long) i * BYTES, BYTES);
    }
  }

  @Override
  public void close() {}
}
