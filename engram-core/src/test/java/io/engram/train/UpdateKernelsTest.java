// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;

/** The kernels of this pass against the plain loops: the same bits. */
class UpdateKernelsTest {
  private final UpdateKernels kernels = UpdateKernels.CHOSEN;
  private final UpdateKernels plain = new ScalarUpdateKernels();

  @Test
  void theKernelsThatTheBuildAskedForAreTested() {
    assertEquals(
        KernelChoice.get() == KernelChoice.VECTOR ? "VectorUpdateKernels" : "ScalarUpdateKernels",
        kernels.getClass().getSimpleName());
  }

  /** Of all lengths, and some values beyond all numbers. */
  @Test
  void bothTwinsGiveTheSameBits() {
    RandomGenerator random = Seeds.random("twins of updates");
    for (int round = 0; round < 400; round++) {
      int n = 1 + random.nextInt(70);
      int at = random.nextInt(5);
      float[] g = Trained.gradients(1, n + at, random);
      if (round % 4 == 0) {
        g[at + random.nextInt(n)] = round % 8 == 0 ? Float.NaN : 3e38f;
      }
      float[] w = Trained.gradients(1, n, random);
      float[] m = Trained.gradients(2, n, random);
      for (int i = n; i < 2 * n; i++) {
        m[i] = Math.abs(m[i]);
      }
      float[] w2 = w.clone();
      float[] m2 = m.clone();
      assertEquals(plain.largest(g, at, n), kernels.largest(g, at, n));
      assertEquals(
          plain.adam(w, m, g, at, n, 0.9f, 0.1f, 0.99f, 0.01f, 0.3f, 1.1f, 1e-8f),
          kernels.adam(w2, m2, g, at, n, 0.9f, 0.1f, 0.99f, 0.01f, 0.3f, 1.1f, 1e-8f));
      assertSame(w, w2);
      assertSame(m, m2);
      for (float ahead : new float[] {0, 0.9f}) {
        assertEquals(
            plain.momentum(w, m, g, at, n, 0.8f, 0.3f, ahead),
            kernels.momentum(w2, m2, g, at, n, 0.8f, 0.3f, ahead));
        assertSame(w, w2);
        assertSame(m, m2);
      }
      assertEquals(plain.descend(w, g, at, n, 0.2f), kernels.descend(w2, g, at, n, 0.2f));
      assertSame(w, w2);
      float[] u = new float[n + 3];
      float[] u2 = new float[n + 3];
      double[] factors = random.doubles(n, 0.5, 2).toArray();
      plain.nesterov(m, g, at, n, 0.8f, 0.2f, 0.9f, u, 3);
      kernels.nesterov(m2, g, at, n, 0.8f, 0.2f, 0.9f, u2, 3);
      assertSame(m, m2);
      assertSame(u, u2);
      assertEquals(plain.squares(u, 3, n, factors), kernels.squares(u2, 3, n, factors));
      double[] sums = random.doubles(n).toArray();
      double[] sums2 = sums.clone();
      plain.addSquares(u, 3, n, 1.7, sums);
      kernels.addSquares(u, 3, n, 1.7, sums2);
      assertArrayEquals(sums, sums2);
      assertEquals(
          plain.balanced(w, m, g, at, n, 0.8f, 0.2f, u, 3, 0.7, factors),
          kernels.balanced(w2, m2, g, at, n, 0.8f, 0.2f, u, 3, 0.7, factors));
      assertSame(w, w2);
      assertSame(m, m2);
      assertEquals(plain.add(m, 0, w, 0, n), kernels.add(m2, 0, w2, 0, n));
      assertEquals(plain.scale(w, 0, n, 1.3f), kernels.scale(w2, 0, n, 1.3f));
      assertSame(w, w2);
    }
  }

  /** All bits but those of NaN, which the processor chooses. */
  private static void assertSame(float[] expected, float[] found) {
    assertArrayEquals(expected, found);
  }

  @Test
  void theLargestMagnitudeKnowsInfinityAndNan() {
    for (int n = 1; n < 40; n++) {
      for (int i = 0; i < n; i++) {
        float[] x = new float[n];
        x[i] = -Float.MAX_VALUE;
        assertTrue(kernels.largest(x, 0, n) < UpdateKernels.INFINITE);
        x[i] = Float.NEGATIVE_INFINITY;
        assertEquals(UpdateKernels.INFINITE, kernels.largest(x, 0, n));
        x[i] = Float.NaN;
        assertTrue(kernels.largest(x, 0, n) > UpdateKernels.INFINITE);
      }
    }
  }

  @Test
  void powersAreThoseOfTheBase() {
    for (double base : new double[] {0, 0.5, 0.9, 0.999}) {
      Powers powers = new Powers(base);
      for (long exponent = 0; exponent < 3_000; exponent++) {
        double expected = Math.pow(base, (double) exponent);
        assertEquals(expected, powers.of(exponent), expected * 1e-12);
      }
      assertEquals(0, powers.of(1L << 40));
      assertEquals(0, powers.of(Long.MAX_VALUE));
    }
    assertEquals(1 - 1e-4, new Powers(1 - 1e-10).of(1_000_000), 1e-8);
  }
}
