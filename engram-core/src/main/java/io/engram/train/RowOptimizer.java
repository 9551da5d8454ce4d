// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.EngramException;
import io.engram.hash.kernel.Workers;
import io.engram.store.RamRowStore;
import io.engram.store.ReadChecks;
import io.engram.store.RowMemory;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Map;
import java.util.Optional;

/**
 * What all rules share: checks before the first row is changed, the walk over the rows, their
 * formats, and what is done about an update that is not finite.
 *
 * <p>A row is copied to the heap, updated there and copied back: the checks that every access to a
 * memory segment makes cost more than the arithmetic between them, and a row that turns out not to
 * be finite need not be written at all.
 */
abstract class RowOptimizer implements TableOptimizer {
  static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfLong LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final long LINE = 64;

  /** Rows that one thread takes at a time. */
  static final int BLOCK = 256;

  /** Bytes of rows, states and gradients that are fetched together: half a first level cache. */
  private static final int FETCHED_BYTES = 1 << 14;

  final int headDim;
  final UpdateKernels kernels = UpdateKernels.CHOSEN;
  private final EngramTable table;
  private final RamRowStore rows;
  private final MemorySegment rowBytes;
  private final RowMemory rowMemory;
  private final boolean narrow;
  private final Optional<RamRowStore> state;
  private final MemorySegment stateBytes;
  private final RowMemory stateMemory;
  private final int stateValues;
  private final int stateRowBytes;
  private final boolean stamped;
  private final StepOptions options;
  private final Workers workers;
  private final Scratch[] scratches;
  private final int batch;
  private final Workers.Body walking = this::walkBlock;
  private double learningRate;
  private long steps;
  private long skipped;
  private volatile boolean closed;

  private TableGradients gradients;
  private long step;
  private long overflows;
  private long overflowRow;
  private int overflowElement;

  /** What one thread works on: one row and its state. */
  static final class Scratch {
    final float[] weights;
    final float[] state;
    final short[] stored;

    /** Is given what was touched, so that the loads are not optimised away. */
    @SuppressWarnings("UnusedVariable")
    private int touched;

    Scratch(int headDim, int stateValues) {
      weights = new float[headDim];
      state = new float[stateValues];
      stored = new short[headDim];
    }
  }

  /**
   * Prepares to train a table.
   *
   * @param stateValues float32 values that are remembered of a row
   * @param stamped whether the step is remembered in which a row was last touched
   */
  RowOptimizer(
      EngramTable table,
      double learningRate,
      StepOptions options,
      int stateValues,
      boolean stamped) {
    this.table = table;
    this.options = options;
    this.learningRate = learningRate;
    this.stateValues = stateValues;
    this.stamped = stamped;
    rows = Rows.of(table);
    rowBytes = rows.whole();
    rowMemory = rows.memory().orElseThrow();
    narrow = table.format() == RowFormat.BF16;
    headDim = table.headDim();
    workers = new Workers(options.threads());
    scratches = new Scratch[options.threads()];
    for (int i = 0; i < scratches.length; i++) {
      scratches[i] = new Scratch(headDim, stateValues);
    }
    stateRowBytes =
        Math.addExact(Math.multiplyExact(stateValues, Float.BYTES), stamped ? Long.BYTES : 0);
    long fetched = (long) rows.rowBytes() + stateRowBytes + headDim * (long) Float.BYTES;
    batch = Math.clamp(FETCHED_BYTES / fetched, 1, 64);
    state =
        stateRowBytes == 0
            ? Optional.empty()
            : Optional.of(
                RamRowStore.create(
                    rows.name() + ": state of " + name(),
                    rows.rowCount(),
                    stateRowBytes,
                    rows.rowsPerShard()));
    stateBytes = state.map(RamRowStore::whole).orElse(MemorySegment.NULL);
    stateMemory = state.flatMap(RamRowStore::memory).orElse(rowMemory);
  }

  /** The largest gradient that the rule can take. */
  abstract float largestGradient();

  /** Sets what is the same for all rows of a step. */
  abstract void prepare(long step);

  /**
   * Updates a row and its state, both on the heap.
   *
   * @param missed steps that the row was not touched in since it last was; 0 if it never was
   * @param place of the row among those of the step, in the order of the walk
   * @return the largest magnitude of the row and its state
   */
  abstract int update(Scratch scratch, float[] gradient, int gradientAt, long missed, int place);

  @Override
  public EngramTable table() {
    return table;
  }

  @Override
  public double learningRate() {
    return learningRate;
  }

