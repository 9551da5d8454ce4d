// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

/**
 * Consecutive rows of a table.
 *
 * @param first the first row
 * @param count number of rows, at least 1
 */
public record RowRange(long first, long count) {
  /** Checks the range. */
  public RowRange {
    if (first < 0 || count < 1 || first > Long.MAX_VALUE - count) {
      throw new IllegalArgumentException(
          "a range of " + count + " rows from row " + first + ", expected at least 1 from 0 on");
    }
  }

  /**
   * The row after the last.
   *
   * @return first + count
   */
  public long end() {
    return first + count;
  }

  @Override
  public String toString() {
    return count == 1 ? "row " + first : "rows " + first + " to " + (end() - 1);
  }
}
