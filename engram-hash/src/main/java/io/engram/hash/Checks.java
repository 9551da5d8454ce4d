// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/** Argument checks that this package words alike. */
final class Checks {
  private Checks() {}

  /**
   * Refuses a range that is not within its array.
   *
   * @param what the array's name in the message
   * @param length the array's length
   * @param from index of the first element
   * @param count how many elements, as a long so that a product cannot overflow
   */
  static void range(String what, int length, int from, long count) {
    if (from < 0 || count < 0 || count > (long) length - from) {
      throw new IllegalArgumentException(
          "%s has %d elements, which do not hold %d from index %d"
              .formatted(what, length, count, from));
    }
  }
}
