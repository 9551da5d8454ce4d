// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.util.Arrays;

/**
 * Which positional reads fetch the pieces of a batch: pieces in one page, or in pages that touch,
 * share one. Works on positions in all files of a table laid end to end, far apart.
 *
 * <p>Not thread-safe while it is being made. Its arrays grow to the largest batch and stay.
 */
final class ReadPlan {
  /** A page, whatever the system's own are: disks and caches count in these. */
  static final int PAGE_SHIFT = 12;

  private static final int PIECE_BITS = 14;

  /** Most pieces of one plan. */
  static final int MAX_PIECES = 1 << PIECE_BITS;

  /** Positions must stay below. */
  static final long MAX_POSITION = 1L << 61;

  private static final int PIECE_MASK = MAX_PIECES - 1;
  private static final int DIGIT_BITS = 11;
  private static final int INSERTION = 48;

  private final int[] counts = new int[1 << DIGIT_BITS];
  private long[] positions = new long[64];
  private long[] keys = new long[64];
  private long[] spare = new long[64];
  private int[] firstPieces = new int[64];
  private int pieces;
  private int reads;

  void clear() {
    pieces = 0;
    reads = 0;
  }

  /** Adds the next piece, at a position. */
  void add(long position) {
    if (pieces == positions.length) {
      int length = 2 * pieces;
      positions = Arrays.copyOf(positions, length);
      keys = Arrays.copyOf(keys, length);
      spare = Arrays.copyOf(spare, length);
      firstPieces = Arrays.copyOf(firstPieces, length);
    }
    positions[pieces] = position;
    keys[pieces] = position >>> PAGE_SHIFT << PIECE_BITS | pieces;
    pieces++;
  }

  /**
   * Divides the pieces among reads.
   *
   * @param lengths bytes of the pieces, in turn: of piece p it is that of p mod its length
   * @param most bytes of a read at most, unless a single piece has more
   * @return the number of reads
   */
  int finish(int[] lengths, int most) {
    sort();
    reads = 0;
    long begin = 0;
    long end = 0;
    for (int i = 0; i < pieces; i++) {
      int piece = (int) keys[i] & PIECE_MASK;
      long from = positions[piece];
      long to = from + lengths[piece % lengths.length];
      long newBegin = Math.min(begin, from);
      long newEnd = Math.max(end, to);
      boolean touches = from >>> PAGE_SHIFT <= ((end - 1) >>> PAGE_SHIFT) + 1;
      // Both ends may have to be moved to those of a page.
      boolean fits = newEnd - newBegin <= most - (2L << PAGE_SHIFT);
      if (reads > 0 && touches && fits) {
        begin = newBegin;
        end = newEnd;
      } else {
        firstPieces[reads++] = i;
        begin = from;
        end = to;
      }
    }
    return reads;
  }

  /** Index, in the order of positions, of the first piece of a read. */
  int first(int read) {
    return firstPieces[read];
  }

  /** One more than the index of the last piece of a read. */
  int end(int read) {
    return read + 1 < reads ? firstPieces[read + 1] : pieces;
  }

  /** The number under which the piece of some index was added. */
  int piece(int index) {
    return (int) keys[index] & PIECE_MASK;
  }

  long position(int piece) {
    return positions[piece];
  }

  /** By page; stable, so that the pieces of a page stay in the order in which they were added. */
  private void sort() {
    if (pieces <= INSERTION) {
      for (int i = 1; i < pieces; i++) {
        long key = keys[i];
        int at = i;
        while (at > 0 && keys[at - 1] > key) {
          keys[at] = keys[at - 1];
          at--;
        }
        keys[at] = key;
      }
      return;
    }
    long highest = 0;
    for (int i = 0; i < pieces; i++) {
      highest = Math.max(highest, keys[i]);
    }
    int bits = Long.SIZE - Long.numberOfLeadingZeros(highest);
    // Arrays.sort allocates for what is partly sorted already.
    for (int shift = PIECE_BITS; shift < bits; shift += DIGIT_BITS) {
      Arrays.fill(counts, 0);
      int mask = counts.length - 1;
      for (int i = 0; i < pieces; i++) {
        counts[(int) (keys[i] >>> shift) & mask]++;
      }
      int sum = 0;
      for (int digit = 0; digit < counts.length; digit++) {
        int count = counts[digit];
        counts[digit] = sum;
        sum += count;
      }
      for (int i = 0; i < pieces; i++) {
        spare[counts[(int) (keys[i] >>> shift) & mask]++] = keys[i];
      }
      long[] sorted = spare;
      spare = keys;
      keys = sorted;
    }
  }
}
