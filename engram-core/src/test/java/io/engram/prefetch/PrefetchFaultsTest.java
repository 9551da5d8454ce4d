// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.hash.Lookback;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.BooleanSupplier;
import java.util.random.RandomGenerator;
import java.util.stream.Collectors;
import jdk.jfr.Recording;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Slow, failing and lying stores; cancelled, forgotten and crowded retrievals. */
@Tag("once")
@Timeout(60)
class PrefetchFaultsTest {
  private static final PrefetchOptions ONE_WORKER =
      PrefetchOptions.defaults().withWorkers(1).withSliceRows(40);
  private static final Lookback START = Lookback.start();

  private static boolean isWorker() {
    return Thread.currentThread().getName().startsWith("engram-prefetch-");
  }

  private static void until(BooleanSupplier condition) throws InterruptedException {
    while (!condition.getAsBoolean()) {
      Thread.sleep(1);
    }
  }

  /** Stops a worker at its next read until it is opened. */
  private static final class Gate implements AutoCloseable {
    private final CountDownLatch arrived = new CountDownLatch(1);
    private final CountDownLatch opened = new CountDownLatch(1);
    private final List<String> order = Collections.synchronizedList(new ArrayList<>());

    Gate(Rig rig) {
      rig.stores.forEach((layer, hooked) ->
          hooked.setHook((_, store, ids, from, n, out, at) -> {
            order.add(layer + ":" + n);
            if (isWorker()) {
              arrived.countDown();
              try {
                opened.await();
              } catch (InterruptedException e) {
                throw new AssertionError(e);
              }
            }
            store.read(ids, from, n, out, at);
          }));
    }

    void awaitWorker() throws InterruptedException {
      arrived.await();
    }

    @Override
    public void close() {
      opened.countDown();
    }
  }

  /** One slice of so many rows for each layer: the number tells retrievals apart in a record. */
  private static int[] tokens(int count) {
    int[] tokens = new int[count];
    Arrays.setAll(tokens, i -> i * 7 + count);
    return tokens;
  }

  private static int distinct(Rig rig, int layer, int[] tokens) {
    return (int) Arrays.stream(rig.memory.rowIds(layer, tokens)).distinct().count();
  }

  @Test
  void lowerLayersComeFirstAndThenEarlierRetrievals() throws InterruptedException {
    assertEquals(List.of("1a", "1b", "1c", "15a", "15b", "15c"), order(ONE_WORKER));
  }

  @Test
  void earlierDeadlinesComeFirst() throws InterruptedException {
    // Known to be needed at once, all of a retrieval comes before the next.
    PrefetchOptions atOnce = ONE_WORKER.withTimeToLayer(1, Duration.ZERO);
    assertEquals(List.of("1a", "15a", "1b", "15b", "1c", "15c"), order(atOnce));
    PrefetchOptions upsideDown = ONE_WORKER.withTimeToLayer(1, Duration.ofHours(1));
    assertEquals(List.of("15a", "15b", "15c", "1a", "1b", "1c"), order(upsideDown));
    PrefetchOptions farApart = ONE_WORKER.withTimeToLayer(15, Duration.ofHours(1));
    assertEquals(List.of("1a", "1b", "1c", "15a", "15b", "15c"), order(farApart));
  }

  private static List<String> order(PrefetchOptions options) throws InterruptedException {
    try (Rig rig = new Rig("demo_mini", options.withSliceRows(4096))) {
      List<int[]> chunks = List.of(tokens(2), tokens(3), tokens(4));
      List<String> named = new ArrayList<>();
      List<Retrieval> retrievals = new ArrayList<>();
      Gate gate = new Gate(rig);
      try (gate) {
        retrievals.add(rig.prefetcher.prefetch(tokens(1), 0, 1, START));
        gate.awaitWorker();
        for (int[] chunk : chunks) {
          retrievals.add(rig.prefetcher.prefetch(chunk, 0, chunk.length, START));
        }
      }
      until(() -> retrievals.stream().allMatch(r -> r.isReady(1) && r.isReady(15)));
      for (String entry : gate.order) {
        String[] parts = entry.split(":", -1);
        int layer = Integer.parseInt(parts[0]);
        for (int c = 0; c < chunks.size(); c++) {
          if (distinct(rig, layer, chunks.get(c)) == Integer.parseInt(parts[1])) {
            named.add(layer + "abc".substring(c, c + 1));
          }
        }
      }
      retrievals.forEach(Retrieval::close);
      return named;
    }
  }

