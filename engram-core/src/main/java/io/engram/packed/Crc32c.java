// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

/**
 * CRC-32C of two runs of bytes from those of each: what {@link java.util.zip.CRC32C} lacks to be
 * computed in pieces. A checksum is a polynomial over GF(2), lowest bit first; bytes that follow
 * multiply what came before by x^8 each.
 */
final class Crc32c {
  private static final int POLYNOMIAL = 0x82F63B78;
  private static final int ONE = 1 << 31;

  /** x^(2^i) modulo the polynomial. */
  private static final int[] SQUARES = new int[Long.SIZE];

  static {
    int power = ONE >>> 1;
    for (int i = 0; i < SQUARES.length; i++) {
      SQUARES[i] = power;
      power = multiply(power, power);
    }
  }

  private Crc32c() {}

  /** The checksum of bytes with checksum a, followed by bytesOfB bytes with checksum b. */
  static int combine(int a, int b, long bytesOfB) {
    int power = ONE;
    long bits = Math.multiplyExact(bytesOfB, 8);
    for (int i = 0; bits >>> i != 0; i++) {
      if ((bits >>> i & 1) != 0) {
        power = multiply(SQUARES[i], power);
      }
    }
    return multiply(power, a) ^ b;
  }

  private static int multiply(int a, int b) {
    int product = 0;
    for (int bit = ONE; bit != 0; bit >>>= 1) {
      if ((a & bit) != 0) {
        product ^= b;
      }
      b = (b & 1) != 0 ? b >>> 1 ^ POLYNOMIAL : b >>> 1;
    }
    return product;
  }
}
