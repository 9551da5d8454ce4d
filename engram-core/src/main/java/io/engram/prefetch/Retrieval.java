// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.hash.Lookback;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * Rows that are on their way: what {@code prefetch} returns. Every layer with a memory takes its
 * own when it gets there.
 *
 * <p>Rows that are staged belong to the retrieval until they are asked for, cancelled or closed;
 * asking for a layer's rows again reads them again. A layer whose rows have not been read by then
 * is read by the thread that asks. So nothing depends on a worker being free, and a retrieval may
 * be asked in any order, or not at all.
 *
 * <p>Thread-safe. Close it: what is not closed keeps its share of the staging memory until the
 * memory is closed.
 */
public final class Retrieval implements AutoCloseable {
  private final Prefetcher prefetcher;
  private final int[] ids;
  private final int[] starts;
  private final List<Lookback> pasts;

  /** Set once, before the retrieval is published. */
  private LayerBatch[] batches;

  // Guarded by the lock of the Prefetcher.
  private boolean cancelled;
  private boolean closed;

  /**
   * A retrieval without batches.
   *
   * @param ids hashed ids of all sequences, back to back
   * @param starts where each sequence starts in them, and the last one ends
   * @param pasts raw ids before each sequence
   */
  Retrieval(Prefetcher prefetcher, int[] ids, int[] starts, List<Lookback> pasts) {
    this.prefetcher = prefetcher;
    this.ids = ids;
    this.starts = starts;
    this.pasts = pasts;
  }

  void setBatches(LayerBatch[] all) {
    batches = all;
  }

  LayerBatch[] batches() {
    return batches;
  }

  int[] ids() {
    return ids;
  }

  int[] starts() {
    return starts;
  }

  List<Lookback> pasts() {
    return pasts;
  }

  boolean isCancelled() {
    return cancelled;
  }

  void setCancelled() {
    cancelled = true;
  }

  boolean isClosed() {
    return closed;
  }

  void setClosed() {
    closed = true;
  }

  /**
   * Tokens of all sequences together.
   *
   * @return at least 0
   */
  public int tokens() {
    return ids.length;
  }

  /**
   * Whether {@link #rows(int, MemorySegment, long, Dtype) rows} would neither wait nor read.
   *
   * @param layer a layer of the memory
   * @return false also after the rows were asked for, and after cancelling
   * @throws IllegalArgumentException if the layer has no memory
   */
  public boolean isReady(int layer) {
    return prefetcher.isReady(batch(layer));
  }

  /**
   * The rows of a layer, in memory of their own: no buffer is behind them that another retrieval
   * could get, so they stay as they are for as long as the segment is reachable, also after
   * closing.
   *
   * @param layer a layer of the memory
   * @return F32, little-endian, native: [tokens, row width], position-major, heads in column order,
   *     sequences one after the other; at every call the same
   * @throws IllegalArgumentException if the layer has no memory
   * @throws IllegalStateException if this retrieval was cancelled or closed, or the memory closed
   * @throws EngramException as {@link #rows(int, MemorySegment, long, Dtype)}
   */
  public MemorySegment rows(int layer) {
    LayerBatch batch = batch(layer);
    // Two threads would fill it twice.
    synchronized (batch) {
      if (batch.allocated == null) {
        prefetcher.checkUsable(this);
        MemorySegment out =
            Arena.ofAuto().allocate((long) ids.length * batch.layer.rowWidth() * Float.BYTES, 64);
        prefetcher.rows(batch, out, 0, Dtype.F32);
        batch.allocated = out;
      }
      prefetcher.checkUsable(this);
      return batch.allocated;
    }
  }

  /**
   * The rows of a layer, in the caller's memory. Reads at once what has not been read yet, waits
   * for reads that are under way, and gives the staging memory back.
   *
   * <p>A read that a worker failed at is repeated once by the calling thread. While it waits, the
   * thread can be interrupted: it then keeps its interrupt status, and the rows can be asked for
   * again.
   *
   * @param layer a layer of the memory
   * @param out receives tokens * row width values, position-major, heads in column order, sequences
   *     one after the other; of any kind and alignment
   * @param outOffset where in it the first value goes, in bytes
   * @param outType {@link Dtype#F32} or {@link Dtype#BF16}
   * @throws IllegalArgumentException if the layer has no memory, the values do not fit the output,
   *     it is read-only, or the type is another one
   * @throws IllegalStateException if this retrieval was cancelled or closed, or the memory or the
   *     output's memory is closed
   * @throws EngramException naming the layer, if a row cannot be read or has a NaN scale, if the
   *     thread is interrupted while waiting, or, where staged rows are verified, if one differs
   *     from a fresh read; other layers are not concerned, and the contents of the output are
   *     unspecified
   */
  public void rows(int layer, MemorySegment out, long outOffset, Dtype outType) {
    prefetcher.rows(batch(layer), out, outOffset, outType);
  }

  private LayerBatch batch(int layer) {
    for (LayerBatch batch : batches) {
      if (batch.layer.id() == layer) {
        return batch;
      }
    }
    throw new IllegalArgumentException(
        "layer " + layer + " has no memory; layers " + prefetcher.layerIds() + " have one");
  }

  /**
   * Reads no more: staging memory is given back, as soon as a worker that is reading into it has
   * let go. Does nothing at a second call, or after closing.
   */
  public void cancel() {
    prefetcher.cancel(this);
  }

  /** Cancels what has not been asked for. Does nothing at a second call. */
  @Override
  public void close() {
    prefetcher.close(this);
  }

  @Override
  public String toString() {
    return "retrieval of " + ids.length + " tokens for layers " + prefetcher.layerIds();
  }
}
