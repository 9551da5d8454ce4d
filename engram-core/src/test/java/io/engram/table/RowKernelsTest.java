// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** The kernels of this pass against references in double precision, and against their twins. */
class RowKernelsTest {
  private final RowKernels kernels = RowKernels.get();

  private static MemorySegment memory(long bytes) {
    return Arena.ofAuto().allocate(bytes, 64);
  }

  private static float floatAt(MemorySegment memory, long index) {
    return memory.get(ScalarRowKernels.FLOAT, 4 * index);
  }

  private static short shortAt(MemorySegment memory, long index) {
    return memory.get(ScalarRowKernels.SHORT, 2 * index);
  }

  /** Equal bits, or both NaN. */
  private static void assertBf16(double expected, short bits, String what) {
    assertEquals(expected, NarrowFloat.bf16(bits), what);
  }

  /** To the nearest multiple of the spacing of bfloat16 numbers of that size. */
  private static double toBf16(double value) {
    if (Double.isNaN(value) || value == 0) {
      return value;
    }
    int exponent = Math.max(Math.getExponent(value), -126);
    double spacing = Math.scalb(1.0, exponent - 7);
    double rounded = Math.rint(value / spacing) * spacing;
    return Math.abs(rounded) >= 0x1p128 ? Math.copySign(Double.POSITIVE_INFINITY, value) : rounded;
  }

  /** E4M3 by its definition. */
  private static double e4m3(int code) {
    int exponent = code >> 3 & 15;
    double magnitude =
        (code & 0x7F) == 0x7F
            ? Double.NaN
            : exponent == 0
                ? (code & 7) / 512.0
                : (8 + (code & 7)) / 8.0 * Math.pow(2, exponent - 7);
    return code < 128 ? magnitude : -magnitude;
  }

  @Test
  void theKernelsThatTheBuildAskedForAreTested() {
    assertEquals(
        KernelChoice.get() == KernelChoice.VECTOR ? "VectorRowKernels" : "ScalarRowKernels",
        kernels.getClass().getSimpleName());
  }

  /** All 65,536 pairs of a code and a scale. */
  @Test
  void everyBlockValueIsTheRoundedProduct() {
    MemorySegment in = memory(256 + 8);
    MemorySegment floats = memory(256 * 4);
    MemorySegment shorts = memory(256 * 2);
    // NaN last: blocks that hold one are decoded in another way.
    int[] codes = IntStream.range(0, 256).filter(c -> (c & 0x7F) != 0x7F).toArray();
    codes = IntStream.concat(Arrays.stream(codes), IntStream.of(0x7F, 0xFF)).toArray();
    for (int i = 0; i < 256; i++) {
      in.set(ValueLayout.JAVA_BYTE, i, (byte) codes[i]);
    }
    for (int scale = 0; scale < 256; scale++) {
      in.asSlice(256).fill((byte) scale);
      floats.fill((byte) 0x55);
      shorts.fill((byte) 0x55);
      int wide = kernels.fp8RowToF32(in, 0, floats, 0, 256, new RowKernels.Fp8Scratch(256));
      int narrow = kernels.fp8RowToBf16(in, 0, shorts, 0, 256);
      assertEquals(scale == 255 ? 0 : -1, wide);
      assertEquals(scale == 255 ? 0 : -1, narrow);
      for (int i = 0; i < 256 && scale < 255; i++) {
        double product = e4m3(codes[i]) * Math.pow(2, scale - 127);
        String what = "code " + codes[i] + ", scale " + scale;
        assertEquals(toBf16(product), floatAt(floats, i), what);
        assertBf16(toBf16(product), shortAt(shorts, i), what);
      }
    }
  }

  @Test
  void theSmallestScalesAreRounded() {
    // 3 * 2^-9 * 2^-127 = 0.375 * 2^-133: a case that truncation and rounding up would get wrong.
    MemorySegment in = memory(33);
    in.set(ValueLayout.JAVA_BYTE, 0, (byte) 3);
    in.set(ValueLayout.JAVA_BYTE, 1, (byte) 5);
    in.set(ValueLayout.JAVA_BYTE, 2, (byte) 4);
    in.set(ValueLayout.JAVA_BYTE, 3, (byte) 12);
    MemorySegment out = memory(128);
    assertEquals(-1, kernels.fp8RowToF32(in, 0, out, 0, 32, new RowKernels.Fp8Scratch(32)));
    assertEquals(0, floatAt(out, 0));
    assertEquals(0x1p-133f, floatAt(out, 1));
    assertEquals(0, floatAt(out, 2), "a tie goes to the even neighbour");
    assertEquals(0x1p-132f, floatAt(out, 3), "a tie goes to the even neighbour");
  }

