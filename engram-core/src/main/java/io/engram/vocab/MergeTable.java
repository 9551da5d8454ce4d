// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.Arrays;

/**
 * Byte-pair merges by rank, and the merging of one word.
 *
 * <p>Immutable and thread-safe; {@link Word} is the scratch memory of one call.
 */
final class MergeTable {
  private static final long NONE = -1;

  /** Open addressing: left id in the upper half, right id in the lower one. */
  private final long[] pairs;

  private final int[] ranks;
  private final int[] merged;
  private int count;

  MergeTable(int merges) {
    int capacity = Math.max(16, Integer.highestOneBit(Math.max(1, merges)) * 4);
    pairs = new long[capacity];
    ranks = new int[capacity];
    merged = new int[merges];
    Arrays.fill(pairs, NONE);
  }

  /** Adds the merge with the next rank; false if the pair is there already. */
  boolean add(int left, int right, int result) {
    int slot = slot(left, right);
    if (pairs[slot] != NONE) {
      return false;
    }
    pairs[slot] = pair(left, right);
    ranks[slot] = count;
    merged[count++] = result;
    return true;
  }

  private static long pair(int left, int right) {
    return (long) left << 32 | right;
  }

  private int slot(int left, int right) {
    long pair = pair(left, right);
    long hash = pair * 0x9E3779B97F4A7C15L;
    int slot = (int) (hash >>> 32) & (pairs.length - 1);
    while (pairs[slot] != NONE && pairs[slot] != pair) {
      slot = slot + 1 & pairs.length - 1;
    }
    return slot;
  }

  /** The rank of a pair, or -1. */
  private int rank(int left, int right) {
    int slot = slot(left, right);
    return pairs[slot] == NONE ? -1 : ranks[slot];
  }

  /**
   * The symbols of one word as a linked list, and the merges that may apply to it, lowest rank
   * first and leftmost among equals, as the reference orders them.
   */
  static final class Word {
    private int[] ids = new int[32];
    private int[] next = new int[32];
    private int[] previous = new int[32];
    private long[] queue = new long[64];
    private int queued;
    private int length;

    void clear() {
      length = 0;
      queued = 0;
    }

    void add(int id) {
      if (length == ids.length) {
        ids = Arrays.copyOf(ids, length * 2);
        next = Arrays.copyOf(next, length * 2);
        previous = Arrays.copyOf(previous, length * 2);
      }
      ids[length] = id;
      previous[length] = length - 1;
      next[length] = ++length;
    }

    private void push(int rank, int position) {
      if (queued == queue.length) {
        queue = Arrays.copyOf(queue, queued * 2);
      }
      long entry = (long) rank << 32 | position;
      int at = queued++;
      while (at > 0 && queue[(at - 1) >>> 1] > entry) {
        queue[at] = queue[(at - 1) >>> 1];
        at = (at - 1) >>> 1;
      }
      queue[at] = entry;
    }

    private long pop() {
      long top = queue[0];
      long last = queue[--queued];
      int at = 0;
      for (int child = 1; child < queued; child = 2 * at + 1) {
        if (child + 1 < queued && queue[child + 1] < queue[child]) {
          child++;
        }
        if (queue[child] >= last) {
          break;
        }
        queue[at] = queue[child];
        at = child;
      }
      queue[at] = last;
      return top;
    }
  }

  /** Merges a word and appends the ids that are left. */
  void merge(Word word, IntList out) {
    int end = word.length;
    int[] ids = word.ids;
    int[] next = word.next;
    int[] previous = word.previous;
    for (int i = 0; i + 1 < end; i++) {
      offer(word, i, i + 1);
    }
    while (word.queued > 0) {
      long entry = word.pop();
      int left = (int) entry;
      int result = merged[(int) (entry >>> 32)];
      if (ids[left] < 0 || next[left] == end) {
        continue;
      }
      int right = next[left];
      // An entry is out of date if its pair is no longer there. As in the reference, another pair
      // with the same result is as good.
      int rank = rank(ids[left], ids[right]);
      if (rank < 0 || merged[rank] != result) {
        continue;
      }
      ids[left] = result;
      ids[right] = -1;
      next[left] = next[right];
      if (next[left] < end) {
        previous[next[left]] = left;
      }
      if (previous[left] >= 0) {
        offer(word, previous[left], left);
      }
      if (next[left] < end) {
        offer(word, left, next[left]);
      }
    }
    for (int i = 0; i < end; i = next[i]) {
      out.add(ids[i]);
    }
  }

  private void offer(Word word, int left, int right) {
    int rank = rank(word.ids[left], word.ids[right]);
    if (rank >= 0) {
      word.push(rank, left);
    }
  }
}
