// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** The kernels as plain loops. */
class ScalarRowKernels extends RowKernels {
  static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  ScalarRowKernels() {}

  @Override
  void bf16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      out.set(FLOAT, outAt + 4 * i, NarrowFloat.bf16(in.get(SHORT, inAt + 2 * i)));
    }
  }

  @Override
  void f32ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      out.set(SHORT, outAt + 2 * i, NarrowFloat.toBf16(in.get(FLOAT, inAt + 4 * i)));
    }
  }

  @Override
  void f16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      out.set(FLOAT, outAt + 4 * i, NarrowFloat.f16(in.get(SHORT, inAt + 2 * i)));
    }
  }

  @Override
  void f16ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      float value = NarrowFloat.f16(in.get(SHORT, inAt + 2 * i));
      out.set(SHORT, outAt + 2 * i, NarrowFloat.toBf16(value));
    }
  }

  @Override
  void fp8ToF32(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      float value = NarrowFloat.e4m3(in.get(ValueLayout.JAVA_BYTE, inAt + i));
      out.set(FLOAT, outAt + 4 * i, value * scale);
    }
  }

  @Override
  void fp8ToBf16(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count) {
    for (long i = 0; i < count; i++) {
      float value = NarrowFloat.e4m3(in.get(ValueLayout.JAVA_BYTE, inAt + i));
      out.set(SHORT, outAt + 2 * i, NarrowFloat.toBf16(value * scale));
    }
  }

  @Override
  int fp8RowToF32(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim, Fp8Scratch scratch) {
    return fp8RowToF32(in, inAt, out, outAt, headDim, 0);
  }

  /** The rest of a row, from a value on with which a block begins. */
  int fp8RowToF32(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim, int from) {
    for (int begin = from; begin < headDim; begin += RowFormat.BLOCK) {
      byte code = in.get(ValueLayout.JAVA_BYTE, inAt + headDim + begin / RowFormat.BLOCK);
      if ((code & 0xFF) == NAN_SCALE) {
        return begin / RowFormat.BLOCK;
      }
      int end = Math.min(begin + RowFormat.BLOCK, headDim);
      float scale = NarrowFloat.e8m0(code);
      if ((code & 0xFF) >= FIRST_EXACT_SCALE) {
        fp8ToF32(in, inAt + begin, scale, out, outAt + 4L * begin, end - begin);
      } else {
        for (int i = begin; i < end; i++) {
          float value = NarrowFloat.e4m3(in.get(ValueLayout.JAVA_BYTE, inAt + i)) * scale;
          out.set(FLOAT, outAt + 4L * i, NarrowFloat.bf16(NarrowFloat.toBf16(value)));
        }
      }
    }
    return -1;
  }

  @Override
  int fp8RowToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim) {
    return fp8RowToBf16(in, inAt, out, outAt, headDim, 0);
  }

  /** The rest of a row, from a value on with which a block begins. */
  int fp8RowToBf16(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim, int from) {
    for (int begin = from; begin < headDim; begin += RowFormat.BLOCK) {
      byte code = in.get(ValueLayout.JAVA_BYTE, inAt + headDim + begin / RowFormat.BLOCK);
      if ((code & 0xFF) == NAN_SCALE) {
        return begin / RowFormat.BLOCK;
      }
      int end = Math.min(begin + RowFormat.BLOCK, headDim);
      float scale = NarrowFloat.e8m0(code);
      if ((code & 0xFF) >= FIRST_EXACT_SCALE) {
        for (int i = begin; i < end; i++) {
          float value = NarrowFloat.e4m3(in.get(ValueLayout.JAVA_BYTE, inAt + i)) * scale;
          out.set(SHORT, outAt + 2L * i, (short) (Float.floatToRawIntBits(value) >>> 16));
        }
      } else {
        fp8ToBf16(in, inAt + begin, scale, out, outAt + 2L * begin, end - begin);
      }
    }
    return -1;
  }
}
