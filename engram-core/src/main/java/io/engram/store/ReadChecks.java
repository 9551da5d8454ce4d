// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/** The parts of the {@link RowStore} contract that are the same for every tier. */
final class ReadChecks {
  private ReadChecks() {}

  static void shape(String name, long rowCount, int rowBytes) {
    Objects.requireNonNull(name, "name");
    if (rowCount < 1 || rowBytes < 1) {
      throw new IllegalArgumentException(
          name
              + ": "
              + rowCount
              + " rows of "
              + rowBytes
              + " bytes, expected at least one of at least one");
    }
    if (rowCount > Long.MAX_VALUE / rowBytes) {
      throw new IllegalArgumentException(
          name + ": " + rowCount + " rows of " + rowBytes + " bytes overflow 64 bits");
    }
  }

  static void arguments(
      RowStore store, long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    long bytes = (long) count * store.rowBytes();
    if (outOffset < 0 || bytes > out.byteSize() - outOffset) {
      throw new IllegalArgumentException(
          store.name()
              + ": "
              + count
              + " rows of "
              + store.rowBytes()
              + " bytes do not fit an output of "
              + out.byteSize()
              + " bytes at "
              + outOffset);
    }
    if (out.isReadOnly()) {
      throw new IllegalArgumentException(store.name() + ": the output is read-only");
    }
  }

  static IndexOutOfBoundsException rowId(RowStore store, long rowId, int position) {
    return new IndexOutOfBoundsException(
        store.name()
            + ": row id "
            + rowId
            + " at position "
            + position
            + ", expected 0 to "
            + (store.rowCount() - 1));
  }

  static IllegalStateException closed(RowStore store) {
    return new IllegalStateException(store.name() + ": the row store is closed");
  }
}
