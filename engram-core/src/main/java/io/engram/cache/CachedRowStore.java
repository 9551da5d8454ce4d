// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import io.engram.hash.HashLayout;
import io.engram.store.RamRowStore;
import io.engram.store.ReadChecks;
import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.atomic.LongAdder;

/**
 * A store with the rows that are used again and again kept in memory, as they are stored.
 *
 * <p>Whether that helps depends on the text, and often it does not: watch with {@link ShadowCache}
 * first. In front of memory, or of mapped files that the system keeps in memory, it costs more than
 * it saves.
 *
 * <p>The cache is divided into sets of 12 rows; a row has its place in one set. A row that is asked
 * for once takes at most one place of a full set, so that a long text does not drive out what is
 * used often. Rows that are not in the cache are read from the store below, each different one
 * once, as many at a time as the buffers hold: up to 4,096, fewer in a small cache. A read below
 * that fails puts nothing into the cache.
 *
 * <p>All memory that there will ever be is part of the budget: rows, tags and the buffers for rows
 * on their way. Nothing grows. It is taken page by page as it is first used.
 *
 * <p>Reads that find all their rows take no lock and wait for nobody.
 */
public final class CachedRowStore implements RowStore {
  private static final int ATTEMPTS = 3;

  private final RowStore below;
  private final int rowBytes;
  private final RowOrders orders;
  private final CacheGeometry geometry;
  private final RamRowStore tagMemory;
  private final RamRowStore rowMemory;
  private final CacheSets sets;
  private final MemorySegment rows;
  private final AtomicReferenceArray<Misses> buffers;
  private final Counters[] counters;
  private volatile boolean closed;

  private static final class Counters {
    private final LongAdder hits = new LongAdder();
    private final LongAdder misses = new LongAdder();
    private final LongAdder repeats = new LongAdder();
    private final LongAdder inserts = new LongAdder();
    private final LongAdder rejected = new LongAdder();
    private final LongAdder evictions = new LongAdder();
  }

  /** How the tests come by sets that are wrong on purpose. */
  @FunctionalInterface
  interface SetsFactory {
    CacheSets create(MemorySegment memory, long count);
  }

  private CachedRowStore(RowStore below, HashLayout layout, long bytes, SetsFactory factory) {
    this.below = below;
    rowBytes = below.rowBytes();
    if (layout.rowCount() != below.rowCount()) {
      throw new IllegalArgumentException(
          below.name()
              + ": the store has "
              + below.rowCount()
              + " rows, the layout of layer "
              + layout.layerId()
              + " has "
              + layout.rowCount());
    }
    if (below.rowCount() > CacheSets.MAX_ROWS) {
      throw new IllegalArgumentException(
          below.name()
              + ": "
              + below.rowCount()
              + " rows, expected at most "
              + CacheSets.MAX_ROWS
              + " for a cache");
    }
    orders = new RowOrders(layout);
    geometry = CacheGeometry.of(below.name(), rowBytes, bytes);
    counters = new Counters[orders.count()];
    for (int i = 0; i < counters.length; i++) {
      counters[i] = new Counters();
    }
    buffers = new AtomicReferenceArray<>(geometry.readers());
    for (int i = 0; i < geometry.readers(); i++) {
      buffers.set(i, new Misses(geometry.missesPerRead(), rowBytes));
    }
    tagMemory = memory("tags of the cache", geometry.sets(), CacheSets.SET_BYTES);
    try {
      rowMemory = memory("rows of the cache", geometry.capacityRows(), rowBytes);
    } catch (RuntimeException | Error e) {
      tagMemory.close();
      throw e;
    }
    sets = factory.create(tagMemory.shards().getFirst(), geometry.sets());
    rows = rowMemory.shards().getFirst();
  }

  private RamRowStore memory(String what, long count, int bytes) {
    // One shard, whatever its size.
    return RamRowStore.create(
        below.name() + ", " + what, count, bytes, Long.highestOneBit(count) << 1);
  }

  /**
   * Puts a cache before a store.
   *
   * @param below the store, which the cache then owns; still the caller's after an exception
   * @param layout the layout of the table's layer: which rows are of which n-gram order
   * @param bytes the most memory that the cache may take for everything, at least {@link
   *     #minimumBytes}
   * @return the store with the cache
   * @throws IllegalArgumentException if the budget is too small, or store and layout differ in
   *     their number of rows
   * @throws io.engram.EngramException if there is not enough memory
   */
  public static CachedRowStore of(RowStore below, HashLayout layout, long bytes) {
    return of(below, layout, bytes, CacheSets::new);
  }

  static CachedRowStore of(RowStore below, HashLayout layout, long bytes, SetsFactory factory) {
    return new CachedRowStore(below, layout, bytes, factory);
  }

  /**
   * The smallest cache that can be made.
   *
   * @param rowBytes bytes of a row, at least 1
   * @return bytes; a useful cache has very many more
   */
  public static long minimumBytes(int rowBytes) {
    return CacheGeometry.minimum(rowBytes);
  }

  @Override
  public String name() {
    return below.name();
  }

  @Override
  public long rowCount() {
    return below.rowCount();
  }

  @Override
  public int rowBytes() {
    return rowBytes;
  }

  @Override
  public int preferredBatch() {
    return below.preferredBatch();
  }

