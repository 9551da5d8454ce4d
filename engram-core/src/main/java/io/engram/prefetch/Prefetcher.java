// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.prefetch.LayerBatch.Slice;
import io.engram.prefetch.StagingMemory.Region;
import io.engram.stats.FlightEvents;
import io.engram.table.EngramTable;
import io.engram.vocab.TokenMap;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeSet;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.IntUnaryOperator;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Reads rows ahead of the layers that need them: the engine behind {@code EngramMemory.prefetch},
 * which can also be put over tables of one's own.
 *
 * <p>A chunk's ids are compressed once and hashed once for each layer; its rows are read once each,
 * in ascending order, in slices, by a few threads that always turn to what is most urgent. The
 * memory for rows that were read and not yet asked for is bounded, whatever the number of
 * retrievals: a layer that finds no room is read when its rows are asked for, a few thousand rows
 * at a time. No call waits for room, and none depends on a worker.
 *
 * <p>Thread-safe. Each retrieval takes heap of its own for what is not rows: about a kilobyte, and
 * 4 bytes a token.
 */
public final class Prefetcher implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(Prefetcher.class);
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  private static final long[] NO_ROWS = {};

  /** Plans that are kept for the next call. */
  private static final int KEPT_PLANS = 16;

  /** Rows that are hashed and read at once where nothing is staged. */
  private static final int SYNCHRONOUS_ROWS = 4096;

  /**
   * A layer to read for.
   *
   * @param hasher tells its rows
   * @param table holds them; not closed with the prefetcher
   */
  public record Layer(NgramHasher hasher, EngramTable table) {
    /** Refuses a table with fewer rows than the hasher tells. */
    public Layer {
      if (table.rowCount() < hasher.layout().hashedRows()) {
        throw new IllegalArgumentException(
            table.name()
                + ": "
                + table.rowCount()
                + " rows, but layer "
                + hasher.layout().layerId()
                + " hashes to "
                + hasher.layout().hashedRows());
      }
    }
  }

  private final TokenMap tokenMap;
  private final IntUnaryOperator translation;
  private final PrefetchOptions options;
  private final List<StagedLayer> layers = new ArrayList<>();
  private final List<Integer> layerIds = new ArrayList<>();
  private final long[] nanosToLayer;
  private final ArrayBlockingQueue<RowPlan> plans = new ArrayBlockingQueue<>(KEPT_PLANS);

  private final ReentrantLock lock = new ReentrantLock();

  // Guarded by the lock.
  private final Condition work = lock.newCondition();
  private final StagingMemory staging;
  private final TreeSet<LayerBatch> queue = new TreeSet<>(LayerBatch.URGENCY);
  private int workers;
  private int idle;
  private int holders;
  private long sequence;
  private long retrievals;
  private long open;

  /** Written under the lock. */
  private volatile boolean closed;

  /**
   * A prefetcher, which starts its threads at the first call.
   *
   * @param tokenMap from raw to hashed ids
   * @param layers the layers, in any order, at least one
   * @param options how far it may go
   * @throws IllegalArgumentException if there is no layer, one occurs twice or hashes ids of
   *     another vocabulary than the map's, or the options name a layer that is not there
   */
  public Prefetcher(TokenMap tokenMap, List<Layer> layers, PrefetchOptions options) {
    this.tokenMap = Objects.requireNonNull(tokenMap, "tokenMap");
    translation = tokenMap::get;
    this.options = Objects.requireNonNull(options, "options");
    staging = new StagingMemory(options.stagingBytes(), options.verify());
    List<Layer> sorted = new ArrayList<>(layers);
    sorted.sort(Comparator.comparingInt(l -> l.hasher().layout().layerId()));
    if (sorted.isEmpty()) {
      throw new IllegalArgumentException("no layers to prefetch for");
    }
    for (Layer layer : sorted) {
      int id = layer.hasher().layout().layerId();
      if (layerIds.contains(id)) {
        throw new IllegalArgumentException("layer " + id + " occurs twice");
      }
      if (layer.hasher().layout().vocabularySize() != tokenMap.compressedSize()) {
        throw new IllegalArgumentException(
            "layer %d hashes %d ids, the token map has %d"
                .formatted(
                    id, layer.hasher().layout().vocabularySize(), tokenMap.compressedSize()));
      }
      layerIds.add(id);
      this.layers.add(
          new StagedLayer(
              this.layers.size(),
              layer.hasher(),
              layer.table(),
              options.sliceRows(),
              staging.largest()));
    }
    options
        .timeToLayer()
        .keySet()
        .forEach(id -> {
          if (!layerIds.contains(id)) {
            throw new IllegalArgumentException(
                "timeToLayer names layer " + id + "; layers " + layerIds + " have a memory");
          }
        });
    nanosToLayer =
        layerIds.stream()
            .mapToLong(id -> options.timeToLayer().getOrDefault(id, Duration.ZERO).toNanos())
            .toArray();
  }

  List<Integer> layerIds() {
    return layerIds;
  }

  /**
   * How far this prefetcher may go.
   *
   * @return the options it was made with
   */
  public PrefetchOptions options() {
    return options;
  }

  /**
   * Begins to read the rows of a chunk of one sequence, for all layers.
   *
   * @param tokenIds raw ids, or {@link Lookback#DEAD} where the variant allows it; copied
   * @param from index of the chunk's first id
   * @param count ids of the chunk, at least 0
   * @param past the raw ids before the chunk
   * @return the rows on their way; close it
   * @throws IllegalArgumentException naming position and id if an id is out of range, or the
   *     look-back no longer knows ids that are needed
   * @throws IndexOutOfBoundsException if from and count do not lie in tokenIds
   * @throws IllegalStateException if the prefetcher is closed
   */
  public Retrieval prefetch(int[] tokenIds, int from, int count, Lookback past) {
    Objects.checkFromIndexSize(from, count, tokenIds.length);
    return begin(tokenIds, from, new int[] {0, count}, List.of(past));
  }

  /**
   * Begins to read the rows of chunks of several sequences, for all layers, as one retrieval: a row
   * that occurs in several of them is read once.
   *
   * @param tokenIds raw ids of all chunks, back to back; copied
   * @param counts ids of each chunk, each at least 0, together all of tokenIds
   * @param pasts the raw ids before each chunk
   * @return the rows on their way, those of one sequence after those of the one before it; close it
   * @throws IllegalArgumentException if the counts are negative or do not add up, there is not one
   *     look-back for each, an id is out of range, or a look-back no longer knows ids that are
   *     needed
   * @throws IllegalStateException if the prefetcher is closed
   */
  public Retrieval prefetch(int[] tokenIds, int[] counts, List<Lookback> pasts) {
    if (pasts.size() != counts.length) {
      throw new IllegalArgumentException(
          pasts.size() + " look-backs for " + counts.length + " sequences");
    }
    int[] starts = new int[counts.length + 1];
    for (int s = 0; s < counts.length; s++) {
      if (counts[s] < 0 || counts[s] > tokenIds.length - starts[s]) {
        throw new IllegalArgumentException(
            "sequence %d has %d ids, expected 0 to %d, which are left"
                .formatted(s, counts[s], tokenIds.length - starts[s]));
      }
      starts[s + 1] = starts[s] + counts[s];
    }
    if (starts[counts.length] != tokenIds.length) {
      throw new IllegalArgumentException(
          "the sequences have %d ids, but there are %d"
              .formatted(starts[counts.length], tokenIds.length));
    }
    return begin(tokenIds, 0, starts, pasts);
  }

  private Retrieval begin(int[] tokenIds, int from, int[] starts, List<Lookback> rawPasts) {
    checkOpen();
    PrefetchEvent event = FlightEvents.recording() ? new PrefetchEvent() : null;
    if (event != null) {
      event.begin();
    }
    int tokens = starts[starts.length - 1];
    int[] ids = new int[tokens];
    tokenMap.mapOrDead(tokenIds, from, tokens, ids, 0);
    Retrieval retrieval = new Retrieval(this, ids, starts, List.copyOf(rawPasts));
    checkHashable(retrieval);
    long now = System.nanoTime();
    LayerBatch[] batches = new LayerBatch[layers.size()];
    lock.lock();
    try {
      checkOpen();
      long number = sequence++;
      for (int i = 0; i < batches.length; i++) {
        long due = options.timeToLayer().isEmpty() ? 0 : now + nanosToLayer[i];
        batches[i] = new LayerBatch(layers.get(i), retrieval, number, due);
      }
      retrieval.setBatches(batches);
      retrievals++;
      open++;
      startWorkers();
    } finally {
      lock.unlock();
    }
    RowPlan plan = takePlan();
    try {
      for (LayerBatch batch : batches) {
        stage(batch, plan, event);
      }
    } catch (RuntimeException | Error e) {
      retrieval.close();
      throw e;
    } finally {
      givePlan(plan);
    }
    if (event != null && event.shouldCommit()) {
      event.sequences = starts.length - 1;
      event.tokens = tokens;
      event.stagingInUse = statistics().stagingInUse();
      event.commit();
    }
    return retrieval;
  }

  /** Raises here what hashing would raise, also where nothing is hashed yet for lack of room. */
  private void checkHashable(Retrieval retrieval) {
    int[] starts = retrieval.starts();
    boolean deadRefused =
        layers.stream().anyMatch(l -> l.hasher().rule().dead() == WindowRule.Dead.REFUSED);
    for (int s = 0; s < starts.length - 1; s++) {
      try {
        for (StagedLayer layer : layers) {
          layer
              .hasher()
              .hash(retrieval.ids(), 0, 0, retrieval.pasts().get(s), translation, NO_ROWS, 0);
        }
        for (int i = starts[s]; i < starts[s + 1]; i++) {
          if (retrieval.ids()[i] == Lookback.DEAD && deadRefused) {
            throw new IllegalArgumentException(
                "index " + (i - starts[s]) + " is DEAD, which the window rule refuses");
          }
        }
      } catch (IllegalArgumentException e) {
        throw starts.length == 2
            ? e
            : new IllegalArgumentException("sequence " + s + ": " + e.getMessage(), e);
      }
    }
  }

  /** Plans a layer's reads and queues them, or leaves them to the thread that asks. */
  private void stage(LayerBatch batch, RowPlan plan, PrefetchEvent event) {
    StagedLayer layer = batch.layer;
    int[] ids = batch.retrieval.ids();
    long rows = (long) ids.length * layer.columns();
    boolean staged = false;
    if (mayFit(layer, rows)) {
      plan.make(
          layer.hasher(),
          ids,
          batch.retrieval.starts(),
          batch.retrieval.pasts(),
          translation,
          layer.rowBytes());
      staged = reserve(batch, (int) rows, plan.distinct());
    }
    if (staged) {
      fill(batch, (int) rows, plan);
      if (event != null) {
        event.rows += rows;
        event.distinctRows += plan.distinct();
        event.distinctPages += plan.pages();
        event.bytes += (long) plan.distinct() * layer.rowBytes();
      }
    } else {
      if (event != null) {
        event.unstaged++;
      }
    }
    lock.lock();
    try {
      if (!staged) {
        layer.unstaged++;
        return;
      }
      layer.rows += rows;
      layer.distinctRows += plan.distinct();
      layer.distinctPages += plan.pages();
      letGo(batch);
      if (!batch.released && !closed && options.workers() > 0 && batch.hasUnclaimed()) {
        enqueue(batch);
        if (idle > 0) {
          work.signal();
        }
      }
    } finally {
      lock.unlock();
    }
  }

  /** A first look, before any work is put in. */
  private boolean mayFit(StagedLayer layer, long rows) {
    if (layer.rowsPerSlice() == 0) {
      return rows == 0;
    }
    lock.lock();
    try {
      return rows * Integer.BYTES <= staging.available();
    } finally {
      lock.unlock();
    }
  }

  /** Takes room for all slices and maps, or for none; the batch is then held by this thread. */
  private boolean reserve(LayerBatch batch, int rows, int distinct) {
    StagedLayer layer = batch.layer;
    int perSlice = Math.max(1, layer.rowsPerSlice());
    Slice[] slices = new Slice[Math.ceilDiv(distinct, perSlice)];
    long mapEntries = Math.max(1, staging.largest() / Integer.BYTES);
    Region[] maps = new Region[Math.toIntExact(Math.ceilDiv(rows, mapEntries))];
    batch.rowBits = Integer.SIZE - Integer.numberOfLeadingZeros(perSlice - 1);
    if ((long) slices.length << batch.rowBits > 1L << 31) {
      return false;
    }
    lock.lock();
    try {
      boolean fits = !closed;
      for (int i = 0; i < maps.length && fits; i++) {
        maps[i] = staging.take(Math.min(mapEntries, rows - i * mapEntries) * Integer.BYTES);
        fits = maps[i] != null;
      }
      for (int i = 0; i < slices.length && fits; i++) {
        int count = Math.min(perSlice, distinct - i * perSlice);
        long idsAt = LayerBatch.idsAt(layer.rowBytes(), count);
        Region region = staging.take(idsAt + (long) count * Long.BYTES);
        fits = region != null;
        if (fits) {
          slices[i] = new Slice(batch, region, count);
        }
      }
      if (!fits) {
        giveBack(slices, maps);
        return false;
      }
      batch.slices = slices;
      batch.maps = maps;
      hold(batch);
      return true;
    } finally {
      lock.unlock();
    }
  }

  private static void fill(LayerBatch batch, int rows, RowPlan plan) {
    int first = 0;
    for (Slice slice : batch.slices) {
      MemorySegment.copy(
          plan.rowIds(), first, slice.region.memory(), LONG, slice.idAt(0), slice.rows);
      first += slice.rows;
    }
    int perSlice = Math.max(1, batch.layer.rowsPerSlice());
    int[] places = plan.places();
    if (batch.slices.length > 1) {
      for (int i = 0; i < rows; i++) {
        int place = places[i];
        int slice = place / perSlice;
        places[i] = slice << batch.rowBits | place - slice * perSlice;
      }
    }
    int done = 0;
    for (Region map : batch.maps) {
      int count = (int) Math.min(rows - done, map.bytes() / Integer.BYTES);
      MemorySegment.copy(places, done, map.memory(), INT, map.offset(), count);
      done += count;
    }
  }

  private void enqueue(LayerBatch batch) {
    batch.queued = true;
    queue.add(batch);
  }

  private void dequeue(LayerBatch batch) {
    if (batch.queued) {
      queue.remove(batch);
      batch.queued = false;
    }
  }

  private void hold(LayerBatch batch) {
    batch.holders++;
    holders++;
  }

  /** Ends a hold; the last one gives back what has been released. */
  private void letGo(LayerBatch batch) {
    batch.holders--;
    holders--;
    freeIfUnused(batch);
    if (closed && holders == 0) {
      staging.close();
    }
  }

  private void release(LayerBatch batch) {
    batch.released = true;
    dequeue(batch);
    freeIfUnused(batch);
    if (batch.completion != null) {
      batch.completion.signalAll();
    }
  }

  private void freeIfUnused(LayerBatch batch) {
    if (batch.released && batch.holders == 0 && batch.slices != null) {
      giveBack(batch.slices, batch.maps);
      batch.slices = null;
      batch.maps = null;
    }
  }

  private void giveBack(Slice[] slices, Region[] maps) {
    for (Slice slice : slices) {
      if (slice != null) {
        staging.give(slice.region);
      }
    }
    for (Region map : maps) {
      if (map != null) {
        staging.give(map);
      }
    }
  }

  private void startWorkers() {
    while (workers < options.workers()) {
      Thread thread = new Thread(this::work, "engram-prefetch-" + workers);
      thread.setDaemon(true);
      thread.start();
      workers++;
    }
  }

  private void work() {
    long[] ids = new long[0];
    lock.lock();
    try {
      while (!closed) {
        if (queue.isEmpty()) {
          idle++;
          work.awaitUninterruptibly();
          idle--;
          continue;
        }
        LayerBatch batch = queue.first();
        Slice slice = batch.claim();
        if (!batch.hasUnclaimed()) {
          dequeue(batch);
        }
        // Each wakes the next: a burst of calls does not wake threads that find nothing to do.
        if (!queue.isEmpty() && idle > 0) {
          work.signal();
        }
        hold(batch);
        lock.unlock();
        Throwable failure = null;
        try {
          if (ids.length < slice.rows) {
            ids = new long[batch.layer.rowsPerSlice()];
          }
          read(slice, ids);
        } catch (Throwable e) {
          // The thread that asks gets to see it, unless its own read succeeds.
          failure = e;
        } finally {
          lock.lock();
          end(slice, failure);
          letGo(batch);
        }
        if (failure != null) {
          batch.layer.failures++;
          LOG.debug("layer {}: a read failed and will be repeated", batch.layer.id(), failure);
        }
      }
    } finally {
      lock.unlock();
    }
  }

  private static void read(Slice slice, long[] ids) {
    MemorySegment memory = slice.region.memory();
    MemorySegment.copy(memory, LONG, slice.idAt(0), ids, 0, slice.rows);
    slice.batch.layer.table().store().read(ids, 0, slice.rows, memory, slice.rowAt(0));
  }

  private static void end(Slice slice, Throwable failure) {
    LayerBatch batch = slice.batch;
    batch.end(slice, failure);
    if (batch.completion != null && (failure != null || batch.reading == 0)) {
      batch.completion.signalAll();
    }
  }

  boolean isReady(LayerBatch batch) {
    lock.lock();
    try {
      return !closed && batch.isStaged() && batch.isComplete();
    } finally {
      lock.unlock();
    }
  }

  void checkUsable(Retrieval retrieval) {
    lock.lock();
    try {
      checkUsableLocked(retrieval);
    } finally {
      lock.unlock();
    }
  }

  private void checkUsableLocked(Retrieval retrieval) {
    checkOpen();
    if (retrieval.isClosed()) {
      throw new IllegalStateException("the retrieval is closed");
    }
    if (retrieval.isCancelled()) {
      throw new IllegalStateException("the retrieval was cancelled");
    }
  }

  void rows(LayerBatch batch, MemorySegment out, long outOffset, Dtype outType) {
    StagedLayer layer = batch.layer;
    checkOutput(batch, out, outOffset, outType);
    RowsWaitEvent event = FlightEvents.recording() ? new RowsWaitEvent() : null;
    long asked = 0;
    boolean staged;
    boolean late;
    lock.lock();
    try {
      checkUsableLocked(batch.retrieval);
      layer.asks++;
      staged = batch.isStaged();
      late = !staged || !batch.isComplete();
      if (staged) {
        hold(batch);
      }
      if (late) {
        layer.late++;
        asked = System.nanoTime();
        if (event != null) {
          event.begin();
        }
      } else {
        layer.waits.record(0);
      }
    } finally {
      lock.unlock();
    }
    boolean spent = false;
    RowPlan scratch = takePlan();
    try {
      boolean read = staged && complete(batch, scratch, event);
      if (late) {
        if (!read) {
          readSynchronously(batch, scratch, out, outOffset, outType);
        }
        waited(batch, System.nanoTime() - asked, !read, event);
      }
      if (read) {
        decode(batch, scratch, out, outOffset, outType);
        spent = true;
      }
    } catch (EngramException e) {
      // Whatever is wrong with these rows, they are not offered again.
      spent = !Thread.currentThread().isInterrupted();
      throw inContext(layer, e);
    } catch (RuntimeException e) {
      throw inContext(layer, e);
    } finally {
      givePlan(scratch);
      if (staged) {
        lock.lock();
        try {
          if (spent) {
            release(batch);
          }
          letGo(batch);
        } finally {
          lock.unlock();
        }
      }
    }
  }

  private static void checkOutput(
      LayerBatch batch, MemorySegment out, long outOffset, Dtype outType) {
    StagedLayer layer = batch.layer;
    if (outType != Dtype.F32 && outType != Dtype.BF16) {
      throw new IllegalArgumentException(
          "layer " + layer.id() + ": output type " + outType + ", expected F32 or BF16");
    }
    long bytes = (long) batch.retrieval.tokens() * layer.rowWidth() * outType.bytes();
    if (outOffset < 0 || bytes > out.byteSize() - outOffset) {
      throw new IllegalArgumentException(
          "layer %d: %d tokens of %d %s values do not fit an output of %d bytes at %d"
              .formatted(
                  layer.id(),
                  batch.retrieval.tokens(),
                  layer.rowWidth(),
                  outType,
                  out.byteSize(),
                  outOffset));
    }
    if (out.isReadOnly()) {
      throw new IllegalArgumentException("layer " + layer.id() + ": the output is read-only");
    }
  }

  private RuntimeException inContext(StagedLayer layer, RuntimeException e) {
    if (closed) {
      return new IllegalStateException("the memory is closed", e);
    }
    return e instanceof EngramException
        ? new EngramException("layer " + layer.id() + ": " + e.getMessage(), e)
        : e;
  }

  /**
   * Reads what nobody has begun to read, repeats what a worker failed at, waits for the rest.
   *
   * @return whether all rows are there; if not, another thread has given up the batch
   */
  private boolean complete(LayerBatch batch, RowPlan scratch, RowsWaitEvent event) {
    lock.lock();
    try {
      while (!batch.isComplete()) {
        checkUsableLocked(batch.retrieval);
        if (batch.released) {
          return false;
        }
        if (batch.hasUnclaimed()) {
          Slice slice = batch.claim();
          hurry(batch);
          readHere(slice, scratch);
          countSlice(event);
        } else if (batch.failed > 0) {
          batch.layer.retries++;
          readHere(batch.claimFailed(), scratch);
          countSlice(event);
        } else {
          if (batch.completion == null) {
            batch.completion = lock.newCondition();
          }
          batch.completion.await();
        }
      }
      checkUsableLocked(batch.retrieval);
      return true;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new EngramException("interrupted while waiting for rows", e);
    } finally {
      lock.unlock();
    }
  }

  private static void countSlice(RowsWaitEvent event) {
    if (event != null) {
      event.slicesRead++;
    }
  }

  /** Sets idle workers on the rest of a batch that a thread is waiting for. */
  private void hurry(LayerBatch batch) {
    if (!batch.queued || batch.urgent) {
      if (!batch.hasUnclaimed()) {
        dequeue(batch);
      }
      return;
    }
    dequeue(batch);
    if (batch.hasUnclaimed()) {
      batch.urgent = true;
      enqueue(batch);
      if (idle > 0) {
        work.signal();
      }
    }
  }

  /** Reads a slice on this thread, which holds the lock before and after, but not meanwhile. */
  private void readHere(Slice slice, RowPlan scratch) {
    Throwable before = slice.failure;
    Throwable failure = null;
    lock.unlock();
    try {
      read(slice, scratch.readIds(slice.rows));
    } catch (RuntimeException | Error e) {
      failure = e;
      if (before != null && !before.equals(e)) {
        e.addSuppressed(before);
      }
      throw e;
    } finally {
      lock.lock();
      end(slice, failure);
      if (failure != null) {
        release(slice.batch);
      }
    }
  }

  private void waited(LayerBatch batch, long nanos, boolean synchronous, RowsWaitEvent event) {
    StagedLayer layer = batch.layer;
    lock.lock();
    try {
      layer.waits.record(nanos);
      layer.lateness.record(nanos);
      if (synchronous) {
        layer.synchronous++;
      }
    } finally {
      lock.unlock();
    }
    if (event != null && event.shouldCommit()) {
      event.layer = layer.id();
      event.tokens = batch.retrieval.tokens();
      event.synchronous = synchronous;
      event.commit();
    }
  }

  /** Brings staged rows into the order of the tokens. The batch is complete and held. */
  private void decode(
      LayerBatch batch, RowPlan scratch, MemorySegment out, long outOffset, Dtype outType) {
    StagedLayer layer = batch.layer;
    EngramTable table = layer.table();
    int rowBytes = layer.rowBytes();
    int perRound = layer.rowsPerRound();
    int outRowBytes = table.headDim() * outType.bytes();
    long freshAt = (long) perRound * rowBytes;
    MemorySegment round = scratch.bytes(2 * freshAt);
    long[] ids = scratch.readIds(perRound);
    Slice[] slices = batch.slices;
    int rowBits = batch.rowBits;
    int rowMask = (1 << rowBits) - 1;
    long left = (long) batch.retrieval.tokens() * layer.columns();
    long at = outOffset;
    for (Region map : batch.maps) {
      int entries = (int) Math.min(left, map.bytes() / Integer.BYTES);
      left -= entries;
      for (int done = 0; done < entries; done += perRound) {
        int rows = Math.min(perRound, entries - done);
        long mapAt = map.offset() + (long) done * Integer.BYTES;
        for (int i = 0; i < rows; i++) {
          int place = map.memory().get(INT, mapAt + (long) i * Integer.BYTES);
          Slice slice = slices[place >>> rowBits];
          int row = place & rowMask;
          MemorySegment memory = slice.region.memory();
          ids[i] = memory.get(LONG, slice.idAt(row));
          MemorySegment.copy(memory, slice.rowAt(row), round, (long) i * rowBytes, rowBytes);
        }
        if (options.verify()) {
          verify(layer, ids, rows, round, freshAt);
        }
        table.decode(ids, 0, rows, round, 0, out, at, outType);
        at += (long) rows * outRowBytes;
      }
    }
    for (Slice slice : slices) {
      slice.region.check();
    }
    for (Region map : batch.maps) {
      map.check();
    }
  }

  private void verify(StagedLayer layer, long[] ids, int rows, MemorySegment round, long freshAt) {
    layer.table().store().read(ids, 0, rows, round, freshAt);
    long bytes = (long) rows * layer.rowBytes();
    long different = MemorySegment.mismatch(round, 0, bytes, round, freshAt, freshAt + bytes);
    if (different < 0) {
      return;
    }
    lock.lock();
    try {
      layer.mismatches++;
    } finally {
      lock.unlock();
    }
    throw new EngramException(
        "%s: row %d was staged with byte %d as 0x%02x, a fresh read gives 0x%02x"
            .formatted(
                layer.table().name(),
                ids[(int) (different / layer.rowBytes())],
                different % layer.rowBytes(),
                round.get(ValueLayout.JAVA_BYTE, different),
                round.get(ValueLayout.JAVA_BYTE, freshAt + different)));
  }

  /** Hashes and reads at once, some thousand rows at a time. */
  private void readSynchronously(
      LayerBatch batch, RowPlan scratch, MemorySegment out, long outOffset, Dtype outType) {
    StagedLayer layer = batch.layer;
    NgramHasher hasher = layer.hasher();
    int columns = layer.columns();
    int reach = Math.max(1, hasher.layout().maxOrder() - 1);
    int perRound = Math.max(reach, SYNCHRONOUS_ROWS / columns);
    Retrieval retrieval = batch.retrieval;
    int[] ids = retrieval.ids();
    int[] starts = retrieval.starts();
    long tokenBytes = (long) layer.rowWidth() * outType.bytes();
    for (int s = 0; s < starts.length - 1; s++) {
      for (int from = starts[s]; from < starts[s + 1]; from += perRound) {
        checkUsable(retrieval);
        int tokens = Math.min(perRound, starts[s + 1] - from);
        long[] rowIds = scratch.readIds(tokens * columns);
        if (from == starts[s]) {
          hasher.hash(ids, from, tokens, retrieval.pasts().get(s), translation, rowIds, 0);
        } else {
          // Behind the first round all that an n-gram can see lies in the chunk.
          Lookback past = Lookback.start(reach).advance(ids, from - reach, reach);
          hasher.hash(ids, from, tokens, past, rowIds, 0);
        }
        layer
            .table()
            .gather(rowIds, 0, tokens * columns, out, outOffset + from * tokenBytes, outType);
      }
    }
  }

  void cancel(Retrieval retrieval) {
    lock.lock();
    try {
      retrieval.setCancelled();
      for (LayerBatch batch : retrieval.batches()) {
        release(batch);
      }
    } finally {
      lock.unlock();
    }
  }

  void close(Retrieval retrieval) {
    lock.lock();
    try {
      if (!retrieval.isClosed()) {
        retrieval.setClosed();
        open--;
        cancel(retrieval);
      }
    } finally {
      lock.unlock();
    }
  }

  private RowPlan takePlan() {
    RowPlan plan = plans.poll();
    return plan == null ? new RowPlan() : plan;
  }

  private void givePlan(RowPlan plan) {
    if (plan.isWorthKeeping()) {
      plans.offer(plan);
    }
  }

  private void checkOpen() {
    if (closed) {
      throw new IllegalStateException("the memory is closed");
    }
  }

  /**
   * What has been done so far.
   *
   * @return a snapshot
   */
  public PrefetchStatistics statistics() {
    lock.lock();
    try {
      Map<Integer, PrefetchStatistics.Layer> byLayer = new HashMap<>();
      layers.forEach(layer -> byLayer.put(layer.id(), layer.statistics()));
      return new PrefetchStatistics(
          retrievals, open, staging.limit(), staging.inUse(), staging.peak(), byLayer);
    } finally {
      lock.unlock();
    }
  }

  /**
   * Ends the threads and frees the staging memory, once those that use it have let go. Retrievals
   * that are open refuse to give rows from now on. Does not wait for reads; does nothing at a
   * second call.
   */
  @Override
  public void close() {
    long left;
    lock.lock();
    try {
      if (closed) {
        return;
      }
      closed = true;
      left = open;
      queue.forEach(batch -> batch.queued = false);
      queue.clear();
      work.signalAll();
      if (holders == 0) {
        staging.close();
      }
    } finally {
      lock.unlock();
    }
    if (left > 0) {
      LOG.warn("{} retrievals were left open when their memory was closed", left);
    }
  }
}
