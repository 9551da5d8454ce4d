// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** What a read from a mapped file owes its caller when the file is no longer what was mapped. */
final class MappedFaults {
  private static final Object NOBODYS_LOCK = new Object();

  private MappedFaults() {}

  /**
   * Throws the {@link InternalError} of a copy that has already failed.
   *
   * <p>The JVM answers a fault in a mapping with an asynchronous exception, which compiled code
   * delivers at its next safepoint poll: after the return of the method that copied, if nothing
   * polls before. On its way back from a native method, a thread always delivers it. {@code
   * holdsLock} is such a method, costs some 20 ns and has no other effect.
   *
   * @throws InternalError if a fault is pending
   */
  static void raisePending() {
    if (Thread.holdsLock(NOBODYS_LOCK)) {
      throw new AssertionError();
    }
  }

  /**
   * The exception for a fault.
   *
   * @param what what was read, such as "row 7"
   * @param end position after its last byte
   */
  static EngramException translate(Path file, String what, long end, InternalError cause) {
    return new EngramException(
        file + ": " + what + " cannot be read from the mapping, " + state(file, end), cause);
  }

  /**
   * Refuses a file that is now too short.
   *
   * @throws EngramException if it is
   */
  static void checkSize(Path file, String what, long end) {
    if (isShorter(file, end)) {
      throw new EngramException(
          file + ": " + what + " cannot be read from the mapping, " + state(file, end));
    }
  }

  /** Whether the file of that name is known to be too short for a position. */
  static boolean isShorter(Path file, long end) {
    try {
      return Files.size(file) < end;
    } catch (IOException e) {
      // A mapping outlives the name of its file.
      return false;
    }
  }

  private static String state(Path file, long end) {
    try {
      return "which needs a file of " + end + " bytes: it has " + Files.size(file) + " now";
    } catch (IOException e) {
      return "and its size cannot be read either: " + e;
    }
  }
}
