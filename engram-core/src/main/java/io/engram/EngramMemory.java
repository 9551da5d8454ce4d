// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.checkpoint.Checkpoint;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.prefetch.PrefetchOptions;
import io.engram.prefetch.PrefetchStatistics;
import io.engram.prefetch.Prefetcher;
import io.engram.prefetch.Retrieval;
import io.engram.stats.FlightEvents;
import io.engram.stats.MemoryStatistics;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.TableInitializer;
import io.engram.vocab.TokenMap;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntUnaryOperator;
import java.util.function.LongConsumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A conditional memory: from raw token ids to the rows that they stand for, for every layer that
 * has a table. The way in to this library.
 *
 * <p>A memory owns everything it opened, tables, weights and files, until {@link #close}; then row
 * ids, rows and weights are refused with an {@link IllegalStateException}. All methods are
 * thread-safe; outputs belong to the caller.
 *
 * <p>Token ids are raw ids of the model's tokenizer, 0 to vocabulary size - 1. Where the variant
 * has positions without a token (images, padding), such a position is {@link Lookback#DEAD}.
 */
public final class EngramMemory implements AutoCloseable {
  private static final Logger LOG = LoggerFactory.getLogger(EngramMemory.class);

  private final EngramConfig config;
  private final TokenMap tokenMap;
  private final IntUnaryOperator translation;
  private final Map<Integer, ServedTable> layers = new LinkedHashMap<>();
  private final Map<Integer, LayerWeights> weights = new ConcurrentHashMap<>();
  private final WeightSource weightSource;
  private final Arena arena = Arena.ofShared();
  private final AtomicBoolean closed = new AtomicBoolean();
  private final Optional<Checkpoint> checkpoint;
  private final Optional<TableOpener> opener;
  private final ThreadLocal<Scratch> scratch = ThreadLocal.withInitial(Scratch::new);
  private final Object prefetching = new Object();
  private final PrefetchOptions prefetchOptions;
  private volatile Prefetcher prefetcher;

  /** Null where the constructor failed. */
  private final FlightEvents events;

  @FunctionalInterface
  private interface WeightSource {
    LayerWeights load(int layer, Arena arena);
  }

  /** Grows to the largest chunk of its thread and stays, so that a lookup allocates nothing. */
  private static final class Scratch {
    private int[] ids = new int[0];
    private long[] rowIds = new long[0];

    int[] ids(int count) {
      if (ids.length < count) {
        ids = new int[count];
      }
      return ids;
    }

    long[] rowIds(int count) {
      if (rowIds.length < count) {
        rowIds = new long[count];
      }
      return rowIds;
    }
  }

  @FunctionalInterface
  private interface TableSource {
    EngramTable open(TierChoice choice, HashLayout layout, Arena arena);
  }

  private EngramMemory(
      EngramConfig config,
      TokenMap tokenMap,
      List<TierChoice> choices,
      TableSource tables,
      WeightSource weightSource,
      Optional<Checkpoint> checkpoint,
      Optional<TableOpener> opener,
      MemoryOptions options) {
    this.config = config;
    this.tokenMap = tokenMap;
    translation = tokenMap::get;
    this.weightSource = weightSource;
    this.checkpoint = checkpoint;
    this.opener = opener;
    prefetchOptions = options.prefetch();
    for (int layer : prefetchOptions.timeToLayer().keySet()) {
      if (!config.layerIds().contains(layer)) {
        throw new IllegalArgumentException(
            "prefetch: a time for layer "
                + layer
                + ", which has no memory; layers "
                + config.layerIds()
                + " have one");
      }
    }
    WindowRule window =
        new WindowRule(
            tokenMap.get(config.fillTokenId()),
            config.boundaryTokenId() == WindowRule.NO_BOUNDARY
                ? WindowRule.NO_BOUNDARY
                : tokenMap.get(config.boundaryTokenId()),
            config.dead());
    try {
      List<HashLayout> layouts = HashLayout.derive(config.hashing());
      for (int i = 0; i < layouts.size(); i++) {
        HashLayout layout = layouts.get(i);
        TierChoice choice = choices.get(i);
        EngramTable table = tables.open(choice, layout, arena);
        LOG.info("{}", choice);
        try {
          layers.put(
              layout.layerId(),
              new ServedTable(
                  new NgramHasher(layout, window),
                  table,
                  choice,
                  opener.map(o -> o.files(choice)).orElse(List.of()),
                  options));
        } catch (RuntimeException | Error e) {
          table.close();
          throw e;
        }
      }
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
    events = FlightEvents.of(this::statistics);
  }

  /**
   * Opens a released checkpoint with {@link MemoryOptions#DEFAULT}: tables stay in their files,
   * unless they are small.
   *
   * @param directory a directory with {@code config.json}, safetensors, and the tokenizer or token
   *     map where the variant compresses ids
   * @return the memory
   * @throws EngramFormatException naming the file, or everything that does not fit
   */
  public static EngramMemory open(Path directory) {
    return open(directory, MemoryOptions.DEFAULT);
  }

  /**
   * Opens a released checkpoint. Refuses to start unless vocabulary, moduli, stored buffers, shapes
   * and dtypes all agree with the configuration.
   *
   * @param directory a directory with {@code config.json}, safetensors, and the tokenizer or token
   *     map where the variant compresses ids
   * @param options memory to take, and tiers where the user decides them
   * @return the memory
   * @throws EngramFormatException naming the file, or everything that does not fit
   * @throws IllegalArgumentException if the options cannot be met
   */
  public static EngramMemory open(Path directory, MemoryOptions options) {
    return open(directory, options, rows -> {});
  }

  /**
   * As {@link #open(Path, MemoryOptions)}, reporting progress: tables that are copied into RAM take
   * as long as their files take to read.
   *
   * @param directory the checkpoint's directory
   * @param options memory to take, and tiers where the user decides them
   * @param progress given the number of rows copied so far in all tables
   * @return the memory
   * @throws EngramFormatException naming the file, or everything that does not fit
   * @throws IllegalArgumentException if the options cannot be met
   */
  public static EngramMemory open(Path directory, MemoryOptions options, LongConsumer progress) {
    Checkpoint checkpoint = Checkpoint.open(directory);
    try {
      TokenMap map = checkpoint.tokenMap();
      checkpoint.require(map);
      TableOpener opener = new TableOpener(checkpoint, options, progress);
      return new EngramMemory(
          checkpoint.config(),
          map,
          opener.choices(),
          opener::open,
          checkpoint::weights,
          Optional.of(checkpoint),
          Optional.of(opener),
          options);
    } catch (RuntimeException | Error e) {
      checkpoint.close();
      throw e;
    }
  }

  /**
   * Makes a new memory in RAM, with tables of standard normal values and initial weights.
   *
   * @param config the configuration; its row format is F32 or BF16
   * @param tokenMap the ids of the tokenizer in use, of the sizes that the configuration states
   * @param seed seed of tables and weights; the same seed gives the same memory everywhere
   * @return the memory
   * @throws IllegalArgumentException if map and configuration do not fit
   */
  public static EngramMemory create(EngramConfig config, TokenMap tokenMap, long seed) {
    return create(config, tokenMap, seed, MemoryOptions.DEFAULT, rows -> {});
  }

  /**
   * As {@link #create(EngramConfig, TokenMap, long)}, reporting progress: a table of the paper's
   * size takes seconds to fill.
   *
   * @param config the configuration; its row format is F32 or BF16
   * @param tokenMap the ids of the tokenizer in use, of the sizes that the configuration states
   * @param seed seed of tables and weights
   * @param options prefetch and shadow cache; the tables are in RAM, whatever the budget
   * @param progress given the number of rows filled so far in all tables, on the caller's thread
   * @return the memory
   * @throws IllegalArgumentException if map and configuration do not fit
   */
  public static EngramMemory create(
      EngramConfig config,
      TokenMap tokenMap,
      long seed,
      MemoryOptions options,
      LongConsumer progress) {
    if (tokenMap.size() != config.vocabularySize()
        || tokenMap.compressedSize() != config.hashing().vocabularySize()) {
      throw new IllegalArgumentException(
          "the token map has %d ids and %d after compression, the configuration says %d and %d"
              .formatted(
                  tokenMap.size(),
                  tokenMap.compressedSize(),
                  config.vocabularySize(),
                  config.hashing().vocabularySize()));
    }
    AtomicLong before = new AtomicLong();
    return new EngramMemory(
        config,
        tokenMap,
        HashLayout.derive(config.hashing()).stream().map(l -> created(config, l)).toList(),
        (_, layout, _) -> {
          long done = before.getAndAdd(layout.rowCount());
          return newTable(config, layout, seed, rows -> progress.accept(done + rows));
        },
        (layer, arena) ->
            LayerWeights.initial(
                config.gate(), config.conv(), config.rowWidth(), seed + layer, arena),
        Optional.empty(),
        Optional.empty(),
        options);
  }

  private static TierChoice created(EngramConfig config, HashLayout layout) {
    long bytes = layout.rowCount() * config.rowFormat().rowBytes(config.headDim());
    return new TierChoice(layout.layerId(), Tier.RAM, bytes, "since it was made there");
  }

  private static EngramTable newTable(
      EngramConfig config, HashLayout layout, long seed, LongConsumer progress) {
    RamRowStore store =
        RamRowStore.create(
            "layer " + layout.layerId(),
            layout.rowCount(),
            config.rowFormat().rowBytes(config.headDim()));
    try {
      TableInitializer.normal(seed, layout.layerId(), 1)
          .progress(progress)
          .fill(store, config.rowFormat(), config.headDim());
      return new EngramTable(store, config.rowFormat(), config.headDim());
    } catch (RuntimeException | Error e) {
      store.close();
      throw e;
    }
  }

  /**
   * The configuration.
   *
   * @return the descriptor of this memory
   */
  public EngramConfig config() {
    return config;
  }

  /**
   * From raw to hashed ids.
   *
   * @return the map; the identity where the variant does not compress
   */
  public TokenMap tokenMap() {
    return tokenMap;
  }

  /**
   * Multipliers, moduli and offsets of a layer.
   *
   * @param layer a layer of the configuration
   * @return its layout
   * @throws IllegalArgumentException if the layer has no memory
   */
  public HashLayout layout(int layer) {
    return layer(layer).hasher().layout();
  }

  /**
   * The table of a layer.
   *
   * @param layer a layer of the configuration
   * @return its table, owned by this memory
   * @throws IllegalArgumentException if the layer has no memory
   */
  public EngramTable table(int layer) {
    return layer(layer).table();
  }

  /**
   * The dense weights of a layer, read at the first call.
   *
   * @param layer a layer of the configuration
   * @return its weights, in memory that this memory owns
   * @throws IllegalArgumentException if the layer has no memory
   * @throws EngramException if they cannot be read
   * @throws IllegalStateException if this memory is closed
   */
  public LayerWeights weights(int layer) {
    layer(layer);
    checkOpen();
    return weights.computeIfAbsent(layer, l -> weightSource.load(l, arena));
  }

  /**
   * Row ids of a chunk of one sequence.
   *
   * @param layer a layer of the configuration
   * @param tokenIds raw ids, or {@link Lookback#DEAD} where the variant allows it
   * @param from index of the chunk's first id
   * @param count ids of the chunk; 0 does nothing
   * @param past the raw ids before the chunk
   * @param out takes count * columns row ids, position-major, column offsets included
   * @param outFrom index of the first row id in {@code out}
   * @throws IllegalArgumentException naming position and id if an id is out of range
   * @throws IllegalStateException if this memory is closed
   */
  public void rowIds(
      int layer, int[] tokenIds, int from, int count, Lookback past, long[] out, int outFrom) {
    NgramHasher hasher = layer(layer).hasher();
    checkOpen();
    int[] hashed = scratch.get().ids(count);
    tokenMap.mapOrDead(tokenIds, from, count, hashed, 0);
    hasher.hash(hashed, 0, count, past, translation, out, outFrom);
  }

  /**
   * Row ids of some positions of a sequence that lies in one array from its start: the ids before
   * them are read from the array, so that decoding needs no look-back, which is a new object for
   * each token.
   *
   * @param layer a layer of the configuration
   * @param sequence raw ids, or {@link Lookback#DEAD} where the variant allows it; index 0 is the
   *     start of the sequence, and what lies behind {@code to} is not read
   * @param from the first position
   * @param to the position after the last
   * @param out takes (to - from) * columns row ids, position-major, column offsets included
   * @param outFrom index of the first row id in {@code out}
   * @throws IllegalArgumentException naming an id that is out of range, or if {@code out} is too
   *     small
   * @throws IndexOutOfBoundsException if the positions do not lie in the sequence
   * @throws IllegalStateException if this memory is closed
   */
  public void rowIdsAt(int layer, int[] sequence, int from, int to, long[] out, int outFrom) {
    NgramHasher hasher = layer(layer).hasher();
    checkOpen();
    Objects.checkFromToIndex(from, to, sequence.length);
    int first = Math.max(0, from - (hasher.layout().maxOrder() - 1));
    int[] hashed = scratch.get().ids(to - first);
    tokenMap.mapOrDead(sequence, first, to - first, hashed, 0);
    hasher.hashRange(hashed, from - first, to - first, out, outFrom);
  }

  /**
   * Rows of some positions of a sequence that lies in one array from its start: {@link #rowIdsAt},
   * then the rows.
   *
   * @param layer a layer of the configuration
   * @param sequence raw ids, as for {@link #rowIdsAt}
   * @param from the first position
   * @param to the position after the last
   * @param out takes (to - from) * row width values of F32, position-major, heads in column order
   * @throws IllegalArgumentException naming an id that is out of range, or if {@code out} is too
   *     small
   * @throws IndexOutOfBoundsException if the positions do not lie in the sequence
   * @throws EngramException if a row cannot be read
   * @throws IllegalStateException if this memory is closed
   */
  public void lookupAt(int layer, int[] sequence, int from, int to, MemorySegment out) {
    Objects.checkFromToIndex(from, to, sequence.length);
    int rows = Math.multiplyExact(to - from, config.hashing().columns());
    ServedTable served = layer(layer);
    long start = System.nanoTime();
    long[] rowIds = scratch.get().rowIds(rows);
    rowIdsAt(layer, sequence, from, to, rowIds, 0);
    served.table().gather(rowIds, 0, rows, out, 0, Dtype.F32);
    served.lookups().record(System.nanoTime() - start);
  }

  /**
   * Row ids of a whole sequence.
   *
   * @param layer a layer of the configuration
   * @param tokenIds raw ids from the start of a sequence
   * @return row ids [tokens, columns], column offsets included
   * @throws IllegalArgumentException naming position and id if an id is out of range
   */
  public long[] rowIds(int layer, int... tokenIds) {
    long[] out = new long[Math.multiplyExact(tokenIds.length, config.hashing().columns())];
    rowIds(layer, tokenIds, 0, tokenIds.length, Lookback.start(), out, 0);
    return out;
  }

  /**
   * Rows of a chunk of one sequence.
   *
   * @param layer a layer of the configuration
   * @param tokenIds raw ids, or {@link Lookback#DEAD} where the variant allows it
   * @param from index of the chunk's first id
   * @param count ids of the chunk; 0 does nothing
   * @param past the raw ids before the chunk
   * @param out takes count * row width values of F32, position-major, heads in column order
   * @throws IllegalArgumentException naming position and id if an id is out of range, or if {@code
   *     out} is too small
   * @throws EngramException if a row cannot be read
   * @throws IllegalStateException if this memory is closed
   */
  public void lookup(
      int layer, int[] tokenIds, int from, int count, Lookback past, MemorySegment out) {
    int columns = config.hashing().columns();
    int rows = Math.multiplyExact(count, columns);
    ServedTable served = layer(layer);
    long start = System.nanoTime();
    long[] rowIds = scratch.get().rowIds(rows);
    rowIds(layer, tokenIds, from, count, past, rowIds, 0);
    served.table().gather(rowIds, 0, rows, out, 0, Dtype.F32);
    served.lookups().record(System.nanoTime() - start);
  }

  /**
   * Rows of a whole sequence.
   *
   * @param layer a layer of the configuration
   * @param tokenIds raw ids from the start of a sequence
   * @return values [tokens, row width]
   * @throws IllegalArgumentException naming position and id if an id is out of range
   * @throws EngramException if a row cannot be read
   */
  public float[] lookup(int layer, int... tokenIds) {
    ServedTable served = layer(layer);
    long start = System.nanoTime();
    float[] rows = served.table().gather(rowIds(layer, tokenIds));
    served.lookups().record(System.nanoTime() - start);
    return rows;
  }

  /**
   * The tiers that serve the tables.
   *
   * @return one for each layer, in their order, with the reason
   */
  public List<TierChoice> tiers() {
    return layers.values().stream().map(ServedTable::choice).toList();
  }

  /**
   * What this memory did since it was opened.
   *
   * @return a snapshot
   */
  public MemoryStatistics statistics() {
    Prefetcher known = prefetcher;
    Optional<PrefetchStatistics> prefetch = Optional.ofNullable(known).map(Prefetcher::statistics);
    return new MemoryStatistics(
        layers.values().stream()
            .map(served -> {
              int layer = served.choice().layer();
              return served.statistics(prefetch.map(p -> p.layers().get(layer)));
            })
            .toList(),
        prefetch);
  }

  /**
   * Begins to read the rows of a chunk of one sequence, for all layers: see {@link
   * Prefetcher#prefetch(int[], int, int, Lookback)}.
   *
   * @param tokenIds raw ids, or {@link Lookback#DEAD} where the variant allows it; copied
   * @param past the raw ids before the chunk
   * @return the rows on their way; close it
   * @throws IllegalArgumentException naming position and id if an id is out of range, or the
   *     look-back no longer knows ids that are needed
   * @throws IllegalStateException if this memory is closed
   */
  public Retrieval prefetch(int[] tokenIds, Lookback past) {
    return prefetch(tokenIds, 0, tokenIds.length, past);
  }

  /**
   * Begins to read the rows of a chunk of one sequence, for all layers: see {@link
   * Prefetcher#prefetch(int[], int, int, Lookback)}.
   *
   * @param tokenIds raw ids, or {@link Lookback#DEAD} where the variant allows it; copied
   * @param from index of the chunk's first id
   * @param count ids of the chunk, at least 0
   * @param past the raw ids before the chunk
   * @return the rows on their way; close it
   * @throws IllegalArgumentException naming position and id if an id is out of range, or the
   *     look-back no longer knows ids that are needed
   * @throws IllegalStateException if this memory is closed
   */
  public Retrieval prefetch(int[] tokenIds, int from, int count, Lookback past) {
    return prefetcher().prefetch(tokenIds, from, count, past);
  }

  /**
   * Begins to read the rows of chunks of several sequences as one retrieval: see {@link
   * Prefetcher#prefetch(int[], int[], List)}.
   *
   * @param tokenIds raw ids of all chunks, back to back; copied
   * @param counts ids of each chunk, together all of tokenIds
   * @param pasts the raw ids before each chunk
   * @return the rows on their way, those of one sequence after those of the one before it; close it
   * @throws IllegalArgumentException if the counts do not add up, there is not one look-back for
   *     each, an id is out of range, or a look-back no longer knows ids that are needed
   * @throws IllegalStateException if this memory is closed
   */
  public Retrieval prefetch(int[] tokenIds, int[] counts, List<Lookback> pasts) {
    return prefetcher().prefetch(tokenIds, counts, pasts);
  }

  private Prefetcher prefetcher() {
    checkOpen();
    Prefetcher known = prefetcher;
    if (known != null) {
      return known;
    }
    synchronized (prefetching) {
      checkOpen();
      if (prefetcher == null) {
        prefetcher =
            new Prefetcher(
                tokenMap,
                layers.values().stream()
                    .map(l -> new Prefetcher.Layer(l.hasher(), l.table()))
                    .toList(),
                prefetchOptions);
      }
      return prefetcher;
    }
  }

  /**
   * Makes sure that no file of an opened checkpoint has changed since: rows are read in place, and
   * bytes that somebody overwrites are served without a sign. Costs a look at each file's size and
   * time; does nothing for a memory that was made in RAM.
   *
   * @throws EngramFormatException naming the first file that has changed
   * @throws IllegalStateException if this memory is closed
   */
  public void checkUnchanged() {
    checkOpen();
    checkpoint.ifPresent(c -> c.tensors().checkUnchanged());
    opener.ifPresent(TableOpener::checkUnchanged);
  }

  private void checkOpen() {
    if (closed.get()) {
      throw new IllegalStateException("the memory is closed");
    }
  }

  private ServedTable layer(int id) {
    ServedTable layer = layers.get(id);
    if (layer == null) {
      throw new IllegalArgumentException(
          "layer " + id + " has no memory; layers " + config.layerIds() + " have one");
    }
    return layer;
  }

  /** Closes tables, weights and files. Does nothing at a second call. */
  @Override
  public void close() {
    if (!closed.compareAndSet(false, true)) {
      return;
    }
    RuntimeException failure = null;
    List<Runnable> parts = new ArrayList<>();
    if (events != null) {
      parts.add(events::close);
    }
    synchronized (prefetching) {
      // Before the stores: who is still waiting for rows hears that the memory is closed.
      if (prefetcher != null) {
        parts.add(prefetcher::close);
      }
    }
    layers.values().forEach(l -> parts.add(l::close));
    checkpoint.ifPresent(c -> parts.add(c::close));
    parts.add(arena::close);
    for (Runnable part : parts) {
      try {
        part.run();
      } catch (RuntimeException e) {
        if (failure == null) {
          failure = e;
        } else {
          failure.addSuppressed(e);
        }
      }
    }
    if (failure != null) {
      throw failure;
    }
  }
}
