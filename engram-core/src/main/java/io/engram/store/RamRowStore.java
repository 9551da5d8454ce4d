// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import java.util.function.LongConsumer;

/**
 * Rows in memory outside the heap, zero at first, which can be written.
 *
 * <p>All rows lie in one piece. For those who write it, it is divided into shards of equally many
 * rows, the last of which may have fewer. On Linux it is mapped anonymously: a table takes no time
 * to make, and a page of it takes memory once a row in it is written. Where native access is denied
 * or the platform is another, the JDK allocates and zeroes it, within the limit of {@code
 * -XX:MaxDirectMemorySize}.
 *
 * <p>Memory of 2 MiB and more begins at a multiple of 2 MiB, and the system is asked for huge
 * pages: rows are read at random, so with small pages nearly every row costs a walk through page
 * tables that no cache holds. It grants them where {@code
 * /sys/kernel/mm/transparent_hugepage/enabled} is {@code madvise} or {@code always}, as far as it
 * has or can make room; a refusal costs speed only. A row that is written then brings 2 MiB into
 * being. With {@code defrag} set to {@code madvise}, making room may stall the first writes when
 * memory is fragmented.
 *
 * <p>Reading, writing and closing may go on at once. A read that meets a write to the same row may
 * see part of it: whoever writes while others read must not care, or must keep them apart.
 */
public final class RamRowStore implements RowStore {
  private static final long SHARD_BYTES = 4L << 30;
  private static final long POPULATED_BYTES = 64L << 20;
  private static final int LINE = 64;

