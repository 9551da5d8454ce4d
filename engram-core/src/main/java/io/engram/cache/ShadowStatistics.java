// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import java.util.List;

/**
 * What caches of several sizes would have done with the rows seen so far. Immutable.
 *
 * @param caches one entry for each size, ascending
 */
public record ShadowStatistics(List<Cache> caches) {

  /** Copies the list. */
  public ShadowStatistics {
    caches = List.copyOf(caches);
  }

  /**
   * A cache of one size.
   *
   * @param bytes the memory it would be given
   * @param capacityRows the rows it would have room for
   * @param residentRows the rows it would hold, estimated
   * @param residentBytes the memory that these rows and their tags would take, estimated
   * @param sampled share of its sets that were simulated, above 0 to 1
   * @param orders one entry for each n-gram order, ascending
   * @param total all orders together, with order 0
   */
  public record Cache(
      long bytes,
      long capacityRows,
      long residentRows,
      long residentBytes,
      double sampled,
      List<Order> orders,
      Order total) {

    /** Copies the list. */
    public Cache {
      orders = List.copyOf(orders);
    }
  }

  /**
   * The rows of one n-gram order.
   *
   * @param order the order; 0 for all of them together
   * @param rows rows asked for, exact
   * @param hitRate share of them that would have been in the cache, 0 to 1
   * @param repeatRate share of them that would not, but that the same read had asked for already
   * @param standardError of the hit rate, from simulating some sets only; 0 if all were simulated
   */
  public record Order(
      int order, long rows, double hitRate, double repeatRate, double standardError) {}

  /** A table of a line for each size, with a column for each order and one for all. */
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder("%16s%16s".formatted("bytes", "rows held"));
    if (!caches.isEmpty()) {
      caches.getFirst().orders().forEach(o -> text.append("%18s".formatted("order " + o.order())));
    }
    text.append("%18s".formatted("all"));
    for (Cache cache : caches) {
      text.append("%n%,16d%,16d".formatted(cache.bytes(), cache.residentRows()));
      cache.orders().forEach(order -> cell(text, order));
      cell(text, cache.total());
    }
    return text.toString();
  }

  private static void cell(StringBuilder text, Order order) {
    text.append("%10.1f%% ±%5.1f".formatted(100 * order.hitRate(), 100 * order.standardError()));
  }
}
