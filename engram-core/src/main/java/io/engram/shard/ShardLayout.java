// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import io.engram.hash.HashLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.Objects;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/**
 * Which shard of a table a row lies in, and which row of the shard it is; and back.
 *
 * <p>Every row of the table lies in exactly one shard, every shard has at least one row, and the
 * rows of a shard are in the order of the table. A shard is therefore a list of runs of table rows,
 * one behind the other: {@link #ranges}. All row numbers are 64 bits wide; nothing here allocates
 * once the layout is made.
 *
 * <p>An immutable value, safe to share.
 */
public final class ShardLayout {
  /** The most shards, so that a damaged description cannot make us allocate much. */
  public static final int MAX_SHARDS = 1 << 16;

  /** The most heads, as many as a hash scheme may have columns. */
  private static final int MAX_HEADS = 1 << 16;

  /** Rows of a block dealt to a shard: whole 4 KiB pages, whatever a row's bytes. */
  private static final long BLOCK_ROWS = 4096;

  /** Blocks that a shard should have, so that one more or less is no imbalance. */
  private static final long FEWEST_BLOCKS = 64;

  private static final int SHOWN = 80;

  /** How rows are dealt. */
  public enum Kind {
    /** Column c to shard c mod shards: every shard gets heads of every order. */
    STRIDED_HEADS,
    /**
     * Columns to shards in runs, as tensor-parallel code splits them: some shards get the low
     * orders, whose rows repeat, others the high ones, whose rows do not. Here to be compared with;
     * no file is written so.
     */
    CONTIGUOUS_HEADS,
    /** Whole columns, so that the rows that a sample asks for are spread evenly. */
    BALANCED_HEADS,
    /** Blocks of rows in turn, heads disregarded: as many shards as there are rows. */
    ROW_WISE;

    /**
     * The name in descriptions.
     *
     * @return such as strided-heads
     */
    public String text() {
      return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
  }

  private final Kind kind;
  private final int shards;
  private final long rowCount;

  /** Rows of each shard. */
  private final long[] rows;

  /** First table row of each head, and the row behind the last; empty if row-wise. */
  private final long[] headStarts;

  private final int[] owners;

  /** Row of its shard at which each head starts. */
  private final long[] headLocals;

  /** By shard: the row of the shard at which each range starts, and the table row. */
  private final long[][] rangeLocals;

  private final long[][] rangeFirsts;

  private final int blockShift;

  /** Whole heads. */
  private ShardLayout(Kind kind, int shards, long[] headRows, int[] owners) {
    this.kind = kind;
    this.shards = checkShards(kind, shards);
    this.owners = owners;
    blockShift = 0;
    int heads = headRows.length;
    if (shards > heads) {
      throw new IllegalArgumentException(
          "%s: %d heads do not fill %d shards, some would be empty; take %s, which divides heads"
              .formatted(kind.text(), heads, shards, Kind.ROW_WISE.text()));
    }
    headStarts = new long[heads + 1];
    headLocals = new long[heads];
    rows = new long[shards];
    int[] ranges = new int[shards];
    for (int head = 0; head < heads; head++) {
      int owner = owners[head];
      if (headRows[head] < 1 || headRows[head] > Long.MAX_VALUE - headStarts[head]) {
        throw new IllegalArgumentException(
            "%s: head %d has %d rows, expected at least 1 and less than 2^63 of all heads"
                .formatted(kind.text(), head, headRows[head]));
      }
      headStarts[head + 1] = headStarts[head] + headRows[head];
      headLocals[head] = rows[owner];
      rows[owner] += headRows[head];
      ranges[owner] += head > 0 && owners[head - 1] == owner ? 0 : 1;
    }
    rowCount = headStarts[heads];
    rangeLocals = new long[shards][];
    rangeFirsts = new long[shards][];
    for (int shard = 0; shard < shards; shard++) {
      if (rows[shard] == 0) {
        throw new IllegalArgumentException(
            "%s: shard %d of %d has no head; take %s, which divides heads"
                .formatted(kind.text(), shard, shards, Kind.ROW_WISE.text()));
      }
      rangeLocals[shard] = new long[ranges[shard]];
      rangeFirsts[shard] = new long[ranges[shard]];
    }
    int[] next = new int[shards];
    for (int head = 0; head < heads; head++) {
      int owner = owners[head];
      if (head == 0 || owners[head - 1] != owner) {
        rangeLocals[owner][next[owner]] = headLocals[head];
        rangeFirsts[owner][next[owner]++] = headStarts[head];
      }
    }
  }

  /** Blocks in turn. */
  private ShardLayout(long rowCount, int shards, long blockRows) {
    kind = Kind.ROW_WISE;
    this.shards = checkShards(kind, shards);
    this.rowCount = rowCount;
    headStarts = new long[0];
    headLocals = new long[0];
    owners = new int[0];
    rangeLocals = new long[0][];
    rangeFirsts = new long[0][];
    if (rowCount < 1) {
      throw new IllegalArgumentException(
          kind.text() + ": " + rowCount + " rows, expected at least 1");
    }
    if (blockRows < 1 || Long.bitCount(blockRows) != 1) {
      throw new IllegalArgumentException(
          kind.text() + ": blocks of " + blockRows + " rows, expected a power of two");
    }
    blockShift = Long.numberOfTrailingZeros(blockRows);
    long blocks = blocks();
    if (blocks < shards) {
      throw new IllegalArgumentException(
          "%s: %d rows in blocks of %d do not fill %d shards, some would be empty; take %s"
              .formatted(
                  kind.text(),
                  rowCount,
                  blockRows,
                  shards,
                  rowCount < shards ? "fewer shards" : "smaller blocks"));
    }
    rows = new long[shards];
    for (int shard = 0; shard < shards; shard++) {
      long last = (blocks - 1 - shard) / shards;
      long lastBlock = last * shards + shard;
      rows[shard] = (last << blockShift) + rowsOfBlock(lastBlock);
    }
  }

  private static int checkShards(Kind kind, int shards) {
    if (shards < 1 || shards > MAX_SHARDS) {
      throw new IllegalArgumentException(
          kind.text() + ": " + shards + " shards, expected 1 to " + MAX_SHARDS);
    }
    return shards;
  }

  /**
   * Whole heads in turn: column c to shard c mod shards.
   *
   * @param layout the columns of the table; rows behind the last head count to it
   * @param shards number of shards, at least 1 and at most the number of columns
   * @return the layout
   * @throws IllegalArgumentException if there are more shards than columns, or none
   */
  public static ShardLayout stridedHeads(HashLayout layout, int shards) {
    long[] heads = headRows(layout);
    return new ShardLayout(
        Kind.STRIDED_HEADS, shards, heads, stridedOwners(heads.length, checkedDivisor(shards)));
  }

  /** A refusal comes later, with its message. */
  private static int checkedDivisor(int shards) {
    return Math.max(1, shards);
  }

  private static int[] stridedOwners(int heads, int shards) {
    return IntStream.range(0, heads).map(head -> head % shards).toArray();
  }

  /** Whole heads in runs: the rival. */
  static ShardLayout contiguousHeads(HashLayout layout, int shards) {
    long[] heads = headRows(layout);
    int[] owners =
        IntStream.range(0, heads.length)
            .map(head -> (int) ((long) head * shards / heads.length))
            .toArray();
    return new ShardLayout(Kind.CONTIGUOUS_HEADS, shards, heads, owners);
  }

  /**
   * Whole heads, the most asked for first, each to the shard that is asked for least so far.
   *
   * @param layout the columns of the table; rows behind the last head count to it
   * @param shards number of shards, at least 1 and at most the number of columns
   * @param loads how many rows a sample asks for in each column, none negative; see {@link
   *     ShardPlanner}
   * @return the layout
   * @throws IllegalArgumentException if there are more shards than columns, or none, or not one
   *     load for each column
   */
  public static ShardLayout balancedHeads(HashLayout layout, int shards, long[] loads) {
    long[] heads = headRows(layout);
    if (loads.length != heads.length || Arrays.stream(loads).anyMatch(load -> load < 0)) {
      throw new IllegalArgumentException(
          "balanced-heads: loads are "
              + Arrays.toString(loads)
              + ", expected "
              + heads.length
              + " numbers, none negative");
    }
    int[] owners = new int[heads.length];
    if (shards >= 1 && shards <= heads.length) {
      long[] load = new long[shards];
      int[] count = new int[shards];
      int[] order =
          IntStream.range(0, heads.length)
              .boxed()
              .sorted((a, b) -> Long.compare(loads[b], loads[a]))
              .mapToInt(Integer::intValue)
              .toArray();
      for (int head : order) {
        int least = 0;
        for (int shard = 1; shard < shards; shard++) {
          // Heads that nobody asked for must not leave a shard without any.
          if (load[shard] < load[least]
              || (load[shard] == load[least] && count[shard] < count[least])) {
            least = shard;
          }
        }
        owners[head] = least;
        load[least] += loads[head];
        count[least]++;
      }
    }
    return new ShardLayout(Kind.BALANCED_HEADS, shards, heads, owners);
  }

  /**
   * Blocks of rows in turn: of 4,096 rows, which are whole pages whatever a row's bytes, and of
   * fewer where shards would get fewer than 64 blocks.
   *
   * @param rowCount rows of the table, at least 1
   * @param shards number of shards, at least 1 and at most the number of rows
   * @return the layout
   * @throws IllegalArgumentException if there are more shards than rows, or none
   */
  public static ShardLayout rowWise(long rowCount, int shards) {
    long most = Math.max(1, rowCount / checkedDivisor(shards) / FEWEST_BLOCKS);
    return rowWise(rowCount, shards, Math.min(BLOCK_ROWS, Long.highestOneBit(most)));
  }

  /**
   * Blocks of rows in turn.
   *
   * @param rowCount rows of the table, at least 1
   * @param shards number of shards, at least 1
   * @param blockRows rows of a block: a power of two; the last block may have fewer
   * @return the layout
   * @throws IllegalArgumentException if there are fewer blocks than shards, or no shards, or the
   *     block is not a power of two
   */
  public static ShardLayout rowWise(long rowCount, int shards, long blockRows) {
    return new ShardLayout(rowCount, shards, blockRows);
  }

  private static long[] headRows(HashLayout layout) {
    long[] heads = layout.moduli();
    heads[heads.length - 1] += layout.rowCount() - layout.hashedRows();
    return heads;
  }

  /**
   * How rows are dealt.
   *
   * @return the kind
   */
  public Kind kind() {
    return kind;
  }

  /**
   * Number of shards.
   *
   * @return at least 1
   */
  public int shards() {
    return shards;
  }

  /**
   * Rows of the table.
   *
   * @return the sum of the rows of all shards
   */
  public long rowCount() {
    return rowCount;
  }

  /**
   * Rows of one shard.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @return at least 1
   * @throws IndexOutOfBoundsException if there is no such shard
   */
  public long rows(int shard) {
    return rows[Objects.checkIndex(shard, shards)];
  }

  /**
   * The shard that holds a row.
   *
   * @param row a row of the table
   * @return from 0 to {@link #shards} - 1
   * @throws IndexOutOfBoundsException if there is no such row
   */
  public int shardOf(long row) {
    Objects.checkIndex(row, rowCount);
    return kind == Kind.ROW_WISE ? (int) ((row >>> blockShift) % shards) : owners[headOf(row)];
  }

  /**
   * Which row of its shard a row is.
   *
   * @param row a row of the table
   * @return from 0 to {@link #rows} of its shard - 1
   * @throws IndexOutOfBoundsException if there is no such row
   */
  public long localRow(long row) {
    Objects.checkIndex(row, rowCount);
    if (kind == Kind.ROW_WISE) {
      return (((row >>> blockShift) / shards) << blockShift) + (row & blockMask());
    }
    int head = headOf(row);
    return headLocals[head] + (row - headStarts[head]);
  }

  /**
   * Which row of the table a row of a shard is: the way back.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @param localRow from 0 to {@link #rows} of the shard - 1
   * @return a row of the table
   * @throws IndexOutOfBoundsException if there is no such shard, or no such row in it
   */
  public long tableRow(int shard, long localRow) {
    Objects.checkIndex(localRow, rows(shard));
    if (kind == Kind.ROW_WISE) {
      return (((localRow >>> blockShift) * shards + shard) << blockShift)
          + (localRow & blockMask());
    }
    int range = floor(rangeLocals[shard], localRow);
    return rangeFirsts[shard][range] + (localRow - rangeLocals[shard][range]);
  }

  /**
   * Number of runs of table rows that a shard consists of.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @return at least 1
   * @throws IndexOutOfBoundsException if there is no such shard
   */
  public long ranges(int shard) {
    Objects.checkIndex(shard, shards);
    if (kind != Kind.ROW_WISE) {
      return rangeFirsts[shard].length;
    }
    return shards == 1 ? 1 : (blocks() - 1 - shard) / shards + 1;
  }

  /**
   * First table row of a run.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @param range from 0 to {@link #ranges} - 1, in the order of the shard's rows
   * @return a row of the table
   * @throws IndexOutOfBoundsException if there is no such shard, or no such run in it
   */
  public long rangeFirst(int shard, long range) {
    Objects.checkIndex(range, ranges(shard));
    return kind == Kind.ROW_WISE
        ? (range * shards + shard) << blockShift
        : rangeFirsts[shard][(int) range];
  }

  /**
   * Rows of a run.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @param range from 0 to {@link #ranges} - 1, in the order of the shard's rows
   * @return at least 1
   * @throws IndexOutOfBoundsException if there is no such shard, or no such run in it
   */
  public long rangeRows(int shard, long range) {
    long count = ranges(shard);
    Objects.checkIndex(range, count);
    if (kind == Kind.ROW_WISE) {
      return shards == 1 ? rowCount : rowsOfBlock(range * shards + shard);
    }
    long[] locals = rangeLocals[shard];
    return (range + 1 < count ? locals[(int) range + 1] : rows[shard]) - locals[(int) range];
  }

  /** Takes the runs of a shard one by one. */
  @FunctionalInterface
  public interface RangeVisitor {
    /**
     * Takes one run.
     *
     * @param localRow the row of the shard at which the run starts
     * @param tableRow the row of the table at which it starts
     * @param rows its rows, at least 1
     */
    void range(long localRow, long tableRow, long rows);
  }

  /**
   * Shows the runs of a shard in the order of its rows.
   *
   * @param shard from 0 to {@link #shards} - 1
   * @param visitor takes them
   * @throws IndexOutOfBoundsException if there is no such shard
   */
  public void forEachRange(int shard, RangeVisitor visitor) {
    long local = 0;
    for (long range = 0; range < ranges(shard); range++) {
      long run = rangeRows(shard, range);
      visitor.range(local, rangeFirst(shard, range), run);
      local += run;
    }
  }

  private int headOf(long row) {
    return floor(headStarts, row);
  }

  /** Index of the last value that is not above the one given. */
  private static int floor(long[] ascending, long value) {
    int low = 0;
    int high = ascending.length;
    while (high - low > 1) {
      int middle = (low + high) >>> 1;
      if (ascending[middle] <= value) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return low;
  }

  private long blockMask() {
    return (1L << blockShift) - 1;
  }

  private long blocks() {
    return ((rowCount - 1) >>> blockShift) + 1;
  }

  private long rowsOfBlock(long block) {
    return Math.min(1L << blockShift, rowCount - (block << blockShift));
  }

  /**
   * The layout as a line of ASCII, for the header of a file. {@link #parse} reads it.
   *
   * <p>{@code strided-heads shards=4 heads=101,103,107,109}: rows of each head in column order, the
   * last with the rows behind it. {@code balanced-heads} has also {@code owners=0,1,1,0}, the shard
   * of each head. {@code row-wise shards=4 rows=5000 block=512}.
   *
   * @return the description, the same for equal layouts
   */
  public String describe() {
    StringBuilder text = new StringBuilder(kind.text()).append(" shards=").append(shards);
    if (kind == Kind.ROW_WISE) {
      return text.append(" rows=")
          .append(rowCount)
          .append(" block=")
          .append(1L << blockShift)
          .toString();
    }
    text.append(" heads=")
        .append(
            IntStream.range(0, owners.length)
                .mapToObj(head -> Long.toString(headStarts[head + 1] - headStarts[head]))
                .collect(Collectors.joining(",")));
    if (kind == Kind.BALANCED_HEADS) {
      text.append(" owners=")
          .append(
              Arrays.stream(owners).mapToObj(Integer::toString).collect(Collectors.joining(",")));
    }
    return text.toString();
  }

  /**
   * Reads what {@link #describe} wrote, and nothing else: a description in any other form, even one
   * that means the same, is refused, so that equal layouts have equal descriptions.
   *
   * @param description a line
   * @return the layout
   * @throws IllegalArgumentException if it is no such line, or describes a layout that cannot be
   */
  public static ShardLayout parse(String description) {
    ShardLayout layout;
    try {
      layout = parsed(description.split(" ", -1));
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException(
          "shard layout \"" + shortened(description) + "\": " + e.getMessage(), e);
    }
    if (!layout.describe().equals(description)) {
      throw new IllegalArgumentException(
          "shard layout \""
              + shortened(description)
              + "\" is not in its one form, which is \""
              + shortened(layout.describe())
              + "\"");
    }
    return layout;
  }

  private static ShardLayout parsed(String[] words) {
    String kind = words[0];
    if (kind.equals(Kind.ROW_WISE.text())) {
      expectWords(words, 4);
      return rowWise(number(words, 2, "rows"), shards(words), number(words, 3, "block"));
    }
    if (kind.equals(Kind.STRIDED_HEADS.text())) {
      expectWords(words, 3);
      long[] heads = numbers(words, 2, "heads");
      int shards = shards(words);
      return new ShardLayout(
          Kind.STRIDED_HEADS, shards, heads, stridedOwners(heads.length, shards));
    }
    if (kind.equals(Kind.BALANCED_HEADS.text())) {
      expectWords(words, 4);
      long[] heads = numbers(words, 2, "heads");
      long[] owners = numbers(words, 3, "owners");
      int shards = shards(words);
      if (owners.length != heads.length
          || Arrays.stream(owners).anyMatch(owner -> owner < 0 || owner >= shards)) {
        throw new IllegalArgumentException(
            "expected an owner from 0 to "
                + (shards - 1)
                + " for each of "
                + heads.length
                + " heads");
      }
      return new ShardLayout(
          Kind.BALANCED_HEADS,
          shards,
          heads,
          LongStream.of(owners).mapToInt(Math::toIntExact).toArray());
    }
    throw new IllegalArgumentException(
        "expected "
            + Kind.STRIDED_HEADS.text()
            + ", "
            + Kind.BALANCED_HEADS.text()
            + " or "
            + Kind.ROW_WISE.text());
  }

  private static void expectWords(String[] words, int count) {
    if (words.length != count) {
      throw new IllegalArgumentException(
          "found " + words.length + " words, expected " + count + " with one blank between them");
    }
  }

  private static int shards(String[] words) {
    long shards = number(words, 1, "shards");
    if (shards < 1 || shards > MAX_SHARDS) {
      throw new IllegalArgumentException(shards + " shards, expected 1 to " + MAX_SHARDS);
    }
    return (int) shards;
  }

  private static long number(String[] words, int index, String key) {
    return parseLong(value(words, index, key), key);
  }

  private static long[] numbers(String[] words, int index, String key) {
    String[] values = value(words, index, key).split(",", MAX_HEADS + 1);
    if (values.length > MAX_HEADS) {
      throw new IllegalArgumentException("more than " + MAX_HEADS + " " + key);
    }
    return Arrays.stream(values).mapToLong(value -> parseLong(value, key)).toArray();
  }

  private static String value(String[] words, int index, String key) {
    if (!words[index].startsWith(key + "=")) {
      throw new IllegalArgumentException(
          "word " + index + " is \"" + shortened(words[index]) + "\", expected " + key + "=");
    }
    return words[index].substring(key.length() + 1);
  }

  private static long parseLong(String text, String key) {
    try {
      return Long.parseLong(text);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException(
          "\"" + shortened(text) + "\" in " + key + " is not a number of 63 bits", e);
    }
  }

  private static String shortened(String text) {
    return text.length() <= SHOWN ? text : text.substring(0, SHOWN) + "...";
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof ShardLayout layout
        && kind == layout.kind
        && shards == layout.shards
        && rowCount == layout.rowCount
        && blockShift == layout.blockShift
        && Arrays.equals(headStarts, layout.headStarts)
        && Arrays.equals(owners, layout.owners);
  }

  @Override
  public int hashCode() {
    return Objects.hash(
        kind, shards, rowCount, blockShift, Arrays.hashCode(headStarts), Arrays.hashCode(owners));
  }

  @Override
  public String toString() {
    return shortened(describe());
  }
}
