// SPDX-License-Identifier: Apache-2.0
package io.engram;

import java.nio.file.Path;

/** A file that is not what it should be: the message starts with its name. */
public class EngramFormatException extends EngramException {
  private static final long serialVersionUID = 1L;

  private final transient Path file;

  /**
   * An exception without a cause.
   *
   * @param file the file
   * @param problem what was expected and what was found
   */
  public EngramFormatException(Path file, String problem) {
    super(file + ": " + problem);
    this.file = file;
  }

  /**
   * An exception with its cause.
   *
   * @param file the file
   * @param problem what was expected and what was found
   * @param cause what led to it
   */
  public EngramFormatException(Path file, String problem, Throwable cause) {
    super(file + ": " + problem, cause);
    this.file = file;
  }

  /**
   * The file.
   *
   * @return its path, or null after serialisation
   */
  public Path file() {
    return file;
  }
}