  @Test
  void everyFp8ValueTimesAScaleOfTheTableIsTheRoundedProduct() {
    RandomGenerator random = Seeds.random("RowKernelsTest.everyFp8ValueTimesAScale");
    MemorySegment in = memory(256);
    MemorySegment floats = memory(256 * 4);
    MemorySegment shorts = memory(256 * 2);
    for (int i = 0; i < 256; i++) {
      in.set(ValueLayout.JAVA_BYTE, i, (byte) i);
    }
    for (int round = 0; round < 200; round++) {
      float scale =
          switch (round) {
            case 0 -> 1f;
            case 1 -> Float.MIN_VALUE;
            case 2 -> Float.MAX_VALUE;
            default -> Math.abs(Math.scalb(random.nextFloat() + 0.5f, random.nextInt(-140, 120)));
          };
      kernels.fp8ToF32(in, 0, scale, floats, 0, 256);
      kernels.fp8ToBf16(in, 0, scale, shorts, 0, 256);
      for (int code = 0; code < 256; code++) {
        float product = (float) (e4m3(code) * scale);
        assertEquals(product, floatAt(floats, code));
        assertBf16(toBf16(product), shortAt(shorts, code), "code " + code + ", scale " + scale);
      }
    }
  }

  @Test
  void everyCodeOfTheSixteenBitFormatsIsConverted() {
    int count = 1 << 16;
    MemorySegment in = memory(2L * count);
    MemorySegment floats = memory(4L * count);
    MemorySegment shorts = memory(2L * count);
    for (int i = 0; i < count; i++) {
      in.set(ScalarRowKernels.SHORT, 2L * i, (short) i);
    }
    kernels.bf16ToF32(in, 0, floats, 0, count);
    for (int i = 0; i < count; i++) {
      assertEquals(i << 16, Float.floatToRawIntBits(floatAt(floats, i)) & 0xFFFFFFFF, "bits " + i);
    }
    kernels.f16ToF32(in, 0, floats, 0, count);
    kernels.f16ToBf16(in, 0, shorts, 0, count);
    for (int i = 0; i < count; i++) {
      float value = NarrowFloat.f16((short) i);
      assertEquals(value, floatAt(floats, i), "binary16 " + i);
      assertBf16(toBf16(value), shortAt(shorts, i), "binary16 " + i);
    }
  }

  @Test
  void floatsAreRoundedToTheNearestEvenBfloat16() {
    RandomGenerator random = Seeds.random("RowKernelsTest.floatsAreRounded");
    int count = 100_003;
    MemorySegment in = memory(4L * count);
    MemorySegment out = memory(2L * count);
    List<Float> special =
        List.of(
            0f,
            -0f,
            Float.NaN,
            Float.POSITIVE_INFINITY,
            Float.NEGATIVE_INFINITY,
            Float.MAX_VALUE,
            -Float.MAX_VALUE,
            Float.MIN_VALUE,
            0x1p-134f,
            0x1.8p-134f,
            1 + 0x1p-8f,
            1 + 0x1.8p-7f,
            Float.intBitsToFloat(0x7F800001));
    for (int i = 0; i < count; i++) {
      float value = i < special.size() ? special.get(i) : Float.intBitsToFloat(random.nextInt());
      in.set(ScalarRowKernels.FLOAT, 4L * i, value);
    }
    kernels.f32ToBf16(in, 0, out, 0, count);
    for (int i = 0; i < count; i++) {
      float value = floatAt(in, i);
      assertBf16(toBf16(value), shortAt(out, i), "value " + value);
      if (value == 0) {
        assertEquals(Float.floatToRawIntBits(value) >>> 16, shortAt(out, i) & 0xFFFF);
      }
    }
  }

  @FunctionalInterface
  private interface Conversion {
    void run(RowKernels kernels, MemorySegment in, long inAt, MemorySegment out, long outAt, int n);
  }

  private record Twins(String name, int inBytes, int outBytes, Conversion conversion) {}

