// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/**
 * NumPy's {@code default_rng(seed)}, as far as multipliers need it: the seed sequence, PCG64
 * (XSL-RR 128/64) and {@code integers(0, high)} for 64-bit integers, bit for bit.
 *
 * <p>Not thread-safe. Source: docs/variants.md, section 2; checked against NumPy 2.4.6.
 */
final class NumpyPcg64 {
  private static final long MASK_32 = 0xFFFFFFFFL;
  private static final long MULTIPLIER_HIGH = 0x2360ED051FC65DA4L;
  private static final long MULTIPLIER_LOW = 0x4385DF649FCCF645L;
  private static final int POOL = 4;

  private final long incrementHigh;
  private final long incrementLow;
  private long stateHigh;
  private long stateLow;

  /** The upper half of a 64-bit draw whose lower half was used, while {@link #halfKept}. */
  private long half;

  private boolean halfKept;

  /**
   * Seeds as {@code numpy.random.default_rng(seed)} does.
   *
   * @param seed the entropy, not negative
   * @throws IllegalArgumentException if the seed is negative
   */
  NumpyPcg64(long seed) {
    long[] words = seedSequence(seed);
    incrementHigh = (words[2] << 1) | (words[3] >>> 63);
    incrementLow = (words[3] << 1) | 1;
    step();
    addToState(words[0], words[1]);
    step();
  }

  /**
   * NumPy's {@code SeedSequence(entropy).generate_state(4, uint64)}.
   *
   * @param entropy one integer, not negative
   * @return four 64-bit words
   * @throws IllegalArgumentException if the entropy is negative
   */
  static long[] seedSequence(long entropy) {
    if (entropy < 0) {
      throw new IllegalArgumentException("seed is " + entropy + ", expected at least 0");
    }
    // A long fills at most two words; NumPy hashes zeros for the words that are missing.
    int[] pool = {(int) entropy, (int) (entropy >>> 32), 0, 0};
    int hash = 0x43b0d7e5;
    for (int i = 0; i < POOL; i++) {
      pool[i] ^= hash;
      hash *= 0x931e8875;
      pool[i] = fold(pool[i] * hash);
    }
    for (int from = 0; from < POOL; from++) {
      for (int to = 0; to < POOL; to++) {
        if (from != to) {
          int mixed = pool[from] ^ hash;
          hash *= 0x931e8875;
          mixed = fold(mixed * hash);
          pool[to] = fold(0xca01f9dd * pool[to] - 0x4973f715 * mixed);
        }
      }
    }
    int outputHash = 0x8b51f9dd;
    long[] words = new long[POOL];
    for (int i = 0; i < 2 * POOL; i++) {
      int word = pool[i % POOL] ^ outputHash;
      outputHash *= 0x58f38ded;
      word = fold(word * outputHash);
      words[i / 2] |= (word & MASK_32) << (i % 2 * 32);
    }
    return words;
  }

  private static int fold(int value) {
    return value ^ (value >>> 16);
  }

  /** The upper 64 bits of the 128-bit state. */
  long stateHigh() {
    return stateHigh;
  }

  /** The lower 64 bits of the 128-bit state. */
  long stateLow() {
    return stateLow;
  }

  /** The upper 64 bits of the 128-bit increment. */
  long incrementHigh() {
    return incrementHigh;
  }

  /** The lower 64 bits of the 128-bit increment. */
  long incrementLow() {
    return incrementLow;
  }

  /**
   * The next raw draw.
   *
   * @return 64 bits; read them as unsigned
   */
  long nextLong() {
    step();
    return Long.rotateRight(stateHigh ^ stateLow, (int) (stateHigh >>> 58));
  }

  /**
   * One value of {@code integers(0, high, size=n, dtype=int64)}.
   *
   * <p>Ranges of at most 2^32 values take NumPy's other path, which uses up each 64-bit draw in
   * halves. Multipliers meet it only where a vocabulary has more than 2^30 ids.
   *
   * @param high the exclusive bound, at least 1
   * @return a value from 0 to {@code high - 1}
   * @throws IllegalArgumentException if the bound is below 1
   */
  long nextLong(long high) {
    if (high < 1) {
      throw new IllegalArgumentException("high is " + high + ", expected at least 1");
    }
    if (high == 1) {
      return 0;
    }
    return high - 1 > MASK_32 ? bounded64(high) : bounded32(high);
  }

  /** Lemire's method: the upper half of draw times range, redrawn where that would be uneven. */
  private long bounded64(long high) {
    long draw = nextLong();
    if (Long.compareUnsigned(draw * high, high) < 0) {
      long threshold = Long.remainderUnsigned(-high, high);
      while (Long.compareUnsigned(draw * high, threshold) < 0) {
        draw = nextLong();
      }
    }
    return Math.unsignedMultiplyHigh(draw, high);
  }

  private long bounded32(long high) {
    long product = nextHalf() * high;
    if ((product & MASK_32) < high) {
      // For the whole range of 2^32 values this is 0, as it must be: NumPy returns the draw itself.
      long threshold = (-high & MASK_32) % high;
      while ((product & MASK_32) < threshold) {
        product = nextHalf() * high;
      }
    }
    return product >>> 32;
  }

  private long nextHalf() {
    if (halfKept) {
      halfKept = false;
      return half;
    }
    long draw = nextLong();
    half = draw >>> 32;
    halfKept = true;
    return draw & MASK_32;
  }

  private void step() {
    long high =
        Math.unsignedMultiplyHigh(stateLow, MULTIPLIER_LOW)
            + stateHigh * MULTIPLIER_LOW
            + stateLow * MULTIPLIER_HIGH;
    stateLow *= MULTIPLIER_LOW;
    stateHigh = high;
    addToState(incrementHigh, incrementLow);
  }

  private void addToState(long high, long low) {
    stateLow += low;
    stateHigh += high + (Long.compareUnsigned(stateLow, low) < 0 ? 1 : 0);
  }
}