  /**
   * What the cache has done so far.
   *
   * @return a snapshot; also of a closed cache
   */
  public CacheStatistics statistics() {
    List<CacheStatistics.Order> all = new ArrayList<>();
    long resident = 0;
    for (int i = 0; i < counters.length; i++) {
      Counters c = counters[i];
      long evictions = c.evictions.sum();
      long inserts = c.inserts.sum();
      resident += inserts - evictions;
      all.add(
          new CacheStatistics.Order(
              orders.orders().get(i),
              c.hits.sum(),
              c.misses.sum(),
              c.repeats.sum(),
              inserts,
              c.rejected.sum(),
              evictions));
    }
    return new CacheStatistics(all, resident, geometry.capacityRows(), geometry.bytes());
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= below.rowCount()) {
        throw ReadChecks.rowId(this, rowIds[i], i);
      }
    }
    boolean interrupted = Thread.currentThread().isInterrupted();
    try {
      int done = readCached(rowIds, from, count, out, outOffset);
      if (done < count) {
        below.read(rowIds, from + done, count - done, out, outOffset + (long) done * rowBytes);
        for (int i = from + done; i < from + count; i++) {
          Counters c = counters[orders.index(rowIds[i])];
          c.misses.increment();
          c.rejected.increment();
        }
      }
    } catch (IllegalStateException e) {
      ReadChecks.forgetInterrupt(interrupted);
      checkOpen();
      throw e;
    }
  }

  /** Reads rows until there is a miss and no buffer for it. Returns the number of rows read. */
  private int readCached(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    Misses misses = null;
    int order = 0;
    int hits = 0;
    int missed = 0;
    try {
      for (int i = 0; i < count; i++) {
        long row = rowIds[from + i];
        // The heads of an order are neighbours: counted in runs, the counters cost next to nothing.
        int rowOrder = orders.index(row);
        if (rowOrder != order) {
          count(order, hits, missed);
          hits = 0;
          missed = 0;
          order = rowOrder;
        }
        long hash = CacheSets.hash(row);
        if (copy(row, hash, out, outOffset + (long) i * rowBytes)) {
          hits++;
          continue;
        }
        if (misses == null) {
          misses = take();
          if (misses == null) {
            return i;
          }
          misses.start();
        }
        missed++;
        if (misses.add(row, hash, i)) {
          counters[order].repeats.increment();
        }
        if (misses.isFull()) {
          fetch(misses, out, outOffset);
          misses.start();
        }
      }
      if (misses != null && misses.distinct() > 0) {
        fetch(misses, out, outOffset);
      }
      return count;
    } finally {
      count(order, hits, missed);
      if (misses != null) {
        give(misses);
      }
    }
  }

  private void count(int order, int hits, int misses) {
    if (hits > 0) {
      counters[order].hits.add(hits);
    }
    if (misses > 0) {
      counters[order].misses.add(misses);
    }
  }

  /** Copies a row, if it is here and stays while it is copied. */
  private boolean copy(long row, long hash, MemorySegment out, long at) {
    long set = sets.set(hash);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      long header = sets.begin(set);
      if (header == CacheSets.BUSY) {
        Thread.onSpinWait();
        continue;
      }
      int way = sets.way(set, row);
      if (way >= 0) {
        MemorySegment.copy(rows, rowAt(set, way), out, at, rowBytes);
      }
      if (sets.unchanged(set, header)) {
        if (way >= 0) {
          sets.use(set, way, row);
        }
        return way >= 0;
      }
    }
    return false;
  }

  private void fetch(Misses misses, MemorySegment out, long outOffset) {
    MemorySegment staging = misses.staging();
    below.read(misses.rows(), 0, misses.distinct(), staging, 0);
    misses.deliver(out, outOffset);
    for (int i = 0; i < misses.distinct(); i++) {
      insert(misses.rows()[i], staging, (long) i * rowBytes);
    }
  }

  /** From a buffer of our own, never from the caller's output, which others may write to. */
  private void insert(long row, MemorySegment staging, long at) {
    long hash = CacheSets.hash(row);
    long set = sets.set(hash);
    Counters c = counters[orders.index(row)];
    if (!sets.tryLock(set)) {
      c.rejected.increment();
      return;
    }
    try {
      if (sets.way(set, row) >= 0) {
        c.rejected.increment();
        return;
      }
      boolean main = sets.takeGhost(set, hash);
      int way = sets.choose(set);
      long victim = sets.evict(set, way);
      if (victim >= 0) {
        counters[orders.index(victim)].evictions.increment();
      }
      // Empty until its bytes are complete: if the copy fails, so it stays.
      MemorySegment.copy(staging, at, rows, rowAt(set, way), rowBytes);
      sets.enter(set, way, row, main);
      c.inserts.increment();
    } finally {
      sets.unlock(set);
    }
  }

  private long rowAt(long set, int way) {
    return (set * CacheSets.WAYS + way) * rowBytes;
  }

  private Misses take() {
    int home = home();
    for (int i = 0; i < buffers.length(); i++) {
      int slot = (home + i) % buffers.length();
      Misses misses = buffers.get(slot) == null ? null : buffers.getAndSet(slot, null);
      if (misses != null) {
        return misses;
      }
    }
    return null;
  }

  private void give(Misses misses) {
    int slot = home();
    // There are as many places as buffers, so one is free.
    while (!buffers.compareAndSet(slot, null, misses)) {
      slot = (slot + 1) % buffers.length();
    }
  }

  private int home() {
    return (int) (Thread.currentThread().threadId() % buffers.length());
  }

  private void checkOpen() {
    if (closed) {
      throw ReadChecks.closed(this);
    }
  }

  /** Closes the store below, then gives the cache's memory back. */
  @Override
  public synchronized void close() {
    if (closed) {
      return;
    }
    below.close();
    closed = true;
    rowMemory.close();
    tagMemory.close();
  }

  @Override
  public String toString() {
    return below + ", with a cache of " + geometry.capacityRows() + " rows";
  }
}
