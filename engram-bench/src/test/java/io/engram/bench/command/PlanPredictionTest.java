// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.abort;

import io.engram.plan.CapacityPlan;
import io.engram.plan.DiskSpeed;
import io.engram.plan.Reading;
import io.engram.plan.Reuse;
import io.engram.plan.RowRun;
import io.engram.plan.TableShape;
import io.engram.plan.Workload;
import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.FileRegion;
import io.engram.store.RowPart;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.locks.LockSupport;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The planner's model and reality: a probe of the disk predicts how long a store takes over a real
 * file of that disk, past the page cache. Says nothing about speed, and is generous, because the
 * machine may do other things between probe and run.
 */
@Tag("once")
@Tag("long")
class PlanPredictionTest {
  private static final long BYTES = 1_500_000_000;
  private static final int ROW_BYTES = 264;
  private static final double LEAST_RATIO = 0.4;
  private static final double MOST_RATIO = 2.5;
  private static final int ATTEMPTS = 4;

  @TempDir Path directory;

  private final RandomGenerator random = Seeds.random("prediction");
  private Arena arena;
  private DirectRowStore store;
  private DiskProbe probe;
  private Path file;

  @BeforeEach
  void table() throws IOException {
    if (Files.getFileStore(directory).getUsableSpace() < 3 * BYTES) {
      abort("needs " + 3 * BYTES + " free bytes in " + directory);
    }
    file = Files.createFile(directory.resolve("table"));
    long rows = BYTES / ROW_BYTES;
    DiskProbe.fill(file, rows * ROW_BYTES);
    try {
      probe = probe();
    } catch (IOException e) {
      abort("no reads past the page cache here: " + e.getMessage());
    }
    arena = Arena.ofShared();
    try (FileChannel channel = FileChannel.open(file)) {
      MemorySegment bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, rows * ROW_BYTES, arena);
      store =
          DirectRowStore.of(
              "table",
              ROW_BYTES,
              0,
              List.of(new RowPart(new FileRegion(file, 0, bytes), Optional.empty())),
              DirectReads.uncached());
    }
  }

  @AfterEach
  void close() {
    if (store != null) {
      store.close();
      arena.close();
    }
  }

  private DiskProbe probe() throws IOException {
    return DiskProbe.measure(file, 0, DirectReads.DEFAULT_DEPTH, 1.5);
  }

  /** A table that asks for so many rows, before a layer of a backbone of 40. */
  private TableShape shape(int layersBefore, int rows) {
    return new TableShape(
        layersBefore,
        layersBefore,
        store.rowCount(),
        rows,
        new RowRun(ROW_BYTES, 0),
        Optional.empty());
  }

  private CapacityPlan plan(double stepSeconds, TableShape... tables) {
    DiskSpeed disk = probe.speed();
    return new CapacityPlan(
        List.of(tables), new Workload(40, stepSeconds, 1, 1, 1, 1), disk, Reuse.none());
  }

  private long[] rows(int count) {
    return random.longs(count, 0, store.rowCount()).toArray();
  }

  private static void read(DirectRowStore from, long[] rows, int atATime, MemorySegment out) {
    for (int i = 0; i < rows.length; i += atATime) {
      from.read(rows, i, Math.min(atATime, rows.length - i), out, (long) i * ROW_BYTES);
    }
  }

  @Test
  void timeOfBatchesAndLoopsIsForeseen() throws Exception {
    try (Arena own = Arena.ofShared()) {
      MemorySegment out = own.allocate(4096L * ROW_BYTES, 64);
      for (int count : new int[] {64, 256, 4096}) {
        agrees(
            "a batch of " + count + " rows",
            () -> plan(1, shape(0, count)).decode(Reading.BATCHED).waitSeconds(),
            () -> median(30, () -> read(store, rows(count), count, out)));
      }
      agrees(
          "64 rows one by one",
          () -> plan(1, shape(0, 64)).decode(Reading.LOOP).waitSeconds(),
          () -> median(30, () -> read(store, rows(64), 1, out)));
    }
  }

  @Test
  void timeOfADecodeStepIsForeseen() throws Exception {
    int rows = 768;
    double step = 0.02;
    TableShape first = shape(1, rows);
    TableShape second = shape(14, rows);
    try (Arena own = Arena.ofShared();
        ExecutorService reader = Executors.newSingleThreadExecutor()) {
      MemorySegment out = own.allocate((long) rows * ROW_BYTES, 64);
      MemorySegment later = own.allocate((long) rows * ROW_BYTES, 64);
      agrees(
          "a step that reads in its layers",
          () -> plan(step, first, second).decode(Reading.BATCHED).seconds(),
          () ->
              median(
                  10,
                  () -> {
                    compute(step / 40);
                    read(store, rows(rows), rows, out);
                    compute(13 * step / 40);
                    read(store, rows(rows), rows, later);
                    compute(26 * step / 40);
                  }));
      Callable<Double> prefetched =
          () ->
              median(
                  10,
                  () -> {
                    long[] ofFirst = rows(rows);
                    long[] ofSecond = rows(rows);
                    Future<?> one = reader.submit(() -> read(store, ofFirst, rows, out));
                    Future<?> two = reader.submit(() -> read(store, ofSecond, rows, later));
                    compute(step / 40);
                    await(one);
                    compute(13 * step / 40);
                    await(two);
                    compute(26 * step / 40);
                  });
      agrees(
          "a step that prefetches",
          () -> plan(step, first, second).decode(Reading.PREFETCHED).seconds(),
          prefetched);
    }
  }

  /** Takes time and no processor, as a device would that computes the layers. */
  private static void compute(double seconds) {
    long end = System.nanoTime() + (long) (seconds * 1e9);
    for (long left = end - System.nanoTime(); left > 0; left = end - System.nanoTime()) {
      LockSupport.parkNanos(left);
    }
  }

  private static void await(Future<?> reads) {
    try {
      reads.get();
    } catch (InterruptedException | ExecutionException e) {
      throw new AssertionError(e);
    }
  }

  private void agrees(String what, Callable<Double> predicted, Callable<Double> measured)
      throws Exception {
    List<String> seen = new ArrayList<>();
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) {
        probe = probe();
      }
      double expected = predicted.call();
      double found = measured.call();
      String line =
          "%s: predicted %.3f ms, measured %.3f ms, ratio %.2f (disk: %.1f us alone, %.0f reads/s)"
              .formatted(
                  what,
                  expected * 1e3,
                  found * 1e3,
                  found / expected,
                  probe.speed().latencySeconds() * 1e6,
                  probe.speed().readsPerSecond());
      System.out.println(line);
      seen.add(line);
      if (found >= LEAST_RATIO * expected && found <= MOST_RATIO * expected) {
        return;
      }
    }
    assertTrue(false, () -> String.join("\n", seen));
  }

  private static double median(int runs, Runnable run) {
    run.run();
    double[] seconds = new double[runs];
    for (int i = 0; i < runs; i++) {
      long start = System.nanoTime();
      run.run();
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    Arrays.sort(seconds);
    return seconds[runs / 2];
  }
}
