// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The kernels with the Vector API. What is left of a row after the last whole vector is done by the
 * scalar kernels.
 */
final class VectorRowKernels extends RowKernels {
  private static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;

  /** Of these, half a vector is a vector too. */
  private static final VectorSpecies<Float> FLOATS =
      FloatVector.SPECIES_PREFERRED.vectorBitSize() < 128
          ? FloatVector.SPECIES_128
          : FloatVector.SPECIES_PREFERRED;

  private static final VectorSpecies<Integer> INTS = FLOATS.withLanes(int.class);
  private static final int LANES = FLOATS.length();
  private static final VectorSpecies<Short> SHORTS =
      VectorSpecies.of(short.class, VectorShape.forBitSize(LANES * Short.SIZE));

  /** No shape is smaller than 64 bits, so that a load may fetch more bytes than are used. */
  private static final VectorSpecies<Byte> BYTES =
      VectorSpecies.of(byte.class, VectorShape.forBitSize(Math.max(64, LANES * Byte.SIZE)));

  private static final int LOADED = BYTES.length();

  private static final boolean BLOCK_BY_VECTORS = RowFormat.BLOCK % (2 * LANES) == 0;

  private static final int SIGN = 0x80000000;

  /** Exponent and mantissa of an E4M3 code where a float has them. */
  private static final int E4M3_MAGNITUDE = 0x7F << 20;

  /** From this scale on, an E4M3 code read as a float of exponent 0 is a normal number. */
  private static final int FIRST_NORMAL_SCALE = 8;

  /** Up to this scale, no E4M3 code is beyond the range of floats. */
  private static final int LAST_NORMAL_SCALE = 246;

  private final ScalarRowKernels scalar = new ScalarRowKernels();

  /**
   * Not constants, so that the loops below are not taken for long ones: what a compiler sets up for
   * a loop of known stride costs more than the few turns that a row takes.
   */
  private final int lanes;

  private final int pairGroup;

  VectorRowKernels() {
    lanes = LANES;
    pairGroup = 2 * LANES;
  }

  private static IntVector shorts(MemorySegment in, long at) {
    return (IntVector)
        ShortVector.fromMemorySegment(SHORTS, in, at, LE)
            .convertShape(VectorOperators.ZERO_EXTEND_S2I, INTS, 0);
  }

  private static void storeShorts(IntVector values, MemorySegment out, long at) {
    ((ShortVector) values.convertShape(VectorOperators.I2S, SHORTS, 0))
        .intoMemorySegment(out, at, LE);
  }

  /** Bits of bfloat16 in the lower halves, rounded to nearest even. */
  private static IntVector roundToBf16(FloatVector values) {
    IntVector bits = values.reinterpretAsInts();
    IntVector rounded =
        bits.add(0x7FFF)
            .add(bits.lanewise(VectorOperators.LSHR, 16).and(1))
            .lanewise(VectorOperators.LSHR, 16);
    VectorMask<Integer> nan = values.test(VectorOperators.IS_NAN).cast(INTS);
    return rounded.blend(0x7FC0, nan);
  }

  private static IntVector codes(MemorySegment in, long at) {
    return (IntVector)
        ByteVector.fromMemorySegment(BYTES, in, at, LE)
            .convertShape(VectorOperators.ZERO_EXTEND_B2I, INTS, 0);
  }

  /**
   * The number whose bits these are but for the bias of the exponent, where exponent 0 marks
   * subnormals. Taken for a normal number x, a subnormal one m * 2^e, m less than 1, appears as (1
   * + m) * 2^(e - 1). So it is 2x - 2^e, which is less than x only for subnormals. No operand is
   * subnormal: those are slow on some processors.
   *
   * @param magnitude exponent and mantissa
   * @param bias what to add to the exponent
   * @param first the least normal number
   */
  private static IntVector normalize(IntVector magnitude, int bias, float first) {
    IntVector bits = magnitude.add(bias);
    FloatVector normal = bits.reinterpretAsFloats();
    // Numbers that are not negative are ordered as their bits are.
    return bits.min(normal.sub(first).add(normal).reinterpretAsInts());
  }

