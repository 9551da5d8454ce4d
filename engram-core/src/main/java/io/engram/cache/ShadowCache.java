// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import io.engram.hash.HashLayout;
import io.engram.store.RowStore;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.LongAdder;

/**
 * Learns from the row ids that flow by which hit rate a {@link CachedRowStore} would have, for
 * several sizes at once, without keeping a row.
 *
 * <p>In such a cache a row has its place in one set, and sets know nothing of each other.
 * Simulating some of the sets therefore shows exactly what would happen in these; what is not known
 * is how far the others differ. A shadow simulates up to a given number of sets for each size,
 * chosen by the hash of the row ids, and counts the misses in them. Rows that are asked for very
 * often would distort a sampled hit rate, as each is either in the sample or not; they hardly ever
 * miss, and the number of rows asked for is known exactly, so the hit rate is one less the misses,
 * scaled up, over that number. The standard error follows from how much the misses differ between
 * groups of sets.
 *
 * <p>A shadow takes 176 bytes for each simulated set, all at once, and nothing more ever. A row id
 * that falls into no simulated set costs a hash and a comparison.
 *
 * <p>Thread-safe. With several threads a shadow may miss some insertions, as a cache would.
 */
public final class ShadowCache {
  /** 16 MiB to 16 GiB. */
  private static final List<Long> SIZES =
      List.of(1L << 24, 1L << 26, 1L << 28, 1L << 30, 1L << 32, 1L << 34);

  private static final int SAMPLED_SETS = 4096;

  /** The sets of a sample are divided into so many groups to see how much they differ. */
  private static final int GROUPS = 32;

  private final HashLayout layout;
  private final int rowBytes;
  private final RowOrders orders;
  private final Simulation[] simulations;
  private final LongAdder[] rows;
  private final AtomicInteger reads = new AtomicInteger();

  private ShadowCache(HashLayout layout, int rowBytes, List<Long> sizes, int sampledSets) {
    if (sizes.isEmpty() || sampledSets < GROUPS) {
      throw new IllegalArgumentException(
          "sizes "
              + sizes
              + " and "
              + sampledSets
              + " sampled sets, expected at least one size and "
              + GROUPS
              + " sets");
    }
    if (rowBytes < 1) {
      throw new IllegalArgumentException("rowBytes is " + rowBytes + ", expected at least 1");
    }
    this.layout = layout;
    this.rowBytes = rowBytes;
    orders = new RowOrders(layout);
    rows = new LongAdder[orders.count()];
    for (int i = 0; i < rows.length; i++) {
      rows[i] = new LongAdder();
    }
    simulations =
        sizes.stream()
            .distinct()
            .sorted()
            .map(bytes -> {
              CacheGeometry geometry =
                  CacheGeometry.of("layer " + layout.layerId(), rowBytes, bytes);
              return new Simulation(geometry, bytes, sampledSets, orders.count());
            })
            .toArray(Simulation[]::new);
  }

  /**
   * A shadow of caches of 16 MiB, 64 MiB and so on to 16 GiB that takes less than 5 MB itself.
   *
   * @param layout the layout of the layer whose rows are watched
   * @param rowBytes bytes of a stored row, at least 1
   * @return a shadow that has seen nothing
   * @throws IllegalArgumentException if a row is too large for the smallest of these caches
   */
  public static ShadowCache of(HashLayout layout, int rowBytes) {
    return of(layout, rowBytes, SIZES, SAMPLED_SETS);
  }

  /**
   * A shadow of caches of given sizes.
   *
   * @param layout the layout of the layer whose rows are watched
   * @param rowBytes bytes of a stored row, at least 1
   * @param sizes the memory of each cache, in bytes, as {@link CachedRowStore#of} would be given
   * @param sampledSets how many sets of each cache are simulated at most, at least 32; a cache that
   *     has no more is simulated whole
   * @return a shadow that has seen nothing
   * @throws IllegalArgumentException if a size is below {@link CachedRowStore#minimumBytes}, or
   *     there is none, or too few sets are sampled
   */
  public static ShadowCache of(HashLayout layout, int rowBytes, List<Long> sizes, int sampledSets) {
    return new ShadowCache(layout, rowBytes, sizes, sampledSets);
  }

  /**
   * A store that shows its row ids to this shadow and is otherwise the one below. Several stores
   * may be watched by one shadow.
   *
   * @param below the store, which the result then owns; still the caller's after an exception
   * @return a store with the same rows
   * @throws IllegalArgumentException if it has another number of rows than the layout, or rows of
   *     another size
   */
  public RowStore watch(RowStore below) {
    if (below.rowCount() != layout.rowCount() || below.rowBytes() != rowBytes) {
      throw new IllegalArgumentException(
          "%s: the store has %d rows of %d bytes, the shadow of layer %d watches %d of %d"
              .formatted(
                  below.name(),
                  below.rowCount(),
                  below.rowBytes(),
                  layout.layerId(),
                  layout.rowCount(),
                  rowBytes));
    }
    return new WatchedRowStore(below, this);
  }

