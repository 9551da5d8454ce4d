// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

/** Is told how a conversion goes on, on the thread that called it. Every method may be left out. */
public interface ConversionListener {
  /**
   * Rows have been written.
   *
   * @param rows rows so far, those of an earlier attempt included
   * @param of rows of the table
   */
  default void converted(long rows, long of) {}

  /**
   * Rows have been read back, and their checksums compared.
   *
   * @param rows rows so far
   * @param of rows of the table
   */
  default void verified(long rows, long of) {}

  /**
   * Something worth knowing, such as why an earlier attempt is not gone on with.
   *
   * @param text a sentence
   */
  default void notice(String text) {}
}
