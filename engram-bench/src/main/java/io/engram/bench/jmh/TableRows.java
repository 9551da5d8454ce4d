// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.store.RamRowStore;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * What the rows of a benchmark's table hold: random values of the format, none of them a NaN or an
 * infinity, the same again every {@value #PERIOD} rows. That is a prime, so that a wrong row is
 * noticed, and quickly written, so that every page of a large table can be.
 */
final class TableRows {
  static final int PERIOD = 4099;

  private final RowFormat format;
  private final int headDim;
  private final int rowBytes;
  private final MemorySegment block;

  TableRows(RowFormat format, int headDim) {
    this.format = format;
    this.headDim = headDim;
    rowBytes = format.rowBytes(headDim);
    block = Arena.ofAuto().allocate((long) PERIOD * rowBytes, 64);
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(PERIOD);
    for (int row = 0; row < PERIOD; row++) {
      draw(random, (long) row * rowBytes);
    }
  }

  private void draw(RandomGenerator random, long at) {
    for (int i = 0; i < headDim; i++) {
      float value = random.nextFloat(-1, 1);
      switch (format) {
        case F32 -> block.set(ValueLayout.JAVA_FLOAT, at + 4L * i, value);
        case BF16 ->
            block.set(
                ValueLayout.JAVA_SHORT, at + 2L * i, (short) (Float.floatToIntBits(value) >> 16));
        case F16 -> block.set(ValueLayout.JAVA_SHORT, at + 2L * i, Float.floatToFloat16(value));
        // The one magnitude that is left out is that of NaN.
        case FP8_BLOCK32, FP8_TENSOR ->
            block.set(
                ValueLayout.JAVA_BYTE,
                at + i,
                (byte) (random.nextInt(0x7F) | (random.nextBoolean() ? 0x80 : 0)));
      }
    }
    for (int i = 0; i < format.scaleBytes(headDim); i++) {
      block.set(ValueLayout.JAVA_BYTE, at + headDim + i, (byte) random.nextInt(119, 136));
    }
  }

  RowFormat format() {
    return format;
  }

  int headDim() {
    return headDim;
  }

  int rowBytes() {
    return rowBytes;
  }

  /** The first {@value #PERIOD} rows, packed. */
  MemorySegment block() {
    return block;
  }

  /** A table in one piece of memory, every page of it written. */
  RamRowStore inMemory(long rows) {
    long shard = rows == 1 ? 1 : Long.highestOneBit(rows - 1) << 1;
    RamRowStore store = RamRowStore.create("benchmark", rows, rowBytes, shard);
    store.populate(Runtime.getRuntime().availableProcessors());
    for (long row = 0; row < rows; row += PERIOD) {
      store.write(row, Math.min(PERIOD, rows - row), block, 0);
    }
    return store;
  }

  /** Stored rows of some ids, packed. */
  MemorySegment expected(long[] ids, int from, int count) {
    MemorySegment rows = Arena.ofAuto().allocate((long) count * rowBytes, 64);
    for (int i = 0; i < count; i++) {
      MemorySegment.copy(
          block, ids[from + i] % PERIOD * rowBytes, rows, (long) i * rowBytes, rowBytes);
    }
    return rows;
  }

  /** Row ids of which each is as likely as any other. */
  static long[] uniform(long seed, int count, long rows) {
    return RandomGeneratorFactory.of("L64X128MixRandom")
        .create(seed)
        .longs(count, 0, rows)
        .toArray();
  }
}
