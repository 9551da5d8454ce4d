// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The chosen loops against plain definitions, and the twins against each other. */
class GateLoopsTest {
  private static final int OFFSET = 3;
  private static final GateLoops LOOPS = GateLoops.CHOSEN;
  private static final GateLoops SCALAR = new ScalarGateLoops();

  /** Every tail of every lane count, and some lengths of whole and broken blocks. */
  static IntStream lengths() {
    return IntStream.concat(IntStream.rangeClosed(0, 33), IntStream.of(63, 64, 65, 127, 1024));
  }

  @Test
  void theTwinThatTheBuildAskedForIsUnderTest() {
    assertEquals(
        KernelChoice.get() == KernelChoice.VECTOR ? "VectorGateLoops" : "ScalarGateLoops",
        LOOPS.getClass().getSimpleName());
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void productsAreSumsOfProducts(int width) {
    RandomGenerator random = Seeds.random("products " + width);
    for (int rows = 1; rows <= 4; rows++) {
      for (int tokens : new int[] {0, 1, 3, 4, 5, 9}) {
        float[] panel = RandomLayer.values(random, rows * width);
        float[] x = RandomLayer.values(random, tokens * width);
        double[] single = new double[rows * tokens];
        double[] wide = new double[rows * tokens];
        LOOPS.multiply(panel, rows, x, tokens, width, single, new float[GateLoops.LANES]);
        LOOPS.multiply(
            doubles(panel), rows, doubles(x), tokens, width, wide, new double[GateLoops.LANES]);
        for (int t = 0; t < tokens; t++) {
          for (int r = 0; r < rows; r++) {
            double sum = 0;
            double size = 0;
            for (int e = 0; e < width; e++) {
              double product = (double) panel[r * width + e] * x[t * width + e];
              sum += product;
              size += Math.abs(product);
            }
            assertEquals(sum, single[t * rows + r], 1e-6 * size + 1e-30);
            assertEquals(sum, wide[t * rows + r], 1e-14 * size + 1e-30);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void aProductHasTheSameBitsInAnyTile(int width) {
    RandomGenerator random = Seeds.random("tiles " + width);
    float[] panel = RandomLayer.values(random, 4 * width);
    float[] x = RandomLayer.values(random, 9 * width);
    double[] all = new double[36];
    double[] allWide = new double[36];
    LOOPS.multiply(panel, 4, x, 9, width, all, new float[GateLoops.LANES]);
    LOOPS.multiply(doubles(panel), 4, doubles(x), 9, width, allWide, new double[GateLoops.LANES]);
    for (int t = 0; t < 9; t++) {
      for (int r = 0; r < 4; r++) {
        float[] row = Arrays.copyOfRange(panel, r * width, (r + 1) * width);
        float[] token = Arrays.copyOfRange(x, t * width, (t + 1) * width);
        double[] one = new double[1];
        LOOPS.multiply(row, 1, token, 1, width, one, new float[GateLoops.LANES]);
        assertEquals(all[t * 4 + r], one[0]);
        LOOPS.multiply(doubles(row), 1, doubles(token), 1, width, one, new double[GateLoops.LANES]);
        assertEquals(allWide[t * 4 + r], one[0]);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void gateSumsAreSumsOfProducts(int count) {
    RandomGenerator random = Seeds.random("gate sums " + count);
    float[] x = RandomLayer.values(random, count + OFFSET);
    float[] y = RandomLayer.values(random, count + 2 * OFFSET);
    float[] w = RandomLayer.values(random, count + 1);
    double[] sums = {7, 7, 7};
    LOOPS.gateSums(x, OFFSET, y, 2 * OFFSET, w, 1, count, sums, new double[GateLoops.LANES]);
    double[] expected = new double[3];
    for (int i = 0; i < count; i++) {
      double a = x[OFFSET + i];
      double b = y[2 * OFFSET + i];
      expected[0] += a * a;
      expected[1] += b * b;
      expected[2] += a * b * w[1 + i];
    }
    assertArrayEquals(expected, sums, 1e-12 * (1 + count));
    assertEquals(
        expected[0],
        LOOPS.sumOfSquares(x, OFFSET, count, new double[GateLoops.LANES]),
        1e-12 * (1 + count));
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void onlyNumbersAreFinite(int count) {
    float[] x = new float[count + 2 * OFFSET];
    Arrays.fill(x, Float.NaN);
    for (int i = 0; i < count; i++) {
      x[OFFSET + i] = i % 2 == 0 ? Float.MAX_VALUE : -Float.MIN_VALUE;
    }
    assertTrue(LOOPS.finite(x, OFFSET, count));
    for (int i = 0; i < count; i++) {
      for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
        float good = x[OFFSET + i];
        x[OFFSET + i] = bad;
        assertFalse(LOOPS.finite(x, OFFSET, count), bad + " at " + i);
        x[OFFSET + i] = good;
      }
    }
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void elementWiseLoopsAreTheirFormulas(int count) {
    RandomGenerator random = Seeds.random("element-wise " + count);
    float[] x = special(RandomLayer.values(random, count + OFFSET), random);
    float[] w = special(RandomLayer.values(random, count + 1), random);
    float[] before = RandomLayer.values(random, count + 2);
    float[] scaled = before.clone();
    LOOPS.scale(x, OFFSET, 0.7f, w, 1, scaled, 2, count);
    float[] product = before.clone();
    LOOPS.addProduct(x, OFFSET, w, 1, product, 2, count);
    float[] added = before.clone();
    LOOPS.addScaled(x, OFFSET, -1.3f, added, 2, count);
    assertEquals(before[0], scaled[0]);
    assertEquals(before[1], product[1]);
    for (int i = 0; i < count; i++) {
      assertEquals(x[OFFSET + i] * 0.7f * w[1 + i], scaled[2 + i]);
      assertEquals(before[2 + i] + x[OFFSET + i] * w[1 + i], product[2 + i]);
      assertEquals(before[2 + i] + x[OFFSET + i] * -1.3f, added[2 + i]);
    }
  }

  @Test
  void bfloat16IsWidenedAndRoundedToNearestEven() {
    short[] all = new short[1 << 16];
    for (int i = 0; i < all.length; i++) {
      all[i] = (short) i;
    }
    float[] wide = new float[all.length];
    LOOPS.widen(all, wide, all.length);
    for (int i = 0; i < all.length; i++) {
      assertEquals(i << 16, Float.floatToRawIntBits(wide[i]));
    }
    for (int low : new int[] {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff}) {
      float[] values = new float[all.length - 1];
      for (int i = 0; i < values.length; i++) {
        values[i] = Float.intBitsToFloat((i << 16) | low);
      }
      short[] narrow = new short[values.length];
      LOOPS.narrow(values, narrow, values.length);
      for (int i = 0; i < values.length; i++) {
        float back = Bfloat16.toFloat(narrow[i]);
        if (Float.isNaN(values[i])) {
          assertTrue(Float.isNaN(back), "NaN of " + Integer.toHexString(i) + " is lost");
        } else {
          boolean up = low > 0x8000 || (low == 0x8000 && (i & 1) == 1);
          assertEquals((i + (up ? 1 : 0)) << 16, Float.floatToRawIntBits(back));
        }
      }
    }
  }

  @Test
  void siluIsAccurate() {
    float[] x = new float[200_001];
    for (int i = 0; i < x.length; i++) {
      x[i] = (i - 100_000) / 1000f;
    }
    float[] silu = x.clone();
    LOOPS.silu(silu, 0, silu.length);
    for (int i = 0; i < x.length; i++) {
      double exact = x[i] / (1 + Math.exp(-(double) x[i]));
      assertEquals(exact, silu[i], 3e-7 * Math.abs(exact) + 1e-35, "SiLU of " + x[i]);
    }
    float[] special = {Float.NaN, 0f, -0f, Float.POSITIVE_INFINITY, 1e30f, -1e30f};
    LOOPS.silu(special, 0, special.length);
    assertTrue(Float.isNaN(special[0]));
    assertEquals(0f, special[1]);
    assertEquals(-0f, special[2]);
    assertEquals(Float.POSITIVE_INFINITY, special[3]);
    assertEquals(1e30f, special[4]);
    assertEquals(0f, special[5], 1e-7f);
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void elementWiseTwinsGiveTheSameBits(int count) {
    assumeTrue(KernelChoice.get() == KernelChoice.VECTOR, "one twin alone has none to agree with");
    RandomGenerator random = Seeds.random("twins " + count);
    float[] x = special(RandomLayer.values(random, count + OFFSET), random);
    float[] w = special(RandomLayer.values(random, count + 1), random);
    float[] out = RandomLayer.values(random, count + 2);
    float[][] results = new float[2][];
    short[][] shorts = new short[2][];
    for (int twin = 0; twin < 2; twin++) {
      GateLoops loops = twin == 0 ? SCALAR : LOOPS;
      float[] values = out.clone();
      loops.addScaled(x, OFFSET, 3.1f, values, 2, count);
      loops.addProduct(x, OFFSET, w, 1, values, 2, count);
      loops.scale(values, 2, -0.3f, w, 1, values, 2, count);
      loops.silu(values, 2, count);
      results[twin] = values;
      shorts[twin] = new short[count];
      loops.narrow(x, shorts[twin], count);
    }
    assertArrayEquals(results[0], results[1]);
    assertArrayEquals(shorts[0], shorts[1]);
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void sumsOfTheTwinsAgree(int count) {
    assumeTrue(KernelChoice.get() == KernelChoice.VECTOR, "one twin alone has none to agree with");
    RandomGenerator random = Seeds.random("twin sums " + count);
    float[] x = RandomLayer.values(random, count + OFFSET);
    float[] y = RandomLayer.values(random, count + OFFSET);
    double[] expected = new double[3];
    double[] sums = new double[3];
    SCALAR.gateSums(x, OFFSET, y, 0, y, 1, count, expected, new double[GateLoops.LANES]);
    LOOPS.gateSums(x, OFFSET, y, 0, y, 1, count, sums, new double[GateLoops.LANES]);
    assertArrayEquals(expected, sums, 1e-12 * (1 + count));
    if (count > 0) {
      x[OFFSET + random.nextInt(count)] = Float.NaN;
      LOOPS.gateSums(x, OFFSET, y, 0, y, 1, count, sums, new double[GateLoops.LANES]);
      assertTrue(Double.isNaN(sums[0]) && Double.isNaN(sums[2]), "a NaN must reach its sums");
      assertFalse(Double.isNaN(sums[1]));
      assertTrue(Double.isNaN(LOOPS.sumOfSquares(x, OFFSET, count, new double[GateLoops.LANES])));
    }
  }

  /** Some values replaced by those that break careless arithmetic. */
  private static float[] special(float[] values, RandomGenerator random) {
    float[] bad = {
      Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, -0f, Float.MIN_VALUE, 3e38f
    };
    for (int i = 0; i < values.length; i++) {
      if (random.nextInt(6) == 0) {
        values[i] = bad[random.nextInt(bad.length)];
      }
    }
    return values;
  }

  private static double[] doubles(float[] values) {
    double[] doubles = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      doubles[i] = values[i];
    }
    return doubles;
  }
}
