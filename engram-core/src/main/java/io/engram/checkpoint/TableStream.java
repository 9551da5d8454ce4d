// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** The rows of a table, one after the other, as the bytes of a tensor: some of them at a time. */
final class TableStream implements SafetensorsWriter.Bytes {
  private static final int BATCH_BYTES = 1 << 20;

  private final long rows;
  private final int rowBytes;
  private final Rows source;
  private final int batchRows;
  private MemorySegment batch = MemorySegment.NULL;
  private long next;
  private long from;
  private long to;

  /** Gives stored or converted rows. */
  @FunctionalInterface
  interface Rows {
    /** Puts some rows at the start of the output. */
    void read(long first, int count, MemorySegment out);
  }

  /**
   * A stream.
   *
   * @param rows how many there are
   * @param rowBytes bytes that the source gives for each
   */
  TableStream(long rows, int rowBytes, Rows source) {
    this.rows = rows;
    this.rowBytes = rowBytes;
    this.source = source;
    batchRows = (int) Math.clamp(BATCH_BYTES / rowBytes, 1, rows);
  }

  @Override
  public void read(long offset, MemorySegment out) {
    if (next == 0 && from == to) {
      batch = Arena.ofAuto().allocate((long) batchRows * rowBytes, 64);
    }
    long done = 0;
    while (done < out.byteSize()) {
      if (from == to) {
        int count = (int) Math.min(batchRows, rows - next);
        source.read(next, count, batch);
        next += count;
        from = 0;
        to = (long) count * rowBytes;
      }
      long bytes = Math.min(out.byteSize() - done, to - from);
      MemorySegment.copy(batch, from, out, done, bytes);
      from += bytes;
      done += bytes;
    }
  }
}
