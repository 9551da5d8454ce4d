// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Rows that one read did not find: each different one once, and all the places that wait for it.
 * Used by one thread at a time. Its memory is made when it is first used.
 */
final class Misses {
  /** Heap memory of each miss: what the arrays below add up to. */
  static final int HEAP_BYTES = 28;

  private final int capacity;
  private final int rowBytes;

  private long[] rows;

  /** The miss of an entry of the table, and the entry of a miss: only if they agree is it one. */
  private int[] table;

  private int[] entries;
  private int[] positions;
  private int[] indices;
  private MemorySegment staging;

  private int distinct;
  private int waiting;

  Misses(int capacity, int rowBytes) {
    this.capacity = capacity;
    this.rowBytes = rowBytes;
  }

  /** Forgets what an earlier read left. */
  void start() {
    if (staging == null) {
      rows = new long[capacity];
      table = new int[2 * capacity];
      entries = new int[capacity];
      positions = new int[capacity];
      indices = new int[capacity];
      staging = Arena.ofAuto().allocate((long) capacity * rowBytes, 64);
    }
    distinct = 0;
    waiting = 0;
  }

  /** Adds a row that a position waits for. Returns whether it is not the first. */
  boolean add(long row, long hash, int position) {
    int entry = (int) hash & table.length - 1;
    int miss = table[entry];
    while (miss < distinct && entries[miss] == entry && rows[miss] != row) {
      entry = entry + 1 & table.length - 1;
      miss = table[entry];
    }
    boolean repeated = miss < distinct && entries[miss] == entry;
    if (!repeated) {
      miss = distinct++;
      rows[miss] = row;
      table[entry] = miss;
      entries[miss] = entry;
    }
    positions[waiting] = position;
    indices[waiting++] = miss;
    return repeated;
  }

  boolean isFull() {
    return waiting == capacity;
  }

  int distinct() {
    return distinct;
  }

  long[] rows() {
    return rows;
  }

  MemorySegment staging() {
    return staging;
  }

  /** Hands the rows that were read to all positions that wait for them. */
  void deliver(MemorySegment out, long outOffset) {
    for (int i = 0; i < waiting; i++) {
      MemorySegment.copy(
          staging,
          (long) indices[i] * rowBytes,
          out,
          outOffset + (long) positions[i] * rowBytes,
          rowBytes);
    }
  }
}
