// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.shard.ShardLayout;
import io.engram.table.RowDigest;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;

/** The runs of a divided table one by one, and where the blocks of table and shards begin. */
final class Division {
  /** So that a hostile file cannot make us list the rows of a table one by one. */
  private static final long MOST_RUNS = 1 << 22;

  private final long rowCount;
  private final Optional<ShardLayout> layout;
  private final List<Run> runs;

  /** Consecutive rows of the table that are consecutive in a shard. */
  record Run(int shard, long localFirst, RowRange rows) {}

  /**
   * A division of all rows.
   *
   * @throws IllegalArgumentException if the layout is of another number of rows, or in too many
   *     pieces
   */
  Division(long rowCount, Optional<ShardLayout> layout) {
    this.rowCount = rowCount;
    this.layout = layout;
    List<Run> all = new ArrayList<>();
    if (layout.isEmpty()) {
      all.add(new Run(0, 0, new RowRange(0, rowCount)));
    }
    layout.ifPresent(l -> {
      checkRows(l, rowCount);
      long count = 0;
      for (int shard = 0; shard < l.shards(); shard++) {
        count += checkRuns(l, l.ranges(shard));
      }
      checkRuns(l, count);
      for (int shard = 0; shard < l.shards(); shard++) {
        int s = shard;
        l.forEachRange(
            shard, (local, row, rows) -> all.add(new Run(s, local, new RowRange(row, rows))));
      }
      all.sort(Comparator.comparingLong(r -> r.rows().first()));
    });
    runs = List.copyOf(all);
  }

  private static long checkRuns(ShardLayout layout, long count) {
    if (count > MOST_RUNS) {
      throw new IllegalArgumentException(
          layout + ": " + count + " runs of rows, expected at most " + MOST_RUNS);
    }
    return count;
  }

  static void checkRows(ShardLayout layout, long rowCount) {
    if (layout.rowCount() != rowCount) {
      throw new IllegalArgumentException(
          layout + ": " + layout.rowCount() + " rows, but the table has " + rowCount);
    }
  }

  static Division whole(long rowCount) {
    return new Division(rowCount, Optional.empty());
  }

  /** The rows of the table whose concatenation are the rows of a shard. */
  static List<RowRange> ranges(Optional<ShardLayout> layout, int shard, long rowCount) {
    if (layout.isEmpty()) {
      return List.of(new RowRange(0, rowCount));
    }
    checkRuns(layout.get(), layout.get().ranges(shard));
    List<RowRange> ranges = new ArrayList<>();
    layout.get().forEachRange(shard, (_, row, rows) -> ranges.add(new RowRange(row, rows)));
    return ranges;
  }

  Optional<ShardLayout> layout() {
    return layout;
  }

  long rowCount() {
    return rowCount;
  }

  int count() {
    return layout.map(ShardLayout::shards).orElse(1);
  }

  long rows(int shard) {
    return layout.map(l -> l.rows(shard)).orElse(rowCount);
  }

  /** In the order of the table. */
  List<Run> runs() {
    return runs;
  }

  /** From the one that holds a row on. */
  List<Run> runs(long row) {
    return runs.subList(runAt(row), runs.size());
  }

  int blocks() {
    return RowDigest.blocks(rowCount);
  }

  RowRange block(int block) {
    long first = (long) block * RowDigest.BLOCK_ROWS;
    return new RowRange(first, Math.min(RowDigest.BLOCK_ROWS, rowCount - first));
  }

  /** The rows of a block of the table, cut where shards and blocks of shards begin. */
  List<Run> pieces(int block) {
    RowRange wanted = block(block);
    List<Run> pieces = new ArrayList<>();
    for (int i = runAt(wanted.first());
        i < runs.size() && runs.get(i).rows().first() < wanted.end();
        i++) {
      Run run = runs.get(i);
      long at = Math.max(wanted.first(), run.rows().first());
      long end = Math.min(wanted.end(), run.rows().end());
      while (at < end) {
        long local = run.localFirst() + at - run.rows().first();
        long toBlock = RowDigest.BLOCK_ROWS - local % RowDigest.BLOCK_ROWS;
        long count = Math.min(end - at, toBlock);
        pieces.add(new Run(run.shard(), local, new RowRange(at, count)));
        at += count;
      }
    }
    return pieces;
  }

  private int runAt(long row) {
    int low = 0;
    int high = runs.size() - 1;
    while (low < high) {
      int middle = (low + high) >>> 1;
      if (runs.get(middle).rows().end() <= row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  /** The ranges of the table that some rows of a file with these ranges are. */
  static List<RowRange> tableRows(List<RowRange> ranges, RowRange local) {
    List<RowRange> found = new ArrayList<>();
    long first = 0;
    for (RowRange range : ranges) {
      long from = Math.max(local.first(), first);
      long to = Math.min(local.end(), first + range.count());
      if (from < to) {
        found.add(new RowRange(range.first() + from - first, to - from));
      }
      first += range.count();
    }
    return found;
  }
}
