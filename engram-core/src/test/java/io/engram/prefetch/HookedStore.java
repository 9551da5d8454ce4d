// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicInteger;

/** A store whose reads a test can watch, delay, fail or falsify. Does not own what it wraps. */
final class HookedStore implements RowStore {
  /** What happens at a read. */
  @FunctionalInterface
  interface Hook {
    /**
     * Stands for a read.
     *
     * @param number how many reads there were before
     */
    void read(
        int number,
        RowStore store,
        long[] rowIds,
        int from,
        int count,
        MemorySegment out,
        long outOffset);
  }

  private final RowStore store;
  private final AtomicInteger reads = new AtomicInteger();
  private volatile Hook hook;

  HookedStore(RowStore store) {
    this.store = store;
    hook =
        (_, s, rowIds, from, count, out, outOffset) -> s.read(rowIds, from, count, out, outOffset);
  }

  void setHook(Hook next) {
    hook = next;
  }

  int reads() {
    return reads.get();
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
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    hook.read(reads.getAndIncrement(), store, rowIds, from, count, out, outOffset);
  }

  @Override
  public void close() {}
}
