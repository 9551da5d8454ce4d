// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

/** A rival is absent, failed, or computed something else than the library did. */
public final class RivalException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /**
   * An exception.
   *
   * @param message what is wrong, and with which rival
   */
  public RivalException(String message) {
    super(message);
  }

  /**
   * An exception with a cause.
   *
   * @param message what is wrong, and with which rival
   * @param cause what led to it
   */
  public RivalException(String message, Throwable cause) {
    super(message, cause);
  }
}