  @Test
  void lowerLayerOvertakesTheRestOfALongBatch() throws InterruptedException {
    try (Rig rig = new Rig("demo_mini", ONE_WORKER)) {
      int[] longOne = tokens(80);
      int[] shortOne = {11, 12};
      List<String> order = Collections.synchronizedList(new ArrayList<>());
      CountDownLatch arrived = new CountDownLatch(1);
      CountDownLatch opened = new CountDownLatch(1);
      rig.stores.forEach((layer, hooked) ->
          hooked.setHook((_, store, ids, from, n, out, at) -> {
            order.add(layer + ":" + n);
            if (layer == 15 && arrived.getCount() > 0) {
              arrived.countDown();
              try {
                opened.await();
              } catch (InterruptedException e) {
                throw new AssertionError(e);
              }
            }
            store.read(ids, from, n, out, at);
          }));
      try (Retrieval first = rig.prefetcher.prefetch(longOne, 0, longOne.length, START)) {
        arrived.await();
        int before = order.size();
        try (Retrieval second = rig.prefetcher.prefetch(shortOne, 0, 2, START)) {
          opened.countDown();
          until(() -> second.isReady(15) && first.isReady(15));
          assertEquals("1:" + distinct(rig, 1, shortOne), order.get(before));
          assertTrue(order.get(before + 1).startsWith("15:"));
          assertEquals("15:" + distinct(rig, 15, shortOne), order.getLast());
        }
      }
    }
  }

