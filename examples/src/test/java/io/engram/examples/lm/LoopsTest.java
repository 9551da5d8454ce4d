// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class LoopsTest {
  private final RandomGenerator random = Seeds.random("LoopsTest");

  private float[] normal(int size, double deviation) {
    float[] a = new float[size];
    for (int i = 0; i < size; i++) {
      a[i] = (float) (deviation * random.nextGaussian());
    }
    return a;
  }

  @Test
  void powersAreAccurateOrSmall() {
    float[] a = normal(3001, 9);
    float largest = Loops.largest(a, 1, a.length);
    float[] powers = a.clone();
    Loops.exp(powers, 1, a.length, largest);
    assertEquals(a[0], powers[0]);
    for (int i = 1; i < a.length; i++) {
      double expected = Math.exp((double) a[i] - largest);
      assertEquals(expected, powers[i], 1e-5 * expected + 1.5e-9);
    }
  }

  @Test
  void sigmoidsAreAccurate() {
    float[] x = normal(3001, 9);
    float[] out = new float[x.length];
    Loops.sigmoid(x, 1.5f, out, x.length);
    for (int i = 0; i < x.length; i++) {
      assertEquals(1 / (1 + Math.exp(-1.5 * x[i])), out[i], 3e-6);
    }
  }

  @Test
  void sumsTakeEveryElementOnce() {
    for (int size = 0; size < 40; size++) {
      float[] a = normal(size + 3, 1);
      float[] b = normal(size + 5, 1);
      double sum = 0;
      double dot = 0;
      float largest = Float.NEGATIVE_INFINITY;
      for (int i = 0; i < size; i++) {
        sum += a[2 + i];
        dot += (double) a[2 + i] * b[4 + i];
        largest = Math.max(largest, a[2 + i]);
      }
      assertEquals(sum, Loops.sum(a, 2, 2 + size), 1e-4);
      assertEquals(dot, Loops.dot(a, 2, b, 4, size), 1e-4);
      assertEquals(largest, Loops.largest(a, 2, 2 + size));
    }
  }

  @Test
  void numbersThatAreNoneStayNone() {
    float[] a = {1, Float.NaN, 3, 4, 5, 6};
    assertTrue(Float.isNaN(Loops.largest(a, 0, 6)));
    Loops.exp(a, 0, 6, 6);
    assertTrue(Float.isNaN(a[1]));
  }
}
