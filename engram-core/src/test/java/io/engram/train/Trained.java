// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.random.RandomGenerator;

/** Tables and gradients for tests. */
final class Trained {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private Trained() {}

  /** A table of random numbers, in shards of 8 rows. */
  static EngramTable table(RowFormat format, long rows, int headDim, RandomGenerator random) {
    RamRowStore store = RamRowStore.create("layer 7", rows, format.rowBytes(headDim), 8);
    int values = Math.toIntExact(rows * headDim);
    MemorySegment all = store.whole();
    for (int i = 0; i < values; i++) {
      float value = (float) random.nextGaussian();
      if (format == RowFormat.F32) {
        all.set(FLOAT, 4L * i, value);
      } else {
        all.set(
            ValueLayout.JAVA_SHORT_UNALIGNED,
            2L * i,
            (short) (Float.floatToRawIntBits(value) >>> 16));
      }
    }
    return new EngramTable(store, format, headDim);
  }

  static MemorySegment memory(float... values) {
    MemorySegment memory = Arena.ofAuto().allocate(4L * Math.max(1, values.length), 4);
    MemorySegment.copy(values, 0, memory, FLOAT, 0, values.length);
    return memory;
  }

  /** Normal gradients, [count, headDim]. */
  static float[] gradients(int count, int headDim, RandomGenerator random) {
    float[] values = new float[count * headDim];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  static long[] ids(int count, long rows, RandomGenerator random) {
    return random.longs(count, 0, rows).toArray();
  }

  static byte[] bytes(RamRowStore store) {
    return store.whole().toArray(ValueLayout.JAVA_BYTE);
  }

  static byte[] bytes(EngramTable table) {
    return bytes((RamRowStore) table.store());
  }

  /** The state's bytes, all stores after each other. */
  static byte[] state(TableOptimizer optimizer) {
    byte[] all = new byte[0];
    for (RamRowStore store : optimizer.state().values()) {
      byte[] some = bytes(store);
      int had = all.length;
      all = Arrays.copyOf(all, had + some.length);
      System.arraycopy(some, 0, all, had, some.length);
    }
    return all;
  }
}