  /**
   * Bits of an E4M3 value times a power of two.
   *
   * @param magnitude the code's exponent and mantissa where a float has them, and nothing else
   * @param sign a word of which the first bit is the code's
   * @param bias exponent of a float for the code's exponent 0, in place
   * @param first the value of the code's exponent 1
   */
  private static IntVector e4m3(IntVector magnitude, IntVector sign, int bias, float first) {
    return normalize(magnitude, bias, first)
        .blend(0x7FC00000, magnitude.eq(E4M3_MAGNITUDE))
        .or(sign.and(SIGN));
  }

  private static IntVector e4m3(IntVector codes, int bias, float first) {
    return e4m3(
        codes.lanewise(VectorOperators.LSHL, 20).and(E4M3_MAGNITUDE),
        codes.lanewise(VectorOperators.LSHL, 24),
        bias,
        first);
  }

  private static FloatVector e4m3(MemorySegment in, long at) {
    return e4m3(codes(in, at), 120 << 23, 0x1p-6f).reinterpretAsFloats();
  }

  private static FloatVector f16(IntVector bits) {
    IntVector magnitude = bits.and(0x7FFF).lanewise(VectorOperators.LSHL, 13);
    IntVector sign = bits.and(0x8000).lanewise(VectorOperators.LSHL, 16);
    return normalize(magnitude, 112 << 23, 0x1p-14f)
        .blend(magnitude.or(0x7F800000), magnitude.compare(VectorOperators.GE, 0x7C00 << 13))
        .or(sign)
        .reinterpretAsFloats();
  }

  private static FloatVector bf16(MemorySegment in, long at) {
    return shorts(in, at).lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
  }

