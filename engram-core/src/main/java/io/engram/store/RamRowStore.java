// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Optional;

/**
 * Rows in memory outside the heap, zero at first, which can be written.
 *
 * <p>The memory is divided into shards of equally many rows, the last of which may have fewer. On
 * Linux it is mapped anonymously: a table takes no time to make, and a page of it takes memory once
 * a row in it is written. Where native access is denied or the platform is another, the JDK
 * allocates and zeroes it, within the limit of {@code -XX:MaxDirectMemorySize}.
 *
 * <p>Reading, writing and closing may go on at once. A read that meets a write to the same row may
 * see part of it: whoever writes while others read must not care, or must keep them apart.
 */
public final class RamRowStore implements RowStore {
  private static final long SHARD_BYTES = 4L << 30;

  private final String name;
  private final long rowCount;
  private final int rowBytes;
  private final int shardShift;
  private final long rowMask;
  private final Arena arena;
  private final MemorySegment[] shards;

  private RamRowStore(
      String name, long rowCount, int rowBytes, long rowsPerShard, Optional<NativeMemory> os) {
    ReadChecks.shape(name, rowCount, rowBytes);
    if (Long.bitCount(rowsPerShard) != 1 || rowsPerShard < 1) {
      throw new IllegalArgumentException(
          name + ": rowsPerShard is " + rowsPerShard + ", expected a power of two");
    }
    this.name = name;
    this.rowCount = rowCount;
    this.rowBytes = rowBytes;
    shardShift = Long.numberOfTrailingZeros(rowsPerShard);
    rowMask = rowsPerShard - 1;
    long count = ((rowCount - 1) >>> shardShift) + 1;
    if (count > 1 << 20) {
      throw new IllegalArgumentException(
          name + ": " + count + " shards of " + rowsPerShard + " rows are too many");
    }
    shards = new MemorySegment[(int) count];
    arena = Arena.ofShared();
    try {
      for (int i = 0; i < shards.length; i++) {
        long rows = Math.min(rowsPerShard, rowCount - ((long) i << shardShift));
        long bytes = rows * rowBytes;
        shards[i] = os.isPresent() ? os.get().map(bytes, arena) : arena.allocate(bytes, 64);
      }
    } catch (EngramException | OutOfMemoryError e) {
      arena.close();
      throw new EngramException(
          name
              + ": no memory for "
              + rowCount
              + " rows of "
              + rowBytes
              + " bytes: "
              + e.getMessage(),
          e);
    }
  }

  /**
   * A table of zeros in shards of up to 4 GiB.
   *
   * @param name the table's name, for messages
   * @param rowCount number of rows, at least 1
   * @param rowBytes bytes of a row, at least 1
   * @return the store, which owns its memory
   * @throws IllegalArgumentException if there are no rows, or they have no bytes
   * @throws EngramException if there is not enough memory
   */
  public static RamRowStore create(String name, long rowCount, int rowBytes) {
    return create(
        name, rowCount, rowBytes, Long.highestOneBit(SHARD_BYTES / Math.max(1, rowBytes)));
  }

  /**
   * A table of zeros in shards of a given size.
   *
   * @param name the table's name, for messages
   * @param rowCount number of rows, at least 1
   * @param rowBytes bytes of a row, at least 1
   * @param rowsPerShard rows of each shard but the last: a power of two
   * @return the store, which owns its memory
   * @throws IllegalArgumentException if there are no rows, they have no bytes, or the shard size is
   *     not a power of two, or so small that there would be more than a million shards
   * @throws EngramException if there is not enough memory
   */
  public static RamRowStore create(String name, long rowCount, int rowBytes, long rowsPerShard) {
    return create(name, rowCount, rowBytes, rowsPerShard, NativeMemory.get());
  }

  static RamRowStore create(
      String name, long rowCount, int rowBytes, long rowsPerShard, Optional<NativeMemory> os) {
    return new RamRowStore(name, rowCount, rowBytes, rowsPerShard, os);
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public long rowCount() {
    return rowCount;
  }

  @Override
  public int rowBytes() {
    return rowBytes;
  }

  /**
   * Rows of each shard but the last.
   *
   * @return a power of two
   */
  public long rowsPerShard() {
    return rowMask + 1;
  }

  /**
   * The memory itself: row r lies in shard r / {@link #rowsPerShard} at byte (r mod rowsPerShard) *
   * {@link #rowBytes}.
   *
   * @return all shards in order, writable, valid until this store is closed
   */
  public List<MemorySegment> shards() {
    return List.of(shards);
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    try {
      long at = outOffset;
      for (int i = from; i < from + count; i++) {
        long row = rowIds[i];
        if (row < 0 || row >= rowCount) {
          throw ReadChecks.rowId(this, row, i);
        }
        MemorySegment.copy(
            shards[(int) (row >>> shardShift)], (row & rowMask) * rowBytes, out, at, rowBytes);
        at += rowBytes;
      }
    } catch (IllegalStateException e) {
      checkOpen();
      throw e;
    }
  }

  /**
   * Writes consecutive rows.
   *
   * @param row id of the first row
   * @param count number of rows; 0 writes nothing
   * @param source the stored rows, packed
   * @param sourceOffset where in it the first row starts, in bytes
   * @throws IndexOutOfBoundsException if the rows are not all in this table
   * @throws IllegalArgumentException if the source has too few bytes
   * @throws IllegalStateException if the store is closed, or the source's memory is
   */
  public void write(long row, long count, MemorySegment source, long sourceOffset) {
    checkOpen();
    if (row < 0 || count < 0 || count > rowCount - row) {
      throw new IndexOutOfBoundsException(
          name
              + ": "
              + count
              + " rows from "
              + row
              + ", expected rows from 0 to "
              + (rowCount - 1));
    }
    if (sourceOffset < 0 || count > (source.byteSize() - sourceOffset) / rowBytes) {
      throw new IllegalArgumentException(
          name
              + ": a source of "
              + source.byteSize()
              + " bytes has no "
              + count
              + " rows of "
              + rowBytes
              + " bytes at "
              + sourceOffset);
    }
    try {
      long at = sourceOffset;
      long end = row + count;
      for (long next = row; next < end; ) {
        long inShard = next & rowMask;
        long rows = Math.min(end - next, rowMask + 1 - inShard);
        MemorySegment.copy(
            source, at, shards[(int) (next >>> shardShift)], inShard * rowBytes, rows * rowBytes);
        at += rows * rowBytes;
        next += rows;
      }
    } catch (IllegalStateException e) {
      checkOpen();
      throw e;
    }
  }

  private void checkOpen() {
    if (!arena.scope().isAlive()) {
      throw ReadChecks.closed(this);
    }
  }

  @Override
  public synchronized void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }

  @Override
  public String toString() {
    return name + ": " + rowCount + " rows of " + rowBytes + " bytes in memory";
  }
}
