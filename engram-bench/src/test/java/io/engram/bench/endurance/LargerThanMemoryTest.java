// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramException;
import io.engram.store.FileRegion;
import io.engram.store.Residency;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * A table that does not fit into memory, every row of it written and every row that is read
 * checked. {@code -Dengram.larger.bytes}, {@code .threads}, {@code .batch} and {@code .seconds} of
 * each reading change what is done. {@code -Dengram.larger.directory} is where the table is kept
 * for the next time; without it, it is written anew.
 */
@Tag("long")
@Tag("once")
class LargerThanMemoryTest {
  private static final long LEAST = 30_000_000_000L;
  private static final long RESERVE = 10_000_000_000L;
  private static final int HOT_ROWS = 100_000;
  private static final RowPattern PATTERN = new RowPattern(30, 256, 8);

  private final int threads = Integer.getInteger("engram.larger.threads", 8);
  private final int batch = Integer.getInteger("engram.larger.batch", 24 * 16);
  private final int seconds = Integer.getInteger("engram.larger.seconds", 20);

  @TempDir Path temporary;

  private record Reading(long rows, long wrong, double seconds) {}

  @FunctionalInterface
  private interface Choice {
    long row(RandomGenerator random);
  }

  @Test
  void isReadColdAndWarm() throws Exception {
    assumeTrue(
        ProcessFigures.available(),
        "residency cannot be asked for here, so nothing could be called cold");
    String kept = System.getProperty("engram.larger.directory");
    Path directory = kept == null ? temporary : Files.createDirectories(Path.of(kept));
    long memory = memoryOfMachine();
    long bytes = Long.getLong("engram.larger.bytes", Math.max(LEAST, memory / 10 * 12));
    TableFiles table = TableFiles.in(directory, 2, bytes / PATTERN.rowBytes() / 24, PATTERN);
    boolean there = table.complete();
    long usable = Files.getFileStore(directory).getUsableSpace();
    assumeTrue(
        there || usable >= bytes + RESERVE,
        () ->
            "%.1f GB wanted and %.1f GB to be left free, but the disk of %s has %.1f GB"
                .formatted(bytes / 1e9, RESERVE / 1e9, directory, usable / 1e9));
    System.out.printf(
        Locale.ROOT,
        "%.1f GB in rows of %d bytes, memory %.1f GB, load %.1f, %d threads, batches of %d%n",
        bytes / 1e9,
        PATTERN.rowBytes(),
        memory / 1e9,
        ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage(),
        threads,
        batch);
    if (!there) {
      write(table);
    }
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(7);
    long[] hot = random.longs(HOT_ROWS, 0, table.rowCount()).toArray();
    for (Serving tier : Serving.ALL) {
      // A copy of this table would have no room.
      if (!tier.is(Serving.Trait.OWN_COPY)) {
        try {
          read(tier, table, "cold", r -> r.nextLong(table.rowCount()), null);
          read(tier, table, "warm", r -> hot[r.nextInt(HOT_ROWS)], hot);
        } catch (EngramException e) {
          // Not every file system has O_DIRECT.
          System.out.println("without " + tier.name() + ": " + e.getMessage());
        }
      }
    }
  }

