// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.Tensor;
import io.engram.table.NarrowFloat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * Copies dense weights out of a checkpoint into anonymous memory, as they are or widened without
 * loss.
 *
 * <p>A mapped tensor is copied before it is converted: a compiled conversion loop may use vector
 * loads, which must not meet a mapping that somebody truncates.
 */
final class DenseTensors {
  private static final int PIECE = 1 << 16;
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final CheckpointTensors tensors;

  DenseTensors(CheckpointTensors tensors) {
    this.tensors = tensors;
  }

  /** Several tensors one after the other, as one F32 tensor of the given shape. */
  Tensor f32(Arena arena, long[] shape, String... names) {
    MemorySegment out = arena.allocate(Tensor.byteSize(Dtype.F32, shape), 64);
    float[] floats = new float[PIECE];
    long at = 0;
    for (String name : names) {
      try (Arena scratch = Arena.ofConfined()) {
        Tensor tensor = tensors.load(name, scratch);
        for (long done = 0; done < tensor.count(); done += PIECE) {
          int count = (int) Math.min(PIECE, tensor.count() - done);
          read(name, tensor, done, count, floats);
          MemorySegment.copy(floats, 0, out, FLOAT, at, count);
          at += count * 4L;
        }
      }
    }
    if (at != out.byteSize()) {
      throw new EngramException(
          String.join(", ", names) + " hold " + at / 4 + " values, expected " + out.byteSize() / 4);
    }
    return new Tensor(Dtype.F32, shape, out);
  }

  /** Matrices one below the other: BF16 if all are stored so, else F32. */
  Tensor matrix(Arena arena, long rows, long columns, String... names) {
    boolean bf16 = true;
    for (String name : names) {
      bf16 &= tensors.info(name).dtype().equals(Dtype.BF16.name());
    }
    long[] shape = {rows, columns};
    if (!bf16) {
      return f32(arena, shape, names);
    }
    MemorySegment out = arena.allocate(Tensor.byteSize(Dtype.BF16, shape), 64);
    long at = 0;
    for (String name : names) {
      try (Arena scratch = Arena.ofConfined()) {
        MemorySegment data = tensors.load(name, scratch).data();
        MemorySegment.copy(data, 0, out, at, data.byteSize());
        at += data.byteSize();
      }
    }
    return new Tensor(Dtype.BF16, shape, out);
  }

  /**
   * An FP8 E4M3 matrix as it is stored.
   *
   * @param scales its scales, which {@link #fp8Scales} has read
   * @param block rows and columns that share a scale
   * @throws EngramException naming the first value that is not a number, or that bfloat16 cannot
   *     hold once it is scaled
   */
  Tensor fp8Matrix(Arena arena, String name, Tensor scales, int block) {
    Tensor matrix = tensors.load(name, arena);
    int rows = Math.toIntExact(matrix.shape()[0]);
    byte[] row = new byte[Math.toIntExact(matrix.shape()[1])];
    byte[] rowScales = new byte[Math.toIntExact(scales.shape()[1])];
    short[] unused = new short[row.length];
    for (int r = 0; r < rows; r++) {
      copy(matrix, r, row);
      copy(scales, r / block, rowScales);
      int column = NarrowFloat.widenScaled(row, rowScales, block, unused);
      if (column >= 0) {
        float value = NarrowFloat.e4m3(row[column]) * NarrowFloat.e8m0(rowScales[column / block]);
        throw new EngramException(
            "%s row %d column %d is %s"
                .formatted(
                    name,
                    r,
                    column,
                    Float.isNaN(value) ? "not a number" : value + ", which bfloat16 cannot hold"));
      }
    }
    return matrix;
  }

  private static void copy(Tensor bytes, int row, byte[] out) {
    MemorySegment.copy(
        bytes.data(), ValueLayout.JAVA_BYTE, (long) row * out.length, out, 0, out.length);
  }

  /**
   * UE8M0 scales as they are stored.
   *
   * @throws EngramException naming the first that is NaN
   */
  Tensor fp8Scales(Arena arena, String name) {
    Tensor scales = tensors.load(name, arena);
    byte[] codes = scales.data().toArray(ValueLayout.JAVA_BYTE);
    for (int i = 0; i < codes.length; i++) {
      if (Float.isNaN(NarrowFloat.e8m0(codes[i]))) {
        throw new EngramException(name + " has a NaN as the scale of block " + i);
      }
    }
    return scales;
  }

  long[] int64(String name) {
    try (Arena scratch = Arena.ofConfined()) {
      return tensors
          .load(name, scratch)
          .data()
          .toArray(ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
    }
  }

  private static void read(String name, Tensor tensor, long from, int count, float[] out) {
    MemorySegment data = tensor.data();
    switch (tensor.dtype()) {
      case F32 -> MemorySegment.copy(data, FLOAT, from * 4, out, 0, count);
      case BF16, F16 -> {
        short[] bits = new short[count];
        MemorySegment.copy(
            data,
            ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN),
            from * 2,
            bits,
            0,
            count);
        boolean half = tensor.dtype() == Dtype.F16;
        for (int i = 0; i < count; i++) {
          out[i] = half ? Float.float16ToFloat(bits[i]) : NarrowFloat.bf16(bits[i]);
        }
      }
      default -> throw new EngramException(name + " is " + tensor + ", expected F32, BF16 or F16");
    }
  }
}
