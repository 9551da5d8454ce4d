// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.function.IntUnaryOperator;

/**
 * Turns ids into the row ids of one layer.
 *
 * <p>A position has one row id for each column of the {@link HashLayout}, offset included. They
 * depend on the id at that position and on up to {@code maxOrder() - 1} ids before it, as far as
 * the {@link WindowRule} lets them be seen. Ids before the first one given come from a {@link
 * Lookback}; a sequence gives the same row ids however it is cut.
 *
 * <p>Ids are from 0 to the vocabulary size less one, or {@link Lookback#DEAD} where the rule knows
 * dead positions. Any other id, there or in a look-back, is refused with its position. Arguments
 * are checked before the first row id is written. Zero tokens are no error: nothing is written.
 *
 * <p>Outputs are position-major: all columns of the first position, then all of the next. The
 * methods that write into a caller's array allocate nothing.
 *
 * <p>Immutable, safe to share. Source: docs/variants.md, section 3 (released {@code engram.py};
 * {@code engram_demo_v1.py}; transformers {@code qwen4_exp}).
 */
public final class NgramHasher {
  private static final IntUnaryOperator SAME = IntUnaryOperator.identity();

  private final HashLayout layout;
  private final WindowRule rule;
  private final HashKernel kernel;
  private final int vocabularySize;
  private final int longestReach;
  private final int columns;

  /**
   * Where the hash up to a shift goes: the first column of the lowest order that reaches as far.
   */
  private final int[] slots;

  private final long[] multipliers;

  /**
   * Makes a hasher.
   *
   * @param layout the layer's multipliers, moduli and offsets
   * @param rule what n-grams see where they reach too far
   * @throws IllegalArgumentException if the rule's fill or boundary is not below the layout's
   *     vocabulary size
   */
  public NgramHasher(HashLayout layout, WindowRule rule) {
    this(layout, rule, HashKernel::of);
  }

  NgramHasher(HashLayout layout, WindowRule rule, HashKernel.Maker kernels) {
    this.layout = layout;
    this.rule = Objects.requireNonNull(rule, "rule");
    vocabularySize = layout.vocabularySize();
    if (rule.fill() >= vocabularySize || rule.boundary() >= vocabularySize) {
      throw new IllegalArgumentException(
          "%s does not fit a vocabulary of %d ids".formatted(rule, vocabularySize));
    }
    longestReach = layout.maxOrder() - 1;
    columns = layout.columns();
    slots = new int[layout.maxOrder()];
    int shift = 0;
    int slot = 0;
    for (int order : layout.orders()) {
      Arrays.fill(slots, shift, order, slot);
      shift = order;
      slot += layout.headsPerOrder();
    }
    multipliers = layout.multipliers();
    kernel =
        kernels.make(
            new HashTerms(
                multipliers, slots, layout.headsPerOrder(), layout.moduli(), layout.offsets()));
  }

  /**
   * The layout this hasher was made with.
   *
   * @return the layout
   */
  public HashLayout layout() {
    return layout;
  }

  /**
   * The window rule this hasher was made with.
   *
   * @return the rule
   */
  public WindowRule rule() {
    return rule;
  }

  /**
   * Row ids of one position.
   *
   * @return the number of columns
   */
  public int columns() {
    return columns;
  }

  /**
   * Hashes a whole sequence.
   *
   * @param ids the sequence from its start
   * @return row ids, {@code ids.length} times {@link #columns}
   * @throws IllegalArgumentException if an id is refused
   */
  public long[] hash(int[] ids) {
    return hash(ids, Lookback.start());
  }

  /**
   * Hashes a chunk of a sequence.
   *
   * @param ids the chunk
   * @param past what came before it
   * @return row ids, {@code ids.length} times {@link #columns}
   * @throws IllegalArgumentException if an id is refused or {@code past} no longer knows ids that
   *     are needed
   */
  public long[] hash(int[] ids, Lookback past) {
    long[] out = new long[Math.multiplyExact(ids.length, columns)];
    hash(ids, 0, ids.length, past, out, 0);
    return out;
  }

  /**
   * Hashes a chunk of a sequence into a caller's array.
   *
   * @param ids an array that holds the chunk; ids outside of it are not read
   * @param from index of the chunk's first id
   * @param count how many ids, at least 0
   * @param past what came before the chunk
   * @param out where to write {@code count} times {@link #columns} row ids
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if an id is refused, {@code past} no longer knows ids that are
   *     needed, or an array is too small
   */
  public void hash(int[] ids, int from, int count, Lookback past, long[] out, int outFrom) {
    hash(ids, from, count, past, SAME, out, outFrom);
  }

