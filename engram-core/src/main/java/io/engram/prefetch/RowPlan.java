// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.function.IntUnaryOperator;

/**
 * Which rows a chunk needs from one table, each once and in ascending order, so that neighbours in
 * a page, a file or a shard are neighbours in the read. Also scratch for reading and decoding.
 *
 * <p>Used by one thread at a time and then by the next.
 */
final class RowPlan {
  private static final int PAGE_SHIFT = 12;

  /** Above this, counting beats comparing. */
  private static final int RADIX_FROM = 256;

  private static final int DIGIT_BITS = 8;

  /** A plan that has grown beyond this many rows is left to the collector. */
  private static final int KEPT_ROWS = 1 << 18;

  private final int[] counts = new int[1 << DIGIT_BITS];

  /** The first {@link #distinct} are the rows to read. */
  private long[] rowIds = new long[0];

  /** Column after column: row within the column, then position. */
  private long[] keys = new long[0];

  private long[] spare = new long[0];

  /** For each position and column, which of the distinct rows it is. */
  private int[] places = new int[0];

  private int distinct;
  private long pages;

  private long[] readIds = new long[0];
  private MemorySegment bytes = MemorySegment.NULL;

  long[] rowIds() {
    return rowIds;
  }

  int[] places() {
    return places;
  }

  int distinct() {
    return distinct;
  }

  long pages() {
    return pages;
  }

  boolean isWorthKeeping() {
    return rowIds.length <= KEPT_ROWS && readIds.length <= KEPT_ROWS;
  }

  /** Room for the ids of one read. */
  long[] readIds(int count) {
    if (readIds.length < count) {
      readIds = new long[count];
    }
    return readIds;
  }

  /** Anonymous memory with arbitrary contents. */
  MemorySegment bytes(long count) {
    if (bytes.byteSize() < count) {
      bytes = Arena.ofAuto().allocate(count, 64);
    }
    return bytes;
  }

  /**
   * Hashes chunks and finds their distinct rows.
   *
   * @param ids hashed ids of all sequences, back to back
   * @param starts where each sequence starts in them, and the last one ends
   * @param pasts the ids before each sequence, not hashed ones
   * @param translation the hashed id for one of them
   * @param rowBytes bytes of a stored row
   */
  void make(
      NgramHasher hasher,
      int[] ids,
      int[] starts,
      List<Lookback> pasts,
      IntUnaryOperator translation,
      int rowBytes) {
    HashLayout layout = hasher.layout();
    int tokens = ids.length;
    int columns = layout.columns();
    int rows = tokens * columns;
    if (rowIds.length < rows) {
      rowIds = new long[rows];
      keys = new long[rows];
      places = new int[rows];
    }
    if (spare.length < tokens) {
      spare = new long[tokens];
    }
    hasher.hashRagged(ids, starts, pasts, translation, rowIds, 0);
    int positionBits = Integer.SIZE - Integer.numberOfLeadingZeros(Math.max(1, tokens - 1));
    for (int c = 0; c < columns; c++) {
      long offset = layout.offset(c);
      int at = c * tokens;
      for (int t = 0, i = c; t < tokens; t++, i += columns) {
        keys[at + t] = (rowIds[i] - offset) << positionBits | t;
      }
    }
    distinct = 0;
    pages = 0;
    long lastPage = -1;
    for (int c = 0; c < columns; c++) {
      int at = c * tokens;
      sort(at, tokens, positionBits, layout.modulus(c));
      // Columns own ascending ranges of rows: sorted columns, one after the other, are sorted rows.
      long offset = layout.offset(c);
      long before = -1;
      for (int i = at; i < at + tokens; i++) {
        long row = keys[i] >>> positionBits;
        if (row != before) {
          before = row;
          long id = row + offset;
          rowIds[distinct++] = id;
          long first = (id * rowBytes) >>> PAGE_SHIFT;
          long last = ((id + 1) * rowBytes - 1) >>> PAGE_SHIFT;
          pages += last - Math.max(first - 1, lastPage);
          lastPage = last;
        }
        int position = (int) (keys[i] & ((1L << positionBits) - 1));
        places[position * columns + c] = distinct - 1;
      }
    }
  }

  private void sort(int from, int count, int positionBits, long modulus) {
    if (count < RADIX_FROM) {
      Arrays.sort(keys, from, from + count);
      return;
    }
    long[] in = keys;
    int inAt = from;
    long[] out = spare;
    int outAt = 0;
    boolean spared = false;
    int end = positionBits + Long.SIZE - Long.numberOfLeadingZeros(modulus - 1);
    // Positions ascend already, and each pass keeps the order of what it finds equal.
    for (int shift = positionBits; shift < end; shift += DIGIT_BITS) {
      Arrays.fill(counts, 0);
      for (int i = inAt; i < inAt + count; i++) {
        counts[(int) (in[i] >>> shift) & counts.length - 1]++;
      }
      int sum = outAt;
      for (int d = 0; d < counts.length; d++) {
        int n = counts[d];
        counts[d] = sum;
        sum += n;
      }
      for (int i = inAt; i < inAt + count; i++) {
        out[counts[(int) (in[i] >>> shift) & counts.length - 1]++] = in[i];
      }
      long[] swap = in;
      in = out;
      out = swap;
      int swapAt = inAt;
      spared = !spared;
      inAt = outAt;
      outAt = swapAt;
    }
    if (spared) {
      System.arraycopy(spare, 0, keys, from, count);
    }
  }
}
