// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import io.engram.hash.kernel.KernelChoice;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;

/**
 * Stored values to float32 or bfloat16, all little-endian and of any alignment. Input and output
 * are anonymous native memory, never a mapped file.
 *
 * <p>Stateless and thread-safe.
 */
abstract class RowKernels {
  /**
   * From this scale on every product with an E4M3 value is a bfloat16: the smallest of those values
   * is 2^-9, the smallest bfloat16 2^-133.
   */
  static final int FIRST_EXACT_SCALE = 3;

  static final int NAN_SCALE = 255;

  private static final class Holder {
    private static final RowKernels CHOSEN =
        KernelChoice.make(
            MethodHandles.lookup(), RowKernels.class, ScalarRowKernels::new, "VectorRowKernels");
  }

  static RowKernels get() {
    return Holder.CHOSEN;
  }

  abstract void bf16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count);

  abstract void f32ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count);

  abstract void f16ToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, long count);

  abstract void f16ToBf16(MemorySegment in, long inAt, MemorySegment out, long outAt, long count);

  /** out[i] = e4m3(in[i]) * scale, rounded to float32. */
  abstract void fp8ToF32(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count);

  /** out[i] = e4m3(in[i]) * scale, rounded to float32, then to bfloat16. */
  abstract void fp8ToBf16(
      MemorySegment in, long inAt, float scale, MemorySegment out, long outAt, long count);

  /**
   * One row of {@link RowFormat#FP8_BLOCK32}: out[i] = e4m3(in[i]) * e8m0(scale of block i / 32),
   * rounded to bfloat16 and widened.
   *
   * @param in value bytes at inAt, scale bytes after them
   * @param scratch of this thread, for rows of this head dim
   * @return -1, or the first block whose scale is NaN, where it stopped
   */
  abstract int fp8RowToF32(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim, Fp8Scratch scratch);

  /**
   * One row on the heap. The checks that every access to a memory segment makes cost more than the
   * arithmetic between them: it is cheaper to copy a row in and its values out.
   */
  static final class Fp8Scratch {
    /** A load may fetch more bytes than are used. */
    private static final int PADDING = 64;

    final byte[] stored;
    final float[] decoded;

    Fp8Scratch(int headDim) {
      stored = new byte[RowFormat.FP8_BLOCK32.rowBytes(headDim) + PADDING];
      decoded = new float[headDim];
    }
  }

  /** As {@link #fp8RowToF32}, not widened. */
  abstract int fp8RowToBf16(
      MemorySegment in, long inAt, MemorySegment out, long outAt, int headDim);
}
