// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.Dtype;
import io.engram.EngramFormatException;
import io.engram.checkpoint.SafetensorsWriter;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Takes the values, or the scales, of consecutive packed rows apart again. */
final class TensorBytes implements SafetensorsWriter.Bytes {
  private static final int ROUND_BYTES = 1 << 20;

  private final PackedTable table;
  private final Division division;
  private final long firstRow;
  private final long rows;
  private final int from;
  private final int bytes;
  private final int round;
  private final MemorySegment buffer;

  /**
   * Bytes of a column of rows.
   *
   * @param from position of the first byte in each row
   * @param bytes how many of each row
   */
  private TensorBytes(
      PackedTable table, Division division, long firstRow, long rows, int from, int bytes) {
    this.table = table;
    this.division = division;
    this.firstRow = firstRow;
    this.rows = rows;
    this.from = from;
    this.bytes = bytes;
    int rowBytes = table.identity().rowBytes();
    round = Math.max(1, ROUND_BYTES / rowBytes);
    buffer = Arena.ofAuto().allocate((long) round * rowBytes);
  }

  static void addAll(SafetensorsWriter writer, PackedTable table) {
    TableIdentity identity = table.identity();
    PackedFile first = table.files().getFirst();
    if (first.tensors().isEmpty()) {
      throw new EngramFormatException(
          first.path(), "does not say what the tensors of this table are called");
    }
    int headDim = identity.headDim();
    int valueBytes = identity.format().valueBytes(headDim);
    int scaleBytes = identity.format().scaleBytes(headDim);
    Division division = table.division();
    long row = 0;
    for (SourceTensor tensor : first.tensors()) {
      long start = row;
      writer.add(
          tensor.values(),
          dtype(identity.format()),
          new long[] {tensor.rows(), headDim},
          new TensorBytes(table, division, start, tensor.rows(), 0, valueBytes));
      tensor
          .scales()
          .ifPresent(scales ->
              writer.add(
                  scales,
                  Dtype.F8_E8M0,
                  new long[] {tensor.rows(), scaleBytes},
                  new TensorBytes(table, division, start, tensor.rows(), valueBytes, scaleBytes)));
      row += tensor.rows();
    }
    first
        .tableScale()
        .ifPresent(scale ->
            writer.metadata("layer " + identity.layer() + " table scale", scale.toString()));
  }

  private static Dtype dtype(RowFormat format) {
    return switch (format) {
      case F32 -> Dtype.F32;
      case BF16 -> Dtype.BF16;
      case F16 -> Dtype.F16;
      case FP8_BLOCK32, FP8_TENSOR -> Dtype.F8_E4M3;
    };
  }

  @Override
  public void read(long offset, MemorySegment out) {
    int rowBytes = table.identity().rowBytes();
    long row = offset / bytes;
    long skipped = offset % bytes;
    long done = 0;
    while (done < out.byteSize()) {
      int count =
          (int)
              Math.min(
                  Math.min(round, rows - row),
                  Math.ceilDiv(skipped + out.byteSize() - done, (long) bytes));
      table.readInOrder(division, firstRow + row, count, buffer);
      for (int i = 0; i < count; i++) {
        long part = Math.min(bytes - skipped, out.byteSize() - done);
        MemorySegment.copy(buffer, (long) i * rowBytes + from + skipped, out, done, part);
        done += part;
        skipped = 0;
      }
      row += count;
    }
  }
}
