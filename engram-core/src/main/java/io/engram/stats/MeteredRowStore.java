// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import io.engram.store.RowMemory;
import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.atomic.LongAdder;

/**
 * Counts what is asked of a tier, and times it where its rows are waited for. The rows are the
 * store's own, and so is its contract.
 *
 * <p>Tiers that would rather be asked for many rows at once ({@link RowStore#preferredBatch}) are
 * timed, and emit the event {@code engram.RowRead} of Java Flight Recorder; reads from memory are
 * too short to look at the clock.
 */
public final class MeteredRowStore implements RowStore {
  private final RowStore store;
  private final String tier;
  private final boolean timed;
  private final Optional<RowMemory> memory;
  private final LongAdder reads = new LongAdder();
  private final LongAdder rows = new LongAdder();
  private final LongAdder failures = new LongAdder();
  private final LatencyHistogram times = new LatencyHistogram();

  /**
   * Meters a store.
   *
   * @param store the tier; closed with this
   * @param tier its name in events, such as MAPPED
   */
  public MeteredRowStore(RowStore store, String tier) {
    this.store = Objects.requireNonNull(store, "store");
    this.tier = Objects.requireNonNull(tier, "tier");
    timed = store.preferredBatch() > 1;
    memory = timed ? Optional.empty() : store.memory().map(Metered::new);
  }

  /**
   * The tier itself.
   *
   * @return the store that answers
   */
  public RowStore store() {
    return store;
  }

  /**
   * What it was asked for since it was opened.
   *
   * @return a snapshot
   */
  public TierStatistics statistics() {
    long total = rows.sum();
    return new TierStatistics(
        reads.sum(), total, total * store.rowBytes(), failures.sum(), times.summary());
  }

  @Override
  public String name() {
    return store.name();
  }

  @Override
  public long rowCount() {
    return store.rowCount();
  }

  @Override
  public int rowBytes() {
    return store.rowBytes();
  }

  @Override
  public int preferredBatch() {
    return store.preferredBatch();
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    if (!timed) {
      boolean done = false;
      try {
        store.read(rowIds, from, count, out, outOffset);
        done = true;
      } finally {
        count(count, done);
      }
      return;
    }
    RowReadEvent event = FlightEvents.recording() ? new RowReadEvent() : null;
    if (event != null) {
      event.begin();
    }
    long start = System.nanoTime();
    boolean done = false;
    try {
      store.read(rowIds, from, count, out, outOffset);
      done = true;
    } finally {
      times.record(System.nanoTime() - start);
      count(count, done);
      if (event != null) {
        commit(event, count, !done);
      }
    }
  }

  /** Rows that are fetched are counted as read; a tier that is timed is read by copying. */
  @Override
  public Optional<RowMemory> memory() {
    return memory;
  }

  private final class Metered implements RowMemory {
    private final RowMemory rowMemory;

    Metered(RowMemory rowMemory) {
      this.rowMemory = rowMemory;
    }

    @Override
    public void fetch(long[] rowIds, int from, int count) {
      boolean done = false;
      try {
        rowMemory.fetch(rowIds, from, count);
        done = true;
      } finally {
        count(count, done);
      }
    }

    @Override
    public MemorySegment rows() {
      return rowMemory.rows();
    }
  }

  private void commit(RowReadEvent event, int count, boolean failed) {
    event.end();
    if (event.shouldCommit()) {
      event.table = name();
      event.tier = tier;
      event.rows = count;
      event.bytes = (long) count * rowBytes();
      event.failed = failed;
      event.commit();
    }
  }

  private void count(int count, boolean done) {
    reads.increment();
    if (done) {
      rows.add(count);
    } else {
      failures.increment();
    }
  }

  @Override
  public void close() {
    store.close();
  }

  @Override
  public String toString() {
    return store.toString();
  }
}
