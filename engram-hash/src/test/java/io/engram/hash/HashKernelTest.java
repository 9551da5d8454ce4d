// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class HashKernelTest {
  /** All kernels of this JVM, and the moduli for which each must be exact. */
  private record Range(HashKernel.Maker maker, long smallest, long largest) {}

  private static List<Range> ranges() {
    List<Range> ranges = new ArrayList<>();
    ranges.add(new Range(ScalarHashKernel::new, 1, Long.MAX_VALUE));
    ranges.add(new Range(HashKernel::of, 1, Long.MAX_VALUE));
    if (KernelChoice.get() == KernelChoice.VECTOR) {
      ranges.add(new Range(QuotientHashKernel::new, 1L << 13, Long.MAX_VALUE));
      ranges.add(new Range(FractionHashKernel::new, (1L << 15) + 1, 1L << 25));
    }
    return ranges;
  }

  /** Terms of one order 1: the hash is the id times the multiplier. */
  private static HashTerms terms(int heads, long[] moduli, long[] offsets) {
    int orders = moduli.length / heads;
    long[] multipliers = new long[orders];
    int[] slots = new int[orders];
    for (int order = 0; order < orders; order++) {
      multipliers[order] = 1;
      slots[order] = order * heads;
    }
    return new HashTerms(multipliers, slots, heads, moduli, offsets);
  }

  private static HashKernel kernel(int heads, long... moduli) {
    return HashKernel.of(terms(heads, moduli, new long[moduli.length]));
  }

  private static long[] times(int count, long modulus) {
    long[] moduli = new long[count];
    Arrays.fill(moduli, modulus);
    return moduli;
  }

  @Test
  void theModuliChooseTheKernel() {
    boolean vector = KernelChoice.get() == KernelChoice.VECTOR;
    Class<?> fraction = vector ? FractionHashKernel.class : ScalarHashKernel.class;
    Class<?> quotient = vector ? QuotientHashKernel.class : ScalarHashKernel.class;
    for (long modulus : new long[] {(1 << 15) + 1, 646_403, 16_000_057, 20_000_003, 1 << 25}) {
      assertInstanceOf(fraction, kernel(8, times(16, modulus)), () -> "modulus " + modulus);
    }
    for (long modulus : new long[] {1 << 13, 1 << 15, (1 << 25) + 1, Long.MAX_VALUE}) {
      long[] moduli = times(16, 1 << 20);
      moduli[11] = modulus;
      assertInstanceOf(quotient, kernel(8, moduli), () -> "modulus " + modulus);
    }
    for (long modulus : new long[] {1, 2, (1 << 13) - 1}) {
      long[] moduli = times(16, 1 << 20);
      moduli[5] = modulus;
      assertInstanceOf(ScalarHashKernel.class, kernel(8, moduli), () -> "modulus " + modulus);
    }
    assertInstanceOf(quotient, kernel(1, times(2, 1 << 20)));
  }

  /** Moduli at every power of two and around it, at the proofs' own bounds, and random ones. */
  private static long[] moduli(RandomGenerator random, long smallest, long largest) {
    Set<Long> moduli = new TreeSet<>(Set.of(Long.MAX_VALUE, PrimeModuli.LARGEST));
    moduli.add(smallest);
    moduli.add(smallest + 1);
    moduli.add(largest);
    moduli.add(largest - 1);
    for (int bit = 0; bit < 63; bit++) {
      for (long around = -3; around <= 3; around++) {
        moduli.add((1L << bit) + around);
      }
      moduli.add(PrimeModuli.next((1L << bit) - 2));
    }
    for (int i = 0; i < 200; i++) {
      moduli.add(random.nextLong() >>> random.nextInt(1, 63));
    }
    return moduli.stream().mapToLong(m -> m).filter(m -> m >= smallest && m <= largest).toArray();
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

  /** With enough heads for a vector of any width and not a multiple of it; with one; with 8. */
  @ParameterizedTest
  @ValueSource(ints = {19, 1, 8})
  void remaindersAreExactForEveryModulusAllowed(int heads) {
    RandomGenerator random = Seeds.random("remaindersAreExactForEveryModulusAllowed " + heads);
    for (Range range : ranges()) {
      for (long modulus : moduli(random, range.smallest, range.largest)) {
        HashTerms terms = terms(heads, times(heads, modulus), new long[heads]);
        if (range.largest < Long.MAX_VALUE && !FractionHashKernel.takes(terms)) {
          continue;
        }
        HashKernel kernel = range.maker.make(terms);
        long[] hashes = hashes(random, modulus);
        long[] rows = new long[hashes.length * heads];
        for (int p = 0; p < hashes.length; p++) {
          rows[p * heads] = hashes[p];
        }
        kernel.reduce(rows, 0, hashes.length);
        for (int p = 0; p < hashes.length; p++) {
          for (int head = 0; head < heads; head++) {
            long found = rows[p * heads + head];
            if (found != hashes[p] % modulus) {
              assertEquals(
                  hashes[p] % modulus,
                  found,
                  kernel.getClass().getSimpleName() + ": " + hashes[p] + " mod " + modulus);
            }
          }
        }
      }
    }
  }

  /** The fused way from ids, at the same edges: two ids and multipliers that make the hash. */
  @Test
  void windowsAreExactForEveryModulusAllowed() {
    RandomGenerator random = Seeds.random("windowsAreExactForEveryModulusAllowed");
    for (Range range : ranges()) {
      for (long modulus : moduli(random, range.smallest, range.largest)) {
        long[] hashes = hashes(random, modulus);
        int heads = random.nextBoolean() ? 8 : random.nextInt(1, 20);
        long[] moduli = times(heads, modulus);
        long[] offsets = random.longs(heads, 0, 1L << 50).toArray();
        if (range.largest < Long.MAX_VALUE
            && !FractionHashKernel.takes(terms(heads, moduli, offsets))) {
          continue;
        }
        // Ids 1 and 0 by turns: the hash is one multiplier or the other.
        for (int i = 0; i + 1 < hashes.length; i += 2 + random.nextInt(20)) {
          long[] multipliers = {hashes[i], hashes[i + 1]};
          HashKernel kernel =
              range.maker.make(new HashTerms(multipliers, new int[2], heads, moduli, offsets));
          int positions = random.nextInt(1, 24);
          int[] ids = new int[positions + 1];
          Arrays.setAll(ids, p -> p & 1);
          long[] rows = new long[positions * heads];
          kernel.openWindows(ids, 1, positions, rows, 0);
          for (int p = 0; p < positions; p++) {
            for (int head = 0; head < heads; head++) {
              long hash = (p & 1) == 0 ? multipliers[0] : multipliers[1];
              long expected = offsets[head] + hash % modulus;
              if (expected != rows[p * heads + head]) {
                assertEquals(
                    expected,
                    rows[p * heads + head],
                    kernel.getClass().getSimpleName() + ": " + hash + " mod " + modulus);
              }
            }
          }
        }
      }
    }
  }

  /** Any orders, heads and numbers of positions, and nothing written beside them. */
  @Test
  void windowsOfEveryShapeAreHashed() {
    RandomGenerator random = Seeds.random("windowsOfEveryShapeAreHashed");
    for (int round = 0; round < 3000; round++) {
      int maxOrder = random.nextInt(1, 6);
      int heads = random.nextInt(4) == 0 ? random.nextInt(1, 21) : 8;
      int[] slots = new int[maxOrder];
      int columns = heads;
      for (int shift = 1; shift < maxOrder; shift++) {
        if (random.nextInt(4) > 0) {
          slots[shift] = columns;
          columns += heads;
        } else {
          slots[shift] = slots[shift - 1];
        }
      }
      int bits = random.nextInt(3);
      long low = bits == 0 ? 1 : bits == 1 ? (1L << 15) + 1 : 1L << 13;
      long high = bits == 0 ? 1L << 20 : bits == 1 ? (1L << 25) + 1 : Long.MAX_VALUE;
      int vocabulary = random.nextInt(2, Integer.MAX_VALUE);
      HashTerms terms =
          new HashTerms(
              random.longs(maxOrder, 1, Long.MAX_VALUE / (vocabulary - 1)).toArray(),
              slots,
              heads,
              random.longs(columns, low, high).toArray(),
              random.longs(columns, 0, 1L << 50).toArray());
      int from = maxOrder - 1 + random.nextInt(3);
      int positions = random.nextInt(4) == 0 ? random.nextInt(200) : random.nextInt(20);
      int[] ids = random.ints(from + positions, 0, vocabulary).toArray();
      int outFrom = random.nextInt(10);
      long[] rows = random.longs(outFrom + positions * columns + 17, 0, Long.MAX_VALUE).toArray();
      long[] expected = rows.clone();
      for (int p = 0; p < positions; p++) {
        long hash = 0;
        for (int shift = 0; shift < maxOrder; shift++) {
          hash ^= ids[from + p - shift] * terms.multipliers()[shift];
          for (int head = 0; head < heads; head++) {
            int column = slots[shift] + head;
            expected[outFrom + p * columns + column] =
                terms.offsets()[column] + hash % terms.moduli()[column];
          }
        }
      }
      HashKernel kernel = HashKernel.of(terms);
      kernel.openWindows(ids, from, positions, rows, outFrom);
      assertArrayEquals(expected, rows, () -> kernel.getClass().getSimpleName() + " of " + terms);
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
        HashKernel.of(terms(heads, moduli, offsets)).reduce(rows, from, positions);
        assertArrayEquals(expected, rows);
      }
    }
  }

  @Test
  void twinsAgree() {
    assumeTrue(KernelChoice.get() == KernelChoice.VECTOR, "there is no second twin");
    RandomGenerator random = Seeds.random("twinsAgree");
    for (int round = 0; round < 2000; round++) {
      int heads = random.nextInt(1, 20);
      int columns = heads * random.nextInt(1, 5);
      int positions = random.nextInt(70);
      int from = random.nextInt(9);
      int bits = random.nextBoolean() ? 25 : random.nextInt(16, 63);
      long[] moduli = random.longs(columns, (1L << 15) + 1, 1L << bits).toArray();
      long[] offsets = random.longs(columns, 0, 1L << 50).toArray();
      long[] rows = random.longs(from + columns * positions + 3, 0, Long.MAX_VALUE).toArray();
      long[] expected = rows.clone();
      HashTerms terms = terms(heads, moduli, offsets);
      new ScalarHashKernel(terms).reduce(expected, from, positions);
      HashKernel.of(terms).reduce(rows, from, positions);
      assertArrayEquals(expected, rows);
    }
  }
}