  @Override
  void bf16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - 4L * LANES; i += 4L * lanes) {
      bf16(in, inAt + 2 * i).intoMemorySegment(out, outAt + 4 * i, LE);
      bf16(in, inAt + 2 * (i + LANES)).intoMemorySegment(out, outAt + 4 * (i + LANES), LE);
      bf16(in, inAt + 2 * (i + 2L * LANES))
          .intoMemorySegment(out, outAt + 4 * (i + 2L * LANES), LE);
      bf16(in, inAt + 2 * (i + 3L * LANES))
          .intoMemorySegment(out, outAt + 4 * (i + 3L * LANES), LE);
    }
    for (; i <= count - LANES; i += lanes) {
      bf16(in, inAt + 2 * i).intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.bf16ToF32(in, inAt + 2 * i, out, outAt + 4 * i, count - i);
  }

  @Override
  void f32ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += lanes) {
      FloatVector values = FloatVector.fromMemorySegment(FLOATS, in, inAt + 4 * i, LE);
      storeShorts(roundToBf16(values), out, outAt + 2 * i);
    }
    scalar.f32ToBf16(in, inAt + 4 * i, out, outAt + 2 * i, count - i);
  }

  @Override
  void f16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += lanes) {
      f16(shorts(in, inAt + 2 * i)).intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.f16ToF32(in, inAt + 2 * i, out, outAt + 4 * i, count - i);
  }

  @Override
  void f16ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += lanes) {
      storeShorts(roundToBf16(f16(shorts(in, inAt + 2 * i))), out, outAt + 2 * i);
    }
    scalar.f16ToBf16(in, inAt + 2 * i, out, outAt + 2 * i, count - i);
  }

  @Override
  void fp8ToF32(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LOADED; i += lanes) {
      e4m3(in, inAt + i).mul(scale).intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.fp8ToF32(in, inAt + i, scale, out, outAt + 4 * i, count - i);
  }

  @Override
  void fp8ToBf16(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LOADED; i += lanes) {
      storeShorts(roundToBf16(e4m3(in, inAt + i).mul(scale)), out, outAt + 2 * i);
    }
    scalar.fp8ToBf16(in, inAt + i, scale, out, outAt + 2 * i, count - i);
  }

  @Override
  int fp8RowToF32(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim, Fp8Scratch scratch) {
    int rowBytes = RowFormat.FP8_BLOCK32.rowBytes(headDim);
    MemorySegment.copy(in, ValueLayout.JAVA_BYTE, inAt, scratch.stored, 0, rowBytes);
    int done = decodeBlocks(scratch.stored, scratch.decoded, headDim);
    MemorySegment.copy(scratch.decoded, 0, out, ScalarRowKernels.FLOAT, outAt, done);
    return done == headDim ? -1 : scalar.fp8RowToF32(in, inAt, out, outAt, headDim, done);
  }

  /**
   * Decodes whole blocks, up to one with a rare scale or a NaN.
   *
   * @return how many values
   */
  private static int decodeBlocks(byte[] row, float[] out, int headDim) {
    int end = RowFormat.BLOCK % LANES == 0 ? headDim & -RowFormat.BLOCK : 0;
    for (int begin = 0; begin < end; begin += RowFormat.BLOCK) {
      int scale = row[headDim + begin / RowFormat.BLOCK] & 0xFF;
      if (scale < FIRST_NORMAL_SCALE || scale > LAST_NORMAL_SCALE) {
        return begin;
      }
      int bias = (scale - 7) << 23;
      float first = Float.intBitsToFloat(bias + (1 << 23));
      IntVector largest = IntVector.zero(INTS);
      for (int i = begin; i < begin + RowFormat.BLOCK; i += LANES) {
        IntVector code =
            (IntVector)
                ByteVector.fromArray(BYTES, row, i)
                    .convertShape(VectorOperators.ZERO_EXTEND_B2I, INTS, 0);
        IntVector magnitude = code.lanewise(VectorOperators.LSHL, 20).and(E4M3_MAGNITUDE);
        largest = largest.max(magnitude);
        // As normalize does it, written out: vectors that cross a call may become objects.
        IntVector bits = magnitude.add(bias);
        FloatVector normal = bits.reinterpretAsFloats();
        bits.min(normal.sub(first).add(normal).reinterpretAsInts())
            .or(code.lanewise(VectorOperators.LSHL, 24).and(SIGN))
            .reinterpretAsFloats()
            .intoArray(out, i);
      }
      if (largest.eq(E4M3_MAGNITUDE).anyTrue()) {
        return begin;
      }
    }
    return end;
  }

  @Override
  int fp8RowToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim) {
    int i = 0;
    int end = wholeBlocks(headDim);
    while (i < end) {
      int scale = in.get(ValueLayout.JAVA_BYTE, inAt + headDim + i / RowFormat.BLOCK) & 0xFF;
      if (scale < FIRST_NORMAL_SCALE || scale > LAST_NORMAL_SCALE) {
        break;
      }
      int bias = (scale - 7) << 23;
      float first = Float.intBitsToFloat(bias + (1 << 23));
      store(pairs(shorts(in, inAt + i), bias, first), out, outAt + 2L * i);
      i += pairGroup;
    }
    return i == headDim ? -1 : scalar.fp8RowToBf16(in, inAt, out, outAt, headDim, i);
  }

  /**
   * Two codes a word to two bfloat16 a word. They are exact: their upper halves are all of them.
   */
  private static IntVector pairs(IntVector codes, int bias, float first) {
    IntVector even = e4m3(codes, bias, first);
    IntVector odd =
        e4m3(
            codes.lanewise(VectorOperators.LSHL, 12).and(E4M3_MAGNITUDE),
            codes.lanewise(VectorOperators.LSHL, 16),
            bias,
            first);
    return even.lanewise(VectorOperators.LSHR, 16).or(odd);
  }

  /** Values of the blocks of a row that vectors may load, without a byte after the row. */
  private static int wholeBlocks(int headDim) {
    int values = BLOCK_BY_VECTORS ? headDim & -RowFormat.BLOCK : 0;
    int after = headDim + RowFormat.FP8_BLOCK32.scaleBytes(headDim) - values;
    return after < LOADED - LANES ? Math.max(0, values - RowFormat.BLOCK) : values;
  }

  private static void store(IntVector bits, MemorySegment out, long at) {
    bits.intoMemorySegment(out, at, LE);
  }
}
