// SPDX-License-Identifier: Apache-2.0
package io.engram;

/** What goes wrong with a memory at run time, apart from wrong arguments. */
public class EngramException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /**
   * An exception without a cause.
   *
   * @param message what was expected and what was found
   */
  public EngramException(String message) {
    super(message);
  }

  /**
   * An exception with its cause.
   *
   * @param message what was expected and what was found
   * @param cause what led to it
   */
  public EngramException(String message, Throwable cause) {
    super(message, cause);
  }
}
