// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.Set;
import java.util.TreeSet;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;

class HashKernelTest {
  private static final long LARGE = 1L << 20;

  private final HashKernel kernel = HashKernel.of(new long[] {LARGE});

  @Test
  void theChosenTwinRuns() {
    String expected = KernelChoice.get() == KernelChoice.VECTOR ? "Vector" : "Scalar";
    assertEquals(expected + "HashKernel", kernel.getClass().getSimpleName());
  }

  @Test
  void moduliTooSmallForTheChosenTwinTakeTheScalarOne() {
    long smallest = kernel.smallestModulus();
    assertEquals(kernel.getClass(), HashKernel.of(new long[] {LARGE, smallest}).getClass());
    assertInstanceOf(
        ScalarHashKernel.class, HashKernel.of(new long[] {LARGE, Math.max(1, smallest - 1)}));
    assertInstanceOf(ScalarHashKernel.class, HashKernel.of(new long[] {1, LARGE}));
  }

  /** Moduli at every power of two and around it, at the proofs' own bounds, and random ones. */
  private static long[] moduli(RandomGenerator random, long smallest) {
    Set<Long> moduli = new TreeSet<>(Set.of(Long.MAX_VALUE, PrimeModuli.LARGEST, smallest));
    for (int bit = 0; bit < 63; bit++) {
      for (long around = -3; around <= 3; around++) {
        moduli.add((1L << bit) + around);
      }
      moduli.add(PrimeModuli.next((1L << bit) - 2));
    }
    for (int i = 0; i < 200; i++) {
      moduli.add(random.nextLong() >>> random.nextInt(1, 63));
    }
    return moduli.stream().mapToLong(m -> m).filter(m -> m >= smallest).toArray();
  }

  /** Hashes at both ends, and beside and midway between multiples of the modulus. */
  private static long[] hashes(RandomGenerator random, long modulus) {
    Set<Long> hashes = new TreeSet<>();
    for (int bit = 0; bit < 63; bit++) {
      for (long around = -1; around <= 1; around++) {
        hashes.add((1L << bit) + around);
      }
    }
    long largestQuotient = Long.MAX_VALUE / modulus;
    for (int i = 0; i < 40; i++) {
      long quotient = i < 10 ? largestQuotient - i : random.nextLong(Math.max(1, largestQuotient));
      if (i >= 25) {
        quotient >>>= random.nextInt(40);
      }
      long multiple = quotient * modulus;
      for (long around = -2; around <= 2; around++) {
        hashes.add(multiple + around);
        hashes.add(multiple + modulus / 2 + around);
      }
      hashes.add(multiple + random.nextLong(modulus));
    }
    for (long top = 0; top < 5; top++) {
      hashes.add(Long.MAX_VALUE - top);
    }
    // Sums beyond the range wrapped to negative numbers, which no hash is.
    return hashes.stream().mapToLong(h -> h).filter(h -> h >= 0).toArray();
  }

  private static void exact(HashKernel kernel, RandomGenerator random) {
    for (long modulus : moduli(random, kernel.smallestModulus())) {
      // Enough heads for a vector of any width, and not a multiple of it.
      int heads = 19;
      long[] moduli = new long[heads];
      long[] offsets = new long[heads];
      Arrays.fill(moduli, modulus);
      long[] reciprocals = kernel.reciprocals(moduli);
      long[] hashes = hashes(random, modulus);
      long[] rows = new long[hashes.length * heads];
      for (int p = 0; p < hashes.length; p++) {
        rows[p * heads] = hashes[p];
      }
      kernel.reduce(moduli, reciprocals, offsets, heads, rows, 0, hashes.length);
      for (int p = 0; p < hashes.length; p++) {
        for (int head = 0; head < heads; head++) {
          long found = rows[p * heads + head];
          if (found != hashes[p] % modulus) {
            assertEquals(hashes[p] % modulus, found, hashes[p] + " mod " + modulus);
          }
        }
      }
    }
  }

  @Test
  void remaindersAreExactForEveryModulusAllowed() {
    exact(kernel, Seeds.random("remaindersAreExactForEveryModulusAllowed"));
  }

  /** The narrow path, with fewer heads than lanes, at the same edges. */
  @Test
  void remaindersAreExactForOneHead() {
    RandomGenerator random = Seeds.random("remaindersAreExactForOneHead");
    for (long modulus : moduli(random, kernel.smallestModulus())) {
      long[] moduli = {modulus};
      long[] rows = hashes(random, modulus);
      long[] expected = Arrays.stream(rows).map(hash -> hash % modulus).toArray();
      kernel.reduce(moduli, kernel.reciprocals(moduli), new long[1], 1, rows, 0, rows.length);
      assertArrayEquals(expected, rows, () -> "modulus " + modulus);
    }
  }

  /** Any number of heads, orders and positions, at any offset, and nothing written beside them. */
  @Test
  void everyShapeIsReducedInPlace() {
    RandomGenerator random = Seeds.random("everyShapeIsReducedInPlace");
    for (int heads = 1; heads <= 20; heads++) {
      for (int positions = 0; positions <= 5; positions++) {
        int orders = random.nextInt(1, 4);
        int columns = heads * orders;
        int from = random.nextInt(10);
        long[] moduli = random.longs(columns, 8192, 1L << 40).toArray();
        long[] offsets = random.longs(columns, 0, 1L << 60).toArray();
        long[] rows = random.longs(from + positions * columns + 17, 0, Long.MAX_VALUE).toArray();
        long[] expected = rows.clone();
        for (int p = 0; p < positions; p++) {
          for (int column = 0; column < columns; column++) {
            int at = from + p * columns;
            long hash = rows[at + column / heads * heads];
            expected[at + column] = offsets[column] + hash % moduli[column];
          }
        }
        kernel.reduce(moduli, kernel.reciprocals(moduli), offsets, heads, rows, from, positions);
        assertArrayEquals(expected, rows);
      }
    }
  }

  @Test
  void twinsAgree() {
    assumeTrue(KernelChoice.get() == KernelChoice.VECTOR, "there is no second twin");
    HashKernel scalar = new ScalarHashKernel();
    RandomGenerator random = Seeds.random("twinsAgree");
    for (int round = 0; round < 2000; round++) {
      int heads = random.nextInt(1, 20);
      int columns = heads * random.nextInt(1, 5);
      int positions = random.nextInt(70);
      int from = random.nextInt(9);
      int bits = random.nextInt(14, 63);
      long[] moduli = random.longs(columns, 1L << 13, 1L << bits).toArray();
      long[] offsets = random.longs(columns, 0, 1L << 50).toArray();
      long[] rows = random.longs(from + columns * positions + 3, 0, Long.MAX_VALUE).toArray();
      long[] expected = rows.clone();
      scalar.reduce(moduli, scalar.reciprocals(moduli), offsets, heads, expected, from, positions);
      kernel.reduce(moduli, kernel.reciprocals(moduli), offsets, heads, rows, from, positions);
      assertArrayEquals(expected, rows);
    }
  }
}
