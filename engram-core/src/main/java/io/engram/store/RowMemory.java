// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;

/**
 * The rows of a {@link RowStore} where they are: in one piece of anonymous memory, so that vector
 * instructions may read them. Whoever decodes rows spares a copy of them.
 *
 * <p>A caller has a batch of rows fetched, which checks their ids and waits for memory once and not
 * once for each row, and then reads row r in {@link #rows} at r times the bytes of a row.
 *
 * <p>The store may be closed meanwhile: an access to the rows then throws {@link
 * IllegalStateException}, and may leave the thread interrupted ({@link
 * ReadChecks#forgetInterrupt}). Thread-safe; allocates nothing.
 */
public interface RowMemory {
  /**
   * How many rows to fetch at once: enough for as many misses as a processor has in flight at a
   * time, few enough to be in the first level cache still when the caller comes to them.
   *
   * @param rowBytes bytes of a row, at least 1
   * @return at least 1
   */
  static int batch(int rowBytes) {
    return Math.clamp((1 << 14) / rowBytes, 1, 64);
  }

  /**
   * Checks row ids, counts the rows as read where somebody counts, and has the cache lines of all
   * of them loaded at the same time.
   *
   * @param rowIds row ids
   * @param from index of the first id
   * @param count number of ids
   * @throws IndexOutOfBoundsException if a row id is not one of the table, naming id, table and
   *     range; or if from and count do not lie in rowIds
   * @throws IllegalStateException if the store is closed
   */
  void fetch(long[] rowIds, int from, int count);

  /**
   * All rows, packed.
   *
   * @return native memory, never that of a mapped file, valid until the store is closed; not to be
   *     written to
   */
  MemorySegment rows();
}
