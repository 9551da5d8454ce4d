// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.stats.MeteredRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;

/** The store of a table whose rows are in memory. */
final class TableRows {
  private TableRows() {}

  static RamRowStore of(EngramTable table) {
    RowStore store = table.store();
    while (store instanceof MeteredRowStore metered) {
      store = metered.store();
    }
    return (RamRowStore) store;
  }
}
