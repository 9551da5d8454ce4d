// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * UTF-8 to text as the reference does it: one U+FFFD for each maximal part of an ill-formed
 * sequence (Unicode, section 3.9, table 3-8). The JDK differs on encoded surrogates, for which it
 * gives one U+FFFD where the reference gives three.
 */
final class LossyUtf8 {
  static final char REPLACEMENT = '\uFFFD';

  private LossyUtf8() {}

  static String decode(byte[] bytes) {
    String text = new String(bytes, UTF_8);
    return text.indexOf(REPLACEMENT) < 0 ? text : decodeIllFormed(bytes);
  }

  private static String decodeIllFormed(byte[] bytes) {
    StringBuilder text = new StringBuilder(bytes.length);
    int i = 0;
    while (i < bytes.length) {
      int length = wellFormedLength(bytes, i);
      if (length > 0) {
        text.append(new String(bytes, i, length, UTF_8));
        i += length;
      } else {
        text.append(REPLACEMENT);
        i -= length;
      }
    }
    return text.toString();
  }

  /** Length of the well-formed sequence at i, or minus the length of the ill-formed part there. */
  private static int wellFormedLength(byte[] bytes, int i) {
    int lead = bytes[i] & 0xFF;
    if (lead < 0x80) {
      return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
      return -1;
    }
    int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    int low =
        switch (lead) {
          case 0xE0 -> 0xA0;
          case 0xF0 -> 0x90;
          default -> 0x80;
        };
    int high =
        switch (lead) {
          case 0xED -> 0x9F;
          case 0xF4 -> 0x8F;
          default -> 0xBF;
        };
    for (int k = 1; k < length; k++) {
      int next = i + k < bytes.length ? bytes[i + k] & 0xFF : -1;
      if (next < low || next > high) {
        return -k;
      }
      low = 0x80;
      high = 0xBF;
    }
    return length;
  }
}
