// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/**
 * The splitmix64 function, from which the Qwen PLE variant draws its multipliers.
 *
 * <p>Stateless. Source: docs/variants.md, section 2; the function is that of Steele, Lea and Flood,
 * "Fast splittable pseudorandom number generators", with the second constants of Stafford.
 */
final class SplitMix64 {
  /** The odd integer next to 2^64 divided by the golden ratio. */
  static final long GAMMA = 0x9E3779B97F4A7C15L;

  private SplitMix64() {}

  /**
   * One output, all arithmetic modulo 2^64.
   *
   * @param value any value
   * @return the mixed value; read it as unsigned
   */
  static long mix(long value) {
    long v = value + GAMMA;
    v = (v ^ (v >>> 30)) * 0xBF58476D1CE4E5B9L;
    v = (v ^ (v >>> 27)) * 0x94D049BB133111EBL;
    return v ^ (v >>> 31);
  }
}
