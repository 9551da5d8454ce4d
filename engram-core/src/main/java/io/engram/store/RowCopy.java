// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.hash.kernel.KernelChoice;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;

/**
 * Copies rows that were fetched, packed, in the order of their ids. {@link MemorySegment#copy} is
 * made for long copies: a call of it costs more than to copy a row.
 *
 * <p>Stateless and thread-safe.
 */
abstract class RowCopy {
  private static final class Holder {
    private static final RowCopy CHOSEN =
        KernelChoice.make(
            MethodHandles.lookup(), RowCopy.class, ScalarRowCopy::new, "VectorRowCopy");
  }

  static RowCopy get() {
    return Holder.CHOSEN;
  }

  /**
   * Copies rows.
   *
   * @param memory all rows, packed, in anonymous native memory
   * @param out anonymous native memory, never a mapped file
   */
  abstract void rows(
      MemorySegment memory,
      int rowBytes,
      long[] rowIds,
      int from,
      int count,
      MemorySegment out,
      long outAt);

  /** The same into memory of any kind. */
  static void plainly(
      MemorySegment memory,
      int rowBytes,
      long[] rowIds,
      int from,
      int count,
      MemorySegment out,
      long outAt) {
    long at = outAt;
    for (int i = from; i < from + count; i++) {
      MemorySegment.copy(memory, rowIds[i] * rowBytes, out, at, rowBytes);
      at += rowBytes;
    }
  }
}