  /**
   * Hashes a chunk of a sequence into a caller's array, with a look-back that holds other ids than
   * those that are hashed, such as raw ids. Only the ids that n-grams reach are translated.
   *
   * @param ids an array that holds the chunk, translated already; ids outside of it are not read
   * @param from index of the chunk's first id
   * @param count how many ids, at least 0
   * @param past what came before the chunk, not translated
   * @param translation the id to hash for an id of {@code past}; not asked about {@link
   *     Lookback#DEAD}, which stays so. Its exceptions are passed on
   * @param out where to write {@code count} times {@link #columns} row ids
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if an id is refused, {@code past} no longer knows ids that are
   *     needed, or an array is too small
   */
  public void hash(
      int[] ids,
      int from,
      int count,
      Lookback past,
      IntUnaryOperator translation,
      long[] out,
      int outFrom) {
    Checks.range("ids", ids.length, from, count);
    Checks.range("out", out.length, outFrom, (long) count * columns);
    checkIds(ids, from, from + count, past.position() - from);
    int reach = reach(past, translation);
    run(ids, from, from + count, reach, past, translation, from, out, outFrom);
  }

  /**
   * Hashes one position, as decoding does.
   *
   * @param id the id at that position
   * @param past what came before it
   * @param out where to write {@link #columns} row ids
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if an id is refused, {@code past} no longer knows ids that are
   *     needed, or {@code out} is too small
   */
  public void hash(int id, Lookback past, long[] out, int outFrom) {
    Checks.range("out", out.length, outFrom, columns);
    checkId(id, 0, past.position());
    int reach = reach(past, SAME);
    window(id, reach, null, 0, past, SAME, 0, out, outFrom);
    kernel.reduce(out, outFrom, 1);
  }

  /**
   * Hashes some positions of a sequence that lies in one array from its start: the ids before them
   * are read from the array, so that no look-back is needed.
   *
   * @param sequence the sequence; index 0 is its start
   * @param from the first position to hash
   * @param to the position after the last
   * @param out where to write {@code to - from} times {@link #columns} row ids
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if an id is refused or an array is too small
   */
  public void hashRange(int[] sequence, int from, int to, long[] out, int outFrom) {
    long count = (long) to - from;
    Checks.range("sequence", sequence.length, from, count);
    Checks.range("out", out.length, outFrom, count * columns);
    checkIds(sequence, Math.max(0, from - longestReach), to, 0);
    int reach = 0;
    while (reach < longestReach && reach < from && !ends(sequence[from - reach - 1])) {
      reach++;
    }
    run(sequence, from, to, reach, null, SAME, 0, out, outFrom);
  }

  /**
   * Hashes chunks of equal length, one of each sequence of a batch.
   *
   * @param ids the chunks back to back, [sequence][position]
   * @param sequences how many sequences, at least 1
   * @param pasts what came before each chunk; an empty list if all sequences start here
   * @param out where to write {@code ids.length} times {@link #columns} row ids,
   *     [sequence][position][column]
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if the ids do not divide into so many chunks, the look-backs
   *     are not as many, an id is refused, a look-back no longer knows ids that are needed, or
   *     {@code out} is too small
   */
  public void hashBatch(int[] ids, int sequences, List<Lookback> pasts, long[] out, int outFrom) {
    if (sequences < 1 || ids.length % sequences != 0) {
      throw new IllegalArgumentException(
          ids.length + " ids do not divide into " + sequences + " sequences of equal length");
    }
    Checks.range("out", out.length, outFrom, (long) ids.length * columns);
    checkPasts(pasts, sequences);
    int length = ids.length / sequences;
    for (int s = 0; s < sequences; s++) {
      checkSequence(s, ids, s * length, (s + 1) * length, pasts, SAME);
    }
    for (int s = 0; s < sequences; s++) {
      int from = s * length;
      runSequence(s, ids, from, from + length, pasts, SAME, out, outFrom + from * columns);
    }
  }

  /**
   * Hashes chunks of any length, one of each sequence of a batch.
   *
   * @param ids an array that holds the chunks back to back
   * @param starts where each chunk starts in {@code ids}, and where the last one ends: one value
   *     more than there are sequences, none below the one before it
   * @param pasts what came before each chunk; an empty list if all sequences start here
   * @param out where to write the row ids of all chunks back to back
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if the starts descend or leave the array, the look-backs are
   *     not as many as the sequences, an id is refused, a look-back no longer knows ids that are
   *     needed, or {@code out} is too small
   */
  public void hashRagged(int[] ids, int[] starts, List<Lookback> pasts, long[] out, int outFrom) {
    hashRagged(ids, starts, pasts, SAME, out, outFrom);
  }

