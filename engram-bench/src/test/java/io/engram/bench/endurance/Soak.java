// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import io.engram.Dtype;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.prefetch.PrefetchOptions;
import io.engram.prefetch.Prefetcher;
import io.engram.prefetch.Retrieval;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import java.util.stream.Stream;

/**
 * Readers over all tiers of one table at once, each row compared, while stores are closed under
 * them and opened again, and the process is measured.
 */
final class Soak {
  private static final int MOST_ROWS = 400;
  private static final int GUARD = 64;
  private static final byte UNTOUCHED = 0x5A;

  private final TableFiles table;
  private final List<Serving> tiers;
  private final List<AtomicReference<Open>> stores = new ArrayList<>();
  private final long seed;
  private final NgramHasher hasher;
  private final LongAdder batches = new LongAdder();
  private final LongAdder rows = new LongAdder();
  private final LongAdder wrong = new LongAdder();
  private final LongAdder closedUnderReader = new LongAdder();
  private final LongAdder leftInterrupted = new LongAdder();
  private final AtomicLong reopened = new AtomicLong();
  private final AtomicReference<Throwable> failure = new AtomicReference<>();
  private final Map<String, Series> series = new LinkedHashMap<>();
  private volatile boolean stop;

  /** A store in use; told before it is closed, so that nobody is surprised. */
  private static final class Open {
    private final Serving.Opened opened;
    private final EngramTable decoded;
    private final Prefetcher prefetcher;
    private volatile boolean closing;

    Open(Serving.Opened opened, RowPattern pattern, NgramHasher hasher) {
      this.opened = opened;
      this.decoded = new EngramTable(opened.store(), RowFormat.FP8_BLOCK32, pattern.valueBytes());
      this.prefetcher =
          new Prefetcher(
              TokenMap.identity(hasher.layout().vocabularySize()),
              List.of(new Prefetcher.Layer(hasher, decoded)),
              PrefetchOptions.defaults().withStagingBytes(1 << 20).withWorkers(2));
    }

    void close() {
      closing = true;
      prefetcher.close();
      opened.close();
    }
  }

  Soak(TableFiles table, List<Serving> tiers, long seed) {
    this.table = table;
    this.tiers = tiers;
    this.seed = seed;
    this.hasher =
        new NgramHasher(
            table.layout(), new WindowRule(2, WindowRule.NO_BOUNDARY, WindowRule.Dead.BLOCKS));
    series.put("anonymous MiB", new Series("anonymous MiB", 48));
    series.put("heap MiB after GC", new Series("heap MiB after GC", 8));
    series.put("other JVM MiB", new Series("other JVM MiB", 16));
    series.put("open files", new Series("open files", 8));
    series.put("threads", new Series("threads", 24));
    series.put("mappings", new Series("mappings", 40));
  }

  /** What happened. */
  record Report(
      long batches,
      long rows,
      long wrong,
      long reopened,
      long closedUnderReader,
      long leftInterrupted,
      Map<String, Series> series) {}

  /**
   * Soaks.
   *
   * @param seconds for how long
   * @param threads readers
   * @param pause seconds from one reopening to the next
   * @param sample reopenings from one sample to the next
   */
  Report run(double seconds, int threads, double pause, int sample) throws Exception {
    for (Serving tier : tiers) {
      stores.add(new AtomicReference<>(open(tier)));
    }
    List<Thread> readers = new ArrayList<>();
    try {
      for (int t = 0; t < threads; t++) {
        long own = seed + t;
        readers.add(Thread.ofPlatform().name("soak-" + t).start(() -> readUntilStopped(own)));
      }
      RandomGenerator random = generator(seed - 1);
      long start = System.nanoTime();
      double passed = 0;
      while (passed < seconds && failure.get() == null) {
        TimeUnit.MILLISECONDS.sleep((long) (1000 * pause));
        reopen(random.nextInt(tiers.size()));
        passed = (System.nanoTime() - start) / 1e9;
        if (reopened.get() % sample == 0) {
          sample(passed);
        }
      }
    } finally {
      stop = true;
      for (Thread reader : readers) {
        reader.join();
      }
      stores.forEach(s -> s.get().close());
    }
    if (failure.get() != null) {
      throw new AssertionError("a reader failed", failure.get());
    }
    return new Report(
        batches.sum(),
        rows.sum(),
        wrong.sum(),
        reopened.get(),
        closedUnderReader.sum(),
        leftInterrupted.sum(),
        series);
  }

  static RandomGenerator generator(long seed) {
    return RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
  }

  private Open open(Serving tier) throws IOException {
    return new Open(tier.open(table), table.pattern(), hasher);
  }

  private void reopen(int index) throws IOException {
    AtomicReference<Open> slot = stores.get(index);
    Open next = open(tiers.get(index));
    Open last = slot.getAndSet(next);
    last.close();
    reopened.incrementAndGet();
  }

  private void sample(double second) throws IOException {
    System.gc();
    Map<String, Long> memory = ProcessFigures.memory();
    add(second, "anonymous MiB", memory.get("RssAnon") / 1048576.0);
    add(
        second,
        "heap MiB after GC",
        ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed() / 1048576.0);
    add(
        second,
        "other JVM MiB",
        ManagementFactory.getMemoryMXBean().getNonHeapMemoryUsage().getUsed() / 1048576.0);
    add(second, "open files", (double) ProcessFigures.openFiles());
    add(second, "threads", liveThreads());
    try (Stream<String> maps = Files.lines(Path.of("/proc/self/maps"))) {
      add(second, "mappings", (double) maps.count());
    }
    System.out.printf(
        Locale.ROOT,
        "%5.0f s: %,d rows, %d wrong, %d reopened; anonymous %.0f MiB, heap %.1f MiB, other %.1f"
            + " MiB, %.0f files, %.0f threads, %.0f mappings%n",
        second,
        rows.sum(),
        wrong.sum(),
        reopened.get(),
        last("anonymous MiB"),
        last("heap MiB after GC"),
        last("other JVM MiB"),
        last("open files"),
        last("threads"),
        last("mappings"));
  }

