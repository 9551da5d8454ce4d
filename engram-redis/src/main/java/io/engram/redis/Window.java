// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;

/**
 * Some rows of a read that are asked for together: the ids without repetition, a request for each,
 * the bytes that came, and one count of what is still missing.
 *
 * <p>Used by one thread at a time; the event loop counts down.
 */
final class Window {
  private final int rowBytes;
  private final byte[] bytes;
  private final RowRequest[] requests;
  private final long[] rows;
  private final int[] indexOf;
  private final int[] table;
  private final Semaphore permits;
  private final AtomicInteger missing = new AtomicInteger();
  private volatile Thread waiter;
  private int count;
  private int unique;

  /** Requests of all groups, one after the other, as they go over the wire. */
  private byte[] wire = new byte[0];

  private List<NodeBatch> batches = List.of();
  private final int[] pending;
  private long deadline;
  private long turn;
  private long sentAt;

  Window(int capacity, int rowBytes, Semaphore permits) {
    this.rowBytes = rowBytes;
    this.permits = permits;
    bytes = new byte[Math.multiplyExact(capacity, rowBytes)];
    rows = new long[capacity];
    indexOf = new int[capacity];
    pending = new int[capacity];
    table = new int[Integer.highestOneBit(Math.max(1, 2 * capacity - 1)) * 2];
    requests = new RowRequest[capacity];
    Arrays.setAll(requests, i -> new RowRequest(this, i));
  }

  int rowBytes() {
    return rowBytes;
  }

  byte[] bytes() {
    return bytes;
  }

  /** Takes ids, each of which is asked for once. */
  void fill(long[] rowIds, int from, int ids) {
    count = ids;
    unique = 0;
    Arrays.fill(table, 0);
    int mask = table.length - 1;
    for (int i = 0; i < ids; i++) {
      long row = rowIds[from + i];
      int at = (int) ((row * 0x9E3779B97F4A7C15L) >>> 40) & mask;
      while (table[at] != 0 && rows[table[at] - 1] != row) {
        at = (at + 1) & mask;
      }
      if (table[at] == 0) {
        rows[unique] = row;
        table[at] = ++unique;
      }
      indexOf[i] = table[at] - 1;
    }
  }

  /** Ids taken, repetitions included. */
  int count() {
    return count;
  }

  /** Rows to ask for. */
  int unique() {
    return unique;
  }

  long row(int index) {
    return rows[index];
  }

  /** Which row the id at a position is. */
  int indexAt(int position) {
    return indexOf[position];
  }

  RowRequest request(int index) {
    return requests[index];
  }

  byte[] wire(int size) {
    if (wire.length < size) {
      wire = new byte[size];
    }
    return wire;
  }

  void begin(long nanos, long number) {
    deadline = System.nanoTime() + nanos;
    turn = number;
  }

  /** When all rows must be there, by {@link System#nanoTime}. */
  long deadline() {
    return deadline;
  }

  /** Number of the window, which chooses among copies. */
  long turn() {
    return turn;
  }

  /** Room for the indexes of rows that are to be asked for. */
  int[] pending() {
    return pending;
  }

  void sent(List<NodeBatch> to) {
    batches = to;
    sentAt = System.nanoTime();
  }

  /** What was sent last. */
  List<NodeBatch> batches() {
    return batches;
  }

  long sentAt() {
    return sentAt;
  }

  /** Announces requests that are about to be sent. */
  void expect(int more) {
    missing.set(more);
  }

  void arrived() {
    permits.release();
    if (missing.decrementAndGet() == 0) {
      Thread thread = waiter;
      if (thread != null) {
        LockSupport.unpark(thread);
      }
    }
  }

  boolean complete() {
    return missing.get() == 0;
  }

  /**
   * Waits until every request is complete.
   *
   * @param deadline by {@link System#nanoTime}
   * @return false if the time is up
   */
  boolean await(long deadline) throws InterruptedException {
    if (complete()) {
      return true;
    }
    waiter = Thread.currentThread();
    try {
      while (!complete()) {
        long left = deadline - System.nanoTime();
        if (left <= 0) {
          return false;
        }
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        LockSupport.parkNanos(this, Math.min(left, TimeUnit.SECONDS.toNanos(1)));
      }
      return true;
    } finally {
      waiter = null;
    }
  }
}
