// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import java.util.List;

/**
 * What a cache has done so far. Immutable. Taken while others read, its counters are each right but
 * of slightly different moments.
 *
 * @param orders one entry for each n-gram order, ascending
 * @param residentRows rows in the cache
 * @param capacityRows rows that it has room for
 * @param bytes memory that it may take in all, tags and buffers included; pages that were never
 *     written are not taken yet
 */
public record CacheStatistics(
    List<Order> orders, long residentRows, long capacityRows, long bytes) {

  /** Copies the list. */
  public CacheStatistics {
    orders = List.copyOf(orders);
  }

  /**
   * The rows of one n-gram order.
   *
   * @param order the order; 0 for all of them together
   * @param hits rows that were in the cache
   * @param misses rows that were not; {@code hits + misses} is the number of rows asked for
   * @param repeats those of the misses that cost no read of their own, because the same read had
   *     asked for the row already
   * @param inserts rows that were put into the cache
   * @param rejected rows read from below that were not put in, because another thread was at work
   *     on the same set or all buffers were in use
   * @param evictions rows that had to make room
   */
  public record Order(
      int order,
      long hits,
      long misses,
      long repeats,
      long inserts,
      long rejected,
      long evictions) {

    /**
     * Rows asked for.
     *
     * @return hits and misses
     */
    public long rows() {
      return hits + misses;
    }

    /**
     * Share of the rows that were in the cache.
     *
     * @return 0 to 1; 0 if no row was asked for
     */
    public double hitRate() {
      return rows() == 0 ? 0 : (double) hits / rows();
    }
  }

  /**
   * All orders together.
   *
   * @return the sums, with order 0
   */
  public Order total() {
    long[] sums = new long[6];
    for (Order o : orders) {
      sums[0] += o.hits();
      sums[1] += o.misses();
      sums[2] += o.repeats();
      sums[3] += o.inserts();
      sums[4] += o.rejected();
      sums[5] += o.evictions();
    }
    return new Order(0, sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]);
  }

  /** A table of a line for each order and one for all. */
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder();
    text.append(
        "%,d of %,d rows, %,d bytes%n%10s%16s%16s%9s%14s%14s%14s%14s"
            .formatted(
                residentRows,
                capacityRows,
                bytes,
                "order",
                "hits",
                "misses",
                "hit rate",
                "repeats",
                "inserts",
                "rejected",
                "evictions"));
    orders.forEach(order -> line(text, Integer.toString(order.order()), order));
    line(text, "all", total());
    return text.toString();
  }

  private static void line(StringBuilder text, String label, Order o) {
    text.append(
        "%n%10s%,16d%,16d%8.1f%%%,14d%,14d%,14d%,14d"
            .formatted(
                label,
                o.hits(),
                o.misses(),
                100 * o.hitRate(),
                o.repeats(),
                o.inserts(),
                o.rejected(),
                o.evictions()));
  }
}