  private static long memoryOfMachine() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/meminfo"))) {
      if (line.startsWith("MemTotal:")) {
        return 1024 * Long.parseLong(line.replaceAll("\\D", ""));
      }
    }
    throw new IOException("no MemTotal");
  }

  private static void write(TableFiles table) throws IOException {
    long start = System.nanoTime();
    AtomicLong next = new AtomicLong();
    table.write(done -> {
      if (done >= next.get()) {
        System.out.printf(
            Locale.ROOT,
            "written %.1f GB, %.0f MB/s%n",
            done / 1e9,
            done * 1e3 / (System.nanoTime() - start));
        next.addAndGet(table.bytes() / 10);
      }
    });
    for (Path file : table.files()) {
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
        channel.force(true);
      }
    }
  }

  /** Reads for some time. With hot rows, reads them all once before. */
  private void read(Serving tier, TableFiles table, String what, Choice choice, long[] hot)
      throws Exception {
    for (Path file : table.files()) {
      drop(file);
    }
    try (Serving.Opened opened = tier.open(table)) {
      if (hot != null) {
        load(opened.store(), hot);
      }
      double before = residency(table, hot);
      Reading reading = read(opened.store(), choice);
      double after = residency(table, hot);
      System.out.printf(
          Locale.ROOT,
          "%-16s %s: %,d rows/s, %,d rows, %d wrong, resident %s %.1f %% before, %.1f %% after%n",
          tier.name(),
          what,
          (long) (reading.rows() / reading.seconds()),
          reading.rows(),
          reading.wrong(),
          hot == null ? "of the files" : "of the rows",
          100 * before,
          100 * after);
      assertEquals(0, reading.wrong());
      assertTrue(reading.rows() > 0);
    }
  }

  private void load(RowStore store, long[] rows) {
    MemorySegment out = Arena.ofAuto().allocate((long) batch * PATTERN.rowBytes());
    for (int at = 0; at < rows.length; at += batch) {
      store.read(rows, at, Math.min(batch, rows.length - at), out, 0);
    }
  }

  private Reading read(RowStore store, Choice choice) throws Exception {
    List<Future<Reading>> readers = new ArrayList<>();
    long start = System.nanoTime();
    long end = start + TimeUnit.SECONDS.toNanos(seconds);
    try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
      for (int t = 0; t < threads; t++) {
        long seed = t;
        readers.add(
            pool.submit(() -> {
              RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
              MemorySegment out = Arena.ofAuto().allocate((long) batch * PATTERN.rowBytes());
              long[] rows = new long[batch];
              long done = 0;
              long wrong = 0;
              while (System.nanoTime() < end) {
                for (int i = 0; i < batch; i++) {
                  rows[i] = choice.row(random);
                }
                store.read(rows, 0, batch, out, 0);
                for (int i = 0; i < batch; i++) {
                  wrong += PATTERN.matches(rows[i], out, (long) i * PATTERN.rowBytes()) ? 0 : 1;
                }
                done += batch;
              }
              return new Reading(done, wrong, 0);
            }));
      }
    }
    double elapsed = (System.nanoTime() - start) / 1e9;
    long rows = 0;
    long wrong = 0;
    for (Future<Reading> reader : readers) {
      rows += reader.get().rows();
      wrong += reader.get().wrong();
    }
    return new Reading(rows, wrong, elapsed);
  }

  /** Share of the pages of the files, or of the hot rows, that is in memory. */
  private static double residency(TableFiles table, long[] hot) throws IOException {
    try (Arena arena = Arena.ofShared()) {
      List<RowPart> parts = table.map(arena);
      List<FileRegion> regions = new ArrayList<>();
      if (hot == null) {
        parts.forEach(part -> regions.addAll(part.regions()));
        return Residency.of(regions).orElseThrow().share();
      }
      for (long row : hot) {
        int part = row >= table.firstRow(1) ? 1 : 0;
        long local = row - table.firstRow(part);
        regions.add(
            slice(parts.get(part).values(), local * PATTERN.valueBytes(), PATTERN.valueBytes()));
        regions.add(
            slice(
                parts.get(part).scales().orElseThrow(),
                local * PATTERN.scaleBytes(),
                PATTERN.scaleBytes()));
      }
      return Residency.of(regions).orElseThrow().share();
    }
  }

  private static FileRegion slice(FileRegion region, long at, int bytes) {
    return new FileRegion(region.file(), region.offset() + at, region.bytes().asSlice(at, bytes));
  }

  /** Asks the system to forget the pages of a file, which no process has mapped. */
  private static void drop(Path file) throws IOException, InterruptedException {
    Process dd =
        new ProcessBuilder("dd", "if=" + file, "iflag=nocache", "count=0", "status=none")
            .redirectErrorStream(true)
            .start();
    String said = new String(dd.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, dd.waitFor(), said);
  }
}
