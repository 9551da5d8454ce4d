// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.prefetch.StagingMemory.Region;
import java.lang.foreign.MemorySegment;
import java.util.Comparator;
import java.util.concurrent.locks.Condition;

/**
 * The rows of one layer for one retrieval: read in slices, completed once.
 *
 * <p>All fields that change are guarded by the lock of the {@link Prefetcher}, but for the contents
 * of regions: a slice's belong to the thread that reads it until it is done, and after that they do
 * not change until the batch is released and its last holder has let go.
 */
final class LayerBatch {
  /** What is most urgent comes first. */
  static final Comparator<LayerBatch> URGENCY =
      (a, b) -> {
        if (a.urgent != b.urgent) {
          return a.urgent ? -1 : 1;
        }
        // Differences, because the clock may wrap around.
        if (a.due != b.due) {
          return a.due - b.due < 0 ? -1 : 1;
        }
        if (a.layer.order() != b.layer.order()) {
          return a.layer.order() < b.layer.order() ? -1 : 1;
        }
        return Long.compare(a.sequence, b.sequence);
      };

  enum State {
    WAITING,
    READING,
    DONE,
    FAILED
  }

  /** Consecutive distinct rows, and room for them: first the rows, then their ids. */
  static final class Slice {
    final LayerBatch batch;
    final Region region;
    final int rows;
    State state = State.WAITING;
    Throwable failure;

    Slice(LayerBatch batch, Region region, int rows) {
      this.batch = batch;
      this.region = region;
      this.rows = rows;
    }

    long rowAt(int row) {
      return region.offset() + (long) row * batch.layer.rowBytes();
    }

    long idAt(int row) {
      return region.offset() + idsAt(batch.layer.rowBytes(), rows) + (long) row * Long.BYTES;
    }
  }

  final StagedLayer layer;
  final Retrieval retrieval;
  final long sequence;
  final long due;

  /** Null where there was no room. */
  Slice[] slices;

  /** For each position and column, slice and row: see {@link #rowBits}. Null without slices. */
  Region[] maps;

  int rowBits;

  /** Whether a thread waits for it. Changes only while it is not queued. */
  boolean urgent;

  boolean queued;

  /** Slices up to here have been claimed once. */
  int claimed;

  int reading;
  int failed;
  int done;

  /** Threads that use its regions. */
  int holders;

  /** No thread may begin to use its regions. */
  boolean released;

  /** Made by the first thread that waits. */
  Condition completion;

  /** What the allocating {@code rows} gave: guarded by this batch's monitor. */
  MemorySegment allocated;

  LayerBatch(StagedLayer layer, Retrieval retrieval, long sequence, long due) {
    this.layer = layer;
    this.retrieval = retrieval;
    this.sequence = sequence;
    this.due = due;
  }

  static long idsAt(int rowBytes, int rows) {
    return ((long) rows * rowBytes + 7) & -8L;
  }

  /** Whether rows are or will be in its regions. */
  boolean isStaged() {
    return slices != null && !released;
  }

  boolean isComplete() {
    return done == slices.length;
  }

  boolean hasUnclaimed() {
    return claimed < slices.length;
  }

  /** The next slice that nobody has begun to read. */
  Slice claim() {
    return begin(slices[claimed++]);
  }

  /** A slice whose read has failed. */
  Slice claimFailed() {
    for (Slice slice : slices) {
      if (slice.state == State.FAILED) {
        failed--;
        return begin(slice);
      }
    }
    throw new IllegalStateException("no read has failed");
  }

  private Slice begin(Slice slice) {
    slice.state = State.READING;
    reading++;
    return slice;
  }

  /** Ends the reading of a slice. */
  void end(Slice slice, Throwable failure) {
    reading--;
    slice.failure = failure;
    if (failure == null) {
      slice.state = State.DONE;
      done++;
    } else {
      slice.state = State.FAILED;
      failed++;
    }
  }
}
