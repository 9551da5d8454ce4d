// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import io.engram.hash.HashLayout;
import java.util.List;

/** From a row to the n-gram order whose heads own it. Immutable. */
final class RowOrders {
  private final List<Integer> orders;

  /**
   * First row of each order but the first: orders are few, so that a loop is the fastest search.
   */
  private final long[] starts;

  RowOrders(HashLayout layout) {
    orders = layout.orders();
    starts = new long[orders.size() - 1];
    for (int i = 0; i < starts.length; i++) {
      starts[i] = layout.offset((i + 1) * layout.headsPerOrder());
    }
  }

  List<Integer> orders() {
    return orders;
  }

  int count() {
    return starts.length + 1;
  }

  /** Index of a row's order; rows that only pad the table are counted with the last. */
  int index(long row) {
    int index = 0;
    while (index < starts.length && row >= starts[index]) {
      index++;
    }
    return index;
  }
}
