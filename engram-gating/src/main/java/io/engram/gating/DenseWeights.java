// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * A projection's weights on their way into a library.
 *
 * @param tensor F32 or BF16 [outputs, rowWidth]
 * @param outputs rows
 * @param rowWidth columns
 */
record DenseWeights(Tensor tensor, int outputs, int rowWidth) {
  static DenseWeights of(Tensor tensor) {
    long[] shape = tensor.shape();
    boolean known = tensor.dtype() == Dtype.F32 || tensor.dtype() == Dtype.BF16;
    if (!known || shape.length != 2 || Arrays.stream(shape).anyMatch(size -> size < 1)) {
      throw new IllegalArgumentException(
          "weights are " + tensor + ", expected F32 or BF16 [outputs, rowWidth]");
    }
    return new DenseWeights(tensor, Math.toIntExact(shape[0]), Math.toIntExact(shape[1]));
  }

  Dtype dtype() {
    return tensor.dtype();
  }

  /**
   * Whether machine code may read the tensor's own memory: heap memory moves, elements may lie
   * across their alignment, and a mapped file that somebody truncates would end the process.
   */
  boolean isReadableInPlace() {
    MemorySegment data = tensor.data();
    return data.isNative() && !data.isMapped() && data.address() % dtype().bytes() == 0;
  }

  /** Some rows as they are, in anonymous memory: the tensor's own if that will do. */
  MemorySegment rows(int first, int count, Arena arena) {
    long rowBytes = (long) rowWidth * dtype().bytes();
    MemorySegment rows = tensor.data().asSlice(first * rowBytes, count * rowBytes);
    return isReadableInPlace() ? rows : arena.allocate(rows.byteSize(), 64).copyFrom(rows);
  }

  /** A copy of some rows as F32. */
  MemorySegment floats(int first, int count, Arena arena) {
    long elements = (long) count * rowWidth;
    MemorySegment floats = arena.allocate(elements * Float.BYTES, 64);
    if (dtype() == Dtype.F32) {
      MemorySegment.copy(
          tensor.data(), (long) first * rowWidth * Float.BYTES, floats, 0, elements * Float.BYTES);
      return floats;
    }
    short[] shorts = new short[rowWidth];
    float[] row = new float[rowWidth];
    for (int o = 0; o < count; o++) {
      MemorySegment.copy(
          tensor.data(),
          Memory.SHORT,
          (long) (first + o) * rowWidth * Short.BYTES,
          shorts,
          0,
          rowWidth);
      GateLoops.CHOSEN.widen(shorts, row, rowWidth);
      MemorySegment.copy(row, 0, floats, Memory.FLOAT, (long) o * rowWidth * Float.BYTES, rowWidth);
    }
    return floats;
  }
}
