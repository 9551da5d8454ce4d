// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

/**
 * Random bits as a function of seed, step, row and element and of nothing else: whoever resumes, or
 * runs on other threads, or updates rows in another order draws the same ones.
 *
 * <p>A row's key is drawn with 64 bits by the function of splitmix64 (Steele, Lea and Flood); an
 * element's bits by a mixer of 32 bits, which vectors of ints can compute (xor-shift and multiply,
 * constants of Wellons's search for low bias).
 */
final class Chance {
  static final int STRIDE = 0x9E3779B9;
  static final int FACTOR_1 = 0x7FEB352D;
  static final int FACTOR_2 = 0x846CA68B;

  private Chance() {}

  /** The key of a row in a step. */
  static long key(long seed, long step, long row) {
    return mix(mix(mix(seed) + step) + row);
  }

  /** All 32 bits of an element. */
  static int bits(long key, int element) {
    int x = (int) key + element * STRIDE;
    x = (x ^ (x >>> 16)) * FACTOR_1;
    x = (x ^ (x >>> 15) ^ (int) (key >>> 32)) * FACTOR_2;
    return x ^ (x >>> 16);
  }

  private static long mix(long value) {
    long v = value + 0x9E3779B97F4A7C15L;
    v = (v ^ (v >>> 30)) * 0xBF58476D1CE4E5B9L;
    v = (v ^ (v >>> 27)) * 0x94D049BB133111EBL;
    return v ^ (v >>> 31);
  }
}