  /**
   * Hashes chunks of any length, one of each sequence of a batch, with look-backs that hold other
   * ids than those that are hashed, such as raw ids.
   *
   * @param ids an array that holds the chunks back to back, translated already
   * @param starts where each chunk starts in {@code ids}, and where the last one ends: one value
   *     more than there are sequences, none below the one before it
   * @param pasts what came before each chunk, not translated; an empty list if all sequences start
   *     here
   * @param translation the id to hash for an id of the look-backs; not asked about {@link
   *     Lookback#DEAD}, which stays so
   * @param out where to write the row ids of all chunks back to back
   * @param outFrom index in {@code out} of the first row id
   * @throws IllegalArgumentException if the starts descend or leave the array, the look-backs are
   *     not as many as the sequences, an id is refused, a look-back no longer knows ids that are
   *     needed, or {@code out} is too small
   */
  public void hashRagged(
      int[] ids,
      int[] starts,
      List<Lookback> pasts,
      IntUnaryOperator translation,
      long[] out,
      int outFrom) {
    if (starts.length == 0) {
      throw new IllegalArgumentException("starts is empty, expected where the last chunk ends");
    }
    int sequences = starts.length - 1;
    for (int s = 0; s < sequences; s++) {
      if (starts[s + 1] < starts[s]) {
        throw new IllegalArgumentException(
            "starts descends from %d to %d at index %d".formatted(starts[s], starts[s + 1], s + 1));
      }
    }
    long count = (long) starts[sequences] - starts[0];
    Checks.range("ids", ids.length, starts[0], count);
    Checks.range("out", out.length, outFrom, count * columns);
    checkPasts(pasts, sequences);
    for (int s = 0; s < sequences; s++) {
      checkSequence(s, ids, starts[s], starts[s + 1], pasts, translation);
    }
    for (int s = 0; s < sequences; s++) {
      int outAt = outFrom + (starts[s] - starts[0]) * columns;
      runSequence(s, ids, starts[s], starts[s + 1], pasts, translation, out, outAt);
    }
  }

  private static void checkPasts(List<Lookback> pasts, int sequences) {
    if (!pasts.isEmpty() && pasts.size() != sequences) {
      throw new IllegalArgumentException(
          "found " + pasts.size() + " look-backs for " + sequences + " sequences");
    }
  }

  private void checkSequence(
      int s, int[] ids, int from, int to, List<Lookback> pasts, IntUnaryOperator translation) {
    try {
      long position = 0;
      if (!pasts.isEmpty()) {
        position = pasts.get(s).position();
        reach(pasts.get(s), translation);
      }
      checkIds(ids, from, to, position - from);
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("sequence " + s + ": " + e.getMessage(), e);
    }
  }

  private void runSequence(
      int s,
      int[] ids,
      int from,
      int to,
      List<Lookback> pasts,
      IntUnaryOperator translation,
      long[] out,
      int outAt) {
    Lookback past = pasts.isEmpty() ? null : pasts.get(s);
    int reach = past == null ? 0 : reach(past, translation);
    run(ids, from, to, reach, past, translation, from, out, outAt);
  }

  /** Refuses ids out of range; {@code shift} makes a position of an index. */
  private void checkIds(int[] ids, int from, int to, long shift) {
    // The sign of either term tells an id out of range; without a branch this loop is vectors.
    int largest = vocabularySize - 1;
    int signs = 0;
    for (int i = from; i < to; i++) {
      signs |= ids[i] | (largest - ids[i]);
    }
    if (signs < 0) {
      for (int i = from; i < to; i++) {
        checkId(ids[i], i, i + shift);
      }
    }
  }

  /** Refuses an id out of range; a negative index stands for the look-back. */
  private void checkId(int id, int index, long position) {
    // Negative ids are large unsigned ones.
    if (Integer.compareUnsigned(id, vocabularySize) >= 0
        && (id != Lookback.DEAD || rule.dead() == WindowRule.Dead.REFUSED)) {
      throw refused(id, index, position);
    }
  }

