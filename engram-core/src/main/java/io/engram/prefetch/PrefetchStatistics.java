// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.stats.LatencySummary;
import java.util.Map;

/**
 * What prefetching has done since the memory was opened: a snapshot.
 *
 * @param retrievals retrievals made
 * @param open of them, those not yet closed
 * @param stagingBytes the most memory that staged rows may take
 * @param stagingInUse memory that they take now, in bytes
 * @param stagingPeak the most that they have taken at once, in bytes
 * @param layers by layer
 */
public record PrefetchStatistics(
    long retrievals,
    long open,
    long stagingBytes,
    long stagingInUse,
    long stagingPeak,
    Map<Integer, Layer> layers) {

  /** Copies the map. */
  public PrefetchStatistics {
    layers = Map.copyOf(layers);
  }

  /**
   * One layer.
   *
   * @param rows row ids of all retrievals: tokens * columns. Counted only where rows were staged,
   *     as are the next three
   * @param distinctRows of them, those that differ within their retrieval: the rows that are read
   * @param distinctPages pages of 4 KiB that these lie in, in a table without gaps
   * @param stagedBytes bytes of these rows
   * @param unstaged retrievals for which there was no room
   * @param asks how often rows were asked for
   * @param late of them, those whose rows were not all there yet
   * @param synchronous of them, those that were read outside of staging: unstaged, or asked for
   *     again
   * @param failures reads by a worker that failed
   * @param retries reads repeated by the thread that asked
   * @param mismatches staged rows that differed from a fresh read
   * @param waits time from each ask until its rows were there, 0 for those that were in time
   * @param lateness the same of those asks alone that were late
   */
  public record Layer(
      long rows,
      long distinctRows,
      long distinctPages,
      long stagedBytes,
      long unstaged,
      long asks,
      long late,
      long synchronous,
      long failures,
      long retries,
      long mismatches,
      LatencySummary waits,
      LatencySummary lateness) {}
}
