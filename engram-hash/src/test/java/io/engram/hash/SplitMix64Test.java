// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.engram.testkit.Seeds;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class SplitMix64Test {
  /** The first outputs for the seed 1234567, as published with the reference code in C. */
  @Test
  void publishedSequence() {
    long[] expected = {
      6457827717110365317L,
      3203168211198807973L,
      -8629252141511181193L,
      4593380528125082431L,
      -2037821214251327795L
    };
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], SplitMix64.mix(1234567 + i * SplitMix64.GAMMA));
    }
  }

  /** The JDK's generator is the same function of the same counter. */
  @Test
  void agreesWithTheJdk() {
    RandomGenerator random = Seeds.random("agreesWithTheJdk");
    for (int i = 0; i < 1000; i++) {
      long seed = random.nextLong();
      SplittableRandom jdk = new SplittableRandom(seed);
      for (int draw = 0; draw < 4; draw++) {
        assertEquals(jdk.nextLong(), SplitMix64.mix(seed + draw * SplitMix64.GAMMA));
      }
    }
  }
}
