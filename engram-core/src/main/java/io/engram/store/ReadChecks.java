// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * The parts of the {@link RowStore} contract that are the same for every tier, for their authors.
 */
public final class ReadChecks {
  private ReadChecks() {}

  /**
   * Refuses a table without rows, or with more bytes than 64 bits count.
   *
   * @param name the table's name, not null
   * @param rowCount number of rows
   * @param rowBytes bytes of a row
   * @throws IllegalArgumentException if there are no rows, or they have no bytes, or too many
   */
  public static void shape(String name, long rowCount, int rowBytes) {
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

  /**
   * Checks the arguments of a read, all but the row ids themselves.
   *
   * @param store the store that is read
   * @param rowIds row ids
   * @param from index of the first id
   * @param count number of ids
   * @param out the output
   * @param outOffset where in it the first row goes, in bytes
   * @throws IndexOutOfBoundsException if from and count do not lie in rowIds
   * @throws IllegalArgumentException if the rows do not fit the output, or it is read-only
   */
  public static void arguments(
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

  /**
   * What to throw for a row id that is not one of the table.
   *
   * @param store the store that is read
   * @param rowId the id
   * @param position its index
   * @return an exception that names table, id and range
   */
  public static IndexOutOfBoundsException rowId(RowStore store, long rowId, int position) {
    return new IndexOutOfBoundsException(
        store.name()
            + ": row id "
            + rowId
            + " at position "
            + position
            + ", expected 0 to "
            + (store.rowCount() - 1));
  }

  /**
   * What to throw for a read of a closed store.
   *
   * @param store the store that is read
   * @return an exception that names the table
   */
  public static IllegalStateException closed(RowStore store) {
    return new IllegalStateException(store.name() + ": the row store is closed");
  }

  /**
   * To be called after memory was closed under a read. The JVM stops such a read with an
   * asynchronous exception, and leaves the thread interrupted as if somebody had interrupted it.
   *
   * @param interrupted whether the thread was interrupted before the read
   */
  public static void forgetInterrupt(boolean interrupted) {
    if (!interrupted) {
      Thread.interrupted();
    }
  }
}
