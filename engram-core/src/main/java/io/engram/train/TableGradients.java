// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.hash.kernel.Workers;
import io.engram.table.EngramTable;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Objects;

/**
 * The gradient of a table, which is zero but for the rows that were looked up: their ids, and a sum
 * for each. Collects any number of micro-batches until it is cleared.
 *
 * <p>The gradients of a row that comes more than once are summed in float32 in the order in which
 * they were added, one after the other. So the sums have the same bits whatever the number of
 * threads, and whether rows came in one call or in several. Time and memory grow with the rows that
 * are touched, not with the table; once as many were touched as ever will be, nothing is allocated.
 * The sums lie on the heap in pieces of up to 256 KiB, and stay there for the next batch.
 *
 * <p>Not thread-safe: one caller at a time, whose work the common pool shares.
 */
public final class TableGradients {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Small enough not to be a large object to a garbage collector that moves small ones only. */
  private static final int PIECE_VALUES = 1 << 16;

  /** Ids of one round of an addition, whose slots are in the cache when the sums are made. */
  private static final int ROUND = 1 << 15;

  private static final int BUCKET_BITS = 12;

  /** Floats of a cache line. */
  private static final int LINE_VALUES = 16;

  private final EngramTable table;
  private final int headDim;
  private final UpdateKernels kernels = UpdateKernels.CHOSEN;
  private final Workers workers;
  private final int threads;
  private final RowSlots slots = new RowSlots();
  private final int pieceShift;
  private final int[] found = new int[ROUND];
  private final int[] divided = new int[ROUND];

  /** A power of two: some for each thread, since rows that come often are in one of them. */
  private final int parts;

  private final int[] partEnds;
  private final float[][] rows;

  /** Largest magnitude that each worker saw, 16 apart so that no two write to one cache line. */
  private final int[] largest;

  private final Workers.Body adding = this::addPart;
  private final Workers.Body scaling = this::scalePiece;
  private float[][] pieces = new float[0][];
  private int magnitude;
  private final int[] bucketEnds = new int[1 << BUCKET_BITS];
  private long[] orderedIds = new long[0];
  private int[] orderedSlots = new int[0];
  private int ordered;

  /** Is given something now and then, so that the loads are not optimised away. */
  @SuppressWarnings("UnusedVariable")
  private int touched;

  private MemorySegment source = MemorySegment.NULL;
  private long sourceAt;
  private int some;
  private float factor;

  /**
   * Gradients of a table, summed by all processors.
   *
   * @param table whose rows they are; only its shape and its name are used
   */
  public TableGradients(EngramTable table) {
    this(table, Workers.AVAILABLE);
  }

  /**
   * Gradients of a table.
   *
   * @param table whose rows they are; only its shape and its name are used
   * @param threads at most this many threads sum, the caller's included; at least 1
   * @throws IllegalArgumentException if the number of threads is less than 1
   */
  public TableGradients(EngramTable table, int threads) {
    this.table = Objects.requireNonNull(table, "table");
    if (threads < 1) {
      throw new IllegalArgumentException(
          table.name() + ": gradients by " + threads + " threads, expected at least 1");
    }
    this.threads = threads;
    parts = threads == 1 ? 1 : Math.min(4 * Integer.highestOneBit(2 * threads - 1), 1 << 10);
    partEnds = new int[parts];
    headDim = table.headDim();
    workers = new Workers(threads);
    rows = new float[threads][headDim];
    largest = new int[threads << 4];
    pieceShift = Math.max(0, 31 - Integer.numberOfLeadingZeros(PIECE_VALUES / headDim));
  }

  /**
   * The table.
   *
   * @return whose gradients these are
   */
  public EngramTable table() {
    return table;
  }

  /**
   * Number of distinct rows that have a gradient.
   *
   * @return 0 if nothing was added since the last {@link #clear}
   */
  public long rows() {
    return slots.size();
  }

  /**
   * Adds gradients of rows: those of a micro-batch, as a layer's backward pass gives them.
   *
   * @param rowIds row ids, of which any may come more than once
   * @param from index of the first id
   * @param count number of ids; 0 adds nothing
   * @param gradients F32 [count, headDim], packed, little-endian, of any kind and alignment
   * @throws IndexOutOfBoundsException if a row id is not one of the table, which names it, its
   *     position and the table; or if from and count do not lie in rowIds. Nothing was added then.
   * @throws IllegalArgumentException if there are fewer gradients than ids
   */
  public void add(long[] rowIds, int from, int count, MemorySegment gradients) {
    add(rowIds, from, count, gradients, 0);
  }

