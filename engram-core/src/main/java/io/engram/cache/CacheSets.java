// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * Which row lies in which way of which set, and which goes when another comes: all of a cache but
 * its rows. Nothing is shared between sets, so that a few sets alone behave as they would among all
 * of them.
 *
 * <p>A set is 128 bytes:
 *
 * <pre>
 *   bytes   0 to   7   header: lock (1 bit), three hands (4 bits each), version
 *   bytes   8 to 103   12 tags: row id + 1 (61 bits), main (1 bit), uses (2 bits); 0 is empty
 *   bytes 104 to 127   12 ghosts: 16 bits of the hash of a row that left on probation; 0 is none
 * </pre>
 *
 * <p>Replacement is S3-FIFO's, in each set on its own: a row comes on probation. When it must go,
 * it becomes a main row if it was used since, else it goes and leaves a ghost; a row that comes
 * while its ghost is there comes as a main row. Main rows go in the order of a clock, after as many
 * turns as they had uses, 3 at most. A probationer goes before any main row, so a scan of rows that
 * come once takes one way of a set, however long it is.
 *
 * <p>Threads: whoever changes a set locks it, with a try that may fail and never waits. Whoever
 * reads takes no lock: {@link #begin}, {@link #way}, copy the row, then {@link #unchanged}; only if
 * that holds are the bytes the row's. Uses are counted without the lock; one may be lost.
 */
class CacheSets {
  static final int WAYS = 12;
  static final int SET_BYTES = 128;

  /** What {@link #begin} returns of a set that somebody changes. */
  static final long BUSY = -1;

  /** The most row ids that fit a tag. */
  static final long MAX_ROWS = 1L << 60;

  private static final VarHandle LONG = ValueLayout.JAVA_LONG.varHandle();

  private static final int TAGS = 8;
  private static final int GHOSTS = TAGS + WAYS * Long.BYTES;

  private static final long LOCK = 1;
  private static final int PROBATION_HAND = 1;
  private static final int MAIN_HAND = 5;
  private static final int GHOST_HAND = 9;
  private static final long HAND = 15;
  private static final long VERSION_STEP = 1L << 13;

  private static final int ROW_SHIFT = 3;
  private static final long MAIN = 4;
  private static final long USES = 3;

  private final MemorySegment memory;
  private final long count;

  /**
   * Sets without a row.
   *
   * @param memory zeros, aligned to 8 bytes, with room for some sets, counted from the first
   * @param count number of sets of the cache, of which others than those in memory are never asked
   *     for
   */
  CacheSets(MemorySegment memory, long count) {
    this.memory = memory;
    this.count = count;
  }

  /** A bijection that spreads row ids over 64 bits (the finaliser of SplitMix64). */
  static long hash(long row) {
    long h = (row ^ row >>> 30) * 0xbf58476d1ce4e5b9L;
    h = (h ^ h >>> 27) * 0x94d049bb133111ebL;
    return h ^ h >>> 31;
  }

  /** The set of a hash: its upper bits decide. */
  final long set(long hash) {
    return Math.unsignedMultiplyHigh(hash, count);
  }

  /** Begins to read a set: what to give to {@link #unchanged}, or {@link #BUSY}. */
  final long begin(long set) {
    long header = (long) LONG.getAcquire(memory, set * SET_BYTES);
    return (header & LOCK) == 0 ? header : BUSY;
  }

  /** The way that holds a row, or -1. */
  final int way(long set, long row) {
    long tags = set * SET_BYTES + TAGS;
    for (int way = 0; way < WAYS; way++) {
      if (memory.get(ValueLayout.JAVA_LONG, tags + way * (long) Long.BYTES) >>> ROW_SHIFT
          == row + 1) {
        return way;
      }
    }
    return -1;
  }

  /** Whether what was read since {@link #begin} is of one state of the set. */
  boolean unchanged(long set, long header) {
    VarHandle.acquireFence();
    return (long) LONG.getOpaque(memory, set * SET_BYTES) == header;
  }

  /** Counts a use of a row, if it is still there. */
  final void use(long set, int way, long row) {
    long at = tagAt(set, way);
    long tag = (long) LONG.getOpaque(memory, at);
    if (tag >>> ROW_SHIFT == row + 1 && (tag & USES) < USES) {
      LONG.weakCompareAndSetPlain(memory, at, tag, tag + 1);
    }
  }

  /** Locks a set. Returns false if somebody else has. */
  final boolean tryLock(long set) {
    long at = set * SET_BYTES;
    long header = (long) LONG.getOpaque(memory, at);
    if ((header & LOCK) != 0 || !LONG.compareAndSet(memory, at, header, header | LOCK)) {
      return false;
    }
    // No later write may be seen before the lock is.
    VarHandle.storeStoreFence();
    return true;
  }

  /** Releases the lock; whoever reads at this time will notice. */
  final void unlock(long set) {
    long at = set * SET_BYTES;
    long header = memory.get(ValueLayout.JAVA_LONG, at);
    LONG.setRelease(memory, at, (header & ~LOCK) + VERSION_STEP);
  }

  /** Takes a row's ghost away. Under the lock. Returns whether there was one. */
  final boolean takeGhost(long set, long hash) {
    long ghosts = set * SET_BYTES + GHOSTS;
    short print = print(hash);
    for (int i = 0; i < WAYS; i++) {
      if (memory.get(ValueLayout.JAVA_SHORT, ghosts + i * (long) Short.BYTES) == print) {
        memory.set(ValueLayout.JAVA_SHORT, ghosts + i * (long) Short.BYTES, (short) 0);
        return true;
      }
    }
    return false;
  }

  /** The way that the next row takes. Under the lock. */
  final int choose(long set) {
    boolean probation = false;
    for (int way = 0; way < WAYS; way++) {
      long tag = memory.get(ValueLayout.JAVA_LONG, tagAt(set, way));
      if (tag == 0) {
        return way;
      }
      probation |= (tag & MAIN) == 0;
    }
    if (probation) {
      int hand = hand(set, PROBATION_HAND);
      for (int i = 0; i < WAYS; i++) {
        int way = (hand + i) % WAYS;
        long tag = memory.get(ValueLayout.JAVA_LONG, tagAt(set, way));
        if ((tag & (MAIN | USES)) == 0) {
          setHand(set, PROBATION_HAND, way + 1);
          return way;
        }
        if ((tag & MAIN) == 0) {
          memory.set(ValueLayout.JAVA_LONG, tagAt(set, way), (tag & ~USES) | MAIN);
        }
      }
    }
    // Readers may count uses as fast as the hand takes them away: after three rounds it stops.
    int hand = hand(set, MAIN_HAND);
    for (int i = 0; ; i++) {
      int way = (hand + i) % WAYS;
      long tag = memory.get(ValueLayout.JAVA_LONG, tagAt(set, way));
      if ((tag & USES) == 0 || i == USES * WAYS) {
        setHand(set, MAIN_HAND, way + 1);
        return way;
      }
      memory.set(ValueLayout.JAVA_LONG, tagAt(set, way), tag - 1);
    }
  }

  /** Empties a way, before its row is overwritten. Under the lock. Returns its row, or -1. */
  final long evict(long set, int way) {
    long tag = memory.get(ValueLayout.JAVA_LONG, tagAt(set, way));
    memory.set(ValueLayout.JAVA_LONG, tagAt(set, way), 0);
    long row = (tag >>> ROW_SHIFT) - 1;
    if (row >= 0 && (tag & MAIN) == 0) {
      int hand = hand(set, GHOST_HAND);
      memory.set(
          ValueLayout.JAVA_SHORT,
          set * SET_BYTES + GHOSTS + hand * (long) Short.BYTES,
          print(hash(row)));
      setHand(set, GHOST_HAND, hand + 1);
    }
    return row;
  }

  /** Enters a row whose bytes are in place. Under the lock. */
  final void enter(long set, int way, long row, boolean main) {
    memory.set(
        ValueLayout.JAVA_LONG, tagAt(set, way), ((row + 1) << ROW_SHIFT) | (main ? MAIN : 0));
  }

  private static long tagAt(long set, int way) {
    return set * SET_BYTES + TAGS + way * (long) Long.BYTES;
  }

  /** Lower bits, of which the set says nothing. */
  private static short print(long hash) {
    short print = (short) hash;
    return print == 0 ? 1 : print;
  }

  private int hand(long set, int which) {
    return (int) (memory.get(ValueLayout.JAVA_LONG, set * SET_BYTES) >>> which & HAND);
  }

  private void setHand(long set, int which, int way) {
    long header = memory.get(ValueLayout.JAVA_LONG, set * SET_BYTES);
    memory.set(
        ValueLayout.JAVA_LONG,
        set * SET_BYTES,
        (header & ~(HAND << which)) | ((long) (way % WAYS) << which));
  }
}
