// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Primes for the moduli of a model's heads.
 *
 * <p>Stateless. Exact for every {@code long}: the Miller-Rabin test with the first twelve primes as
 * bases has no strong pseudoprime below 3.3e24 (Sorenson and Webster, "Strong pseudoprimes to
 * twelve prime bases").
 */
final class PrimeModuli {
  private static final int[] BASES = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};

  /** The largest prime that a {@code long} holds, 2^63 - 25. */
  static final long LARGEST = Long.MAX_VALUE - 24;

  private PrimeModuli() {}

  /**
   * The moduli of all heads.
   *
   * @param scheme how they are searched
   * @return for each layer in the order of {@link HashScheme#layerIds()}, one modulus for each
   *     column, order-major
   * @throws ArithmeticException if the search runs past the largest 63-bit prime
   */
  static long[][] of(HashScheme scheme) {
    return switch (scheme.primeSearch()) {
      case RESTART_PER_ORDER -> restartPerOrder(scheme);
      case ONE_RUN -> oneRun(scheme);
    };
  }

  private static long[][] restartPerOrder(HashScheme scheme) {
    Set<Long> seen = new HashSet<>();
    // A search that starts again where an earlier one did finds every prime up to the earlier
    // one's end taken, so it may as well go on from there.
    Map<Long, Long> lastFrom = new HashMap<>();
    long[][] moduli = new long[scheme.layerIds().size()][scheme.columns()];
    for (long[] layer : moduli) {
      int column = 0;
      for (long slots : scheme.slotsPerHead()) {
        long prime = lastFrom.getOrDefault(slots, slots - 1);
        for (int head = 0; head < scheme.headsPerOrder(); head++) {
          do {
            prime = next(prime);
          } while (!seen.add(prime));
          layer[column++] = prime;
        }
        lastFrom.put(slots, prime);
      }
    }
    return moduli;
  }

  private static long[][] oneRun(HashScheme scheme) {
    List<Long> slots = scheme.slotsPerHead();
    long prime = slots.getFirst() - 1;
    long[][] moduli = new long[scheme.layerIds().size()][scheme.columns()];
    for (long[] layer : moduli) {
      for (int column = 0; column < layer.length; column++) {
        prime = next(prime);
        layer[column] = prime;
      }
    }
    return moduli;
  }

  /**
   * The smallest prime above a number.
   *
   * @param n any number
   * @return the next prime
   * @throws ArithmeticException if it does not fit a {@code long}
   */
  static long next(long n) {
    if (n < 2) {
      return 2;
    }
    if (n >= LARGEST) {
      throw new ArithmeticException("no prime above " + n + " fits a signed 64-bit integer");
    }
    long candidate = (n + 1) | 1;
    while (!isPrime(candidate)) {
      candidate += 2;
    }
    return candidate;
  }

  /**
   * Whether a number is prime.
   *
   * @param n any number
   * @return true if it is prime
   */
  static boolean isPrime(long n) {
    if (n < 2) {
      return false;
    }
    for (int base : BASES) {
      if (n % base == 0) {
        return n == base;
      }
    }
    // From here on n is odd and above 37.
    int twos = Long.numberOfTrailingZeros(n - 1);
    long odd = (n - 1) >>> twos;
    Montgomery field = new Montgomery(n);
    for (int base : BASES) {
      if (!field.passes(base, odd, twos)) {
        return false;
      }
    }
    return true;
  }

  /** Multiplication modulo an odd number below 2^63, without division: x stands for x * 2^64. */
  private static final class Montgomery {
    private final long n;
    private final long inverse;
    private final long one;
    private final long minusOne;

    Montgomery(long n) {
      this.n = n;
      // Newton's iteration; n is its own inverse modulo 8, and each step doubles the bits.
      long x = n;
      for (int bits = 3; bits < Long.SIZE; bits *= 2) {
        x *= 2 - n * x;
      }
      inverse = x;
      one = Long.remainderUnsigned(-n, n);
      minusOne = n - one;
    }

    /** Whether n is a strong probable prime to a base. */
    boolean passes(int base, long odd, int twos) {
      long x = power(times(base), odd);
      if (x == one || x == minusOne) {
        return true;
      }
      for (int i = 1; i < twos; i++) {
        x = multiply(x, x);
        if (x == minusOne) {
          return true;
        }
      }
      return false;
    }

    private long times(int count) {
      long sum = 0;
      for (int i = 0; i < count; i++) {
        sum += one;
        // Two numbers below n may add up to more than a long holds.
        if (sum < 0 || sum >= n) {
          sum -= n;
        }
      }
      return sum;
    }

    private long power(long base, long exponent) {
      long result = one;
      long square = base;
      for (long e = exponent; e != 0; e >>>= 1) {
        if ((e & 1) != 0) {
          result = multiply(result, square);
        }
        square = multiply(square, square);
      }
      return result;
    }

    private long multiply(long a, long b) {
      long reduced = Math.multiplyHigh(a, b) - Math.unsignedMultiplyHigh(a * b * inverse, n);
      return reduced < 0 ? reduced + n : reduced;
    }
  }
}
