// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.table.NarrowFloat;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
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

  /** Panels are multiplied where they lie, behind other bytes. */
  private static final long PANEL_AT = 192;

  @ParameterizedTest
  @MethodSource("lengths")
  void productsAreSumsOfProductsAndHaveTheSameBitsInATileAndInARow(int depth) {
    RandomGenerator random = Seeds.random("products " + depth);
    int outputs = LOOPS.panelWidth();
    int all = GateLoops.PANELS * outputs;
    float[] weights = RandomLayer.values(random, all * depth);
    float[] tokens = RandomLayer.values(random, GateLoops.TOKENS * depth);
    float[] before = RandomLayer.values(random, GateLoops.TOKENS * all);
    MemorySegment panels = Arena.ofAuto().allocate(PANEL_AT + 4L * weights.length + 1, 64);
    MemorySegment.copy(weights, 0, panels, Memory.FLOAT, PANEL_AT, weights.length);
    float[] fours = fours(tokens, depth);
    for (boolean add : new boolean[] {false, true}) {
      float[] tiles = before.clone();
      float[] rows = before.clone();
      for (int p = 0; p < GateLoops.PANELS; p++) {
        LOOPS.tile(
            fours,
            OFFSET,
            panels,
            PANEL_AT + 4L * p * outputs * depth,
            depth,
            tiles,
            p * outputs,
            all,
            add);
      }
      for (int t = 0; t < GateLoops.TOKENS; t++) {
        LOOPS.row(
            tokens, t * depth, panels, PANEL_AT, 4L * outputs * depth, depth, rows, t * all, add);
      }
      assertArrayEquals(tiles, rows, "a token's product depends on the tokens beside it");
      for (int i = 0; i < rows.length; i++) {
        double[] exact = product(weights, tokens, depth, outputs, i / all, i % all);
        double expected = exact[0] + (add ? before[i] : 0);
        assertEquals(expected, rows[i], 3e-6 * (exact[1] + Math.abs(before[i])) + 1e-30);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void productsInDoublePrecisionAreSumsOfProductsToo(int depth) {
    RandomGenerator random = Seeds.random("double products " + depth);
    int outputs = LOOPS.doublePanelWidth();
    int all = GateLoops.PANELS * outputs;
    float[] weights = RandomLayer.values(random, all * depth);
    float[] tokens = RandomLayer.values(random, GateLoops.TOKENS * depth);
    double[] before = doubles(RandomLayer.values(random, GateLoops.TOKENS * all));
    MemorySegment panels = Arena.ofAuto().allocate(PANEL_AT + 4L * weights.length + 1, 64);
    MemorySegment.copy(weights, 0, panels, Memory.FLOAT, PANEL_AT, weights.length);
    double[] fours = doubles(fours(tokens, depth));
    for (boolean add : new boolean[] {false, true}) {
      double[] tiles = before.clone();
      double[] rows = before.clone();
      for (int p = 0; p < GateLoops.PANELS; p++) {
        LOOPS.tile(
            fours,
            OFFSET,
            panels,
            PANEL_AT + 4L * p * outputs * depth,
            depth,
            tiles,
            p * outputs,
            all,
            add);
      }
      for (int t = 0; t < GateLoops.TOKENS; t++) {
        LOOPS.row(
            doubles(tokens),
            t * depth,
            panels,
            PANEL_AT,
            4L * outputs * depth,
            depth,
            rows,
            t * all,
            add);
      }
      assertArrayEquals(tiles, rows, "a token's product depends on the tokens beside it");
      for (int i = 0; i < rows.length; i++) {
        double[] exact = product(weights, tokens, depth, outputs, i / all, i % all);
        double expected = exact[0] + (add ? before[i] : 0);
        assertEquals(expected, rows[i], 1e-13 * (exact[1] + Math.abs(before[i])) + 1e-30);
      }
    }
  }

  /** Tokens side by side, behind {@link #OFFSET} elements that are not theirs. */
  private static float[] fours(float[] tokens, int depth) {
    float[] fours = new float[OFFSET + tokens.length];
    Arrays.fill(fours, 0, OFFSET, Float.NaN);
    for (int t = 0; t < GateLoops.TOKENS; t++) {
      for (int k = 0; k < depth; k++) {
        fours[OFFSET + k * GateLoops.TOKENS + t] = tokens[t * depth + k];
      }
    }
    return fours;
  }

  /** One output of one token: the sum of its products, and that of their sizes. */
  private static double[] product(
      float[] weights, float[] tokens, int depth, int outputs, int t, int output) {
    double[] sums = new double[2];
    int panel = output / outputs * outputs * depth + output % outputs;
    for (int k = 0; k < depth; k++) {
      double product = (double) weights[panel + k * outputs] * tokens[t * depth + k];
      sums[0] += product;
      sums[1] += Math.abs(product);
    }
    return sums;
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void bfloat16WeightsAreWidenedExactlyAndMultipliedAsWidened(int depth) {
    RandomGenerator random = Seeds.random("pairs " + depth);
    int lanes = LOOPS.pairLanes();
    int outputs = LOOPS.panelWidth();
    int count = GateLoops.PANELS * outputs * depth;
    assertEquals(0, outputs % (2 * lanes));
    MemorySegment pairs = Arena.ofAuto().allocate(PANEL_AT + 2L * count, 64);
    MemorySegment single = Arena.ofAuto().allocate(PANEL_AT + 4L * count + 4, 64);
    float[] weights = RandomLayer.rounded(RandomLayer.values(random, count));
    for (int i = 0; i < count; i += 2 * lanes) {
      for (int lane = 0; lane < lanes; lane++) {
        int pair =
            Float.floatToRawIntBits(weights[i + lane]) >>> 16
                | Float.floatToRawIntBits(weights[i + lanes + lane]);
        pairs.set(ValueLayout.JAVA_INT, PANEL_AT + 2L * i + 4L * lane, pair);
      }
    }
    single.fill((byte) 7);
    LOOPS.pairsToF32(pairs, PANEL_AT, single, PANEL_AT, count);
    for (int i = 0; i < count; i++) {
      assertEquals(weights[i], single.get(ValueLayout.JAVA_FLOAT, PANEL_AT + 4L * i));
    }
    assertEquals(0x07070707, single.get(ValueLayout.JAVA_INT, PANEL_AT + 4L * count));
    float[] x = RandomLayer.values(random, OFFSET + depth);
    for (boolean add : new boolean[] {false, true}) {
      float[] expected = RandomLayer.values(random, GateLoops.PANELS * outputs);
      float[] actual = expected.clone();
      long panelBytes = 2L * outputs * depth;
      LOOPS.row(x, OFFSET, single, PANEL_AT, 2 * panelBytes, depth, expected, 0, add);
      LOOPS.rowOfPairs(x, OFFSET, pairs, PANEL_AT, panelBytes, depth, actual, 0, add);
      assertArrayEquals(expected, actual);
    }
  }

  /** Every code but NaN, whatever its neighbours, by every count of factors. */
  @Test
  void codesAreWidenedExactly() {
    int lanes = LOOPS.pairLanes();
    int blocks = 256 / (4 * lanes) + 3;
    int count = blocks * 4 * lanes;
    MemorySegment in = Arena.ofAuto().allocate(count, 64);
    MemorySegment factors = Arena.ofAuto().allocate(8L * lanes, 64);
    MemorySegment out = Arena.ofAuto().allocate(4L * count, 64);
    for (int vectors = 1; vectors <= 2; vectors++) {
      float[] scales = new float[vectors * lanes];
      for (int i = 0; i < scales.length; i++) {
        scales[i] = Math.scalb(1f, -40 + 3 * i);
        float factor = Math.scalb(scales[i], GateLoops.E4M3_EXPONENT);
        factors.set(ValueLayout.JAVA_FLOAT, 4L * i, factor);
      }
      byte[] codes = new byte[count];
      for (int i = 0; i < count; i++) {
        codes[i] = (byte) ((i * 7 & 0x7F) == 0x7F ? 0 : i * 7);
        int inBlock = i % (4 * lanes);
        long at = i - inBlock + 4L * (inBlock % lanes);
        int shift = 8 * (inBlock / lanes);
        int others = in.get(ValueLayout.JAVA_INT, at) & ~(0xFF << shift);
        in.set(ValueLayout.JAVA_INT, at, others | (codes[i] & 0xFF) << shift);
      }
      LOOPS.quadsToF32(in, 0, factors, 0, vectors, out, 0, count);
      for (int i = 0; i < count; i++) {
        float expected = NarrowFloat.e4m3(codes[i]) * scales[i % scales.length];
        assertEquals(expected, out.get(ValueLayout.JAVA_FLOAT, 4L * i), "number " + i);
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
    float[] tapped = before.clone();
    LOOPS.addTap(x, OFFSET, 0.7f, w, 1, x, 0, tapped, 2, count);
    assertEquals(before[0], scaled[0]);
    assertEquals(before[1], product[1]);
    for (int i = 0; i < count; i++) {
      assertEquals(x[OFFSET + i] * 0.7f * w[1 + i], scaled[2 + i]);
      assertEquals(before[2 + i] + x[OFFSET + i] * w[1 + i], product[2 + i]);
      assertEquals(before[2 + i] + x[OFFSET + i] * -1.3f, added[2 + i]);
      assertEquals(before[2 + i] + x[OFFSET + i] * 0.7f * w[1 + i] * x[i], tapped[2 + i]);
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
      loops.addTap(x, OFFSET, -0.3f, w, 1, x, 1, values, 2, count);
      loops.scale(values, 2, -0.3f, w, 1, values, 2, count);
      loops.silu(values, 2, count);
      loops.addScaledProduct(x, OFFSET, 0.7f, w, 1, values, 2, count);
      float[] slopes = new float[count + 1];
      loops.siluGradient(x, OFFSET, w, 1, slopes, 1, count);
      float[] back = new float[count + 3];
      float[] other = new float[count];
      loops.gateGradients(
          x, w, 1, x, OFFSET, 0.7f, -0.2f, 1.3f, back, 3, other, values, 2, Math.max(0, count - 1));
      results[twin] = all(values, slopes, back, other);
      shorts[twin] = new short[count];
      loops.narrow(x, shorts[twin], count);
    }
    assertArrayEquals(results[0], results[1]);
    assertArrayEquals(shorts[0], shorts[1]);
  }

  private static float[] all(float[]... arrays) {
    int size = 0;
    for (float[] array : arrays) {
      size += array.length;
    }
    float[] all = new float[size];
    int at = 0;
    for (float[] array : arrays) {
      System.arraycopy(array, 0, all, at, array.length);
      at += array.length;
    }
    return all;
  }

  @Test
  void theSlopeOfSiluIsExactToFloat() {
    float[] x = new float[40_001];
    float[] ones = new float[x.length];
    for (int i = 0; i < x.length; i++) {
      x[i] = (i - 20_000) / 200f;
    }
    Arrays.fill(ones, 1);
    float[] slopes = new float[x.length];
    LOOPS.siluGradient(x, 0, ones, 0, slopes, 0, x.length);
    for (int i = 0; i < x.length; i++) {
      double sigmoid = 1 / (1 + Math.exp(-(double) x[i]));
      double exact = sigmoid + x[i] * sigmoid * (1 - sigmoid);
      // Near its zero the two summands are of size 0.22.
      assertEquals(exact, slopes[i], 2e-7, "slope at " + x[i]);
    }
  }

  @ParameterizedTest
  @MethodSource("lengths")
  void theWayBackThroughTheSumsIsTheirs(int count) {
    RandomGenerator random = Seeds.random("gate gradients " + count);
    float[] x = RandomLayer.values(random, count + 1);
    float[] y = RandomLayer.values(random, count + 1);
    float[] w = RandomLayer.values(random, count);
    float[] before = RandomLayer.values(random, count);
    float[] products = before.clone();
    float[] ofX = new float[count + OFFSET];
    float[] ofY = new float[count];
    LOOPS.gateGradients(x, y, 1, w, 0, 0.5f, 3f, -2f, ofX, OFFSET, ofY, products, 0, count);
    for (int i = 0; i < count; i++) {
      double a = x[i + 1];
      double b = y[i + 1];
      assertEquals(b * w[i] * 0.5 + a * 3, ofX[OFFSET + i], 1e-5);
      assertEquals(a * w[i] * 0.5 - b * 2, ofY[i], 1e-5);
      assertEquals(before[i] + a * b * 0.5, products[i], 1e-5);
    }
    double[] sums = new double[2];
    LOOPS.twoDots(x, 1, w, 0, y, 1, count, sums, new double[GateLoops.LANES]);
    double first = 0;
    double second = 0;
    for (int i = 0; i < count; i++) {
      first += (double) x[i + 1] * y[i + 1];
      second += (double) w[i] * y[i + 1];
    }
    assertEquals(first, sums[0], 1e-12 * (1 + count));
    assertEquals(second, sums[1], 1e-12 * (1 + count));
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
