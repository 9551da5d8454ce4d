// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.redis.RedisOptions;
import io.engram.redis.RedisRowStore;
import io.engram.redis.RedisServers;
import io.engram.redis.RedisTables;
import io.engram.store.RowStore;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Many readers over all tiers for a long time: {@code -Dengram.soak.seconds} (600), {@code
 * -Dengram.soak.threads} (8).
 */
class SoakTest {
  @TempDir Path directory;

  @BeforeEach
  void onLinuxOnly() {
    assumeTrue(ProcessFigures.available(), "what a process uses is read from /proc, which is not");
  }

  private TableFiles table(long slotsPerHead) throws IOException {
    return TableFiles.write(directory, 3, slotsPerHead, new RowPattern(5, 256, 8), done -> {});
  }

  @Test
  @Tag("long")
  void memoryStaysFlatAndEveryRowIsRight() throws Exception {
    double seconds = Integer.getInteger("engram.soak.seconds", 600);
    int threads = Integer.getInteger("engram.soak.threads", 8);
    TableFiles table = table(16_000);
    List<Serving> tiers = Serving.of(table);
    // Once before, so that what is loaded and started for good is there.
    new Soak(table, tiers, 1).run(2, 4, 0.1, 10);
    long files = ProcessFigures.openFiles();
    int running = Thread.getAllStackTraces().size();
    System.out.println("tiers " + tiers.stream().map(Serving::name).toList());
    Soak.Report report =
        new Soak(table, tiers, Soak.seed("SoakTest.memoryStaysFlat")).run(seconds, threads, 1, 5);
    double warmUp = seconds / 4;
    assertNothingIsLeft(files, running);
    report.series().values().forEach(s -> System.out.println(s.report(warmUp)));
    System.out.println(report);
    assertEquals(0, report.wrong());
    assertTrue(report.closedUnderReader() > 0, "no store was closed during a read");
    assertAll(
        report.series().values().stream()
            .map(s -> () -> assertTrue(s.flat(warmUp), s.report(warmUp))));
  }

  /** The same for a few seconds, in which nothing can be said of slopes. */
  @Test
  void everyRowIsRightWhileStoresComeAndGo() throws Exception {
    TableFiles table = table(800);
    List<Serving> tiers = Serving.of(table);
    // Once before, so that what is loaded and started for good is there.
    new Soak(table, tiers, 1).run(0.5, 4, 0.05, 5);
    long files = ProcessFigures.openFiles();
    int threads = Thread.getAllStackTraces().size();
    Soak.Report report =
        new Soak(table, tiers, Soak.seed("SoakTest.everyRowIsRight")).run(4, 4, 0.05, 10);
    assertEquals(0, report.wrong(), report::toString);
    assertTrue(report.reopened() > tiers.size() && report.rows() > 0, report::toString);
    assertNothingIsLeft(files, threads);
  }

  /** A real server with the table, whose client comes and goes as the other tiers do. */
  private static Serving redis(TableFiles table, RedisServers servers) throws IOException {
    RedisOptions options = RedisOptions.of(servers.uri(0));
    try (Serving.Opened source = Serving.ALL.getFirst().open(table);
        RedisTables tables = RedisTables.connect(options)) {
      tables.publisher("soak", table.identity(), source.store()).publish();
    }
    return new Serving(
        "redis",
        Set.of(Serving.Trait.OWN_COPY),
        (rows, parts, arena) -> RedisRowStore.open(options, "soak", rows.identity()));
  }

  @Test
  void rowsOfAServerAreRightWhileItsReadersComeAndGo() throws Exception {
    TableFiles table = table(800);
    try (RedisServers servers = RedisServers.standalone()) {
      Soak.Report report =
          new Soak(table, List.of(redis(table, servers)), Soak.seed("SoakTest.rowsOfAServer"))
              .run(4, 4, 0.5, 10);
      assertEquals(0, report.wrong(), report::toString);
      assertTrue(report.reopened() > 1 && report.rows() > 0, report::toString);
    }
  }

  @Test
  @Tag("long")
  void memoryStaysFlatBesideAServer() throws Exception {
    double seconds = Integer.getInteger("engram.soak.seconds", 600);
    TableFiles table = table(16_000);
    try (RedisServers servers = RedisServers.standalone()) {
      List<Serving> tiers = List.of(redis(table, servers));
      new Soak(table, tiers, 1).run(2, 4, 0.5, 10);
      Soak.Report report =
          new Soak(table, tiers, Soak.seed("SoakTest.besideAServer"))
              .run(seconds, Integer.getInteger("engram.soak.threads", 8), 2, 5);
      double warmUp = seconds / 4;
      report.series().values().forEach(s -> System.out.println(s.report(warmUp)));
      System.out.println(report);
      assertEquals(0, report.wrong());
      assertAll(
          report.series().values().stream()
              .map(s -> () -> assertTrue(s.flat(warmUp), s.report(warmUp))));
    }
  }

  /** What a closed store started or opened ends with it, or shortly after. */
  private static void assertNothingIsLeft(long files, int threads) throws InterruptedException {
    for (int i = 0; i < 100 && Thread.getAllStackTraces().size() > threads; i++) {
      Thread.sleep(20);
    }
    assertTrue(
        Thread.getAllStackTraces().size() <= threads,
        () -> "threads are left: " + Thread.getAllStackTraces().keySet());
    assertTrue(ProcessFigures.openFiles() <= files, "open files are left");
  }

  /** What would happen if a store gave a wrong bit now and then. */
  @Test
  void aWrongBitIsNoticed() throws Exception {
    AtomicLong reads = new AtomicLong();
    Serving wrong =
        new Serving(
            "wrong bits",
            Set.of(),
            (table, parts, arena) -> {
              RowStore right = Serving.ALL.getFirst().opener().open(table, parts, arena);
              return new FlippedBit(right, reads);
            });
    Soak.Report report = new Soak(table(80), List.of(wrong), 3).run(1, 4, 0.5, 1);
    // Of rows that were prefetched, not all are looked at.
    assertTrue(report.wrong() > 0 && report.wrong() <= reads.get(), reads + ", " + report);
  }

  private record FlippedBit(RowStore right, AtomicLong flipped) implements RowStore {
    @Override
    public String name() {
      return right.name();
    }

    @Override
    public long rowCount() {
      return right.rowCount();
    }

    @Override
    public int rowBytes() {
      return right.rowBytes();
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      right.read(rowIds, from, count, out, outOffset);
      // Not at the start of an output: of what is decoded, few rows are looked at.
      if (outOffset > 0 && rowIds[from] % 3 == 1) {
        long at = outOffset + (rowIds[from] % rowBytes());
        out.set(ValueLayout.JAVA_BYTE, at, (byte) (out.get(ValueLayout.JAVA_BYTE, at) ^ 1));
        flipped.incrementAndGet();
      }
    }

    @Override
    public void close() {
      right.close();
    }
  }

  @Test
  void aLeakIsNoticedAndNoiseIsNone() {
    RandomGenerator random = Soak.generator(Soak.seed("SoakTest.aLeakIsNoticed"));
    Series leak = new Series("leak", 24);
    Series noise = new Series("noise", 24);
    for (int second = 5; second <= 600; second += 5) {
      double jitter = 10 * random.nextGaussian() + (random.nextInt(10) == 0 ? 100 : 0);
      leak.add(second, 500 + second / 10.0 + jitter);
      noise.add(second, 500 + jitter);
    }
    assertFalse(leak.flat(150), leak.report(150));
    assertTrue(noise.flat(150), noise.report(150));
    assertThrows(IllegalStateException.class, () -> noise.slope(600));
  }
}
