// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import io.engram.EngramException;
import io.engram.store.RamRowStore;
import io.engram.store.ReadChecks;
import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One table over several stores, each of which holds the rows that a {@link ShardLayout} gives it:
 * files on several disks, memory, machines, in any mixture.
 *
 * <p>The rows of a read are sorted by shard, each shard is read once, and the rows are put into the
 * caller's order. Where shards are waited for, threads of this store read them at the same time as
 * the caller does: a shard costs a read, and all of them about the time of the slowest. Reads are
 * cut where they exceed 4 MiB.
 *
 * <p>A failure names the shard, its store and, as far as the shard says which, the row of the
 * table.
 */
public final class ShardedRowStore implements RowStore {
  /** Rows of a round wait in memory of this size until they are put in order. */
  private static final long ROUND_BYTES = 4 << 20;

  /** The least that is worth handing over to another thread, which takes microseconds. */
  private static final int BATCH_OF_A_READER = 64;

  private static final int SLOTS = 64;
  private static final Pattern ROW = Pattern.compile("\\brow (?:id )?(\\d{1,18})\\b");

  private final String name;
  private final ShardLayout layout;
  private final RowStore[] stores;
  private final int rowBytes;
  private final int roundRows;
  private final ShardReader[] readers;
  private final int preferredBatch;

  /** Each is used by one read at a time and then by the next. */
  private final AtomicReferenceArray<ShardedRead> free = new AtomicReferenceArray<>(SLOTS);

  private volatile boolean closed;

  private ShardedRowStore(
      String name, ShardLayout layout, List<? extends RowStore> shards, int threads) {
    this.name = Objects.requireNonNull(name, "name");
    this.layout = Objects.requireNonNull(layout, "layout");
    stores = shards.toArray(RowStore[]::new);
    if (stores.length != layout.shards()) {
      throw new IllegalArgumentException(
          name
              + ": "
              + stores.length
              + " stores, expected the "
              + layout.shards()
              + " of "
              + layout);
    }
    rowBytes = stores[0].rowBytes();
    for (int shard = 0; shard < stores.length; shard++) {
      RowStore store = stores[shard];
      if (store.rowCount() != layout.rows(shard)) {
        throw new IllegalArgumentException(
            "%s has %d rows, expected %d by %s"
                .formatted(where(shard), store.rowCount(), layout.rows(shard), layout));
      }
      if (store.rowBytes() != rowBytes) {
        throw new IllegalArgumentException(
            "%s has rows of %d bytes, expected %d as in shard 0"
                .formatted(where(shard), store.rowBytes(), rowBytes));
      }
    }
    ReadChecks.shape(name, layout.rowCount(), rowBytes);
    if (threads < 0) {
      throw new IllegalArgumentException(name + ": " + threads + " threads, expected none or more");
    }
    roundRows = (int) Math.max(1, ROUND_BYTES / rowBytes);
    readers = new ShardReader[Math.min(threads, stores.length - 1)];
    long batch = 0;
    for (RowStore store : stores) {
      batch += Math.max(store.preferredBatch(), readers.length == 0 ? 1 : BATCH_OF_A_READER);
    }
    boolean alone = readers.length == 0 && batch == stores.length;
    preferredBatch = alone ? 1 : (int) Math.min(batch, Integer.MAX_VALUE);
    for (int i = 0; i < readers.length; i++) {
      readers[i] = ShardReader.start("engram-shards-" + name + "-" + i);
    }
  }

  /**
   * A table over shards, read by one thread for each shard, the caller's included; by the caller
   * alone if there is one shard or all of them are in memory, where a row costs less than to ask
   * another thread for it.
   *
   * @param name the table's name, for messages
   * @param layout which rows the shards hold
   * @param shards one store for each shard, in order; closed with this store
   * @return the store
   * @throws IllegalArgumentException if there is not one store for each shard, or one has another
   *     number of rows than its shard, or rows of other bytes than the first; the stores are then
   *     still the caller's
   */
  public static ShardedRowStore of(
      String name, ShardLayout layout, List<? extends RowStore> shards) {
    boolean memory = shards.stream().allMatch(RamRowStore.class::isInstance);
    return of(name, layout, shards, memory ? 0 : Math.max(0, shards.size() - 1));
  }

