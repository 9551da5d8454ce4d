// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Rows in memory, with loads in place of the prefetch instruction that Java lacks: a byte of every
 * cache line of many rows. Nothing depends on these loads, so that the processor issues those of
 * the next rows before the first has come, as many as it keeps in flight. It can only do so while
 * they are all that it has to do: a loop over the lines of a row, or copying between the rows,
 * fills its window with other instructions, and takes two to four times as long.
 */
final class FetchedRows implements RowMemory {
  private static final int LINE = 64;

  private final RamRowStore store;
  private final MemorySegment rows;
  private final int rowBytes;

  /** Most lines that a row lies in. */
  private final int lines;

  /** Where the last of them is sure to be met. */
  private final int last;

  /** Is given something now and then, so that the loads are not optimised away. */
  @SuppressWarnings("UnusedVariable")
  private int touched;

  FetchedRows(RamRowStore store, MemorySegment rows) {
    this.store = store;
    this.rows = rows;
    rowBytes = store.rowBytes();
    int lastBegin = LINE - Math.min(LINE, Integer.lowestOneBit(rowBytes));
    lines = (lastBegin + rowBytes - 1) / LINE + 1;
    last = Math.min((lines - 1) * LINE, rowBytes - 1);
  }

  @Override
  public MemorySegment rows() {
    return rows;
  }

  @Override
  public void fetch(long[] rowIds, int from, int count) {
    store.checkOpen();
    long rowCount = store.rowCount();
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= rowCount) {
        throw ReadChecks.rowId(store, rowIds[i], i);
      }
    }
    int bits = touch(rowIds, from, count);
    if (bits == 0x5A) {
      touched = bits;
    }
  }

  /** Without a branch that depends on anything but the size of a row. */
  @SuppressWarnings("fallthrough")
  private int touch(long[] rowIds, int from, int count) {
    int bits = 0;
    for (int i = from; i < from + count; i++) {
      long at = rowIds[i] * rowBytes;
      switch (lines) {
        default:
          bits ^= touchLater(at);
        // fall through
        case 5:
          bits ^= rows.get(ValueLayout.JAVA_BYTE, at + 3 * LINE);
        // fall through
        case 4:
          bits ^= rows.get(ValueLayout.JAVA_BYTE, at + 2 * LINE);
        // fall through
        case 3:
          bits ^= rows.get(ValueLayout.JAVA_BYTE, at + LINE);
        // fall through
        case 2:
          bits ^= rows.get(ValueLayout.JAVA_BYTE, at + last);
        // fall through
        case 1:
          bits ^= rows.get(ValueLayout.JAVA_BYTE, at);
      }
    }
    return bits;
  }

  /** Of a long row, the lines between the first four and the last. */
  private int touchLater(long at) {
    int bits = 0;
    for (int i = 4 * LINE; i < last; i += LINE) {
      bits ^= rows.get(ValueLayout.JAVA_BYTE, at + i);
    }
    return bits;
  }
}
