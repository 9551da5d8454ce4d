// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Arrays;

/**
 * The alphabet in which byte-level BPE spells bytes (GPT-2): a printable character for each of the
 * 256 bytes. Printable Latin-1 stands for itself, the other 68 bytes for U+0100 to U+0143.
 */
final class ByteAlphabet {
  private static final int CHARS = 0x144;
  private static final char[] CHAR_OF_BYTE = new char[256];
  private static final short[] BYTE_OF_CHAR = new short[CHARS];

  static {
    Arrays.fill(BYTE_OF_CHAR, (short) -1);
    char other = 0x100;
    for (int b = 0; b < 256; b++) {
      boolean printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      CHAR_OF_BYTE[b] = printable ? (char) b : other++;
      BYTE_OF_CHAR[CHAR_OF_BYTE[b]] = (short) b;
    }
  }

  private ByteAlphabet() {}

  /** The character that stands for a byte, given as 0 to 255. */
  static char charOf(int unsignedByte) {
    return CHAR_OF_BYTE[unsignedByte];
  }

  static String spell(byte[] bytes) {
    char[] chars = new char[bytes.length];
    for (int i = 0; i < chars.length; i++) {
      chars[i] = CHAR_OF_BYTE[bytes[i] & 0xFF];
    }
    return new String(chars);
  }

  /**
   * The bytes that a token stands for: as spelled if every character belongs to the alphabet, else
   * (added tokens) the UTF-8 bytes of the token itself.
   */
  static byte[] bytesOf(String token) {
    byte[] bytes = new byte[token.length()];
    for (int i = 0; i < bytes.length; i++) {
      char c = token.charAt(i);
      if (c >= CHARS || BYTE_OF_CHAR[c] < 0) {
        return token.getBytes(UTF_8);
      }
      bytes[i] = (byte) BYTE_OF_CHAR[c];
    }
    return bytes;
  }
}