  /**
   * A table over shards, with a number of threads to choose.
   *
   * @param name the table's name, for messages
   * @param layout which rows the shards hold
   * @param shards one store for each shard, in order; closed with this store
   * @param threads daemon threads that read shards beside the caller: 0 has every caller read shard
   *     after shard; more than shards less one are not started
   * @return the store
   * @throws IllegalArgumentException if there is not one store for each shard, or one has another
   *     number of rows than its shard, or rows of other bytes than the first, or the number of
   *     threads is negative; the stores are then still the caller's
   */
  public static ShardedRowStore of(
      String name, ShardLayout layout, List<? extends RowStore> shards, int threads) {
    return new ShardedRowStore(name, layout, shards, threads);
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public long rowCount() {
    return layout.rowCount();
  }

  @Override
  public int rowBytes() {
    return rowBytes;
  }

  @Override
  public int preferredBatch() {
    return preferredBatch;
  }

  /**
   * Which rows the shards hold.
   *
   * @return the layout
   */
  public ShardLayout layout() {
    return layout;
  }

  /**
   * The stores of the shards.
   *
   * @return one for each shard, in order; closed with this store
   */
  public List<RowStore> shards() {
    return List.of(stores);
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= layout.rowCount()) {
        throw ReadChecks.rowId(this, rowIds[i], i);
      }
    }
    if (count == 0) {
      return;
    }
    ShardedRead read = take();
    try {
      for (int done = 0; done < count; done += roundRows) {
        int rows = Math.min(roundRows, count - done);
        read.sort(layout, rowIds, from + done, rows);
        if (readers.length > 0 && read.parts() > 1) {
          callReaders(read);
        }
        read.run();
        read.await();
        read.throwFailure(this);
        read.scatter(rows, out, outOffset + (long) done * rowBytes);
      }
    } finally {
      read.forget();
      give(read);
    }
  }

  /** Asks as many idle readers as there are further parts. */
  private void callReaders(ShardedRead read) {
    int wanted = read.parts() - 1;
    int home = home();
    for (int i = 0; i < readers.length && wanted > 0; i++) {
      if (readers[Math.floorMod(home + i, readers.length)].offer(read)) {
        wanted--;
      }
    }
  }

  private ShardedRead take() {
    int home = home();
    for (int i = 0; i < SLOTS; i++) {
      int slot = (home + i) & (SLOTS - 1);
      ShardedRead read = free.get(slot) == null ? null : free.getAndSet(slot, null);
      if (read != null) {
        return read;
      }
    }
    return new ShardedRead(stores, rowBytes, roundRows);
  }

  private void give(ShardedRead read) {
    int home = home();
    for (int i = 0; i < SLOTS; i++) {
      int slot = (home + i) & (SLOTS - 1);
      if (free.get(slot) == null && free.compareAndSet(slot, null, read)) {
        return;
      }
    }
  }

  private static int home() {
    return (int) Thread.currentThread().threadId();
  }

  private String where(int shard) {
    return "%s: shard %d of %d (%s)".formatted(name, shard, stores.length, stores[shard].name());
  }

  /**
   * What to throw where a shard could not be read.
   *
   * @param localRows holds the rows of the shard that were asked for, from {@code from} to {@code
   *     to}
   */
  RuntimeException failure(int shard, long[] localRows, int from, int to, Throwable cause) {
    if (cause instanceof IllegalStateException && closed) {
      return new IllegalStateException(name + ": the row store is closed", cause);
    }
    String message =
        "%s, %s: %s"
            .formatted(where(shard), row(shard, localRows, from, to, cause), cause.getMessage());
    return switch (cause) {
      case IllegalStateException e -> new IllegalStateException(message, e);
      default -> new EngramException(message, cause);
    };
  }

  /** The shard speaks of its own rows: of those that were asked for, the first that it names. */
  private String row(int shard, long[] localRows, int from, int to, Throwable cause) {
    long local = localRows[from];
    boolean named = to - from == 1;
    Matcher numbers = ROW.matcher(String.valueOf(cause.getMessage()));
    while (!named && numbers.find()) {
      long number = Long.parseLong(numbers.group(1));
      for (int i = from; i < to && !named; i++) {
        named = localRows[i] == number;
        local = named ? number : local;
      }
    }
    return (named
            ? "row %d of the table, which is row %d of the shard"
            : "row %d of the table, which is row %d of the shard, or one of the %d rows read with it")
        .formatted(layout.tableRow(shard, local), local, to - from - 1);
  }

  private void checkOpen() {
    if (closed) {
      throw ReadChecks.closed(this);
    }
  }

  /**
   * Ends reading, this store's threads, and its shards.
   *
   * @throws IllegalStateException if shards could not be closed because their memory is in use by a
   *     system call at this moment; all others are closed, and calling this again tries again
   */
  @Override
  public synchronized void close() {
    closed = true;
    for (ShardReader reader : readers) {
      reader.end();
    }
    RuntimeException failure = null;
    for (RowStore store : stores) {
      try {
        store.close();
      } catch (RuntimeException e) {
        if (failure == null) {
          failure = e;
        } else {
          failure.addSuppressed(e);
        }
      }
    }
    if (failure != null) {
      throw failure;
    }
  }

  @Override
  public String toString() {
    return "%s: %d rows of %d bytes, %s, %d reading threads"
        .formatted(name, rowCount(), rowBytes, layout, readers.length);
  }
}