  private final String name;
  private final long rowCount;
  private final int rowBytes;
  private final int shardShift;
  private final long rowMask;
  private final Arena arena;
  private final Optional<NativeMemory> os;
  private final MemorySegment rows;
  private final MemorySegment[] shards;
  private final RowMemory memory;
  private final RowCopy copy = RowCopy.get();

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
    this.os = os;
    shardShift = Long.numberOfTrailingZeros(rowsPerShard);
    rowMask = rowsPerShard - 1;
    long shardCount = ((rowCount - 1) >>> shardShift) + 1;
    if (shardCount > 1 << 20) {
      throw new IllegalArgumentException(
          name + ": " + shardCount + " shards of " + rowsPerShard + " rows are too many");
    }
    shards = new MemorySegment[(int) shardCount];
    arena = Arena.ofShared();
    try {
      long bytes = rowCount * rowBytes;
      rows = os.isPresent() ? os.get().map(bytes, arena) : arena.allocate(bytes, LINE);
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
    for (int i = 0; i < shards.length; i++) {
      long first = (long) i << shardShift;
      long count = Math.min(rowsPerShard, rowCount - first);
      shards[i] = rows.asSlice(first * rowBytes, count * rowBytes);
    }
    memory = new FetchedRows(this, rows);
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

  /**
   * A copy of another store, made by several threads.
   *
   * @param source what to copy, under its own name; it stays open
   * @param threads number of threads, 1 to 256; the memory comes into being near those that run
   *     them
   * @param progress told the number of rows copied so far, ascending, by one thread at a time
   * @return the store, which owns its memory
   * @throws IllegalArgumentException if the number of threads is out of range
   * @throws IllegalStateException if the source is closed
   * @throws EngramException if there is not enough memory, a row cannot be read, or this thread is
   *     interrupted
   */
  public static RamRowStore copyOf(RowStore source, int threads, LongConsumer progress) {
    return filled(
        create(source.name(), source.rowCount(), source.rowBytes()),
        threads,
        progress,
        loader -> loader.copy(source));
  }

  /**
   * A table from parts of files, read in order by several threads in long reads.
   *
   * <p>What is in the page cache is taken from there. What is not is read past it (O_DIRECT), where
   * the file system can do that: the table would otherwise displace what others need, only to be in
   * memory twice. Elsewhere it is read through the page cache.
   *
   * @param name the table's name, for messages
   * @param valueBytes value bytes of a row, at least 1; the whole row where scales are not apart
   * @param scaleBytes scale bytes of a row that are stored apart, 0 if none are
   * @param parts the parts in the order of their rows, at least one of them with rows; mapped still
   * @param threads number of threads, 1 to 256; the memory comes into being near those that run
   *     them
   * @param progress told the number of rows loaded so far, ascending, by one thread at a time
   * @return the store, which owns its memory
   * @throws IllegalArgumentException if the parts do not fit together, or the number of threads is
   *     out of range
   * @throws IllegalStateException if a mapping is closed
   * @throws EngramException if there is not enough memory, a file cannot be read or is shorter than
   *     its part says, or this thread is interrupted
   */
  public static RamRowStore load(
      String name,
      int valueBytes,
      int scaleBytes,
      List<RowPart> parts,
      int threads,
      LongConsumer progress) {
    RowLayout layout = new RowLayout(name, valueBytes, scaleBytes, parts);
    return filled(
        create(name, layout.rowCount(), layout.rowBytes()),
        threads,
        progress,
        loader -> loader.load(layout));
  }

  private static RamRowStore filled(
      RamRowStore store, int threads, LongConsumer progress, Consumer<RamLoader> loading) {
    boolean done = false;
    try {
      loading.accept(new RamLoader(store, threads, progress));
      done = true;
      return store;
    } finally {
      if (!done) {
        store.close();
      }
    }
  }

  /**
   * Makes all pages of the table now, by several threads, instead of at the first write of each.
   * What has been written stays. Where the system cannot do that, nothing happens.
   *
   * @param threads number of threads, at least 1; the memory comes into being near those that run
   *     them
   * @return whether all pages exist now
   * @throws IllegalArgumentException if the number of threads is less than 1
   * @throws IllegalStateException if the store is closed
   */
  public boolean populate(int threads) {
    if (threads < 1) {
      throw new IllegalArgumentException(name + ": populating with " + threads + " threads");
    }
    checkOpen();
    if (os.isEmpty()) {
      return false;
    }
    AtomicInteger next = new AtomicInteger();
    AtomicBoolean refused = new AtomicBoolean();
    int perShard = Math.toIntExact(Math.ceilDiv(shards[0].byteSize(), POPULATED_BYTES));
    int steps = Math.multiplyExact(perShard, shards.length);
    try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
      for (int t = 0; t < threads; t++) {
        pool.execute(() -> {
          int step = next.getAndIncrement();
          while (step < steps && !refused.get()) {
            if (!populate(shards[step / perShard], step % perShard * POPULATED_BYTES)) {
              refused.set(true);
            }
            step = next.getAndIncrement();
          }
        });
      }
    }
    checkOpen();
    return !refused.get();
  }

  private boolean populate(MemorySegment shard, long from) {
    long bytes = Math.min(POPULATED_BYTES, shard.byteSize() - from);
    try {
      return bytes <= 0 || os.orElseThrow().populateWrite(shard.asSlice(from, bytes));
    } catch (IllegalStateException e) {
      // Closed meanwhile, which the caller is told.
      return false;
    }
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

  /**
   * The memory itself in one piece: row r lies at r * {@link #rowBytes}.
   *
   * @return all rows, writable, valid until this store is closed
   */
  public MemorySegment whole() {
    return rows;
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    boolean interrupted = Thread.currentThread().isInterrupted();
    boolean anonymous = out.isNative() && !out.isMapped();
    int batch = RowMemory.batch(rowBytes);
    try {
      for (int done = 0; done < count; done += batch) {
        int some = Math.min(batch, count - done);
        memory.fetch(rowIds, from + done, some);
        long at = outOffset + (long) done * rowBytes;
        if (anonymous) {
          copy.rows(rows, rowBytes, rowIds, from + done, some, out, at);
        } else {
          RowCopy.plainly(rows, rowBytes, rowIds, from + done, some, out, at);
        }
      }
    } catch (IllegalStateException e) {
      ReadChecks.forgetInterrupt(interrupted);
      checkOpen();
      throw e;
    }
  }

  @Override
  public Optional<RowMemory> memory() {
    return Optional.of(memory);
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

  void checkOpen() {
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
