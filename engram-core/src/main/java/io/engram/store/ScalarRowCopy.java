// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;

/** Copies as the JDK does. */
final class ScalarRowCopy extends RowCopy {
  ScalarRowCopy() {}

  @Override
  void rows(
      MemorySegment memory,
      int rowBytes,
      long[] rowIds,
      int from,
      int count,
      MemorySegment out,
      long outAt) {
    plainly(memory, rowBytes, rowIds, from, count, out, outAt);
  }
}
