// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import io.engram.store.RowStore;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/**
 * One round of a read: its rows by shard, and who reads which shard.
 *
 * <p>Made once and used for one round after another. The parts of a round, one for each shard that
 * rows are asked of, are claimed one by one by whoever comes: the caller, who always does, and
 * readers, who may. A reader that comes late, even in the middle of a later round, does no harm: to
 * claim a part is to lower {@code unclaimed} in one step, which is zero between rounds.
 */
final class ShardedRead {
  private final RowStore[] stores;
  private final int rowBytes;
  private final int mostRows;

  /** Row r of the round is the slots[r]th of the rows sorted by shard. */
  private int[] slots = new int[0];

  private int[] owners = new int[0];
  private long[] localRows = new long[0];
  private MemorySegment staging = MemorySegment.NULL;

  /** The rows of shard s end before ends[s], where those of the next begin. */
  private final int[] ends;

  /** Shards that rows are asked of, the first {@code parts}. */
  private final int[] asked;

  private int parts;
  private final Throwable[] failures;
  private Thread caller;
  private final AtomicInteger unclaimed = new AtomicInteger();
  private final AtomicInteger unfinished = new AtomicInteger();

  ShardedRead(RowStore[] stores, int rowBytes, int mostRows) {
    this.stores = stores;
    this.rowBytes = rowBytes;
    this.mostRows = mostRows;
    ends = new int[stores.length];
    asked = new int[stores.length];
    failures = new Throwable[stores.length];
  }

  /** Begins a round: from here on parts can be claimed. All row ids are in range. */
  void sort(ShardLayout layout, long[] rowIds, int from, int count) {
    if (slots.length < count) {
      // Doubling, so that slowly growing reads do not allocate each time. The slots come last: what
      // has room for them has it in the rest, too.
      int rows = Math.max(count, Math.min(2 * slots.length, mostRows));
      staging = Arena.ofAuto().allocate((long) rows * rowBytes, 64);
      localRows = new long[rows];
      owners = new int[rows];
      slots = new int[rows];
    }
    Arrays.fill(ends, 0);
    for (int r = 0; r < count; r++) {
      int owner = layout.shardOf(rowIds[from + r]);
      owners[r] = owner;
      ends[owner]++;
    }
    parts = 0;
    int next = 0;
    for (int shard = 0; shard < ends.length; shard++) {
      int rows = ends[shard];
      if (rows > 0) {
        asked[parts++] = shard;
      }
      ends[shard] = next;
      next += rows;
    }
    for (int r = 0; r < count; r++) {
      int slot = ends[owners[r]]++;
      slots[r] = slot;
      localRows[slot] = layout.localRow(rowIds[from + r]);
    }
    caller = Thread.currentThread();
    unfinished.set(parts);
    unclaimed.set(parts);
  }

  int parts() {
    return parts;
  }

  /** Reads parts as long as there are any that nobody has claimed. */
  void run() {
    for (int left = unclaimed.get(); left > 0; left = unclaimed.get()) {
      if (unclaimed.compareAndSet(left, left - 1)) {
        read(asked[left - 1]);
      }
    }
  }

  private void read(int shard) {
    // After the last part is finished the caller may begin another round.
    Thread waiting = caller;
    try {
      int first = first(shard);
      stores[shard].read(localRows, first, ends[shard] - first, staging, (long) first * rowBytes);
    } catch (Throwable e) {
      failures[shard] = e;
    }
    if (unfinished.decrementAndGet() == 0 && !waiting.equals(Thread.currentThread())) {
      LockSupport.unpark(waiting);
    }
  }

  private int first(int shard) {
    return shard == 0 ? 0 : ends[shard - 1];
  }

  /** Waits for the parts that others read. Interrupts are the caller's business, and are kept. */
  void await() {
    boolean interrupted = false;
    while (unfinished.get() > 0) {
      LockSupport.park(this);
      interrupted |= Thread.interrupted();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  void throwFailure(ShardedRowStore store) {
    for (int p = 0; p < parts; p++) {
      int shard = asked[p];
      Throwable failure = failures[shard];
      if (failure instanceof Error e) {
        throw e;
      }
      if (failure != null) {
        throw store.failure(shard, localRows, first(shard), ends[shard], failure);
      }
    }
  }

  /** Puts the rows in order. By the caller, whose memory the output may be. */
  void scatter(int count, MemorySegment out, long outOffset) {
    long at = outOffset;
    for (int r = 0; r < count; r++, at += rowBytes) {
      MemorySegment.copy(staging, (long) slots[r] * rowBytes, out, at, rowBytes);
    }
  }

  /** Nothing of a read must outlive it. */
  void forget() {
    Arrays.fill(failures, null);
    caller = null;
  }
}
