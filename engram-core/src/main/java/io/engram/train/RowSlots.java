// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import java.util.Arrays;

/**
 * Row ids to slots 0, 1, 2 ... in the order in which they were first seen: open addressing with
 * linear probing, key and slot side by side so that a look-up misses the cache once.
 */
final class RowSlots {
  private static final int FIRST_CAPACITY = 1 << 10;

  /** Two longs an entry, of which one array can have no more. */
  private static final int LARGEST_CAPACITY = 1 << 29;

  /** The odd integer next to 2^64 divided by the golden ratio: spreads runs of ids evenly. */
  private static final long SPREAD = 0x9E3779B97F4A7C15L;

  /** Id + 1 and slot, pair by pair; 0 where there is none. */
  private long[] entries = new long[2 * FIRST_CAPACITY];

  private int capacity = FIRST_CAPACITY;
  private int shift = Long.SIZE - Integer.numberOfTrailingZeros(FIRST_CAPACITY);
  private long[] ids = new long[FIRST_CAPACITY / 2];

  /** Which entry a slot is in, so that clearing costs as much as there is to clear. */
  private int[] places = new int[FIRST_CAPACITY / 2];

  private int size;

  int size() {
    return size;
  }

  /** The id in a slot. */
  long id(int slot) {
    return ids[slot];
  }

  /** Slot of an id, or the complement of its new slot if it was not seen before. */
  int slot(long id) {
    int place = find(id);
    if (entries[2 * place] != 0) {
      return (int) entries[2 * place + 1];
    }
    if (2 * size == capacity) {
      grow();
      place = find(id);
    }
    int slot = size++;
    entries[2 * place] = id + 1;
    entries[2 * place + 1] = slot;
    ids[slot] = id;
    places[slot] = place;
    return ~slot;
  }

  private int find(long id) {
    int mask = capacity - 1;
    int place = (int) ((id * SPREAD) >>> shift);
    while (entries[2 * place] != 0 && entries[2 * place] != id + 1) {
      place = (place + 1) & mask;
    }
    return place;
  }

  private void grow() {
    if (capacity == LARGEST_CAPACITY) {
      throw new IllegalStateException(
          "gradients of "
              + size
              + " distinct rows are as many as one collection holds: take a step, or split the"
              + " batch over several");
    }
    capacity *= 2;
    shift--;
    entries = new long[2 * capacity];
    ids = Arrays.copyOf(ids, capacity / 2);
    places = Arrays.copyOf(places, capacity / 2);
    for (int slot = 0; slot < size; slot++) {
      int place = find(ids[slot]);
      entries[2 * place] = ids[slot] + 1;
      entries[2 * place + 1] = slot;
      places[slot] = place;
    }
  }

  void clear() {
    if (size > capacity / 8) {
      Arrays.fill(entries, 0);
    } else {
      for (int slot = 0; slot < size; slot++) {
        entries[2 * places[slot]] = 0;
      }
    }
    size = 0;
  }
}
