// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/**
 * Bytes of consecutive rows that lie packed in a file: whole rows, or values or scales alone.
 *
 * @param bytesPerRow bytes of each row here, at least 1
 * @param offset where the first row starts in the file, in bytes, not negative
 */
public record RowRun(int bytesPerRow, long offset) {
  /** Bytes of a page: what the least direct read, and the least page-in, takes off a disk. */
  public static final int PAGE = 4096;

  /** Checks the ranges. */
  public RowRun {
    Check.atLeast(bytesPerRow, 1, "bytesPerRow");
    Check.atLeast(offset, 0, "offset");
  }

  /**
   * Pages that a row touches in the mean over all rows of a long run: exact, because the starts
   * repeat after at most a page of rows.
   *
   * @return at least 1
   */
  public double meanPages() {
    return pages(true);
  }

  /**
   * Pages that the most unluckily placed row touches.
   *
   * @return at least 1
   */
  public int mostPages() {
    return (int) pages(false);
  }

  private double pages(boolean mean) {
    long start = offset % PAGE;
    long sum = 0;
    long most = 0;
    for (int row = 0; row < PAGE; row++) {
      long pages = (start + bytesPerRow + PAGE - 1) / PAGE;
      sum += pages;
      most = Math.max(most, pages);
      start = (start + bytesPerRow) % PAGE;
    }
    return mean ? (double) sum / PAGE : most;
  }
}
