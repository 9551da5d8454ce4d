// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.random.RandomGenerator;

/** Tables whose rows prove what they are, and streams of row ids. */
final class Tables {
  private Tables() {}

  /** Rows of orders 2 and 3, a head each. */
  static HashLayout layout(long rowsOfOrder2, long rowsOfOrder3) {
    HashScheme scheme =
        new HashScheme(
            10,
            List.of(2, 3),
            1,
            List.of(2L, 2L),
            List.of(1),
            0,
            HashScheme.Generator.NUMPY_PCG64,
            HashScheme.PrimeSearch.RESTART_PER_ORDER,
            1);
    return HashLayout.stored(
        scheme,
        1,
        new long[] {1, 1, 1},
        new long[] {rowsOfOrder2, rowsOfOrder3},
        new long[] {0, rowsOfOrder2});
  }

  static HashLayout layout(long rows) {
    return layout(rows / 2, rows - rows / 2);
  }

  /** The bytes at an offset of a row: no two rows agree in any eight of them. */
  static long word(long row, int index) {
    return CacheSets.hash(row * 1_000_003 + index);
  }

  /** Fails if a row that was read is another, or parts of several. */
  static void check(long row, MemorySegment read, long at, int rowBytes) {
    for (int w = 0; w < rowBytes / Long.BYTES; w++) {
      long found = read.get(ValueLayout.JAVA_LONG_UNALIGNED, at + w * (long) Long.BYTES);
      if (found != word(row, w)) {
        assertEquals(word(row, w), found, "row " + row + " word " + w);
      }
    }
  }

  static void check(RowStore store, long[] ids) {
    byte[] out = new byte[ids.length * store.rowBytes()];
    store.read(ids, 0, ids.length, MemorySegment.ofArray(out), 0);
    for (int i = 0; i < ids.length; i++) {
      check(ids[i], MemorySegment.ofArray(out), (long) i * store.rowBytes(), store.rowBytes());
    }
  }

  /** Few rows often, many seldom. */
  static long[] skewed(RandomGenerator random, int count, long rows, double exponent) {
    long[] ids = new long[count];
    for (int i = 0; i < count; i++) {
      long rank = (long) (rows * Math.pow(random.nextDouble(), exponent));
      ids[i] = Long.remainderUnsigned(CacheSets.hash(rank + 77), rows);
    }
    return ids;
  }

  /** Computes rows, whole words of them, and counts those that were asked for. */
  static class Computed implements RowStore {
    final AtomicLong reads = new AtomicLong();
    final AtomicLong rows = new AtomicLong();
    private final long rowCount;
    private final int rowBytes;
    private volatile boolean closed;

    Computed(long rowCount, int rowBytes) {
      this.rowCount = rowCount;
      this.rowBytes = rowBytes;
    }

    @Override
    public String name() {
      return "computed";
    }

    @Override
    public long rowCount() {
      return rowCount;
    }

    @Override
    public int rowBytes() {
      return rowBytes;
    }

    @Override
    public int preferredBatch() {
      return 321;
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      if (closed) {
        throw new IllegalStateException("computed: the row store is closed");
      }
      reads.incrementAndGet();
      rows.addAndGet(count);
      for (int i = 0; i < count; i++) {
        for (int w = 0; w < rowBytes / Long.BYTES; w++) {
          out.set(
              ValueLayout.JAVA_LONG_UNALIGNED,
              outOffset + (long) i * rowBytes + w * (long) Long.BYTES,
              word(rowIds[from + i], w));
        }
      }
    }

    boolean isClosed() {
      return closed;
    }

    @Override
    public void close() {
      closed = true;
    }
  }
}
