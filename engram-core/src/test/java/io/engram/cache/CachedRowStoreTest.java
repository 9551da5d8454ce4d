// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.EngramException;
import io.engram.cache.Tables.Computed;
import io.engram.testkit.Seeds;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class CachedRowStoreTest {
  private static CachedRowStore cache(Computed below, long bytes) {
    return CachedRowStore.of(below, Tables.layout(below.rowCount()), bytes);
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 10_000, 100_000, 10_000_000})
  void everyRowIsRightAndEveryRowIsCounted(long more) {
    RandomGenerator random = Seeds.random("CachedRowStoreTest.everyRowIsRight");
    Computed below = new Computed(20_000, 40);
    long ofOrder2 = 0;
    long all = 0;
    try (CachedRowStore store = cache(below, CachedRowStore.minimumBytes(40) + more)) {
      assertEquals(321, store.preferredBatch());
      for (int i = 0; i < 400; i++) {
        long[] ids = Tables.skewed(random, random.nextInt(400), 20_000, 1 + random.nextInt(6));
        Tables.check(store, ids);
        all += ids.length;
        ofOrder2 += Arrays.stream(ids).filter(id -> id < 10_000).count();
      }
      CacheStatistics statistics = store.statistics();
      CacheStatistics.Order total = statistics.total();
      assertEquals(all, total.hits() + total.misses());
      assertEquals(
          List.of(2, 3), statistics.orders().stream().map(CacheStatistics.Order::order).toList());
      assertEquals(ofOrder2, statistics.orders().getFirst().rows());
      assertEquals(all - ofOrder2, statistics.orders().getLast().rows());
      assertEquals(below.rows.get(), total.misses() - total.repeats());
      assertEquals(below.rows.get(), total.inserts() + total.rejected());
      assertEquals(statistics.residentRows(), total.inserts() - total.evictions());
      assertTrue(statistics.residentRows() <= statistics.capacityRows());
      assertTrue(total.hits() > 0 && total.misses() > 0 && total.repeats() > 0, total::toString);
      assertTrue(more > 1_000_000 || total.evictions() > 0, total::toString);
      assertTrue(statistics.toString().contains("hit rate"), statistics::toString);
    }
    assertTrue(below.isClosed());
  }

  @Test
  void aRowWantedTwiceInOneReadIsReadOnce() {
    Computed below = new Computed(1000, 16);
    try (CachedRowStore store = cache(below, 1 << 20)) {
      Tables.check(store, new long[] {7, 8, 7, 7, 999, 8});
      assertEquals(1, below.reads.get());
      assertEquals(3, below.rows.get());
      CacheStatistics.Order total = store.statistics().total();
      assertEquals(List.of(0L, 6L, 3L), List.of(total.hits(), total.misses(), total.repeats()));
      Tables.check(store, new long[] {999, 7, 7});
      assertEquals(3, below.rows.get());
      assertEquals(3, store.statistics().total().hits());
    }
  }

  /** Hits among the misses, all in their places, in reads larger than the buffers. */
  @Test
  void manyMissesAreReadInFewReads() {
    Computed below = new Computed(100_000, 24);
    long bytes = 4 << 20;
    int misses = CacheGeometry.of("", 24, bytes).missesPerRead();
    assertTrue(misses >= 1024, () -> misses + " misses per read");
    try (CachedRowStore store = cache(below, bytes)) {
      long[] some = new long[1000];
      Arrays.setAll(some, i -> i * 10L);
      Tables.check(store, some);
      assertEquals(1, below.reads.get());
      long[] ids = new long[10_000];
      Arrays.setAll(ids, i -> i);
      Tables.check(store, ids);
      assertEquals(10_000, below.rows.get());
      assertEquals(1 + Math.ceilDiv(9000, misses), below.reads.get());
    }
  }

  /** Rows that one read after another finds least recently used gone. */
  private static long hitsOfLru(long capacity, List<long[]> reads) {
    Map<Long, Boolean> lru =
        new LinkedHashMap<>(16, 0.75f, true) {
          private static final long serialVersionUID = 1L;

          @Override
          protected boolean removeEldestEntry(Map.Entry<Long, Boolean> eldest) {
            return size() > capacity;
          }
        };
    long hits = 0;
    for (long[] ids : reads) {
      hits = 0;
      for (long id : ids) {
        hits += lru.put(id, true) == null ? 0 : 1;
      }
    }
    return hits;
  }

  @Test
  void whatIsUsedOftenSurvivesAScan() {
    RandomGenerator random = Seeds.random("CachedRowStoreTest.whatIsUsedOften");
    Computed below = new Computed(1_000_000_000L, 16);
    try (CachedRowStore store = cache(below, 1 << 20)) {
      int capacity = (int) store.statistics().capacityRows();
      long[] hot = random.longs(capacity / 3, 0, below.rowCount()).distinct().toArray();
      long[] scan = random.longs(10L * capacity, 0, below.rowCount()).toArray();
      List<long[]> reads = List.of(hot, hot, hot, scan, hot);
      long before = 0;
      for (long[] ids : reads) {
        before = store.statistics().total().hits();
        Tables.check(store, ids);
      }
      long hits = store.statistics().total().hits() - before;
      assertTrue(hits > 0.98 * hot.length, hits + " hits of " + hot.length);
      // A scan of random rows asks for one or the other hot row as well.
      long control = hitsOfLru(capacity, reads);
      assertTrue(control < 0.01 * hot.length, control + " hits of the control");
    }
  }

  /** The hot rows come after the cache is full of a scan, and while it goes on. */
  @Test
  void whatIsUsedOftenFindsItsWayIn() {
    RandomGenerator random = Seeds.random("CachedRowStoreTest.whatIsUsedOftenFinds");
    Computed below = new Computed(1_000_000_000L, 16);
    try (CachedRowStore store = cache(below, 1 << 20)) {
      int capacity = (int) store.statistics().capacityRows();
      Tables.check(store, random.longs(2L * capacity, 0, below.rowCount()).toArray());
      long[] hot = random.longs(capacity / 3, 0, below.rowCount()).distinct().toArray();
      long hits = 0;
      for (int round = 0; round < 8; round++) {
        long before = store.statistics().total().hits();
        Tables.check(store, hot);
        hits = store.statistics().total().hits() - before;
        Tables.check(store, random.longs(capacity / 2, 0, below.rowCount()).toArray());
      }
      assertTrue(hits > 0.95 * hot.length, hits + " hits of " + hot.length);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "264,0",
    "264,1",
    "264,100000",
    "264,16777216",
    "264,17179869184",
    "1,0",
    "1,4096",
    "70000,0",
    "70000,1000000",
    "8,68719476736"
  })
  void theBudgetIsNeverExceededAndHardlyWasted(int rowBytes, long more) {
    long budget = CachedRowStore.minimumBytes(rowBytes) + more;
    CacheGeometry g = CacheGeometry.of("t", rowBytes, budget);
    long transit = (long) g.readers() * g.missesPerRead() * (rowBytes + Misses.HEAP_BYTES);
    assertEquals(g.bytes(), g.sets() * (128 + 12L * rowBytes) + transit);
    assertTrue(g.bytes() <= budget && budget - g.bytes() < 128 + 12L * rowBytes, g::toString);
    assertTrue(more < 16_000_000 || transit <= budget / 16, g::toString);
    assertEquals(1, Integer.bitCount(g.missesPerRead()));
  }

  @Test
  void theBuffersTakeWhatTheBudgetSays() {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    new Misses(4096, 8).start();
    Misses misses = new Misses(4096, 8);
    long before = threads.getCurrentThreadAllocatedBytes();
    misses.start();
    long allocated = threads.getCurrentThreadAllocatedBytes() - before;
    assertTrue(
        allocated >= 4096 * Misses.HEAP_BYTES && allocated < 4096 * Misses.HEAP_BYTES + 2000,
        () -> allocated + " bytes");
    assertEquals(4096 * 8, misses.staging().byteSize());
    before = threads.getCurrentThreadAllocatedBytes();
    misses.start();
    assertTrue(threads.getCurrentThreadAllocatedBytes() - before < 1000);
  }

  @Test
  void whatCannotBeACacheIsRefused() {
    Computed below = new Computed(100, 8);
    long least = CachedRowStore.minimumBytes(8);
    for (long bytes : new long[] {least - 1, 0, -1, Long.MIN_VALUE}) {
      String message =
          assertThrows(IllegalArgumentException.class, () -> cache(below, bytes)).getMessage();
      assertTrue(
          message.contains("computed")
              && message.contains(bytes + " bytes")
              && message.contains("at least " + least),
          message);
    }
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> CachedRowStore.of(below, Tables.layout(101), least))
            .getMessage();
    assertTrue(message.contains("100 rows") && message.contains("101"), message);
    assertThrows(
        IllegalArgumentException.class, () -> cache(new Computed((1L << 60) + 1, 8), least));
    assertFalse(below.isClosed());
  }

  /** Fails at one row, after it has spoilt the output, or at none. */
  private static final class Failing extends Computed {
    private volatile long bad = -1;

    Failing(long rows) {
      super(rows, 16);
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      super.read(rowIds, from, count, out, outOffset);
      for (int i = from; i < from + count; i++) {
        if (rowIds[i] == bad) {
          out.asSlice(outOffset, (long) count * 16).fill((byte) 0x55);
          throw new EngramException("computed: row " + bad + " cannot be read");
        }
      }
    }
  }

  @Test
  void aReadThatFailsBelowLeavesNothingBehind() {
    RandomGenerator random = Seeds.random("CachedRowStoreTest.aReadThatFails");
    Failing below = new Failing(5000);
    try (CachedRowStore store = cache(below, CachedRowStore.minimumBytes(16) + 40_000)) {
      for (int i = 0; i < 300; i++) {
        long[] ids = Tables.skewed(random, 1 + random.nextInt(60), 5000, 2);
        below.bad = i % 3 == 0 ? ids[random.nextInt(ids.length)] : -1;
        CacheStatistics.Order before = store.statistics().total();
        try {
          Tables.check(store, ids);
        } catch (EngramException e) {
          assertTrue(e.getMessage().contains("row " + below.bad + " "), e::getMessage);
          if (ids.length <= 16) {
            assertEquals(before.inserts(), store.statistics().total().inserts());
          }
        }
        below.bad = -1;
        Tables.check(store, ids);
      }
      // Each time the buffer must have come back.
      assertEquals(
          store.statistics().total().misses() > 0, store.statistics().total().inserts() > 0);
      long rejected = store.statistics().total().rejected();
      assertEquals(0, rejected);
    }
  }

  @Test
  @Timeout(60)
  void moreReadersThanBuffersPassTheCacheBy() throws Exception {
    CountDownLatch inside = new CountDownLatch(4);
    CountDownLatch go = new CountDownLatch(1);
    AtomicBoolean wait = new AtomicBoolean(true);
    Computed below =
        new Computed(1000, 16) {
          @Override
          public void read(long[] rowIds, int from, int count, MemorySegment out, long offset) {
            super.read(rowIds, from, count, out, offset);
            if (wait.get()) {
              inside.countDown();
              try {
                go.await();
              } catch (InterruptedException e) {
                throw new AssertionError(e);
              }
            }
          }
        };
    try (CachedRowStore store = cache(below, CachedRowStore.minimumBytes(16));
        ExecutorService pool = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<?>> readers = new ArrayList<>();
      for (int t = 0; t < 4; t++) {
        long row = 100L + t;
        readers.add(pool.submit(() -> Tables.check(store, new long[] {row, 3, row})));
      }
      inside.await();
      wait.set(false);
      Tables.check(store, new long[] {5, 6, 5});
      assertEquals(3, store.statistics().total().rejected());
      go.countDown();
      for (Future<?> reader : readers) {
        reader.get();
      }
      Tables.check(store, new long[] {100, 3});
      assertEquals(0, store.statistics().total().repeats() - 4);
      assertTrue(store.statistics().total().hits() > 0);
    }
  }

  @Test
  void idsOutOfRangeAreRefusedBeforeAnythingElse() {
    Computed below = new Computed(100, 8);
    try (CachedRowStore store = cache(below, 100_000)) {
      byte[] out = new byte[24];
      assertThrows(
          IndexOutOfBoundsException.class,
          () -> store.read(new long[] {1, 2, 100}, 0, 3, MemorySegment.ofArray(out), 0));
      assertEquals(0, below.reads.get());
      assertEquals(0, store.statistics().total().rows());
      assertTrue(Arrays.equals(new byte[24], out));
    }
  }

  /** Does not look whether a row was exchanged while it was copied. */
  private static final class Careless extends CacheSets {
    Careless(MemorySegment memory, long count) {
      super(memory, count);
    }

    @Override
    boolean unchanged(long set, long header) {
      return true;
    }
  }

  /** Many threads read few sets with all their might; returns whether a row was wrong. */
  private static boolean wrongRows(
      CachedRowStore.SetsFactory sets, int rowBytes, long nanos, RandomGenerator seeds)
      throws Exception {
    Computed below = new Computed(200, rowBytes);
    AtomicBoolean stop = new AtomicBoolean();
    long end = System.nanoTime() + nanos;
    try (CachedRowStore store =
            CachedRowStore.of(
                below,
                Tables.layout(200),
                CachedRowStore.minimumBytes(rowBytes) + 2 * CacheGeometry.setBytes(rowBytes),
                sets);
        ExecutorService pool = Executors.newFixedThreadPool(6)) {
      List<Future<Boolean>> readers = new ArrayList<>();
      for (int t = 0; t < 6; t++) {
        RandomGenerator random = new java.util.SplittableRandom(seeds.nextLong());
        readers.add(
            pool.submit(() -> {
              byte[] out = new byte[8 * rowBytes];
              MemorySegment segment = MemorySegment.ofArray(out);
              while (!stop.get() && System.nanoTime() < end) {
                long[] ids = Tables.skewed(random, 8, 200, 3);
                store.read(ids, 0, 8, segment, 0);
                try {
                  for (int i = 0; i < 8; i++) {
                    Tables.check(ids[i], segment, (long) i * rowBytes, rowBytes);
                  }
                } catch (AssertionError e) {
                  stop.set(true);
                  return true;
                }
              }
              return false;
            }));
      }
      boolean wrong = false;
      for (Future<Boolean> reader : readers) {
        wrong |= reader.get();
      }
      CacheStatistics.Order total = store.statistics().total();
      assertTrue(wrong || (total.evictions() > 1000 && total.hits() > 1000), total::toString);
      assertEquals(total.misses() - total.repeats(), total.inserts() + total.rejected());
      return wrong;
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {64, 8192})
  @Timeout(60)
  void noReaderEverSeesAnotherRow(int rowBytes) throws Exception {
    RandomGenerator seeds = Seeds.random("CachedRowStoreTest.noReaderEverSees");
    assertFalse(wrongRows(CacheSets::new, rowBytes, 1_500_000_000L, seeds));
  }

  @Test
  @Timeout(60)
  void theSameTestFindsACacheThatDoesNotLook() throws Exception {
    RandomGenerator seeds = Seeds.random("CachedRowStoreTest.theSameTestFinds");
    assertTrue(wrongRows(Careless::new, 8192, 30_000_000_000L, seeds));
  }

  @Test
  @Timeout(60)
  void closingTheStoreWhileItsRowsComeAndGo() throws Exception {
    RandomGenerator seeds = Seeds.random("CachedRowStoreTest.closingTheStore");
    try (ExecutorService pool = Executors.newFixedThreadPool(4)) {
      for (int round = 0; round < 20; round++) {
        CachedRowStore store =
            cache(new Computed(300, 512), CachedRowStore.minimumBytes(512) + 20_000);
        CountDownLatch running = new CountDownLatch(4);
        List<Future<?>> readers = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
          RandomGenerator random = new java.util.SplittableRandom(seeds.nextLong());
          readers.add(
              pool.submit(() -> {
                for (int i = 0; ; i++) {
                  Tables.check(store, Tables.skewed(random, 20, 300, 2));
                  if (i == 20) {
                    running.countDown();
                  }
                }
              }));
        }
        running.await();
        store.close();
        for (Future<?> reader : readers) {
          Throwable cause = assertThrows(ExecutionException.class, reader::get).getCause();
          assertTrue(
              cause instanceof IllegalStateException
                  && cause.getMessage().equals("computed: the row store is closed"),
              cause::toString);
        }
        assertTrue(store.statistics().total().rows() > 0);
      }
    }
  }
}
