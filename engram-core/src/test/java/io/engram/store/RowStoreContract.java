// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.sun.management.ThreadMXBean;
import io.engram.EngramException;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.locks.LockSupport;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** What {@link RowStore} promises, checked on every implementation. */
@Tag("once")
abstract class RowStoreContract {
  private static final String NAME = "layers.1.engram.embed";

  private final List<RowStore> opened = new ArrayList<>();

  /**
   * A store of the given rows, or of no row, or of rows without bytes.
   *
   * @param rows the stored rows, value bytes first
   * @param scaleBytes how many bytes at the end of each row are scales
   */
  abstract RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes)
      throws Exception;

  /**
   * Whether reads allocate nothing in the steady state. A remote tier may say no: its client needs
   * a few objects for each request.
   */
  protected boolean allocatesNothing() {
    return true;
  }

  private RowStore store(byte[][] rows, int rowBytes, int scaleBytes) throws Exception {
    RowStore store = create(NAME, rows, rowBytes, scaleBytes);
    opened.add(store);
    return store;
  }

  @AfterEach
  void closeStores() {
    opened.forEach(RowStore::close);
  }

  static byte[][] rows(RandomGenerator random, int count, int bytes) {
    byte[][] rows = new byte[count][bytes];
    for (byte[] row : rows) {
      random.nextBytes(row);
    }
    return rows;
  }

  static byte[] read(RowStore store, long... ids) {
    byte[] out = new byte[ids.length * store.rowBytes()];
    store.read(ids, 0, ids.length, MemorySegment.ofArray(out), 0);
    return out;
  }

  static byte[] expected(byte[][] rows, long... ids) {
    byte[] all = new byte[ids.length * rows[0].length];
    for (int i = 0; i < ids.length; i++) {
      System.arraycopy(rows[(int) ids[i]], 0, all, i * rows[0].length, rows[0].length);
    }
    return all;
  }

  @ParameterizedTest
  @CsvSource({"1,0", "2,1", "3,0", "7,3", "64,0", "66,2", "264,8", "321,1", "4097,0", "70000,0"})
  void everyRowIsWholeAndInOrder(int rowBytes, int scaleBytes) throws Exception {
    RandomGenerator random = Seeds.random("RowStoreContract.everyRowIsWholeAndInOrder");
    byte[][] rows = rows(random, rowBytes > 10_000 ? 9 : 301, rowBytes);
    RowStore store = store(rows, rowBytes, scaleBytes);
    assertEquals(NAME, store.name());
    assertEquals(rows.length, store.rowCount());
    assertEquals(rowBytes, store.rowBytes());
    long[] all = new long[rows.length];
    Arrays.setAll(all, i -> i);
    assertArrayEquals(expected(rows, all), read(store, all));
    for (int i = 0; i < 50; i++) {
      long[] ids = random.longs(1 + random.nextInt(40), 0, rows.length).toArray();
      assertArrayEquals(expected(rows, ids), read(store, ids));
    }
    assertArrayEquals(expected(rows, 3, 3, 0, 3), read(store, 3, 3, 0, 3));
  }

  @Test
  void outputsMayBeOfAnyKindAndAlignment() throws Exception {
    RandomGenerator random = Seeds.random("RowStoreContract.outputsMayBeOfAnyKind");
    byte[][] rows = rows(random, 20, 12);
    RowStore store = store(rows, 12, 4);
    long[] ids = {99, 5, 19, 0, -1};
    try (Arena arena = Arena.ofConfined()) {
      List<MemorySegment> outputs =
          List.of(
              MemorySegment.ofArray(new byte[48]),
              MemorySegment.ofArray(new short[24]),
              MemorySegment.ofArray(new float[12]),
              MemorySegment.ofArray(new long[6]),
              arena.allocate(48),
              Arena.ofAuto().allocate(49).asSlice(1));
      for (MemorySegment out : outputs) {
        for (long at = 0; at <= 12; at++) {
          out.fill((byte) 0x55);
          store.read(ids, 1, 3, out, at);
          byte[] found = out.toArray(ValueLayout.JAVA_BYTE);
          byte[] wanted = new byte[48];
          Arrays.fill(wanted, (byte) 0x55);
          System.arraycopy(expected(rows, 5, 19, 0), 0, wanted, (int) at, 36);
          assertArrayEquals(wanted, found);
        }
      }
    }
  }

  @Test
  void readingNothingIsNoOperation() throws Exception {
    RowStore store = store(rows(Seeds.random("RowStoreContract.readingNothing"), 3, 5), 5, 1);
    MemorySegment none = MemorySegment.ofArray(new byte[0]);
    store.read(new long[0], 0, 0, none, 0);
    store.read(new long[] {-1, 99}, 1, 0, none, 0);
    store.read(new long[] {-1, 99}, 2, 0, MemorySegment.ofArray(new byte[3]), 3);
  }

  @ParameterizedTest
  @CsvSource({
    "-1",
    "300",
    "301",
    "2147483648",
    "4294967296",
    "4294967297",
    "9223372036854775807",
    "-9223372036854775808",
    "-4294967295"
  })
  void rowIdsOutOfRangeAreNeverClamped(long id) throws Exception {
    byte[][] rows = rows(Seeds.random("RowStoreContract.rowIdsOutOfRange"), 300, 16);
    RowStore store = store(rows, 16, 0);
    for (long[] ids : new long[][] {{id}, {0, 299, id}, {id, 0}, {1, id, 2}}) {
      String message =
          assertThrows(IndexOutOfBoundsException.class, () -> read(store, ids)).getMessage();
      assertTrue(message.contains(NAME), message);
      assertTrue(message.contains("row id " + id + " "), message);
      assertTrue(message.contains("0 to 299"), message);
    }
    assertArrayEquals(expected(rows, 299), read(store, 299));
  }

  @Test
  void wrongArgumentsAreRefused() throws Exception {
    RowStore store = store(rows(Seeds.random("RowStoreContract.wrongArguments"), 4, 8), 8, 0);
    long[] ids = {0, 1, 2};
    MemorySegment out = MemorySegment.ofArray(new byte[24]);
    assertThrows(IndexOutOfBoundsException.class, () -> store.read(ids, -1, 1, out, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.read(ids, 0, 4, out, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.read(ids, 3, 1, out, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.read(ids, 1, -1, out, 0));
    assertThrows(
        IndexOutOfBoundsException.class, () -> store.read(ids, 2, Integer.MAX_VALUE, out, 0));
    assertThrows(IllegalArgumentException.class, () -> store.read(ids, 0, 3, out, 1));
    assertThrows(IllegalArgumentException.class, () -> store.read(ids, 0, 1, out, -1));
    assertThrows(IllegalArgumentException.class, () -> store.read(ids, 0, 1, out, Long.MAX_VALUE));
    assertThrows(IllegalArgumentException.class, () -> store.read(ids, 0, 1, out, 17));
    assertThrows(IllegalArgumentException.class, () -> store.read(ids, 0, 1, out.asReadOnly(), 0));
    assertThrows(NullPointerException.class, () -> store.read(null, 0, 1, out, 0));
    assertThrows(NullPointerException.class, () -> store.read(ids, 0, 1, null, 0));
  }

  @Test
  void anEmptyTableIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> create(NAME, new byte[0][], 8, 0));
    assertThrows(IllegalArgumentException.class, () -> create(NAME, new byte[3][0], 0, 0));
    assertThrows(NullPointerException.class, () -> create(null, new byte[3][8], 8, 0));
  }

  @Test
  void aClosedStoreSaysSo() throws Exception {
    RowStore store = store(rows(Seeds.random("RowStoreContract.aClosedStore"), 4, 8), 8, 0);
    store.close();
    store.close();
    String message = assertThrows(IllegalStateException.class, () -> read(store, 1)).getMessage();
    assertTrue(message.contains(NAME) && message.contains("closed"), message);
    assertThrows(IllegalStateException.class, () -> read(store));
    assertEquals(4, store.rowCount());
  }

  @Test
  void aClosedOutputIsNotTakenForAClosedStore() throws Exception {
    byte[][] rows = rows(Seeds.random("RowStoreContract.aClosedOutput"), 4, 8);
    RowStore store = store(rows, 8, 0);
    Arena arena = Arena.ofConfined();
    MemorySegment out = arena.allocate(8);
    arena.close();
    String message =
        assertThrows(IllegalStateException.class, () -> store.read(new long[] {1}, 0, 1, out, 0))
            .getMessage();
    assertFalse(message.contains(NAME), message);
    assertArrayEquals(expected(rows, 1), read(store, 1));
  }

  @Test
  void readsAllocateNothing() throws Exception {
    assumeTrue(allocatesNothing(), "this store, or what a test put into it, allocates");
    RowStore store =
        store(rows(Seeds.random("RowStoreContract.readsAllocateNothing"), 500, 66), 66, 2);
    long[] ids = new long[64];
    MemorySegment out = Arena.ofAuto().allocate(64 * 66);
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    long least = Long.MAX_VALUE;
    for (int round = 0; round < 30 && least >= 1000; round++) {
      long before = threads.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 1000; i++) {
        ids[i & 63] = i % 500;
        store.read(ids, 0, 64, out, 0);
      }
      least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
    }
    assertTrue(least < 1000, least + " bytes for 1000 reads");
  }

  @Test
  @Timeout(60)
  void manyThreadsReadTheirOwnRows() throws Exception {
    RandomGenerator seeds = Seeds.random("RowStoreContract.manyThreadsRead");
    byte[][] rows = rows(seeds, 1000, 40);
    RowStore store = store(rows, 40, 8);
    try (ExecutorService pool = Executors.newFixedThreadPool(8)) {
      List<Future<?>> readers = new ArrayList<>();
      for (int t = 0; t < 8; t++) {
        RandomGenerator random = new java.util.SplittableRandom(seeds.nextLong());
        readers.add(
            pool.submit(() -> {
              for (int i = 0; i < 500; i++) {
                long[] ids = random.longs(20, 0, 1000).toArray();
                assertArrayEquals(expected(rows, ids), read(store, ids));
              }
            }));
      }
      for (Future<?> reader : readers) {
        reader.get();
      }
    }
  }

  /** Rows of zeros on purpose: a read that gave up silently is seen in the poisoned output. */
  @Test
  @Timeout(120)
  void closingWhileOthersReadIsSafe() throws Exception {
    byte[][] rows = new byte[200][512];
    try (ExecutorService pool = Executors.newFixedThreadPool(3)) {
      for (int round = 0; round < 30; round++) {
        RowStore store = create(NAME, rows, 512, 0);
        CountDownLatch running = new CountDownLatch(3);
        AtomicBoolean closed = new AtomicBoolean();
        List<Future<Long>> readers = new ArrayList<>();
        for (int t = 0; t < 3; t++) {
          readers.add(
              pool.submit(() -> {
                long[] ids = new java.util.SplittableRandom(7).longs(64, 0, 200).toArray();
                byte[] out = new byte[64 * 512];
                byte[] zeros = new byte[64 * 512];
                long reads = 0;
                while (true) {
                  boolean before = closed.get();
                  Arrays.fill(out, (byte) 1);
                  try {
                    store.read(ids, 0, 64, MemorySegment.ofArray(out), 0);
                  } catch (IllegalStateException e) {
                    assertTrue(e.getMessage().contains(NAME), e::getMessage);
                    assertFalse(Thread.interrupted(), "nobody interrupted this thread");
                    return reads;
                  }
                  assertFalse(before, "read after close");
                  assertArrayEquals(zeros, out);
                  if (reads++ == 20) {
                    running.countDown();
                  }
                }
              }));
        }
        running.await();
        store.close();
        closed.set(true);
        for (Future<Long> reader : readers) {
          try {
            assertTrue(reader.get() >= 20);
          } catch (ExecutionException e) {
            throw new AssertionError(e.getCause());
          }
        }
      }
    }
  }

  /**
   * Whether an interrupt ends a read with an exception, as it should where a read may take long.
   */
  protected boolean interruptsEndReads() {
    return false;
  }

  private byte[] readInterrupted(RowStore store, byte[][] rows, long... ids) {
    try {
      return read(store, ids);
    } catch (EngramException e) {
      assertTrue(interruptsEndReads() && e.getMessage().contains("interrupted"), e.toString());
      return expected(rows, ids);
    }
  }

  /** Interrupts do not disturb a read, and are kept. */
  @Test
  @Timeout(60)
  void anInterruptedCallerGetsItsRows() throws Exception {
    RandomGenerator random = Seeds.random("RowStoreContract.anInterruptedCaller");
    byte[][] rows = rows(random, 1000, 400);
    RowStore store = store(rows, 400, 16);
    AtomicBoolean done = new AtomicBoolean();
    try {
      for (int i = 0; i < 50; i++) {
        long[] ids = random.longs(60, 0, 1000).toArray();
        Thread.currentThread().interrupt();
        assertArrayEquals(expected(rows, ids), readInterrupted(store, rows, ids));
        assertTrue(Thread.interrupted(), "the interrupt was lost");
      }
      Thread reader = Thread.currentThread();
      Thread.ofPlatform()
          .daemon()
          .start(() -> {
            while (!done.get()) {
              reader.interrupt();
              LockSupport.parkNanos(20_000);
            }
          });
      for (int i = 0; i < 200; i++) {
        long[] ids = random.longs(60, 0, 1000).toArray();
        assertArrayEquals(expected(rows, ids), readInterrupted(store, rows, ids));
        Thread.interrupted();
      }
    } finally {
      done.set(true);
      Thread.interrupted();
    }
    assertArrayEquals(expected(rows, 7), read(store, 7));
  }

  /** A thread to which the memory of the output does not belong. */
  @Test
  void anOutputOfAnotherThreadIsRefused() throws Exception {
    byte[][] rows = rows(Seeds.random("RowStoreContract.anOutputOfAnother"), 4, 8);
    RowStore store = store(rows, 8, 0);
    try (Arena arena = Arena.ofConfined();
        ExecutorService pool = Executors.newSingleThreadExecutor()) {
      MemorySegment out = arena.allocate(8);
      store.read(new long[] {1}, 0, 1, out, 0);
      assertArrayEquals(rows[1], out.toArray(ValueLayout.JAVA_BYTE));
      Future<?> other = pool.submit(() -> store.read(new long[] {2}, 0, 1, out, 0));
      assertInstanceOf(
          WrongThreadException.class,
          assertThrows(ExecutionException.class, other::get).getCause());
    }
  }

  @Test
  @Timeout(60)
  void virtualThreadsRead() throws Exception {
    RandomGenerator seeds = Seeds.random("RowStoreContract.virtualThreads");
    byte[][] rows = rows(seeds, 1000, 40);
    RowStore store = store(rows, 40, 8);
    try (ExecutorService pool = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<?>> readers = new ArrayList<>();
      for (int t = 0; t < 200; t++) {
        long[] ids = seeds.longs(30, 0, 1000).toArray();
        readers.add(pool.submit(() -> assertArrayEquals(expected(rows, ids), read(store, ids))));
      }
      for (Future<?> reader : readers) {
        reader.get();
      }
    }
  }
}