  @Override
  public void learningRate(double rate) {
    learningRate = StepOptions.rate(rate);
  }

  @Override
  public long steps() {
    return steps;
  }

  @Override
  public long skipped() {
    return skipped;
  }

  @Override
  public Map<String, RamRowStore> state() {
    return state.map(store -> Map.of(name(), store)).orElse(Map.of());
  }

  @Override
  public void restore(long taken) {
    if (taken < 0) {
      throw new IllegalArgumentException(
          table.name() + ": restored after " + taken + " steps, expected at least 0");
    }
    steps = taken;
  }

  @Override
  public void step(TableGradients given) {
    if (closed) {
      throw new IllegalStateException(table.name() + ": the optimiser " + name() + " is closed");
    }
    // Refuses a closed table before all else.
    rowMemory.fetch(given.orderedIds(), 0, 0);
    if (given.table() != table) {
      throw new IllegalArgumentException(
          table.name() + ": gradients of another table, " + given.table().name());
    }
    if (!acceptable(given)) {
      skipped++;
      return;
    }
    step = steps + 1;
    overflows = 0;
    gradients = given;
    boolean interrupted = Thread.currentThread().isInterrupted();
    workers.begin();
    try {
      given.order();
      prepare(step);
      walk(Math.toIntExact(given.rows()));
    } catch (IllegalStateException e) {
      ReadChecks.forgetInterrupt(interrupted);
      // If it was a store that was closed, it says so, by its name.
      rowMemory.fetch(given.orderedIds(), 0, 0);
      stateMemory.fetch(given.orderedIds(), 0, 0);
      throw e;
    } finally {
      workers.end();
      gradients = null;
    }
    steps = step;
    if (overflows > 0) {
      throw overflow();
    }
  }

  /** Updates all rows of the step. */
  void walk(int count) {
    forEachBlock(count, walking);
  }

  /** Does something with all blocks of rows, each of them by one thread. */
  final void forEachBlock(int count, Workers.Body body) {
    workers.forEach(options.threads(), Math.ceilDiv(count, BLOCK), body);
  }

  /** The gradients of the step. */
  final TableGradients gradients() {
    return gradients;
  }

  /** What a thread works on. */
  final Scratch scratch(int worker) {
    return scratches[worker];
  }

  /** Has the states of some rows loaded together. */
  final void fetchStates(Scratch scratch, int from, int count) {
    touchStates(scratch, gradients.orderedIds(), from, count);
  }

  /**
   * Loads a byte of every cache line of some states: they are longer than the rows that {@link
   * RowMemory#fetch} is made for. Lines come four at a time, so that no branch but those of a
   * constant number of turns stands between the loads.
   */
  private void touchStates(Scratch scratch, long[] ids, int from, int count) {
    int bits = 0;
    for (int i = from; i < from + count; i++) {
      long at = ids[i] * stateRowBytes;
      long end = at + stateRowBytes;
      long line = at;
      for (; line <= end - 4 * LINE; line += 4 * LINE) {
        bits ^= stateBytes.get(ValueLayout.JAVA_BYTE, line);
        bits ^= stateBytes.get(ValueLayout.JAVA_BYTE, line + LINE);
        bits ^= stateBytes.get(ValueLayout.JAVA_BYTE, line + 2 * LINE);
        bits ^= stateBytes.get(ValueLayout.JAVA_BYTE, line + 3 * LINE);
      }
      for (; line < end; line += LINE) {
        bits ^= stateBytes.get(ValueLayout.JAVA_BYTE, line);
      }
    }
    scratch.touched = bits;
  }

  /** Rows that are fetched together. */
  final int batch() {
    return batch;
  }

  private void walkBlock(int worker, int block) {
    Scratch scratch = scratches[worker];
    long[] ids = gradients.orderedIds();
    int[] slots = gradients.orderedSlots();
    int begin = block * BLOCK;
    int end = (int) Math.min(begin + BLOCK, gradients.rows());
    for (int i = begin; i < end; i += batch) {
      int some = Math.min(batch, end - i);
      rowMemory.fetch(ids, i, some);
      touchStates(scratch, ids, i, some);
      gradients.fetch(i, some);
      for (int j = i; j < i + some; j++) {
        walkRow(scratch, ids[j], slots[j], j);
      }
    }
  }

