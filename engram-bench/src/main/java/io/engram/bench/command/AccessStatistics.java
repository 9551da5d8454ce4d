// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.util.Arrays;

/**
 * How often the rows of one n-gram order were asked for.
 *
 * @param order the order
 * @param accesses row reads
 * @param distinct different rows
 * @param topShare share of all reads that the 100 most wanted rows answer
 * @param zipfExponent slope of log frequency over log rank, sign reversed, over the ranks that were
 *     seen more than once; NaN where there are too few
 * @param curve reads of a row over its rank, both on a log scale, as a line of text
 */
record AccessStatistics(
    int order, long accesses, long distinct, double topShare, double zipfExponent, String curve) {

  private static final int TOP = 100;
  private static final int CURVE_WIDTH = 60;
  private static final int FEWEST_RANKS = 10;

  /** Of the row ids of one order in any sequence; sorts the array. */
  static AccessStatistics of(int order, long[] rowIds) {
    Arrays.sort(rowIds);
    int[] counts = new int[rowIds.length];
    int distinct = 0;
    for (int i = 0; i < rowIds.length; distinct++) {
      int start = i;
      while (i < rowIds.length && rowIds[i] == rowIds[start]) {
        i++;
      }
      counts[distinct] = i - start;
    }
    int[] ascending = Arrays.copyOf(counts, distinct);
    Arrays.sort(ascending);
    int[] byRank = new int[distinct];
    for (int i = 0; i < distinct; i++) {
      byRank[i] = ascending[distinct - 1 - i];
    }
    long top = Arrays.stream(byRank).limit(TOP).asLongStream().sum();
    return new AccessStatistics(
        order,
        rowIds.length,
        distinct,
        rowIds.length == 0 ? 0 : (double) top / rowIds.length,
        slope(byRank),
        Sparkline.ofRanks(byRank, CURVE_WIDTH));
  }

  /** Least squares over log-spaced ranks, so that the long tail does not outvote the head. */
  private static double slope(int[] byRank) {
    double n = 0;
    double sumX = 0;
    double sumY = 0;
    double sumXx = 0;
    double sumXy = 0;
    for (double rank = 1; rank <= byRank.length; rank = Math.max(rank + 1, rank * 1.2)) {
      int count = byRank[(int) rank - 1];
      if (count <= 1) {
        break;
      }
      double x = Math.log((int) rank);
      double y = Math.log(count);
      n++;
      sumX += x;
      sumY += y;
      sumXx += x * x;
      sumXy += x * y;
    }
    return n < FEWEST_RANKS ? Double.NaN : -(n * sumXy - sumX * sumY) / (n * sumXx - sumX * sumX);
  }
}
