// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import io.engram.hash.HashLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.LongConsumer;

/**
 * Chooses how to divide a table, from the rows that a real text asks for.
 *
 * <p>A sample is cut into chunks, as prefill cuts a prompt; within a chunk every row is read once.
 * That is what makes heads unequal: the low orders of a text repeat, the high ones do not, the more
 * so the longer the chunk. Behind a cache that keeps all rows the whole sample is one chunk.
 *
 * <p>Immutable, safe to share.
 */
public final class ShardPlanner {
  /** What a disk is read in, in bytes. */
  public static final int PAGE_BYTES = 4096;

  /**
   * How much better a layout must be than another that is simpler: whole heads are few long runs of
   * the table, ask the same of each shard in every decoding step, and need no sample.
   */
  private static final double TOLERANCE = 1.10;

  /** Tokens from which the balance of decoding is taken: its scatter is that of single tokens. */
  private static final int DECODED = 4096;

  private static final int REPORT_EVERY = 64;

  private final HashLayout layout;
  private final int rowBytes;

  /** For each chunk its rows, ascending, each once. */
  private final List<long[]> chunks = new ArrayList<>();

  private final long[] decoded;
  private final List<HeadLoad> heads;

  /**
   * What the sample asks of one head. Rows and pages of a chunk count once in {@code rows} and
   * {@code pages}.
   *
   * @param column its column
   * @param order its n-gram order
   * @param asked rows of all tokens
   * @param rows rows of all chunks
   * @param pages pages of {@link #PAGE_BYTES} of all chunks, the table being one run of packed rows
   */
  public record HeadLoad(int column, int order, long asked, long rows, long pages) {}

  private ShardPlanner(
      HashLayout layout, int rowBytes, long[] rowIds, int chunkTokens, LongConsumer progress) {
    this.layout = layout;
    this.rowBytes = rowBytes;
    int columns = layout.columns();
    if (rowBytes < 1 || layout.rowCount() > Long.MAX_VALUE / rowBytes) {
      throw new IllegalArgumentException(
          layout.rowCount() + " rows of " + rowBytes + " bytes, expected 1 to 2^63 - 1 bytes");
    }
    if (chunkTokens < 1) {
      throw new IllegalArgumentException(
          "chunks of " + chunkTokens + " tokens, expected at least 1");
    }
    if (rowIds.length == 0 || rowIds.length % columns != 0) {
      throw new IllegalArgumentException(
          rowIds.length + " row ids, expected those of at least one token with " + columns);
    }
    decoded = Arrays.copyOf(rowIds, (int) Math.min(rowIds.length, (long) DECODED * columns));
    long tokens = rowIds.length / columns;
    for (long token = 0; token < tokens; token += chunkTokens) {
      int from = (int) token * columns;
      int to = (int) Math.min(tokens, token + chunkTokens) * columns;
      checkRows(rowIds, from, to);
      long[] chunk = Arrays.copyOfRange(rowIds, from, to);
      Arrays.sort(chunk);
      chunks.add(distinct(chunk));
      if (chunks.size() % REPORT_EVERY == 0 || to == rowIds.length) {
        progress.accept(to / columns);
      }
    }
    heads = headLoads(tokens);
  }

  /**
   * Measures a sample.
   *
   * @param layout the columns of the table
   * @param rowBytes bytes of a stored row, at least 1
   * @param rowIds row ids of consecutive tokens, all columns of a token side by side, as {@code
   *     NgramHasher.hash} gives them
   * @param chunkTokens tokens of a chunk, at least 1; the last chunk may have fewer
   * @return the planner
   * @throws IllegalArgumentException if there are no tokens, the row ids are not those of whole
   *     tokens or not of this layout, or a number is below 1
   */
  public static ShardPlanner of(HashLayout layout, int rowBytes, long[] rowIds, int chunkTokens) {
    return of(layout, rowBytes, rowIds, chunkTokens, tokens -> {});
  }

  /**
   * As {@link #of(HashLayout, int, long[], int)}, reporting progress.
   *
   * @param layout the columns of the table
   * @param rowBytes bytes of a stored row, at least 1
   * @param rowIds row ids of consecutive tokens, all columns of a token side by side
   * @param chunkTokens tokens of a chunk, at least 1; the last chunk may have fewer
   * @param progress given the number of tokens measured so far, on the caller's thread
   * @return the planner
   * @throws IllegalArgumentException if there are no tokens, the row ids are not those of whole
   *     tokens or not of this layout, or a number is below 1
   */
  public static ShardPlanner of(
      HashLayout layout, int rowBytes, long[] rowIds, int chunkTokens, LongConsumer progress) {
    return new ShardPlanner(layout, rowBytes, rowIds, chunkTokens, progress);
  }

  private void checkRows(long[] rowIds, int from, int to) {
    int columns = layout.columns();
    for (int i = from; i < to; i++) {
      int column = i % columns;
      long inHead = rowIds[i] - layout.offset(column);
      if (inHead < 0 || inHead >= layout.modulus(column)) {
        throw new IllegalArgumentException(
            "token %d, column %d: row id %d, expected %d to %d"
                .formatted(
                    i / columns,
                    column,
                    rowIds[i],
                    layout.offset(column),
                    layout.offset(column) + layout.modulus(column) - 1));
      }
    }
  }

  private static long[] distinct(long[] ascending) {
    int count = 0;
    for (int i = 0; i < ascending.length; i++) {
      if (i == 0 || ascending[i] != ascending[i - 1]) {
        ascending[count++] = ascending[i];
      }
    }
    return count == ascending.length ? ascending : Arrays.copyOf(ascending, count);
  }

