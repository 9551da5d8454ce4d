// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.cache.Tables.Computed;
import io.engram.hash.HashLayout;
import io.engram.store.RowStore;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class ShadowCacheTest {
  private static final int ROW_BYTES = 16;
  private static final long ROWS = 1_000_000;
  private static final HashLayout LAYOUT = Tables.layout(200_000, 800_000);
  private static final List<Long> SIZES = List.of(200_000L, 800_000L, 3_200_000L);

  /** Skewed rows of order 2, a prompt of rows of order 3 that comes back, new rows of order 3. */
  private static List<long[]> stream(RandomGenerator random, int reads) {
    long[] prompt = random.longs(3000, 200_000, ROWS).toArray();
    List<long[]> stream = new ArrayList<>();
    for (int i = 0; i < reads; i++) {
      long[] ids = Tables.skewed(random, 300, 200_000, 4);
      for (int k = 100; k < 200; k++) {
        ids[k] = prompt[(i * 100 + k) % prompt.length];
      }
      for (int k = 200; k < 300; k++) {
        ids[k] = random.nextLong(200_000, ROWS);
      }
      stream.add(ids);
    }
    return stream;
  }

  /**
   * The whole of each cache simulated: what differs is that a cache looks for all rows of a read
   * first and puts them in afterwards. A sample of its sets: within four standard errors more.
   */
  @ParameterizedTest
  @ValueSource(ints = {100_000, 128})
  void foretellsTheHitRateOfTheCache(int sampledSets) {
    RandomGenerator random = Seeds.random("ShadowCacheTest.foretellsTheHitRate");
    List<long[]> stream = stream(random, 1500);
    ShadowCache shadow = ShadowCache.of(LAYOUT, ROW_BYTES, SIZES, sampledSets);
    stream.forEach(ids -> shadow.observe(ids, 0, ids.length));
    ShadowStatistics foretold = shadow.statistics();
    double lastRate = -1;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(300L * ROW_BYTES);
      for (int s = 0; s < SIZES.size(); s++) {
        ShadowStatistics.Cache guess = foretold.caches().get(s);
        try (CachedRowStore store =
            CachedRowStore.of(new Computed(ROWS, ROW_BYTES), LAYOUT, SIZES.get(s))) {
          stream.forEach(ids -> store.read(ids, 0, ids.length, out, 0));
          CacheStatistics real = store.statistics();
          assertEquals(real.capacityRows(), guess.capacityRows());
          assertEquals(SIZES.get(s), guess.bytes());
          for (int o = 0; o <= 2; o++) {
            CacheStatistics.Order r = o == 2 ? real.total() : real.orders().get(o);
            ShadowStatistics.Order g = o == 2 ? guess.total() : guess.orders().get(o);
            assertEquals(r.order(), g.order());
            assertEquals(r.rows(), g.rows());
            double error = 0.01 + 4 * g.standardError();
            assertTrue(error < 0.1, () -> "the stated error says nothing: " + foretold);
            assertEquals(r.hitRate(), g.hitRate(), error, () -> real + "\n" + foretold);
            assertEquals((double) r.repeats() / r.rows(), g.repeatRate(), 0.03);
          }
          assertEquals(
              1.0, (double) guess.residentRows() / real.residentRows(), 0.05, guess::toString);
          assertTrue(real.total().hitRate() > lastRate + 0.02, "sizes that tell nothing apart");
          lastRate = real.total().hitRate();
        }
      }
    }
  }

  /** The hottest row is in the sample or it is not: neither may show. */
  @Test
  void oneRowThatIsHalfOfAllReadsDoesNotMislead() {
    RandomGenerator random = Seeds.random("ShadowCacheTest.oneRowThatIsHalf");
    for (long hot = 0; hot < 40; hot++) {
      ShadowCache shadow = ShadowCache.of(LAYOUT, ROW_BYTES, List.of(100_000_000L), 32 * 100);
      long[] ids = random.longs(100, 0, ROWS).toArray();
      for (int i = 0; i < 400; i++) {
        for (int k = 0; k < 100; k++) {
          ids[k] = k % 2 == 0 ? hot : random.nextLong(ROWS);
        }
        for (int k = 0; k < 100; k++) {
          shadow.observe(ids, k, 1);
        }
      }
      ShadowStatistics.Order all = shadow.statistics().caches().getFirst().total();
      assertEquals(0.5, all.hitRate(), 0.06 + 4 * all.standardError(), all::toString);
    }
  }

  @Test
  void nothingSeenIsNothingSaid() {
    ShadowStatistics statistics = ShadowCache.of(LAYOUT, ROW_BYTES).statistics();
    assertEquals(6, statistics.caches().size());
    for (ShadowStatistics.Cache cache : statistics.caches()) {
      assertEquals(new ShadowStatistics.Order(0, 0, 0, 0, 0), cache.total());
      assertEquals(0, cache.residentRows());
      assertTrue(cache.sampled() > 0 && cache.sampled() <= 1);
    }
    assertTrue(statistics.toString().contains("order 3"), statistics::toString);
  }

  @Test
  void refusesWhatItCannotWatch() {
    assertThrows(
        IllegalArgumentException.class, () -> ShadowCache.of(LAYOUT, ROW_BYTES, List.of(), 4096));
    assertThrows(
        IllegalArgumentException.class,
        () -> ShadowCache.of(LAYOUT, ROW_BYTES, List.of(10L), 4096));
    assertThrows(
        IllegalArgumentException.class, () -> ShadowCache.of(LAYOUT, ROW_BYTES, SIZES, 31));
    assertThrows(IllegalArgumentException.class, () -> ShadowCache.of(LAYOUT, 0, SIZES, 32));
    ShadowCache shadow = ShadowCache.of(LAYOUT, ROW_BYTES);
    for (Computed other : List.of(new Computed(ROWS - 1, ROW_BYTES), new Computed(ROWS, 8))) {
      assertThrows(IllegalArgumentException.class, () -> shadow.watch(other));
    }
    assertThrows(IndexOutOfBoundsException.class, () -> shadow.observe(new long[] {1, ROWS}, 0, 2));
    assertThrows(IndexOutOfBoundsException.class, () -> shadow.observe(new long[] {-1}, 0, 1));
    assertThrows(IndexOutOfBoundsException.class, () -> shadow.observe(new long[1], 0, 2));
  }

  @Test
  void aWatchedStoreIsSeenByManyThreads() throws Exception {
    RandomGenerator random = Seeds.random("ShadowCacheTest.aWatchedStore");
    ShadowCache shadow = ShadowCache.of(LAYOUT, ROW_BYTES, SIZES, 1000);
    Computed below = new Computed(ROWS, ROW_BYTES);
    List<long[]> stream = stream(random, 200);
    try (RowStore store = shadow.watch(below);
        ExecutorService pool = Executors.newFixedThreadPool(4)) {
      List<Future<?>> readers = new ArrayList<>();
      stream.forEach(ids -> readers.add(pool.submit(() -> Tables.check(store, ids))));
      for (Future<?> reader : readers) {
        reader.get();
      }
      assertThrows(
          IndexOutOfBoundsException.class, () -> Tables.check(store, new long[] {1, ROWS}));
    }
    assertTrue(below.isClosed());
    long rows = stream.stream().mapToLong(ids -> ids.length).sum();
    long ofOrder2 =
        stream.stream().flatMapToLong(Arrays::stream).filter(id -> id < 200_000).count();
    for (ShadowStatistics.Cache cache : shadow.statistics().caches()) {
      assertEquals(rows, cache.total().rows());
      assertEquals(ofOrder2, cache.orders().getFirst().rows());
      assertEquals(rows - ofOrder2, cache.orders().getLast().rows());
      assertTrue(cache.total().hitRate() > 0.05, cache::toString);
    }
  }
}
