// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.hash.NgramHasher;
import io.engram.stats.LatencyHistogram;
import io.engram.table.EngramTable;

/** One table as prefetching sees it, and what has been counted. */
final class StagedLayer {
  /** Stored rows of one round of decoding: with the decoded ones they stay in the first cache. */
  private static final int ROUND_BYTES = 1 << 13;

  private final int id;
  private final int order;
  private final NgramHasher hasher;
  private final EngramTable table;
  private final int rowBytes;
  private final int rowsPerSlice;
  private final int rowsPerRound;

  // Guarded by the lock of the Prefetcher.
  long rows;
  long distinctRows;
  long distinctPages;
  long unstaged;
  long asks;
  long late;
  long synchronous;
  long failures;
  long retries;
  long mismatches;
  final LatencyHistogram waits = new LatencyHistogram();
  final LatencyHistogram lateness = new LatencyHistogram();

  /**
   * A layer.
   *
   * @param order its place among the layers, lowest first
   * @param largestRegion bytes of the largest region of staging memory
   */
  StagedLayer(int order, NgramHasher hasher, EngramTable table, int sliceRows, long largestRegion) {
    this.id = hasher.layout().layerId();
    this.order = order;
    this.hasher = hasher;
    this.table = table;
    rowBytes = table.store().rowBytes();
    rowsPerSlice = rowsPerSlice(sliceRows, largestRegion);
    rowsPerRound = Math.max(1, ROUND_BYTES / rowBytes);
  }

  /** As many rows as fill a region, so that none of it is wasted; 0 if not even one fits any. */
  private int rowsPerSlice(int sliceRows, long largestRegion) {
    long perRow = (long) rowBytes + Long.BYTES;
    // Ids are aligned, which takes up to 7 bytes.
    long most = largestRegion < 8 ? 0 : (largestRegion - 7) / perRow;
    if (most == 0) {
      return 0;
    }
    long wanted = Math.min(sliceRows, most);
    long region = Math.max(StagingMemory.UNIT, Long.highestOneBit(wanted * perRow + 7));
    return (int) Math.clamp((region - 7) / perRow, 1, wanted);
  }

  int id() {
    return id;
  }

  int order() {
    return order;
  }

  NgramHasher hasher() {
    return hasher;
  }

  EngramTable table() {
    return table;
  }

  int columns() {
    return hasher.columns();
  }

  int rowBytes() {
    return rowBytes;
  }

  int rowsPerSlice() {
    return rowsPerSlice;
  }

  int rowsPerRound() {
    return rowsPerRound;
  }

  int rowWidth() {
    return hasher.columns() * table.headDim();
  }

  PrefetchStatistics.Layer statistics() {
    return new PrefetchStatistics.Layer(
        rows,
        distinctRows,
        distinctPages,
        distinctRows * rowBytes,
        unstaged,
        asks,
        late,
        synchronous,
        failures,
        retries,
        mismatches,
        waits.summary(),
        lateness.summary());
  }
}