  private static final List<Twins> TWINS =
      List.of(
          new Twins("bf16ToF32", 2, 4, (k, i, ia, o, oa, n) -> k.bf16ToF32(i, ia, o, oa, n)),
          new Twins("f32ToBf16", 4, 2, (k, i, ia, o, oa, n) -> k.f32ToBf16(i, ia, o, oa, n)),
          new Twins("f16ToF32", 2, 4, (k, i, ia, o, oa, n) -> k.f16ToF32(i, ia, o, oa, n)),
          new Twins("f16ToBf16", 2, 2, (k, i, ia, o, oa, n) -> k.f16ToBf16(i, ia, o, oa, n)),
          new Twins("fp8ToF32", 1, 4, (k, i, ia, o, oa, n) -> k.fp8ToF32(i, ia, 0.3f, o, oa, n)),
          new Twins("fp8ToBf16", 1, 2, (k, i, ia, o, oa, n) -> k.fp8ToBf16(i, ia, 0.3f, o, oa, n)),
          // Rows with their scales: two bytes a value are more than enough.
          new Twins("fp8RowToF32", 2, 4, RowKernelsTest::rowToF32),
          new Twins("fp8RowToBf16", 2, 2, RowKernelsTest::rowToBf16));

  private static void rowToF32(
      RowKernels k, MemorySegment in, long inAt, MemorySegment out, long outAt, int n) {
    int bad = k.fp8RowToF32(in, inAt, out, outAt, n, new RowKernels.Fp8Scratch(n));
    out.set(ValueLayout.JAVA_BYTE, 0, (byte) bad);
    if (bad >= 0) {
      out.asSlice(outAt, 4L * n).fill((byte) 0);
    }
  }

  private static void rowToBf16(
      RowKernels k, MemorySegment in, long inAt, MemorySegment out, long outAt, int n) {
    int bad = k.fp8RowToBf16(in, inAt, out, outAt, n);
    out.set(ValueLayout.JAVA_BYTE, 0, (byte) bad);
    if (bad >= 0) {
      out.asSlice(outAt, 2L * n).fill((byte) 0);
    }
  }

  /** All lengths up to several vectors, at offsets of any alignment, on bits of any kind. */
  @Test
  void bothTwinsGiveTheSame() {
    assumeTrue(KernelChoice.get() == KernelChoice.VECTOR, "there is no vector twin in this pass");
    RandomGenerator random = Seeds.random("RowKernelsTest.bothTwinsGiveTheSame");
    RowKernels scalar = new ScalarRowKernels();
    MemorySegment in = memory(4096);
    MemorySegment expected = memory(4096);
    MemorySegment found = memory(4096);
    for (Twins twins : TWINS) {
      for (int n = 0; n < 200; n++) {
        for (int repeat = 0; repeat < 6; repeat++) {
          for (int i = 0; i < 4096; i++) {
            // Many exponents of all ones and of all zeros, many scales that are rare.
            int kind = random.nextInt(8);
            int bits = random.nextInt(256);
            in.set(
                ValueLayout.JAVA_BYTE,
                i,
                (byte) (kind == 0 ? bits | 0x7F : kind == 1 ? bits & 0x83 : bits));
          }
          long inAt = random.nextInt(70);
          long outAt = 1L + random.nextInt(70);
          expected.fill((byte) 0x33);
          found.fill((byte) 0x33);
          twins.conversion.run(scalar, in, inAt, expected, outAt, n);
          twins.conversion.run(kernels, in, inAt, found, outAt, n);
          long length = (long) n * twins.outBytes;
          String what = twins.name + " of " + n + " values from " + inAt + " to " + outAt;
          assertEquals(-1, expected.asSlice(0, outAt).mismatch(found.asSlice(0, outAt)), what);
          assertEquals(
              -1, expected.asSlice(outAt + length).mismatch(found.asSlice(outAt + length)), what);
          for (int i = 0; i < n; i++) {
            if (twins.outBytes == 4) {
              float a = expected.get(ScalarRowKernels.FLOAT, outAt + 4L * i);
              float b = found.get(ScalarRowKernels.FLOAT, outAt + 4L * i);
              // NaN of any payload and sign, but zeros of one sign.
              assertEquals(Float.floatToIntBits(a), Float.floatToIntBits(b), what);
            } else {
              short a = expected.get(ScalarRowKernels.SHORT, outAt + 2L * i);
              short b = found.get(ScalarRowKernels.SHORT, outAt + 2L * i);
              boolean nan = Float.isNaN(NarrowFloat.bf16(a)) && Float.isNaN(NarrowFloat.bf16(b));
              assertTrue(nan || a == b, what);
            }
          }
        }
      }
    }
  }
}
