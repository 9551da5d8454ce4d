// SPDX-License-Identifier: Apache-2.0
package io.engram.testkit;

import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * Seeded randomness for tests: the seed is printed, so that a failure can be repeated with {@code
 * -Dengram.seed=N}.
 */
public final class Seeds {
  private Seeds() {}

  /**
   * A generator for one test.
   *
   * @param test the test's name, printed with the seed
   * @return a generator, seeded by {@code engram.seed} or else by the clock
   */
  public static RandomGenerator random(String test) {
    long seed = Long.getLong("engram.seed", System.nanoTime());
    System.out.println(test + ": -Dengram.seed=" + seed);
    return RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
  }
}