  private static int liveThreads() {
    return ManagementFactory.getThreadMXBean().getThreadCount();
  }

  private void add(double second, String name, double value) {
    series.get(name).add(second, value);
  }

  private double last(String name) {
    return series.get(name).last();
  }

  private void readUntilStopped(long own) {
    RandomGenerator random = generator(own);
    try (Arena arena = Arena.ofConfined()) {
      long bytes = (long) MOST_ROWS * table.pattern().rowBytes() + 2 * GUARD;
      MemorySegment anonymous = arena.allocate(bytes);
      MemorySegment heap = MemorySegment.ofArray(new byte[Math.toIntExact(bytes)]);
      MemorySegment values = arena.allocate(2L * MOST_ROWS * table.pattern().valueBytes());
      while (!stop && failure.get() == null) {
        Open open = stores.get(random.nextInt(stores.size())).get();
        long[] ids = ids(random);
        try {
          switch (random.nextInt(8)) {
            case 0 -> gather(random, open.decoded, ids, values);
            case 1, 2 -> prefetch(random, open.prefetcher, values);
            default ->
                read(random, open.opened.store(), ids, random.nextBoolean() ? anonymous : heap);
          }
          batches.increment();
        } catch (IllegalStateException e) {
          if (!open.closing) {
            throw e;
          }
          closedUnderReader.increment();
          // Closing an arena stops the threads that copy from it by an asynchronous exception, and
          // the JVM (25) leaves some of them interrupted by that, though nobody interrupted them.
          if (Thread.interrupted()) {
            leftInterrupted.increment();
          }
        }
      }
    } catch (RuntimeException | Error e) {
      failure.compareAndSet(null, e);
    }
  }

  /** Uniform, hot, consecutive or repeated rows. */
  private long[] ids(RandomGenerator random) {
    long[] ids = new long[1 + random.nextInt(MOST_ROWS)];
    long start = random.nextLong(table.rowCount() - ids.length);
    int kind = random.nextInt(4);
    for (int i = 0; i < ids.length; i++) {
      ids[i] =
          switch (kind) {
            case 0 -> random.nextLong(table.rowCount());
            case 1 -> (long) (table.rowCount() * Math.pow(random.nextDouble(), 8));
            case 2 -> start + i;
            default -> start + random.nextInt(5);
          };
    }
    return ids;
  }

  private void read(RandomGenerator random, RowStore store, long[] ids, MemorySegment out) {
    int rowBytes = table.pattern().rowBytes();
    int at = 1 + random.nextInt(GUARD);
    long end = at + (long) ids.length * rowBytes;
    out.asSlice(0, end + GUARD / 2).fill(UNTOUCHED);
    store.read(ids, 0, ids.length, out, at);
    rows.add(ids.length);
    for (int i = 0; i < ids.length; i++) {
      if (!table.pattern().matches(ids[i], out, at + (long) i * rowBytes)) {
        wrong.increment();
      }
    }
    if (out.get(ValueLayout.JAVA_BYTE, at - 1) != UNTOUCHED
        || out.get(ValueLayout.JAVA_BYTE, end) != UNTOUCHED) {
      throw new AssertionError(store + " wrote beside its output");
    }
  }

  private void gather(
      RandomGenerator random, EngramTable decoded, long[] ids, MemorySegment values) {
    decoded.gather(ids, 0, ids.length, values, 0, Dtype.BF16);
    check(random, ids, values);
  }

  /** Up to three retrievals under way, of which not all are used. */
  private void prefetch(RandomGenerator random, Prefetcher prefetcher, MemorySegment values) {
    int columns = table.layout().columns();
    List<Retrieval> retrievals = new ArrayList<>();
    List<long[]> expected = new ArrayList<>();
    try {
      for (int n = 1 + random.nextInt(3); n > 0; n--) {
        int[] ids = random.ints(1 + random.nextInt(MOST_ROWS / columns), 0, 500).toArray();
        retrievals.add(prefetcher.prefetch(ids, 0, ids.length, Lookback.start()));
        long[] rowIds = new long[ids.length * columns];
        hasher.hash(ids, 0, ids.length, Lookback.start(), rowIds, 0);
        expected.add(rowIds);
      }
      for (int i = 0; i < retrievals.size(); i++) {
        if (random.nextInt(5) > 0) {
          retrievals.get(i).rows(table.layout().layerId(), values, 0, Dtype.BF16);
          check(random, expected.get(i), values);
        } else if (random.nextBoolean()) {
          retrievals.get(i).cancel();
        }
      }
    } finally {
      retrievals.forEach(Retrieval::close);
    }
  }

  /** Some of the decoded rows. */
  private void check(RandomGenerator random, long[] ids, MemorySegment values) {
    rows.add(ids.length);
    int width = table.pattern().valueBytes();
    for (int n = 0; n < 4; n++) {
      int i = random.nextInt(ids.length);
      for (int v = 0; v < width; v++) {
        short found = values.getAtIndex(ValueLayout.JAVA_SHORT, (long) i * width + v);
        float expected = Decoded.fp8Block32(table.pattern(), ids[i], v);
        if (!Decoded.equal(expected, Float.intBitsToFloat(found << 16))) {
          wrong.increment();
          break;
        }
      }
    }
  }

  static long seed(String test) {
    return Seeds.random(test).nextLong() >>> 1;
  }
}
