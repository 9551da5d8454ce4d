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

  private final ScalarRowKernels scalar = new ScalarRowKernels();

  VectorRowKernels() {}

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

  /** Subnormals as products of normal numbers: no processor slows down for those. */
  private static FloatVector e4m3(MemorySegment in, long at) {
    IntVector code =
        (IntVector)
            ByteVector.fromMemorySegment(BYTES, in, at, LE)
                .convertShape(VectorOperators.ZERO_EXTEND_B2I, INTS, 0);
    IntVector magnitude = code.and(0x7F);
    IntVector sign = code.and(0x80).lanewise(VectorOperators.LSHL, 24);
    IntVector normal = magnitude.lanewise(VectorOperators.LSHL, 20).add(120 << 23);
    IntVector subnormal =
        ((FloatVector) magnitude.convert(VectorOperators.I2F, 0)).mul(0x1p-9f).reinterpretAsInts();
    return normal
        .blend(subnormal, magnitude.lt(8))
        .blend(0x7FC00000, magnitude.eq(0x7F))
        .or(sign)
        .reinterpretAsFloats();
  }

  private static FloatVector f16(IntVector bits) {
    IntVector magnitude = bits.and(0x7FFF);
    IntVector sign = bits.and(0x8000).lanewise(VectorOperators.LSHL, 16);
    IntVector shifted = magnitude.lanewise(VectorOperators.LSHL, 13);
    IntVector subnormal =
        ((FloatVector) magnitude.convert(VectorOperators.I2F, 0)).mul(0x1p-24f).reinterpretAsInts();
    return shifted
        .add(112 << 23)
        .blend(subnormal, magnitude.lt(0x400))
        .blend(shifted.or(0x7F800000), magnitude.compare(VectorOperators.GE, 0x7C00))
        .or(sign)
        .reinterpretAsFloats();
  }

  @Override
  void bf16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += LANES) {
      shorts(in, inAt + 2 * i)
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats()
          .intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.bf16ToF32(in, inAt + 2 * i, out, outAt + 4 * i, count - i);
  }

  @Override
  void f32ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += LANES) {
      FloatVector values = FloatVector.fromMemorySegment(FLOATS, in, inAt + 4 * i, LE);
      storeShorts(roundToBf16(values), out, outAt + 2 * i);
    }
    scalar.f32ToBf16(in, inAt + 4 * i, out, outAt + 2 * i, count - i);
  }

  @Override
  void f16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += LANES) {
      f16(shorts(in, inAt + 2 * i)).intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.f16ToF32(in, inAt + 2 * i, out, outAt + 4 * i, count - i);
  }

  @Override
  void f16ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LANES; i += LANES) {
      storeShorts(roundToBf16(f16(shorts(in, inAt + 2 * i))), out, outAt + 2 * i);
    }
    scalar.f16ToBf16(in, inAt + 2 * i, out, outAt + 2 * i, count - i);
  }

  @Override
  void fp8ToF32(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LOADED; i += LANES) {
      e4m3(in, inAt + i).mul(scale).intoMemorySegment(out, outAt + 4 * i, LE);
    }
    scalar.fp8ToF32(in, inAt + i, scale, out, outAt + 4 * i, count - i);
  }

  @Override
  void fp8ToBf16(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    long i = 0;
    for (; i <= count - LOADED; i += LANES) {
      storeShorts(roundToBf16(e4m3(in, inAt + i).mul(scale)), out, outAt + 2 * i);
    }
    scalar.fp8ToBf16(in, inAt + i, scale, out, outAt + 2 * i, count - i);
  }

  @Override
  int fp8RowToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim) {
    if (!isPlain(in, inAt + headDim, headDim)) {
      return scalar.fp8RowToF32(in, inAt, out, outAt, headDim);
    }
    int i = 0;
    for (; i <= headDim - LOADED; i += LANES) {
      float scale = scale(in, inAt + headDim, i);
      e4m3(in, inAt + i).mul(scale).intoMemorySegment(out, outAt + 4L * i, LE);
    }
    while (i < headDim) {
      int end = Math.min(headDim, (i / RowFormat.BLOCK + 1) * RowFormat.BLOCK);
      float scale = scale(in, inAt + headDim, i);
      scalar.fp8ToF32(in, inAt + i, scale, out, outAt + 4L * i, end - i);
      i = end;
    }
    return -1;
  }

  @Override
  int fp8RowToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim) {
    if (!isPlain(in, inAt + headDim, headDim)) {
      return scalar.fp8RowToBf16(in, inAt, out, outAt, headDim);
    }
    int i = 0;
    for (; i <= headDim - LOADED; i += LANES) {
      float scale = scale(in, inAt + headDim, i);
      // Exact, so the upper half is all there is.
      IntVector bits = e4m3(in, inAt + i).mul(scale).reinterpretAsInts();
      storeShorts(bits.lanewise(VectorOperators.LSHR, 16), out, outAt + 2L * i);
    }
    while (i < headDim) {
      int end = Math.min(headDim, (i / RowFormat.BLOCK + 1) * RowFormat.BLOCK);
      float scale = scale(in, inAt + headDim, i);
      scalar.fp8ToBf16(in, inAt + i, scale, out, outAt + 2L * i, end - i);
      i = end;
    }
    return -1;
  }

  /**
   * Whether no vector crosses a block, no scale is NaN, and all products are exact: whatever is not
   * so is rare and left to the scalar kernels, as a whole row.
   */
  private static boolean isPlain(MemorySegment in, long scalesAt, int headDim) {
    boolean plain = RowFormat.BLOCK % LANES == 0;
    for (int block = 0; block * RowFormat.BLOCK < headDim; block++) {
      int scale = in.get(ValueLayout.JAVA_BYTE, scalesAt + block) & 0xFF;
      plain &= scale >= FIRST_EXACT_SCALE && scale != NAN_SCALE;
    }
    return plain;
  }

  /** Scale of value i, not one of the rare ones. */
  private static float scale(MemorySegment in, long scalesAt, int i) {
    int code = in.get(ValueLayout.JAVA_BYTE, scalesAt + i / RowFormat.BLOCK) & 0xFF;
    return Float.intBitsToFloat(code << 23);
  }
}