  /**
   * Takes note of one read.
   *
   * @param rowIds row ids of the layer
   * @param from index of the first id
   * @param count number of ids; 0 does nothing
   * @throws IndexOutOfBoundsException if from and count do not lie in rowIds, or a row id is none
   *     of the layer, naming it; what was before it may have been noted
   */
  public void observe(long[] rowIds, int from, int count) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    int read = reads.incrementAndGet();
    int order = 0;
    int run = 0;
    for (int i = from; i < from + count; i++) {
      long row = rowIds[i];
      if (row < 0 || row >= layout.rowCount()) {
        throw new IndexOutOfBoundsException(
            "layer %d: row id %d at position %d, expected 0 to %d"
                .formatted(layout.layerId(), row, i, layout.rowCount() - 1));
      }
      int rowOrder = orders.index(row);
      if (rowOrder != order) {
        rows[order].add(run);
        run = 0;
        order = rowOrder;
      }
      run++;
      long hash = CacheSets.hash(row);
      for (Simulation simulation : simulations) {
        // Of a larger cache a smaller share is simulated, or the same.
        if (Long.compareUnsigned(hash, simulation.lastHash) > 0) {
          break;
        }
        simulation.read(row, hash, order, read);
      }
    }
    rows[order].add(run);
  }

  /**
   * What the caches would have done so far.
   *
   * @return a snapshot
   */
  public ShadowStatistics statistics() {
    List<ShadowStatistics.Cache> caches = new ArrayList<>();
    for (Simulation s : simulations) {
      List<ShadowStatistics.Order> byOrder = new ArrayList<>();
      long[] missesOfAll = new long[GROUPS];
      long rowsOfAll = 0;
      long repeatsOfAll = 0;
      for (int o = 0; o < rows.length; o++) {
        long[] misses = new long[GROUPS];
        for (int g = 0; g < GROUPS; g++) {
          misses[g] = s.misses.get(o * GROUPS + g);
          missesOfAll[g] += misses[g];
        }
        long ofOrder = rows[o].sum();
        long repeats = s.repeats.get(o);
        rowsOfAll += ofOrder;
        repeatsOfAll += repeats;
        byOrder.add(s.estimate(orders.orders().get(o), ofOrder, misses, repeats));
      }
      long resident = Math.round(s.resident.get() / s.sampled);
      caches.add(
          new ShadowStatistics.Cache(
              s.bytes,
              s.geometry.capacityRows(),
              resident,
              resident * CacheGeometry.setBytes(rowBytes) / CacheSets.WAYS,
              s.sampled,
              byOrder,
              s.estimate(0, rowsOfAll, missesOfAll, repeatsOfAll)));
    }
    return new ShadowStatistics(caches);
  }

  /** Some sets of a cache of one size. */
  private static final class Simulation {
    private final long bytes;
    private final CacheGeometry geometry;
    private final CacheSets sets;
    private final double sampled;

    /** Hashes up to this one, unsigned, fall into a simulated set. */
    private final long lastHash;

    /** The read that brought a row, by set and way: what is wanted again by the same is no hit. */
    private final int[] broughtBy;

    private final AtomicLongArray misses;
    private final AtomicLongArray repeats;
    private final AtomicLong resident = new AtomicLong();

    Simulation(CacheGeometry geometry, long bytes, int sampledSets, int orders) {
      this.bytes = bytes;
      this.geometry = geometry;
      int simulated = (int) Math.min(sampledSets, geometry.sets());
      MemorySegment memory = Arena.ofAuto().allocate((long) simulated * CacheSets.SET_BYTES, 64);
      sets = new CacheSets(memory, geometry.sets());
      sampled = (double) simulated / geometry.sets();
      BigInteger end = BigInteger.ONE.shiftLeft(Long.SIZE).multiply(BigInteger.valueOf(simulated));
      BigInteger divisor = BigInteger.valueOf(geometry.sets());
      lastHash = end.add(divisor).subtract(BigInteger.ONE).divide(divisor).longValue() - 1;
      broughtBy = new int[simulated * CacheSets.WAYS];
      misses = new AtomicLongArray(orders * GROUPS);
      repeats = new AtomicLongArray(orders);
    }

    void read(long row, long hash, int order, int read) {
      long set = sets.set(hash);
      int group = order * GROUPS + (int) (set % GROUPS);
      int way = sets.way(set, row);
      if (way >= 0) {
        if (broughtBy[(int) set * CacheSets.WAYS + way] == read) {
          misses.incrementAndGet(group);
          repeats.incrementAndGet(order);
        } else {
          sets.use(set, way, row);
        }
        return;
      }
      misses.incrementAndGet(group);
      if (!sets.tryLock(set)) {
        return;
      }
      try {
        boolean main = sets.takeGhost(set, hash);
        way = sets.choose(set);
        if (sets.evict(set, way) < 0) {
          resident.incrementAndGet();
        }
        sets.enter(set, way, row, main);
        broughtBy[(int) set * CacheSets.WAYS + way] = read;
      } finally {
        sets.unlock(set);
      }
    }

    ShadowStatistics.Order estimate(int order, long rows, long[] missesByGroup, long repeats) {
      if (rows == 0) {
        return new ShadowStatistics.Order(order, 0, 0, 0, 0);
      }
      double sum = 0;
      for (long m : missesByGroup) {
        sum += m;
      }
      double squares = 0;
      for (long m : missesByGroup) {
        squares += (m - sum / GROUPS) * (m - sum / GROUPS);
      }
      double variance = squares * GROUPS / (GROUPS - 1) * (1 - sampled);
      return new ShadowStatistics.Order(
          order,
          rows,
          // Scaled up, misses may come to a few more than there were rows.
          Math.max(0, 1 - sum / sampled / rows),
          Math.min(1, repeats / sampled / rows),
          Math.sqrt(variance) / sampled / rows);
    }
  }
}