  @Test
  void whoAsksReadsWhatNobodyHasBegun() throws InterruptedException {
    try (Rig rig = new Rig("demo_mini", ONE_WORKER)) {
      try (Gate gate = new Gate(rig);
          Retrieval stuck = rig.prefetcher.prefetch(tokens(1), 0, 1, START);
          Retrieval retrieval = rig.prefetcher.prefetch(tokens(30), 0, 30, START)) {
        gate.awaitWorker();
        assertFalse(retrieval.isReady(1));
        rig.assertRows(retrieval, 1, tokens(30), START);
        rig.assertRows(retrieval, 15, tokens(30), START);
        assertFalse(stuck.isReady(1));
        rig.assertRows(stuck, 15, tokens(1), START);
      }
      PrefetchStatistics.Layer statistics = rig.statistics(1);
      assertEquals(1, statistics.asks());
      assertEquals(1, statistics.late());
      assertEquals(0, statistics.synchronous());
      assertEquals(1, statistics.lateness().count());
      assertTrue(statistics.waits().max() > 0);
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2, 5})
  void failedReadIsRepeatedAndItsBytesAreNotSeen(int failing) throws InterruptedException {
    try (Rig rig = new Rig("v41_mini", ONE_WORKER)) {
      int[] tokens = tokens(20);
      rig.stores
          .get(1)
          .setHook((number, store, ids, from, n, out, at) -> {
            if (number == failing) {
              // Half of the rows are another's: plausible, and wrong.
              long[] others = Arrays.stream(ids, from, from + n).map(id -> id ^ 1).toArray();
              store.read(others, 0, n / 2 + 1, out, at);
              throw new EngramException("the drive is gone");
            }
            store.read(ids, from, n, out, at);
          });
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, tokens.length, START)) {
        until(() -> rig.statistics(1).failures() == 1 && retrieval.isReady(5));
        assertFalse(retrieval.isReady(1));
        rig.assertRows(retrieval, 1, tokens, START);
        rig.assertRows(retrieval, 5, tokens, START);
      }
      assertEquals(1, rig.statistics(1).retries());
      assertEquals(0, rig.statistics(5).failures());
      assertEquals(0, rig.prefetcher.statistics().stagingInUse());
    }
  }

  @Test
  void bytesOfAnEarlierReadWouldBeNoticedHere() {
    // The negative control of the test above: a store that returns without reading shows what was
    // in the buffer, and this is what it looks like.
    for (boolean verify : new boolean[] {false, true}) {
      try (Rig rig = new Rig("demo_mini", ONE_WORKER.withWorkers(0).withVerify(verify))) {
        int[] before = tokens(9);
        int[] tokens = {500, 300, 400, 200, 100, 0, 42, 43, 44};
        try (Retrieval retrieval = rig.prefetcher.prefetch(before, 0, 9, START)) {
          rig.assertRows(retrieval, 1, before, START);
        }
        rig.stores
            .get(1)
            .setHook((number, store, ids, from, n, out, at) -> {
              if (verify && number % 2 == 1) {
                store.read(ids, from, n, out, at);
              }
            });
        try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 9, START)) {
          if (verify) {
            String message =
                assertThrows(EngramException.class, () -> retrieval.rows(1)).getMessage();
            // Given back, a buffer is filled with NaN: no row of somebody else's can be seen.
            assertTrue(message.contains("as 0xff"), message);
          } else {
            assertFalse(
                Arrays.equals(rig.expected(1, tokens, 0, 9, START), rig.rows(retrieval, 1)));
          }
        }
      }
    }
  }

  @Test
  void lastingFailureIsRaisedAtItsLayerAndHeals() throws InterruptedException {
    try (Rig rig = new Rig("v41_mini", ONE_WORKER)) {
      int[] tokens = tokens(20);
      EngramException gone = new EngramException("the drive is gone");
      rig.stores
          .get(5)
          .setHook((_, _, _, _, _, _, _) -> {
            throw gone;
          });
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 20, START)) {
        until(() -> rig.statistics(5).failures() > 1);
        rig.assertRows(retrieval, 1, tokens, START);
        for (int i = 0; i < 2; i++) {
          EngramException e = assertThrows(EngramException.class, () -> retrieval.rows(5));
          assertEquals("layer 5: the drive is gone", e.getMessage());
          assertSame(gone, e.getCause());
        }
        rig.stores
            .get(5)
            .setHook((_, store, ids, from, n, out, at) -> store.read(ids, from, n, out, at));
        rig.assertRows(retrieval, 5, tokens, START);
      }
      until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
    }
  }

  @Test
  void verificationNamesTheRowThatDiffers() {
    try (Rig rig = new Rig("qwen_mini", ONE_WORKER.withWorkers(0).withVerify(true))) {
      int[] tokens = tokens(30);
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 30, START)) {
        rig.assertRows(retrieval, 1, tokens, START);
      }
      assertEquals(0, rig.statistics(1).mismatches());
      long[] rowIds = rig.memory.rowIds(3, tokens);
      long bad = rowIds[rowIds.length - 1];
      AtomicBoolean wrong = new AtomicBoolean(true);
      rig.stores
          .get(3)
          .setHook((_, store, ids, from, n, out, at) -> {
            store.read(ids, from, n, out, at);
            for (int i = 0; i < n; i++) {
              // Wrong when it is staged, right when it is read again.
              if (ids[from + i] == bad && wrong.getAndSet(false)) {
                long where = at + (long) i * store.rowBytes() + 3;
                byte right = out.get(ValueLayout.JAVA_BYTE, where);
                out.set(ValueLayout.JAVA_BYTE, where, (byte) (right ^ 1));
              }
            }
          });
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 30, START)) {
        EngramException e = assertThrows(EngramException.class, () -> retrieval.rows(3));
        assertTrue(e.getMessage().startsWith("layer 3: "), e.getMessage());
        assertTrue(e.getMessage().contains("row " + bad + " "), e.getMessage());
      }
      assertEquals(1, rig.statistics(3).mismatches());
    }
  }

  @Test
  void cancelledBuffersComeBackWhenTheWorkerHasLetGo() throws InterruptedException {
    try (Rig rig = new Rig("demo_mini", ONE_WORKER)) {
      Gate gate = new Gate(rig);
      try (gate) {
        Retrieval retrieval = rig.prefetcher.prefetch(tokens(30), 0, 30, START);
        gate.awaitWorker();
        retrieval.cancel();
        retrieval.cancel();
        long held = rig.prefetcher.statistics().stagingInUse();
        assertTrue(held > 0, "a worker is still reading into it");
        try (Retrieval other = rig.prefetcher.prefetch(tokens(31), 0, 31, START)) {
          rig.assertRows(other, 1, tokens(31), START);
        }
        assertEquals(held, rig.prefetcher.statistics().stagingInUse());
        assertEquals(
            "the retrieval was cancelled",
            assertThrows(IllegalStateException.class, () -> retrieval.rows(1)).getMessage());
        retrieval.close();
        retrieval.close();
        assertEquals(
            "the retrieval is closed",
            assertThrows(IllegalStateException.class, () -> retrieval.rows(1)).getMessage());
        assertEquals(0, rig.prefetcher.statistics().open());
      }
      until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
    }
  }

  @Test
  void cancellingEndsAWait() throws Exception {
    try (Rig rig = new Rig("demo_mini", ONE_WORKER);
        ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      try (Gate gate = new Gate(rig)) {
        Retrieval retrieval = rig.prefetcher.prefetch(tokens(2), 0, 2, START);
        gate.awaitWorker();
        Future<MemorySegment> waiter = threads.submit(() -> retrieval.rows(1));
        until(() -> rig.statistics(1).asks() == 1);
        retrieval.close();
        assertInstanceOf(
            IllegalStateException.class,
            assertThrows(ExecutionException.class, waiter::get).getCause());
      }
    }
  }

  @Test
  void interruptedWaiterMayAskAgain() throws Exception {
    try (Rig rig = new Rig("demo_mini", ONE_WORKER)) {
      Gate gate = new Gate(rig);
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens(2), 0, 2, START)) {
        gate.awaitWorker();
        Thread.currentThread().interrupt();
        EngramException e = assertThrows(EngramException.class, () -> retrieval.rows(1));
        assertEquals("layer 1: interrupted while waiting for rows", e.getMessage());
        assertTrue(Thread.interrupted());
        gate.close();
        rig.assertRows(retrieval, 1, tokens(2), START);
        assertEquals(0, rig.statistics(1).synchronous());
      }
    }
  }

  @Test
  void closedMemoryRefusesAndSurvivesAReadUnderWay() throws Exception {
    Rig rig = new Rig("v41_mini", ONE_WORKER);
    try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
      Retrieval retrieval;
      Future<MemorySegment> waiter;
      try (Gate gate = new Gate(rig)) {
        retrieval = rig.prefetcher.prefetch(tokens(30), 0, 30, START);
        gate.awaitWorker();
        waiter = threads.submit(() -> retrieval.rows(1));
        until(() -> rig.statistics(1).asks() == 1);
        rig.close();
        rig.prefetcher.close();
        assertEquals(
            "the memory is closed",
            assertThrows(IllegalStateException.class, () -> retrieval.rows(5)).getMessage());
        assertThrows(
            IllegalStateException.class, () -> rig.prefetcher.prefetch(tokens(1), 0, 1, START));
      }
      assertInstanceOf(
          IllegalStateException.class,
          assertThrows(ExecutionException.class, waiter::get).getCause());
      assertEquals(1, rig.prefetcher.statistics().open());
      retrieval.close();
      assertFalse(retrieval.isReady(1));
      until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
    }
  }

  @Test
  void forgottenRetrievalsTakeNoMoreThanTheBound() {
    PrefetchOptions options = ONE_WORKER.withStagingBytes(1 << 16);
    try (Rig rig = new Rig("demo_mini", options)) {
      for (int i = 0; i < 300; i++) {
        int[] tokens = tokens(1 + i % 9);
        Retrieval forgotten = rig.prefetcher.prefetch(tokens, 0, tokens.length, START);
        if (i % 10 == 0) {
          rig.assertRows(forgotten, 15, tokens, START);
        }
      }
      PrefetchStatistics statistics = rig.prefetcher.statistics();
      assertEquals(300, statistics.open());
      assertTrue(statistics.stagingPeak() <= 1 << 16);
      assertTrue(statistics.stagingInUse() > 0);
      assertTrue(statistics.layers().get(15).unstaged() > 200);
    }
  }

  @Test
  void noWorkersNoWait() {
    try (Rig rig = new Rig("v41_mini", ONE_WORKER.withWorkers(0))) {
      int[] tokens = tokens(25);
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 25, START)) {
        assertFalse(retrieval.isReady(1));
        rig.assertRows(retrieval, 5, tokens, START);
        rig.assertRows(retrieval, 1, tokens, START);
      }
      assertEquals(0, rig.statistics(1).synchronous());
    }
  }

  @Test
  void steadyStateAllocatesLittle() {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (Rig rig = new Rig("v41_mini", PrefetchOptions.defaults());
        Arena arena = Arena.ofShared()) {
      int[] tokens = tokens(60);
      MemorySegment out = arena.allocate(60L * rig.memory.config().rowWidth() * 4);
      long all = 0;
      long asking = 0;
      int rounds = 500;
      for (int i = -5_000; i < rounds; i++) {
        long before = threads.getCurrentThreadAllocatedBytes();
        try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 60, START)) {
          long asked = threads.getCurrentThreadAllocatedBytes();
          retrieval.rows(1, out, 0, Dtype.F32);
          retrieval.rows(5, out, 0, Dtype.F32);
          if (i >= 0) {
            asking += threads.getCurrentThreadAllocatedBytes() - asked;
          }
        }
        if (i >= 0) {
          all += threads.getCurrentThreadAllocatedBytes() - before;
        }
      }
      System.out.println(
          "bytes a retrieval: " + all / rounds + ", of which in rows: " + asking / rounds);
      assertTrue(asking / rounds < 512, "rows allocates " + asking / rounds + " bytes");
      assertTrue(all / rounds < 3072, "a retrieval allocates " + all / rounds + " bytes");
    }
  }

  @Test
  void flightRecordsSayWhatWasFetchedAndWhatWasLate(@TempDir Path directory) throws Exception {
    Path file = directory.resolve("prefetch.jfr");
    try (Recording recording = new Recording()) {
      recording.enable("engram.Prefetch").withoutThreshold();
      recording.enable("engram.RowsWait").withoutThreshold();
      recording.start();
      try (Rig rig = new Rig("v41_mini", ONE_WORKER.withWorkers(0));
          Retrieval retrieval = rig.prefetcher.prefetch(tokens(25), 0, 25, START)) {
        retrieval.rows(5);
      }
      recording.stop();
      recording.dump(file);
    }
    List<RecordedEvent> events = RecordingFile.readAllEvents(file);
    RecordedEvent prefetch =
        events.stream()
            .filter(e -> e.getEventType().getName().equals("engram.Prefetch"))
            .findFirst()
            .orElseThrow();
    assertEquals(25, prefetch.getInt("tokens"));
    assertTrue(prefetch.getLong("distinctRows") <= prefetch.getLong("rows"));
    assertTrue(prefetch.getLong("bytes") > 0);
    RecordedEvent wait =
        events.stream()
            .filter(e -> e.getEventType().getName().equals("engram.RowsWait"))
            .findFirst()
            .orElseThrow();
    assertEquals(5, wait.getInt("layer"));
    assertTrue(wait.getInt("slicesRead") > 0);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void crowdInLittleMemoryGetsItsRows(boolean virtual) throws Exception {
    RandomGenerator seeds = Seeds.random("PrefetchFaultsTest.crowd");
    int limit = 40 << 10;
    PrefetchOptions options = ONE_WORKER.withWorkers(2).withStagingBytes(limit);
    try (Rig rig = new Rig("demo_mini", options);
        ExecutorService threads =
            virtual
                ? Executors.newVirtualThreadPerTaskExecutor()
                : Executors.newFixedThreadPool(8)) {
      List<Future<?>> all = new ArrayList<>();
      for (int t = 0; t < (virtual ? 200 : 8); t++) {
        long seed = seeds.nextLong();
        all.add(
            threads.submit(() -> {
              requests(rig, new SplittableRandom(seed), virtual ? 4 : 60, false);
              return null;
            }));
      }
      for (Future<?> one : all) {
        one.get(50, TimeUnit.SECONDS);
      }
      PrefetchStatistics statistics = rig.prefetcher.statistics();
      assertTrue(statistics.stagingPeak() <= limit, () -> "peak " + statistics.stagingPeak());
      assertTrue(statistics.stagingPeak() > limit / 2, "memory was never short");
      assertEquals(0, statistics.open());
      until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void nothingWrongIsSeenWhateverFails(String checkpoint) throws Exception {
    RandomGenerator seeds = Seeds.random("PrefetchFaultsTest.nothingWrong " + checkpoint);
    for (int kib : new int[] {0, 30, 1 << 12}) {
      PrefetchOptions options =
          PrefetchOptions.defaults()
              .withWorkers(1 + seeds.nextInt(3))
              .withSliceRows(1 + seeds.nextInt(100))
              .withStagingBytes((long) kib << 10)
              .withVerify(kib == 30);
      try (Rig rig = new Rig(checkpoint, options);
          ExecutorService threads = Executors.newFixedThreadPool(4)) {
        rig.hook((number, store, ids, from, n, out, at) -> {
          if (number % 7 == 3) {
            store.read(
                Arrays.stream(ids, from, from + n).map(id -> id / 2).toArray(), 0, n, out, at);
            throw new EngramException("read " + number + " fails");
          }
          store.read(ids, from, n, out, at);
        });
        List<Future<Integer>> all = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
          long seed = seeds.nextLong();
          all.add(threads.submit(() -> requests(rig, new SplittableRandom(seed), 60, true)));
        }
        int served = 0;
        for (Future<Integer> one : all) {
          served += one.get(50, TimeUnit.SECONDS);
        }
        assertTrue(served > 20, "hardly any rows were served: " + served);
        assertEquals(0, rig.prefetcher.statistics().open());
        until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
      }
    }
  }

  /** Random requests; what is served must be right. Returns how many layers were served. */
  private static int requests(Rig rig, SplittableRandom random, int count, boolean mayFail) {
    int served = 0;
    for (int i = 0; i < count; i++) {
      int[] tokens = rig.text(random, 1 + random.nextInt(random.nextBoolean() ? 3 : 120));
      Lookback past = START.advance(rig.tokens(random, random.nextInt(5)));
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, tokens.length, past)) {
        int cancelAt = random.nextInt(5);
        List<Integer> layers =
            random
                .ints(random.nextInt(4), 0, rig.layers.size())
                .mapToObj(rig.layers::get)
                .collect(Collectors.toList());
        for (int a = 0; a < layers.size(); a++) {
          if (a == cancelAt) {
            retrieval.cancel();
            assertThrows(IllegalStateException.class, () -> retrieval.rows(rig.layers.getFirst()));
            break;
          }
          int layer = layers.get(a);
          float[] found;
          try {
            found = rig.rows(retrieval, layer);
          } catch (EngramException e) {
            assertTrue(mayFail && e.getMessage().contains("fails"), e.getMessage());
            continue;
          }
          assertArrayEquals(rig.expected(layer, tokens, 0, tokens.length, past), found);
          served++;
        }
      }
    }
    return served;
  }

  @Test
  void manyCancelWhileWorkersRead() throws Exception {
    RandomGenerator random = Seeds.random("PrefetchFaultsTest.manyCancel");
    PrefetchOptions options = ONE_WORKER.withWorkers(3).withSliceRows(5).withStagingBytes(1 << 17);
    try (Rig rig = new Rig("v41_mini", options);
        ExecutorService threads = Executors.newFixedThreadPool(2)) {
      for (int i = 0; i < 400; i++) {
        int[] tokens = rig.text(random, 1 + random.nextInt(40));
        Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, tokens.length, START);
        Future<?> cancelling = threads.submit(retrieval::cancel);
        try {
          rig.assertRows(retrieval, 1, tokens, START);
          rig.assertRows(retrieval, 5, tokens, START);
        } catch (IllegalStateException e) {
          assertEquals("the retrieval was cancelled", e.getMessage());
        }
        cancelling.get();
        retrieval.close();
      }
      until(() -> rig.prefetcher.statistics().stagingInUse() == 0);
    }
  }

  @Test
  void memoryMayBeClosedWhileManyRead() throws Exception {
    RandomGenerator random = Seeds.random("PrefetchFaultsTest.memoryMayBeClosed");
    for (int round = 0; round < 20; round++) {
      Rig rig = new Rig("v41_mini", ONE_WORKER.withWorkers(2).withSliceRows(9));
      try (ExecutorService threads = Executors.newFixedThreadPool(3)) {
        int[] tokens = rig.text(random, 60);
        float[] expected = rig.expected(5, tokens, 0, 60, START);
        List<Future<?>> all = new ArrayList<>();
        CountDownLatch going = new CountDownLatch(3);
        for (int t = 0; t < 3; t++) {
          all.add(
              threads.submit(() -> {
                try {
                  for (int i = 0; ; i++) {
                    try (Retrieval r = rig.prefetcher.prefetch(tokens, 0, 60, START)) {
                      assertArrayEquals(expected, rig.rows(r, 5));
                    }
                    if (i == 3) {
                      going.countDown();
                    }
                  }
                } catch (IllegalStateException e) {
                  return;
                }
              }));
        }
        going.await();
        rig.close();
        for (Future<?> one : all) {
          one.get(30, TimeUnit.SECONDS);
        }
      }
    }
  }
}
