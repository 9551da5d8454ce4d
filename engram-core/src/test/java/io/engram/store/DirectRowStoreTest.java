// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.sun.management.ThreadMXBean;
import io.engram.EngramException;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class DirectRowStoreTest {
  private static final int VALUES = 256;
  private static final int SCALES = 8;
  private static final int ROW = VALUES + SCALES;
  private static final int ROWS = 2000;
  private static final DirectReads BUFFERED = DirectReads.buffered();

  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  /** Skips a test where the system or the file system of the temporary files has no O_DIRECT. */
  private static void assumeUncached(Path directory) throws IOException {
    Path file = Files.write(directory.resolve("probe"), new byte[8192]);
    boolean possible;
    try {
      PositionalFile.Opener.system(file, false).close();
      possible = true;
    } catch (EngramException e) {
      possible = false;
    }
    assumeTrue(possible, "no O_DIRECT in " + directory);
  }

  abstract static class InParts extends RowStoreContract {
    @TempDir Path directory;

    private final Arena arena = Arena.ofShared();
    private final DirectReads options;
    private final PositionalFile.Opener opener;
    private final int parts;
    private int files;

    InParts(DirectReads options, PositionalFile.Opener opener, int parts) {
      this.options = options;
      this.opener = opener;
      this.parts = parts;
    }

    @AfterEach
    void unmap() {
      arena.close();
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      if (!options.pageCache()) {
        assumeUncached(directory);
      }
      List<RowPart> list = new ArrayList<>();
      for (int i = 0; i < parts; i++) {
        int from = i * rows.length / parts;
        int to = (i + 1) * rows.length / parts;
        list.add(
            MappedRowStoreTest.part(
                directory.resolve(files++ + ".bin"),
                Arrays.copyOfRange(rows, from, to),
                rowBytes - scaleBytes,
                scaleBytes,
                13,
                arena));
      }
      return DirectRowStore.of(name, rowBytes - scaleBytes, scaleBytes, list, options, opener);
    }
  }

  @Nested
  class Buffered extends InParts {
    Buffered() {
      super(BUFFERED, PositionalFile.Opener::system, 1);
    }
  }

  @Nested
  class BufferedInManyParts extends InParts {
    BufferedInManyParts() {
      super(BUFFERED.withDepth(5), PositionalFile.Opener::system, 23);
    }
  }

  @Nested
  class Uncached extends InParts {
    Uncached() {
      super(DirectReads.uncached(), PositionalFile.Opener::system, 1);
    }
  }

  @Nested
  @Tag("long")
  class UncachedInManyParts extends InParts {
    UncachedInManyParts() {
      super(DirectReads.uncached(), PositionalFile.Opener::system, 7);
    }
  }

  /** One outstanding read for all callers. */
  @Nested
  @Tag("long")
  class UncachedOneAtATime extends InParts {
    UncachedOneAtATime() {
      super(DirectReads.uncached().withDepth(1), PositionalFile.Opener::system, 2);
    }
  }

  /** Where there is no native access. */
  @Nested
  class ByChannel extends InParts {
    ByChannel() {
      super(BUFFERED.withDepth(4), PositionalFile.Opener::channel, 3);
    }
  }

  /** Every read takes so long that the caller shares its batch. */
  @Nested
  class Slow extends InParts {
    Slow() {
      super(BUFFERED.withDepth(8), interposed(DirectRowStoreTest::delay), 2);
    }
  }

  /** Reads that return as little as they may, and are interrupted in between. */
  @Nested
  class Stingy extends InParts {
    Stingy() {
      super(BUFFERED.withDepth(8), interposed(new StingyReads()), 2);
    }
  }

  /** The same where only whole blocks may be read. */
  @Nested
  @Tag("long")
  class StingyUncached extends InParts {
    StingyUncached() {
      super(DirectReads.uncached().withDepth(8), interposed(new StingyReads()), 2);
    }

    /** What is put in between writes single bytes by thousands, which is not free of objects. */
    @Override
    protected boolean allocatesNothing() {
      return false;
    }
  }

  /** Rows are packed, values and scales together. */
  @Nested
  class Packed extends InParts {
    Packed() {
      super(BUFFERED, PositionalFile.Opener::system, 2);
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      return super.create(name, rows, rowBytes, 0);
    }
  }

  /** What a test puts between the store and a real file. */
  interface Interposer {
    long read(PositionalFile file, ReadSeat seat, int at, int bytes, long position)
        throws IOException;
  }

  private record Interposed(PositionalFile file, Interposer interposer) implements PositionalFile {
    @Override
    public long read(ReadSeat seat, int at, int bytes, long position) throws IOException {
      return interposer.read(file, seat, at, bytes, position);
    }

    @Override
    public int alignment() {
      return file.alignment();
    }

    @Override
    public boolean readableByCallers() {
      return file.readableByCallers();
    }

    @Override
    public void close() {
      file.close();
    }
  }

  private static PositionalFile.Opener interposed(Interposer interposer) {
    return (file, pageCache) ->
        new Interposed(PositionalFile.Opener.system(file, pageCache), interposer);
  }

  private static long delay(PositionalFile file, ReadSeat seat, int at, int bytes, long position)
      throws IOException {
    LockSupport.parkNanos(40_000);
    return file.read(seat, at, bytes, position);
  }

  private static final class StingyReads implements Interposer {
    private final AtomicLong calls = new AtomicLong();

    @Override
    public long read(PositionalFile file, ReadSeat seat, int at, int bytes, long position)
        throws IOException {
      long call = calls.getAndIncrement();
      if (call % 3 == 0) {
        return -NativeFiles.EINTR;
      }
      long most = call % 7 == 1 ? bytes : Math.min(bytes, Math.max(1, file.alignment()));
      long count = file.read(seat, at, (int) most, position);
      // The rest of the buffer must not matter.
      for (long i = at + Math.max(0, count); i < at + bytes; i++) {
        seat.buffer().set(ValueLayout.JAVA_BYTE, i, (byte) 0x77);
      }
      return count;
    }
  }

  private static byte[][] rows(String test, int count) {
    RandomGenerator random = Seeds.random("DirectRowStoreTest." + test);
    byte[][] rows = new byte[count][ROW];
    for (byte[] row : rows) {
      for (int i = 0; i < ROW; i++) {
        row[i] = (byte) (1 + random.nextInt(255));
      }
    }
    return rows;
  }

  private RowPart part(Path file, byte[][] rows) throws IOException {
    return MappedRowStoreTest.part(file, rows, VALUES, SCALES, 24, arena);
  }

  private DirectRowStore store(
      Path file, byte[][] rows, DirectReads options, PositionalFile.Opener opener)
      throws IOException {
    return DirectRowStore.of("table", VALUES, SCALES, List.of(part(file, rows)), options, opener);
  }

  private static long[] ids(RandomGenerator random, int count) {
    return random.longs(count, 0, ROWS).toArray();
  }

  /** Wherever the file is cut, rows before the cut are right and the others are refused. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void aTruncatedFileNeverYieldsWrongRows(boolean pageCache) throws IOException {
    if (!pageCache) {
      assumeUncached(directory);
    }
    byte[][] rows = rows("aTruncatedFile", ROWS);
    RandomGenerator random = Seeds.random("DirectRowStoreTest.aTruncatedFile.cuts");
    long size = 48L + ROWS * ROW;
    int refused = 0;
    for (int round = 0; round < 12; round++) {
      Path file = directory.resolve(round + ".bin");
      try (DirectRowStore store =
          store(file, rows, new DirectReads(pageCache, 8), PositionalFile.Opener::system)) {
        long cut =
            switch (round) {
              case 0 -> 0;
              case 1 -> size - 1;
              case 2 -> 24 + ROWS * VALUES - 1;
              case 3 -> 8192;
              default -> random.nextLong(size);
            };
        MappedRowStoreTest.truncate(file, cut);
        for (int i = 0; i < ROWS; i++) {
          boolean there =
              24 + (i + 1) * VALUES <= cut && 48 + ROWS * VALUES + (i + 1) * SCALES <= cut;
          int row = i;
          if (there) {
            assertArrayEquals(rows[i], RowStoreContract.read(store, i));
          } else {
            String message =
                assertThrows(
                        EngramException.class,
                        () -> RowStoreContract.read(store, row),
                        () -> "cut at " + cut + ", row " + row)
                    .getMessage();
            assertTrue(message.contains(".bin: bytes at "), message);
            assertTrue(message.contains("with row " + row + " of table"), message);
            refused++;
          }
        }
        long[] many = ids(random, 500);
        boolean allThere =
            LongStream.of(many).allMatch(id -> 48 + ROWS * VALUES + (id + 1) * SCALES <= cut);
        if (allThere) {
          assertArrayEquals(
              RowStoreContract.expected(rows, many), RowStoreContract.read(store, many));
        } else {
          assertThrows(EngramException.class, () -> RowStoreContract.read(store, many));
        }
      }
    }
    assertTrue(refused > ROWS, refused + " refused");
  }

  @Test
  void aReplacedFileStaysWhatItWas() throws IOException {
    byte[][] rows = rows("aReplacedFile", 600);
    Path file = directory.resolve("t.bin");
    RowPart part = part(file, rows);
    List<RowPart> parts = List.of(part);
    try (DirectRowStore store = DirectRowStore.of("table", VALUES, SCALES, parts, BUFFERED)) {
      byte[] other = Files.readAllBytes(file);
      other[24] ^= 1;
      Path replacement = Files.write(directory.resolve("other"), other);
      Files.move(replacement, file, StandardCopyOption.REPLACE_EXISTING);
      for (int i = 0; i < 600; i++) {
        assertArrayEquals(rows[i], RowStoreContract.read(store, i));
      }
      String message =
          assertThrows(
                  EngramException.class,
                  () -> DirectRowStore.of("table", VALUES, SCALES, parts, BUFFERED))
              .getMessage();
      assertTrue(message.contains("has been replaced"), message);
      other[24] ^= 1;
      Files.write(file, Arrays.copyOf(other, other.length - 1));
      message =
          assertThrows(
                  EngramException.class,
                  () -> DirectRowStore.of("table", VALUES, SCALES, parts, BUFFERED))
              .getMessage();
      assertTrue(message.contains("ends"), message);
      Files.delete(file);
      message =
          assertThrows(
                  EngramException.class,
                  () -> DirectRowStore.of("table", VALUES, SCALES, parts, BUFFERED))
              .getMessage();
      assertTrue(message.contains("no such file") || message.contains("NoSuchFile"), message);
    }
  }

  /** One read fails in the middle of a batch that many threads work at. */
  @Test
  void aFailedReadEndsItsBatchAndNothingElse() throws IOException {
    byte[][] rows = rows("aFailedRead", ROWS);
    RandomGenerator random = Seeds.random("DirectRowStoreTest.aFailedRead.ids");
    Path file = directory.resolve("t.bin");
    AtomicBoolean broken = new AtomicBoolean();
    AtomicLong reads = new AtomicLong();
    long badPage = (24 + 777 * VALUES) >>> 12;
    try (DirectRowStore store =
        store(
            file,
            rows,
            BUFFERED.withDepth(6),
            interposed((source, seat, at, bytes, position) -> {
              reads.getAndIncrement();
              LockSupport.parkNanos(40_000);
              return broken.get() && position + bytes > badPage << 12 && position >>> 12 <= badPage
                  ? -NativeFiles.EIO
                  : source.read(seat, at, bytes, position);
            }))) {
      for (int round = 0; round < 20; round++) {
        // Every fifth page, so that no reads are put together.
        long[] ids = LongStream.range(0, 100).map(i -> i * 80 % ROWS).toArray();
        ids[random.nextInt(100)] = 777;
        broken.set(true);
        reads.set(0);
        String message =
            assertThrows(EngramException.class, () -> RowStoreContract.read(store, ids))
                .getMessage();
        assertTrue(message.contains("t.bin: bytes at "), message);
        assertTrue(message.contains("error 5 (input/output error)"), message);
        broken.set(false);
        assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
      }
    }
  }

  @Test
  void aReadThatYieldsNothingEnds() throws IOException {
    byte[][] rows = rows("aReadThatYieldsNothing", 100);
    assumeUncached(directory);
    AtomicBoolean broken = new AtomicBoolean();
    try (DirectRowStore store =
        store(
            directory.resolve("t.bin"),
            rows,
            DirectReads.uncached(),
            interposed((source, seat, at, bytes, position) ->
                broken.get() ? 100 : source.read(seat, at, bytes, position)))) {
      broken.set(true);
      String message =
          assertThrows(EngramException.class, () -> RowStoreContract.read(store, 50)).getMessage();
      assertTrue(message.contains("yields no more than"), message);
    }
  }

  /** All callers together never have more reads outstanding than was said, and reach that. */
  @Test
  void manyCallersShareTheDepth() throws Exception {
    byte[][] rows = rows("manyCallersShare", ROWS);
    RandomGenerator seeds = Seeds.random("DirectRowStoreTest.manyCallersShare.ids");
    AtomicInteger outstanding = new AtomicInteger();
    AtomicInteger most = new AtomicInteger();
    Interposer counting =
        (source, seat, at, bytes, position) -> {
          int now = outstanding.incrementAndGet();
          most.accumulateAndGet(now, Math::max);
          try {
            return delay(source, seat, at, bytes, position);
          } finally {
            outstanding.decrementAndGet();
          }
        };
    for (int depth : new int[] {1, 3, 12}) {
      most.set(0);
      Path file = directory.resolve(depth + ".bin");
      try (DirectRowStore store =
              store(file, rows, BUFFERED.withDepth(depth), interposed(counting));
          ExecutorService pool = Executors.newFixedThreadPool(6)) {
        List<Future<?>> readers = new ArrayList<>();
        for (int t = 0; t < 6; t++) {
          RandomGenerator random = new SplittableRandom(seeds.nextLong());
          readers.add(
              pool.submit(() -> {
                for (int i = 0; i < 30; i++) {
                  long[] ids = ids(random, 1 + random.nextInt(60));
                  assertArrayEquals(
                      RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
                }
              }));
        }
        for (Future<?> reader : readers) {
          reader.get();
        }
        assertTrue(store.liveThreads() <= depth, "threads");
      }
      assertEquals(depth, most.get());
    }
  }

  /** A file must not be closed while a read of it is under way, whoever waits for what. */
  @Test
  void closingWaitsForReadsThatHaveBegun() throws Exception {
    byte[][] rows = rows("closingWaits", 600);
    CountDownLatch began = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    AtomicBoolean hold = new AtomicBoolean();
    DirectRowStore store =
        store(
            directory.resolve("t.bin"),
            rows,
            BUFFERED,
            interposed((source, seat, at, bytes, position) -> {
              if (hold.get()) {
                began.countDown();
                try {
                  go.await();
                } catch (InterruptedException e) {
                  throw new IOException(e);
                }
              }
              return source.read(seat, at, bytes, position);
            }));
    hold.set(true);
    try (ExecutorService pool = Executors.newFixedThreadPool(2)) {
      Future<?> reader = pool.submit(() -> RowStoreContract.read(store, 5, 300, 599));
      began.await();
      Future<?> closer = pool.submit(store::close);
      assertThrows(TimeoutException.class, () -> closer.get(50, TimeUnit.MILLISECONDS));
      assertThrows(IllegalStateException.class, () -> RowStoreContract.read(store, 1));
      go.countDown();
      closer.get();
      assertInstanceOf(
          IllegalStateException.class,
          assertThrows(ExecutionException.class, reader::get).getCause());
    }
  }

  /** Readers come and go while stores are closed and their descriptors used again. */
  @Test
  void noReadOutlivesItsFile() throws Exception {
    byte[][] rows = rows("noReadOutlives", 600);
    byte[][] others = rows("noReadOutlives.others", 600);
    List<RowPart> parts = List.of(part(directory.resolve("t.bin"), rows));
    List<RowPart> otherParts = List.of(part(directory.resolve("o.bin"), others));
    try (ExecutorService pool = Executors.newFixedThreadPool(3)) {
      for (int round = 0; round < 40; round++) {
        DirectRowStore store =
            DirectRowStore.of(
                "table", VALUES, SCALES, parts, BUFFERED, interposed(DirectRowStoreTest::delay));
        CountDownLatch running = new CountDownLatch(3);
        List<Future<?>> readers = new ArrayList<>();
        for (int t = 0; t < 3; t++) {
          readers.add(
              pool.submit(() -> {
                long[] ids = {1, 100, 200, 300, 400, 599};
                byte[] expected = RowStoreContract.expected(rows, ids);
                while (true) {
                  try {
                    assertArrayEquals(expected, RowStoreContract.read(store, ids));
                  } catch (IllegalStateException e) {
                    return;
                  }
                  running.countDown();
                }
              }));
        }
        running.await();
        store.close();
        // Gets the numbers that have become free.
        try (DirectRowStore next =
            DirectRowStore.of("other", VALUES, SCALES, otherParts, BUFFERED)) {
          assertArrayEquals(others[7], RowStoreContract.read(next, 7));
          for (Future<?> reader : readers) {
            reader.get();
          }
        }
        assertEquals(0, store.liveThreads());
      }
    }
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void closingReturnsFilesAndThreads() throws IOException {
    byte[][] rows = rows("closingReturns", ROWS);
    Path file = directory.resolve("t.bin");
    DirectRowStore store =
        store(file, rows, BUFFERED.withDepth(7), interposed(DirectRowStoreTest::delay));
    assertEquals(0, store.liveThreads());
    long[] ids = LongStream.range(0, 100).map(i -> i * 20).toArray();
    assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
    assertTrue(store.liveThreads() > 1, "threads");
    assertEquals(1, descriptors(file));
    store.close();
    assertEquals(0, store.liveThreads());
    assertEquals(0, descriptors(file));
    assertThrows(
        EngramException.class,
        () ->
            DirectRowStore.of(
                "table",
                VALUES,
                SCALES,
                List.of(
                    part(file, rows),
                    new RowPart(
                        new FileRegion(
                            directory.resolve("absent"),
                            0,
                            MemorySegment.ofArray(new byte[VALUES])),
                        Optional.of(
                            new FileRegion(file, 0, MemorySegment.ofArray(new byte[SCALES]))))),
                BUFFERED));
    assertEquals(0, descriptors(file), "of a store that could not be made");
  }

  private static long descriptors(Path file) throws IOException {
    long found = 0;
    try (DirectoryStream<Path> open = Files.newDirectoryStream(Path.of("/proc/self/fd"))) {
      for (Path each : open) {
        try {
          found += Files.readSymbolicLink(each).equals(file.toRealPath()) ? 1 : 0;
        } catch (NoSuchFileException e) {
          // Closed by another thread meanwhile.
          found += 0;
        }
      }
    }
    return found;
  }

  /** The contract's test sees the caller's thread only. */
  @Test
  void theThreadsOfTheStoreAllocateNothing() throws IOException {
    byte[][] rows = rows("theThreadsAllocateNothing", ROWS);
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (DirectRowStore store =
        DirectRowStore.of(
            "allocating",
            VALUES,
            SCALES,
            List.of(part(directory.resolve("t.bin"), rows)),
            DirectReads.buffered().withDepth(6),
            interposed((source, seat, at, bytes, position) -> {
              // Waits without allocating.
              long end = System.nanoTime() + 40_000;
              while (System.nanoTime() < end) {
                Thread.onSpinWait();
              }
              return source.read(seat, at, bytes, position);
            }))) {
      long[] ids = LongStream.range(0, 50).map(i -> i * 40).toArray();
      MemorySegment out = Arena.ofAuto().allocate(50 * ROW);
      long least = Long.MAX_VALUE;
      for (int round = 0; round < 10; round++) {
        long before = allocated(threads);
        for (int i = 0; i < 100; i++) {
          store.read(ids, 0, 50, out, 0);
        }
        least = Math.min(least, allocated(threads) - before);
      }
      assertTrue(store.liveThreads() > 0, "threads");
      assertTrue(least < 1000, least + " bytes for 100 reads");
    }
  }

  private static long allocated(ThreadMXBean threads) {
    long sum = 0;
    for (Thread thread : Thread.getAllStackTraces().keySet()) {
      if (thread.getName().startsWith("allocating reader ")) {
        sum += threads.getThreadAllocatedBytes(thread.threadId());
      }
    }
    return sum;
  }

  @Test
  void rowsInOnePageCostOneRead() throws IOException {
    byte[][] rows = rows("rowsInOnePage", ROWS);
    AtomicInteger reads = new AtomicInteger();
    try (DirectRowStore store =
        store(
            directory.resolve("t.bin"),
            rows,
            BUFFERED,
            interposed((source, seat, at, bytes, position) -> {
              reads.getAndIncrement();
              return source.read(seat, at, bytes, position);
            }))) {
      record Case(int reads, List<Long> rowIds) {}
      for (Case each :
          List.of(
              new Case(2, List.of(0L)),
              new Case(2, List.of(0L, 1L, 2L, 14L)),
              new Case(2, List.of(14L, 0L, 0L, 14L, 3L)),
              // Row 15 goes on in the next page, in which row 30 begins.
              new Case(2, List.of(15L, 0L, 30L)),
              new Case(3, List.of(0L, 100L)),
              new Case(3, List.of(100L, 0L)),
              new Case(4, List.of(0L, 1900L)))) {
        reads.set(0);
        long[] ids = each.rowIds.stream().mapToLong(Long::longValue).toArray();
        assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
        assertEquals(each.reads, reads.get(), each.rowIds::toString);
      }
      reads.set(0);
      long[] all = LongStream.range(0, ROWS).toArray();
      assertArrayEquals(RowStoreContract.expected(rows, all), RowStoreContract.read(store, all));
      assertTrue(reads.get() < 15, reads + " reads of " + ROWS * ROW + " bytes");
    }
  }

  /** An output that only its own thread can reach, with reads by others. */
  @Test
  void outputsMayBelongToTheCallersThread() throws IOException {
    byte[][] rows = rows("outputsMayBelong", ROWS);
    RandomGenerator random = Seeds.random("DirectRowStoreTest.outputsMayBelong.ids");
    try (DirectRowStore store =
            store(
                directory.resolve("t.bin"),
                rows,
                BUFFERED.withDepth(8),
                interposed(DirectRowStoreTest::delay));
        Arena own = Arena.ofConfined()) {
      for (int count : new int[] {1, 50, 20, 200}) {
        MemorySegment out = own.allocate(5 + (long) count * ROW);
        long[] ids = ids(random, count);
        store.read(ids, 0, count, out, 5);
        assertArrayEquals(
            RowStoreContract.expected(rows, ids), out.asSlice(5).toArray(ValueLayout.JAVA_BYTE));
      }
    }
  }

  /** More rows than one plan takes. */
  @Test
  void aBatchMayBeLargerThanAPlan() throws IOException {
    byte[][] rows = rows("aBatchMayBeLarger", ROWS);
    RandomGenerator random = Seeds.random("DirectRowStoreTest.aBatchMayBeLarger.ids");
    try (DirectRowStore store =
        store(directory.resolve("t.bin"), rows, BUFFERED, PositionalFile.Opener::system)) {
      long[] ids = ids(random, 2 * ReadPlan.MAX_PIECES + 77);
      assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
    }
  }

  /** Row ids and offsets beyond 32 bits, in a file of which a few pages exist. */
  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void readsMoreThanTwoToThe31Rows(boolean pageCache) throws IOException {
    if (!pageCache) {
      assumeUncached(directory);
    }
    long count = (1L << 32) + 100_000;
    long[] ids = {0, Integer.MAX_VALUE, Integer.MAX_VALUE + 1L, 1L << 32, count - 1};
    byte[] expected = {1, 2, 3, 4, 5};
    Path file = directory.resolve("sparse.bin");
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      for (int i = 0; i < ids.length; i++) {
        channel.write(ByteBuffer.wrap(expected, i, 1), 7 + ids[i]);
      }
    }
    RowPart part = new RowPart(MappedRowStoreTest.map(file, 7, count, arena), Optional.empty());
    try (DirectRowStore store =
        DirectRowStore.of("wide", 1, 0, List.of(part, part), new DirectReads(pageCache, 4))) {
      assertArrayEquals(expected, RowStoreContract.read(store, ids));
      long[] second = Arrays.stream(ids).map(id -> id + count).toArray();
      assertArrayEquals(expected, RowStoreContract.read(store, second));
    }
    Files.delete(file);
  }

  @Test
  void optionsAreChecked() {
    assertEquals(new DirectReads(false, 24), DirectReads.uncached().withDepth(24));
    assertThrows(IllegalArgumentException.class, () -> BUFFERED.withDepth(0));
    assertThrows(IllegalArgumentException.class, () -> BUFFERED.withDepth(257));
  }

  @Test
  void withoutNativeAccessThePageCacheCannotBeBypassed() throws IOException {
    Path file = Files.write(directory.resolve("f"), new byte[10]);
    String message =
        assertThrows(EngramException.class, () -> PositionalFile.Opener.channel(file, false))
            .getMessage();
    assertTrue(message.contains("--enable-native-access"), message);
  }
}