  private void walkRow(Scratch scratch, long row, int slot, int place) {
    long at = row * rows.rowBytes();
    if (narrow) {
      MemorySegment.copy(rowBytes, SHORT, at, scratch.stored, 0, headDim);
      kernels.widen(scratch.stored, scratch.weights, headDim);
    } else {
      MemorySegment.copy(rowBytes, FLOAT, at, scratch.weights, 0, headDim);
    }
    long missed = loadState(scratch, row);
    int largest = update(scratch, gradients.piece(slot), gradients.at(slot), missed, place);
    if (narrow && largest < UpdateKernels.INFINITE) {
      long key = Chance.key(options.seed(), step, row);
      largest = kernels.roundByChance(scratch.weights, scratch.stored, headDim, key);
    }
    if (largest >= UpdateKernels.INFINITE) {
      overflowed(scratch, row);
      return;
    }
    storeState(scratch, row);
    if (narrow) {
      MemorySegment.copy(scratch.stored, 0, rowBytes, SHORT, at, headDim);
    } else {
      MemorySegment.copy(scratch.weights, 0, rowBytes, FLOAT, at, headDim);
    }
  }

  /**
   * Copies the state of a row to the heap.
   *
   * @return steps that the row was not touched in since it last was; 0 if it never was
   */
  final long loadState(Scratch scratch, long row) {
    long at = row * stateRowBytes;
    MemorySegment.copy(stateBytes, FLOAT, at, scratch.state, 0, stateValues);
    if (!stamped) {
      return 0;
    }
    long last = stateBytes.get(LONG, at + (long) stateValues * Float.BYTES);
    if (last < 0 || last >= step) {
      throw new EngramException(
          table.name()
              + ": the state of row "
              + row
              + " says that it was last touched in step "
              + last
              + ", but this is step "
              + step
              + ": restore(steps) was not given the steps of this state, or the state is damaged");
    }
    return last == 0 ? 0 : step - last - 1;
  }

  private void storeState(Scratch scratch, long row) {
    long at = row * stateRowBytes;
    MemorySegment.copy(scratch.state, 0, stateBytes, FLOAT, at, stateValues);
    if (stamped) {
      stateBytes.set(LONG, at + (long) stateValues * Float.BYTES, step);
    }
  }

  private synchronized void overflowed(Scratch scratch, long row) {
    if (overflows == 0 || row < overflowRow) {
      overflowRow = row;
      overflowElement = firstInfinite(scratch.weights);
    }
    overflows++;
  }

  /** Index of the first weight that is not finite as the table stores it, -1 if none is. */
  private int firstInfinite(float[] weights) {
    float most = narrow ? Float.intBitsToFloat(0x7F7F0000) : Float.MAX_VALUE;
    for (int i = 0; i < headDim; i++) {
      if (!(Math.abs(weights[i]) <= most)) {
        return i;
      }
    }
    return -1;
  }

  private EngramException overflow() {
    return new EngramException(
        table.name()
            + ": step "
            + step
            + " would have made "
            + overflows
            + " rows infinite or NaN, the first of them row "
            + overflowRow
            + (overflowElement < 0 ? " in its state" : ", element " + overflowElement)
            + ". They and their state are as they were, the other rows have taken the step. Lower"
            + " the learning rate or clip gradients, and go on from the last good checkpoint");
  }

  @Override
  public void close() {
    closed = true;
    state.ifPresent(RamRowStore::close);
  }

  @Override
  public String toString() {
    return table.name() + ": " + name() + " after " + steps + " steps";
  }

  /** Whether all gradients can be taken; if not, whether to say no or to throw is an option. */
  private boolean acceptable(TableGradients given) {
    int most = Float.floatToRawIntBits(largestGradient());
    if (given.magnitude() <= most) {
      return true;
    }
    int size = Math.toIntExact(given.rows());
    for (int slot = 0; slot < size; slot++) {
      float[] piece = given.piece(slot);
      int at = given.at(slot);
      if (kernels.largest(piece, at, headDim) > most) {
        if (options.badGradient() == StepOptions.BadGradient.SKIP) {
          return false;
        }
        int element = 0;
        while ((Float.floatToRawIntBits(piece[at + element]) & 0x7FFFFFFF) <= most) {
          element++;
        }
        float bad = piece[at + element];
        throw new EngramException(
            table.name()
                + ": the gradient of row "
                + given.rowId(slot)
                + ", element "
                + element
                + " is "
                + bad
                + (Float.isFinite(bad)
                    ? ", whose square is not finite, expected at most " + largestGradient()
                    : ", expected a finite number")
                + ". Nothing was changed. Clear the gradients and lower the learning rate, clip"
                + " gradients, or choose BadGradient.SKIP to leave such steps out");
      }
    }
    return true;
  }
}