  /**
   * Adds gradients of rows that begin somewhere in memory.
   *
   * @param rowIds row ids, of which any may come more than once
   * @param from index of the first id
   * @param count number of ids; 0 adds nothing
   * @param gradients F32 [count, headDim], packed, little-endian, of any kind and alignment
   * @param offset where in it the first gradient starts, in bytes
   * @throws IndexOutOfBoundsException if a row id is not one of the table, which names it, its
   *     position and the table; or if from and count do not lie in rowIds. Nothing was added then.
   * @throws IllegalArgumentException if there are fewer gradients than ids
   * @throws IllegalStateException if the gradients' memory is closed meanwhile, or there are more
   *     than some 268 million distinct rows: all that was collected is forgotten then
   */
  public void add(long[] rowIds, int from, int count, MemorySegment gradients, long offset) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    long rowBytes = (long) headDim * Float.BYTES;
    if (offset < 0 || count > (gradients.byteSize() - offset) / rowBytes) {
      throw new IllegalArgumentException(
          table.name()
              + ": gradients of "
              + gradients.byteSize()
              + " bytes have no "
              + count
              + " rows of "
              + headDim
              + " float32 at "
              + offset);
    }
    long rowCount = table.rowCount();
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= rowCount) {
        throw new IndexOutOfBoundsException(
            table.name()
                + ": gradient of row id "
                + rowIds[i]
                + " at position "
                + i
                + ", expected 0 to "
                + (rowCount - 1));
      }
    }
    boolean added = false;
    source = gradients;
    workers.begin();
    try {
      for (int done = 0; done < count; done += ROUND) {
        some = Math.min(ROUND, count - done);
        sourceAt = offset + done * rowBytes;
        for (int i = 0; i < some; i++) {
          found[i] = slots.slot(rowIds[from + done + i]);
        }
        provide(slots.size());
        divide();
        workers.forEach(threads, parts, adding);
      }
      added = true;
    } finally {
      workers.end();
      source = MemorySegment.NULL;
      if (!added) {
        // Some rows have a slot and no sum.
        clear();
      }
    }
    takeLargest();
    ordered = 0;
  }

  /**
   * Positions of a round by parts, in order within each. A slot belongs to one part, so that its
   * sum is made by one thread and in the order in which its gradients came.
   */
  private void divide() {
    int mask = parts - 1;
    Arrays.fill(partEnds, 0);
    for (int i = 0; i < some; i++) {
      partEnds[(found[i] ^ (found[i] >> 31)) & mask]++;
    }
    int end = 0;
    for (int part = 0; part < parts; part++) {
      int begin = end;
      end += partEnds[part];
      partEnds[part] = begin;
    }
    for (int i = 0; i < some; i++) {
      divided[partEnds[(found[i] ^ (found[i] >> 31)) & mask]++] = i;
    }
  }

  private void addPart(int worker, int part) {
    float[] row = rows[worker];
    int most = largest[worker << 4];
    for (int p = part == 0 ? 0 : partEnds[part - 1]; p < partEnds[part]; p++) {
      int i = divided[p];
      int slot = found[i];
      boolean isNew = slot < 0;
      slot ^= slot >> 31;
      float[] piece = pieces[slot >>> pieceShift];
      int at = (slot & ((1 << pieceShift) - 1)) * headDim;
      long sourceRow = sourceAt + (long) i * headDim * Float.BYTES;
      if (isNew) {
        MemorySegment.copy(source, FLOAT, sourceRow, piece, at, headDim);
        most = Math.max(most, kernels.largest(piece, at, headDim));
      } else {
        MemorySegment.copy(source, FLOAT, sourceRow, row, 0, headDim);
        most = Math.max(most, kernels.add(row, 0, piece, at, headDim));
      }
    }
    largest[worker << 4] = most;
  }

  private void provide(int slotCount) {
    int wanted = slotCount == 0 ? 0 : ((slotCount - 1) >>> pieceShift) + 1;
    if (wanted > pieces.length) {
      int had = pieces.length;
      pieces = Arrays.copyOf(pieces, wanted);
      for (int i = had; i < wanted; i++) {
        pieces[i] = new float[headDim << pieceShift];
      }
    }
  }

  private void takeLargest() {
    for (int worker = 0; worker < threads; worker++) {
      magnitude = Math.max(magnitude, largest[worker << 4]);
      largest[worker << 4] = 0;
    }
  }

  /**
   * Multiplies all gradients by a number, rounded to float32: the share of a micro-batch in a mean,
   * or what clips a norm.
   *
   * @param by the factor, finite
   * @throws IllegalArgumentException if the factor is NaN or infinite as a float32
   */
  public void scale(double by) {
    factor = (float) by;
    if (!Float.isFinite(factor)) {
      throw new IllegalArgumentException(
          table.name() + ": gradients times " + by + ", expected a finite number");
    }
    // A number that was not finite may not be forgotten: it stays one, whatever the factor.
    magnitude = magnitude < UpdateKernels.INFINITE ? 0 : magnitude;
    if (slots.size() > 0) {
      workers.forEach(threads, ((slots.size() - 1) >>> pieceShift) + 1, scaling);
    }
    takeLargest();
  }

  private void scalePiece(int worker, int piece) {
    int filled = Math.min(1 << pieceShift, slots.size() - (piece << pieceShift));
    largest[worker << 4] =
        Math.max(largest[worker << 4], kernels.scale(pieces[piece], 0, filled * headDim, factor));
  }

  /**
   * The L2 norm of the gradients of all rows, summed in double precision in the order in which the
   * rows were first added.
   *
   * @return the norm; NaN or infinite if a gradient is
   */
  public double norm() {
    double sum = 0;
    for (int slot = 0; slot < slots.size(); slot++) {
      sum += Rows.squares(piece(slot), at(slot), headDim);
    }
    return Math.sqrt(sum);
  }

  /**
   * The id of one of the rows.
   *
   * @param index 0 to {@link #rows} - 1, in the order in which the rows were first added
   * @return its row id
   * @throws IndexOutOfBoundsException if there is no such row
   */
  public long rowId(long index) {
    return slots.id((int) Objects.checkIndex(index, rows()));
  }

  /**
   * The summed gradient of one of the rows.
   *
   * @param index 0 to {@link #rows} - 1, in the order in which the rows were first added
   * @param out receives headDim values
   * @param outIndex where in it the first one goes
   * @throws IndexOutOfBoundsException if there is no such row, or the values do not fit
   */
  public void read(long index, float[] out, int outIndex) {
    int slot = (int) Objects.checkIndex(index, rows());
    System.arraycopy(piece(slot), at(slot), out, outIndex, headDim);
  }

  /** Forgets all gradients, and keeps their memory for the next. */
  public void clear() {
    slots.clear();
    magnitude = 0;
    ordered = 0;
  }

  /** Where the gradient of a slot lies. */
  float[] piece(int slot) {
    return pieces[slot >>> pieceShift];
  }

  /** Where in it. */
  int at(int slot) {
    return (slot & ((1 << pieceShift) - 1)) * headDim;
  }

  /**
   * At least the largest magnitude of any gradient, as {@link UpdateKernels} gives it; exact where
   * it says that one is not finite, since a sum stays so.
   */
  int magnitude() {
    return magnitude;
  }

  /**
   * Puts the rows in an order in which the table is walked from its beginning to its end, roughly:
   * rows of one part of some thousands are neighbours. They share pages then, whose addresses need
   * not be looked up again.
   */
  void order() {
    int size = slots.size();
    if (ordered == size) {
      return;
    }
    if (orderedIds.length < size) {
      orderedIds = new long[Math.max(size, 2 * orderedIds.length)];
      orderedSlots = new int[orderedIds.length];
    }
    int bits = Long.SIZE - Long.numberOfLeadingZeros(table.rowCount() - 1);
    int shift = Math.max(0, bits - BUCKET_BITS);
    Arrays.fill(bucketEnds, 0);
    for (int slot = 0; slot < size; slot++) {
      bucketEnds[(int) (slots.id(slot) >>> shift)]++;
    }
    int end = 0;
    for (int bucket = 0; bucket < bucketEnds.length; bucket++) {
      int begin = end;
      end += bucketEnds[bucket];
      bucketEnds[bucket] = begin;
    }
    for (int slot = 0; slot < size; slot++) {
      long id = slots.id(slot);
      int place = bucketEnds[(int) (id >>> shift)]++;
      orderedIds[place] = id;
      orderedSlots[place] = slot;
    }
    ordered = size;
  }

  /**
   * Has the sums of some rows loaded together, in the order of {@link #order}: a float of every
   * cache line.
   */
  void fetch(int from, int count) {
    int bits = 0;
    for (int i = from; i < from + count; i++) {
      int slot = orderedSlots[i];
      float[] piece = pieces[slot >>> pieceShift];
      int begin = at(slot);
      for (int e = begin; e < begin + headDim; e += LINE_VALUES) {
        bits ^= Float.floatToRawIntBits(piece[e]);
      }
    }
    if (bits == 0x5A5A5A5A) {
      touched = bits;
    }
  }

  /** Row ids after {@link #order}. */
  long[] orderedIds() {
    return orderedIds;
  }

  /** Their slots. */
  int[] orderedSlots() {
    return orderedSlots;
  }

  @Override
  public String toString() {
    return table.name() + ": gradients of " + rows() + " rows";
  }
}
