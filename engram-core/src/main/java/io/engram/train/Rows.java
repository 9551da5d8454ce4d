// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.stats.MeteredRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;

/** What all who change rows need to know of them. */
final class Rows {
  private Rows() {}

  /**
   * The store of a table that can be trained.
   *
   * @throws IllegalArgumentException if its rows are not in memory, or in a format that an update
   *     cannot be added to
   */
  static RamRowStore of(EngramTable table) {
    RowStore store = table.store();
    while (store instanceof MeteredRowStore metered) {
      store = metered.store();
    }
    if (!(store instanceof RamRowStore rows)) {
      throw new IllegalArgumentException(
          table.name()
              + ": a "
              + store.getClass().getSimpleName()
              + " cannot be trained, only rows in memory: copy them with RamRowStore.copyOf(store,"
              + " threads, progress) and take table.over(copy), or make the memory with"
              + " EngramMemory.create, without a shadow cache");
    }
    if (table.format() != RowFormat.F32 && table.format() != RowFormat.BF16) {
      throw new IllegalArgumentException(
          table.name()
              + ": rows in "
              + table.format()
              + " cannot be trained, only in F32 or BF16: gather them as F32 into a new"
              + " RamRowStore, and quantise the trained table");
    }
    return rows;
  }

  /** The sum of squares, by four sums of every fourth element: the same bits on every machine. */
  static double squares(float[] x, int at, int count) {
    double a = 0;
    double b = 0;
    double c = 0;
    double d = 0;
    int i = 0;
    for (; i <= count - 4; i += 4) {
      a += (double) x[at + i] * x[at + i];
      b += (double) x[at + i + 1] * x[at + i + 1];
      c += (double) x[at + i + 2] * x[at + i + 2];
      d += (double) x[at + i + 3] * x[at + i + 3];
    }
    for (; i < count; i++) {
      a += (double) x[at + i] * x[at + i];
    }
    return a + b + (c + d);
  }
}