  private List<HeadLoad> headLoads(long tokens) {
    int columns = layout.columns();
    long[] rows = new long[columns];
    long[] pages = new long[columns];
    for (long[] chunk : chunks) {
      int column = 0;
      long end = layout.modulus(0);
      long seen = -1;
      for (long row : chunk) {
        while (row >= end) {
          column++;
          end += layout.modulus(column);
          seen = -1;
        }
        rows[column]++;
        pages[column] += newPages(row, seen);
        seen = lastPage(row);
      }
    }
    List<HeadLoad> loads = new ArrayList<>();
    for (int column = 0; column < columns; column++) {
      int order = layout.orders().get(column / layout.headsPerOrder());
      loads.add(new HeadLoad(column, order, tokens, rows[column], pages[column]));
    }
    return List.copyOf(loads);
  }

  private long lastPage(long row) {
    return ((row + 1) * rowBytes - 1) / PAGE_BYTES;
  }

  /** Pages of a row behind the last one seen, in ascending order. */
  private long newPages(long row, long seen) {
    long first = row * rowBytes / PAGE_BYTES;
    return lastPage(row) - Math.max(first, seen + 1) + 1;
  }

  /**
   * What the sample asks of each head.
   *
   * @return one load for each column, in order
   */
  public List<HeadLoad> heads() {
    return heads;
  }

  /**
   * Number of chunks of the sample.
   *
   * @return at least 1
   */
  public int chunks() {
    return chunks.size();
  }

  /**
   * Compares the layouts for a number of shards.
   *
   * <p>Whole heads in turn are proposed if no other layout makes chunks wait less for their fullest
   * shard by more than 10 %, then whole heads by load, then blocks of rows. Contiguous heads are
   * measured and never proposed.
   *
   * @param shards number of shards, at least 1 and at most the rows of the table
   * @return all layouts and the proposal
   * @throws IllegalArgumentException if the table cannot be divided into so many shards
   */
  public ShardPlan plan(int shards) {
    ShardPlan.Candidate rowWise = measured(ShardLayout.rowWise(layout.rowCount(), shards));
    if (shards > layout.columns()) {
      return new ShardPlan(
          List.of(rowWise),
          rowWise,
          "%d heads cannot fill %d shards; blocks of rows can".formatted(layout.columns(), shards));
    }
    ShardPlan.Candidate strided = measured(ShardLayout.stridedHeads(layout, shards));
    ShardPlan.Candidate contiguous = measured(ShardLayout.contiguousHeads(layout, shards));
    ShardPlan.Candidate balanced =
        measured(
            ShardLayout.balancedHeads(
                layout, shards, heads.stream().mapToLong(HeadLoad::rows).toArray()));
    List<ShardPlan.Candidate> all = List.of(strided, contiguous, balanced, rowWise);
    double best =
        all.stream().mapToDouble(ShardPlan.Candidate::slowest).min().orElseThrow() * TOLERANCE;
    if (strided.slowest() <= best) {
      return new ShardPlan(
          all,
          strided,
          text(
              "every shard gets heads of every order: a chunk waits %.2f times the mean for its"
                  + " fullest shard, and nothing else is better by more than 10 %%",
              strided.slowest()));
    }
    if (balanced.slowest() <= best) {
      return new ShardPlan(
          all,
          balanced,
          text(
              "heads by load bring the wait for the fullest shard from %.2f times the mean (in"
                  + " turn) to %.2f",
              strided.slowest(), balanced.slowest()));
    }
    return new ShardPlan(
        all,
        rowWise,
        text(
            "%d heads do not divide evenly among %d shards: a chunk would wait %.2f times the mean"
                + " for the fullest (by load %.2f), with blocks of rows %.2f",
            layout.columns(), shards, strided.slowest(), balanced.slowest(), rowWise.slowest()));
  }

  private static String text(String format, Object... values) {
    return String.format(Locale.ROOT, format, values);
  }

  private ShardPlan.Candidate measured(ShardLayout candidate) {
    int shards = candidate.shards();
    long[] rows = new long[shards];
    long[] pages = new long[shards];
    long[] ofChunk = new long[shards];
    long[] seen = new long[shards];
    long most = 0;
    long sum = 0;
    for (long[] chunk : chunks) {
      Arrays.fill(ofChunk, 0);
      Arrays.fill(seen, -1);
      for (long row : chunk) {
        int shard = candidate.shardOf(row);
        long local = candidate.localRow(row);
        ofChunk[shard]++;
        // Rows of a shard come in its own order, too.
        pages[shard] += newPages(local, seen[shard]);
        seen[shard] = lastPage(local);
      }
      for (int shard = 0; shard < shards; shard++) {
        rows[shard] += ofChunk[shard];
      }
      most += Arrays.stream(ofChunk).max().orElseThrow();
      sum += chunk.length;
    }
    List<ShardPlan.Load> loads = new ArrayList<>();
    for (int shard = 0; shard < shards; shard++) {
      loads.add(new ShardPlan.Load(candidate.rows(shard) * rowBytes, rows[shard], pages[shard]));
    }
    return new ShardPlan.Candidate(
        candidate, loads, (double) most * shards / sum, decode(candidate));
  }

  private double decode(ShardLayout candidate) {
    int columns = layout.columns();
    long most = 0;
    int[] ofToken = new int[candidate.shards()];
    for (int at = 0; at < decoded.length; at += columns) {
      Arrays.fill(ofToken, 0);
      for (int c = 0; c < columns; c++) {
        ofToken[candidate.shardOf(decoded[at + c])]++;
      }
      most += Arrays.stream(ofToken).max().orElseThrow();
    }
    return (double) most * candidate.shards() / decoded.length;
  }
}