  private IllegalArgumentException refused(int id, int index, long position) {
    String where = "position " + position + (index < 0 ? " of the look-back" : ", index " + index);
    return new IllegalArgumentException(
        id == Lookback.DEAD
            ? where + " is DEAD, which the window rule refuses"
            : "id %d at %s is outside 0..%d".formatted(id, where, vocabularySize - 1));
  }

  /** Whether nothing at or before an id can be seen from behind it. */
  private boolean ends(int id) {
    return id < 0 || id == rule.boundary();
  }

  private static int ago(Lookback past, int k, IntUnaryOperator translation) {
    int id = past.ago(k);
    return id < 0 ? id : translation.applyAsInt(id);
  }

  /** How many ids before its position a look-back lets be seen. Checks all that could be. */
  private int reach(Lookback past, IntUnaryOperator translation) {
    long position = past.position();
    int needed = (int) Math.min(longestReach, position);
    if (past.kept() < needed) {
      throw new IllegalArgumentException(
          "the look-back at position %d keeps %d ids, layer %d needs the %d before it"
              .formatted(position, past.kept(), layout.layerId(), needed));
    }
    int reach = 0;
    boolean open = true;
    for (int k = 1; k <= needed; k++) {
      int id = ago(past, k, translation);
      checkId(id, -k, position - k);
      open &= !ends(id);
      reach += open ? 1 : 0;
    }
    return reach;
  }

  /**
   * All positions of a chunk.
   *
   * @param reach how many ids before the first position may be seen
   * @param past holds the ids before index {@code first}; null if they are not within reach
   */
  private void run(
      int[] ids,
      int from,
      int to,
      int reach,
      Lookback past,
      IntUnaryOperator translation,
      int first,
      long[] out,
      int outFrom) {
    int seen = reach;
    int outAt = outFrom;
    int next = from;
    while (next < to) {
      int positions = 0;
      if (seen == longestReach && next - longestReach >= first) {
        int end = endOfOpen(ids, next, to);
        // What ends a segment still sees it, unless it is no token at all.
        boolean ended = end < to && ids[end] >= 0;
        positions = end - next + (ended ? 1 : 0);
        kernel.openWindows(ids, next, positions, out, outAt);
        seen = ended ? 0 : longestReach;
      }
      if (positions == 0) {
        positions = Math.min(Math.max(1, longestReach), to - next);
        seen = anyWindows(ids, next, positions, seen, past, translation, first, out, outAt);
        kernel.reduce(out, outAt, positions);
      }
      next += positions;
      outAt += positions * columns;
    }
  }

  /** Index of the first id behind which nothing before it can be seen, or {@code to}. */
  private int endOfOpen(int[] ids, int from, int to) {
    if (rule.boundary() == WindowRule.NO_BOUNDARY && rule.dead() == WindowRule.Dead.REFUSED) {
      return to;
    }
    int p = from;
    while (p < to && !ends(ids[p])) {
      p++;
    }
    return p;
  }

  /**
   * Leaves the hashes of any positions.
   *
   * @return how many ids before the position after the last may be seen
   */
  private int anyWindows(
      int[] ids,
      int from,
      int positions,
      int reach,
      Lookback past,
      IntUnaryOperator translation,
      int first,
      long[] out,
      int outFrom) {
    int seen = reach;
    for (int p = from, i = outFrom; p < from + positions; p++, i += columns) {
      int id = ids[p];
      window(id, seen, ids, p, past, translation, first, out, i);
      // Behind a boundary or a dead position a window starts anew; otherwise it is the window
      // before it, moved by one.
      seen = ends(id) ? 0 : Math.min(seen + 1, longestReach);
    }
    return seen;
  }

  /** Leaves the hashes of one position. */
  private void window(
      int id,
      int reach,
      int[] ids,
      int p,
      Lookback past,
      IntUnaryOperator translation,
      int first,
      long[] out,
      int outFrom) {
    int seen = reach;
    int current = id;
    if (id < 0) {
      if (rule.dead() == WindowRule.Dead.BOUNDARY) {
        current = rule.boundary();
      } else {
        current = rule.fill();
        seen = 0;
      }
    }
    long hash = current * multipliers[0];
    out[outFrom] = hash;
    for (int shift = 1; shift < multipliers.length; shift++) {
      int seenId;
      if (shift > seen) {
        seenId = rule.fill();
      } else if (p - shift >= first) {
        seenId = ids[p - shift];
      } else {
        seenId = ago(past, first - p + shift, translation);
      }
      hash ^= seenId * multipliers[shift];
      out[outFrom + slots[shift]] = hash;
    }
  }
}
