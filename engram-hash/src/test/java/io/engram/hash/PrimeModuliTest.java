// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import io.engram.testkit.Seeds;
import java.math.BigInteger;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import org.apache.commons.math3.primes.Primes;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class PrimeModuliTest {
  @Test
  void agreesWithCommonsMathOnInts() {
    for (int n = -3; n < 100_000; n++) {
      assertEquals(Primes.isPrime(n), PrimeModuli.isPrime(n), "n = " + n);
    }
    for (int n = Integer.MAX_VALUE; n > Integer.MAX_VALUE - 2000; n--) {
      assertEquals(Primes.isPrime(n), PrimeModuli.isPrime(n), "n = " + n);
    }
    RandomGenerator random = Seeds.random("agreesWithCommonsMathOnInts");
    for (int i = 0; i < 2000; i++) {
      int n = random.nextInt(Integer.MAX_VALUE - 1000);
      assertEquals(Primes.isPrime(n), PrimeModuli.isPrime(n), "n = " + n);
      assertEquals(Primes.nextPrime(n + 1), PrimeModuli.next(n), "n = " + n);
    }
  }

  @Test
  void agreesWithBigIntegerOnLongs() {
    RandomGenerator random = Seeds.random("agreesWithBigIntegerOnLongs");
    for (int i = 0; i < 3000; i++) {
      long n = random.nextLong() >>> random.nextInt(1, 40);
      assertEquals(probablyPrime(n), PrimeModuli.isPrime(n), "n = " + n);
    }
    for (int i = 0; i < 200; i++) {
      long n = random.nextLong(Long.MAX_VALUE - 10_000) >>> random.nextInt(20);
      long prime = BigInteger.valueOf(n).nextProbablePrime().longValueExact();
      assertEquals(prime, PrimeModuli.next(n), "n = " + n);
      assertTrue(PrimeModuli.isPrime(prime));
    }
  }

  private static boolean probablyPrime(long n) {
    return BigInteger.valueOf(n).isProbablePrime(60);
  }

  /** Products of two primes of the same size have no small factor that would give them away. */
  @Test
  void productsOfTwoPrimesAreComposite() {
    RandomGenerator random = Seeds.random("productsOfTwoPrimesAreComposite");
    for (int i = 0; i < 500; i++) {
      long p = PrimeModuli.next(random.nextLong(1L << 20, 3_000_000_000L));
      long q = PrimeModuli.next(random.nextLong(1L << 20, 3_000_000_000L));
      assertFalse(PrimeModuli.isPrime(p * q), () -> p + " * " + q);
      assertFalse(PrimeModuli.isPrime(p * p), () -> p + " squared");
    }
  }

  /**
   * Strong pseudoprimes to the base 2, and the smallest to the first 2 to 9 prime bases (OEIS
   * A014233), then Carmichael numbers.
   */
  @ParameterizedTest
  @ValueSource(
      longs = {
        2047,
        3277,
        4033,
        1_373_653,
        25_326_001,
        3_215_031_751L,
        2_152_302_898_747L,
        3_474_749_660_383L,
        341_550_071_728_321L,
        3_825_123_056_546_413_051L,
        561,
        41_041,
        825_265,
        321_197_185,
        9_746_347_772_161L
      })
  void pseudoprimesAreComposite(long n) {
    assertFalse(PrimeModuli.isPrime(n));
  }

  @Test
  void theLastPrimesOfALong() {
    assertTrue(probablyPrime(PrimeModuli.LARGEST));
    for (long n = Long.MAX_VALUE; n > Long.MAX_VALUE - 600; n--) {
      assertEquals(probablyPrime(n), PrimeModuli.isPrime(n), "n = " + n);
    }
    assertEquals(PrimeModuli.LARGEST, PrimeModuli.next(PrimeModuli.LARGEST - 1));
    for (long n = PrimeModuli.LARGEST; n > 0; n++) {
      long from = n;
      assertThrows(ArithmeticException.class, () -> PrimeModuli.next(from));
    }
  }

  @Test
  void theFirstPrimes() {
    assertEquals(2, PrimeModuli.next(Long.MIN_VALUE));
    assertEquals(2, PrimeModuli.next(-1));
    assertEquals(2, PrimeModuli.next(0));
    assertEquals(2, PrimeModuli.next(1));
    assertEquals(3, PrimeModuli.next(2));
    assertEquals(5, PrimeModuli.next(3));
    assertEquals(41, PrimeModuli.next(37));
    assertFalse(PrimeModuli.isPrime(Long.MIN_VALUE));
    assertFalse(PrimeModuli.isPrime(-7));
  }

  /** The specification's words: a set for the whole model, and each order starts at its base. */
  private static long[][] restartByTheWords(HashScheme scheme) {
    Set<Long> seen = new HashSet<>();
    long[][] moduli = new long[scheme.layerIds().size()][scheme.columns()];
    for (long[] layer : moduli) {
      for (int column = 0; column < scheme.columns(); column++) {
        long current = scheme.slotsPerHead().get(column / scheme.headsPerOrder()) - 1;
        do {
          current = BigInteger.valueOf(current).nextProbablePrime().longValueExact();
        } while (seen.contains(current));
        seen.add(current);
        layer[column] = current;
      }
    }
    return moduli;
  }

  @Test
  void theSearchThatStartsAgainFollowsTheWords() {
    RandomGenerator random = Seeds.random("theSearchThatStartsAgainFollowsTheWords");
    for (int i = 0; i < 60; i++) {
      int orders = random.nextInt(1, 4);
      int layers = random.nextInt(1, 5);
      // Close together, so that the searches run into each other's primes.
      HashScheme scheme =
          new HashScheme(
              100,
              IntStream.rangeClosed(2, orders + 1).boxed().toList(),
              random.nextInt(1, 6),
              IntStream.range(0, orders).mapToObj(o -> random.nextLong(2, 150)).toList(),
              IntStream.range(0, layers).boxed().toList(),
              0,
              Generator.NUMPY_PCG64,
              PrimeSearch.RESTART_PER_ORDER,
              1);
      long[][] expected = restartByTheWords(scheme);
      long[][] found = PrimeModuli.of(scheme);
      for (int layer = 0; layer < layers; layer++) {
        assertArrayEquals(expected[layer], found[layer], scheme::toString);
      }
    }
  }

  @Test
  void oneRunTakesPrimeAfterPrime() {
    HashScheme scheme = Variants.qwen(300, 3, 100, List.of(1, 3));
    assertArrayEquals(
        new long[][] {{101, 103, 107, 109, 113, 127}, {131, 137, 139, 149, 151, 157}},
        PrimeModuli.of(scheme));
    // A base that is prime is itself the first.
    assertEquals(101, PrimeModuli.of(Variants.qwen(300, 3, 101, List.of(1)))[0][0]);
  }
}
