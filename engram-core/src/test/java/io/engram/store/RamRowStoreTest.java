// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramException;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.LongConsumer;
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
class RamRowStoreTest {
  /** A store whose shards hold a few rows each, so that every read crosses them. */
  abstract static class SmallShards extends RowStoreContract {
    private final Optional<NativeMemory> os;

    SmallShards(Optional<NativeMemory> os) {
      this.os = os;
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      RamRowStore store = RamRowStore.create(name, rows.length, rowBytes, 4, os);
      for (int i = 0; i < rows.length; i++) {
        store.write(i, 1, MemorySegment.ofArray(rows[i]), 0);
      }
      return store;
    }
  }

  @Nested
  class Mapped extends SmallShards {
    Mapped() {
      super(NativeMemory.get());
    }
  }

  /** Where there is no native access. */
  @Nested
  class Allocated extends SmallShards {
    Allocated() {
      super(Optional.empty());
    }
  }

  @Nested
  class OneShard extends RowStoreContract {
    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      RamRowStore store = RamRowStore.create(name, rows.length, rowBytes);
      byte[] all = new byte[rows.length * rowBytes + 3];
      for (int i = 0; i < rows.length; i++) {
        System.arraycopy(rows[i], 0, all, 3 + i * rowBytes, rowBytes);
      }
      store.write(0, rows.length, MemorySegment.ofArray(all), 3);
      return store;
    }
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void thisPlatformHasTheSystemCalls() {
    assertTrue(NativeMemory.get().isPresent());
    int page = NativeMemory.get().orElseThrow().pageSize();
    assertTrue(page >= 4096 && Integer.bitCount(page) == 1, "page of " + page);
  }

  /** Row ids, offsets and shards beyond 32 bits, in a table of which a few pages exist. */
  @Test
  @EnabledOnOs(OS.LINUX)
  void holdsMoreThanTwoToThe31Rows() {
    long count = (1L << 32) + 12345;
    long[] ids = {
      0,
      1,
      Integer.MAX_VALUE,
      Integer.MAX_VALUE + 1L,
      0xFFFF_FFFFL,
      1L << 32,
      (1L << 32) + 1,
      count - 1
    };
    try (RamRowStore store = RamRowStore.create("wide", count, 1)) {
      assertEquals(count, store.rowCount());
      byte[] wanted = new byte[ids.length];
      for (int i = 0; i < ids.length; i++) {
        wanted[i] = (byte) (i + 1);
        store.write(ids[i], 1, MemorySegment.ofArray(wanted), i);
      }
      assertArrayEquals(wanted, RowStoreContract.read(store, ids));
      assertArrayEquals(new byte[1], RowStoreContract.read(store, 1L << 31 | 7));
      assertThrows(IndexOutOfBoundsException.class, () -> RowStoreContract.read(store, count));
      assertEquals(count, store.shards().stream().mapToLong(MemorySegment::byteSize).sum());
    }
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void holdsMoreBytesThanAnIntCounts() {
    int rowBytes = 264;
    long count = 40_000_000;
    try (RamRowStore store = RamRowStore.create("long", count, rowBytes)) {
      assertTrue(store.shards().size() >= 3, "shards");
      RandomGenerator random = Seeds.random("RamRowStoreTest.holdsMoreBytes");
      long edge = store.rowsPerShard();
      long[] ids = {0, edge - 1, edge, 2 * edge - 1, 2 * edge, count - 1};
      byte[][] rows = RowStoreContract.rows(random, ids.length, rowBytes);
      for (int i = 0; i < ids.length; i++) {
        store.write(ids[i], 1, MemorySegment.ofArray(rows[i]), 0);
      }
      for (int i = 0; i < ids.length; i++) {
        assertArrayEquals(rows[i], RowStoreContract.read(store, ids[i]));
      }
      MemorySegment second = store.shards().get(1);
      assertArrayEquals(rows[2], second.asSlice(0, rowBytes).toArray(ValueLayout.JAVA_BYTE));
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 8, 64, 1024})
  void writesAcrossShards(long rowsPerShard) {
    RandomGenerator random = Seeds.random("RamRowStoreTest.writesAcrossShards");
    byte[] mirror = new byte[100 * 5];
    try (RamRowStore store = RamRowStore.create("t", 100, 5, rowsPerShard)) {
      assertEquals(rowsPerShard, store.rowsPerShard());
      for (int i = 0; i < 300; i++) {
        int row = random.nextInt(100);
        int count = random.nextInt(101 - row);
        byte[] source = new byte[count * 5 + 2];
        random.nextBytes(source);
        store.write(row, count, MemorySegment.ofArray(source), 2);
        System.arraycopy(source, 2, mirror, row * 5, count * 5);
      }
      long[] all = new long[100];
      Arrays.setAll(all, i -> i);
      assertArrayEquals(mirror, RowStoreContract.read(store, all));
    }
  }

  @Test
  void refusesWritesThatDoNotFit() {
    RamRowStore store = RamRowStore.create("t", 10, 4, 8);
    MemorySegment source = MemorySegment.ofArray(new byte[12]);
    assertThrows(IndexOutOfBoundsException.class, () -> store.write(-1, 1, source, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.write(10, 1, source, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.write(8, 3, source, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.write(8, -1, source, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> store.write(2, Long.MAX_VALUE, source, 0));
    assertThrows(IllegalArgumentException.class, () -> store.write(0, 3, source, 1));
    assertThrows(IllegalArgumentException.class, () -> store.write(0, 4, source, 0));
    assertThrows(IllegalArgumentException.class, () -> store.write(0, 1, source, -1));
    assertThrows(IllegalArgumentException.class, () -> store.write(0, 1, source, 13));
    store.write(10, 0, source, 12);
    store.close();
    assertThrows(IllegalStateException.class, () -> store.write(0, 1, source, 0));
    MemorySegment shard = store.shards().get(0);
    assertThrows(IllegalStateException.class, () -> shard.get(ValueLayout.JAVA_BYTE, 0));
  }

  @Test
  void refusesWhatCannotBe() {
    assertThrows(IllegalArgumentException.class, () -> RamRowStore.create("t", 10, 4, 3));
    assertThrows(IllegalArgumentException.class, () -> RamRowStore.create("t", 10, 4, 0));
    assertThrows(
        IllegalArgumentException.class, () -> RamRowStore.create("t", 10, 4, Long.MIN_VALUE));
    assertThrows(IllegalArgumentException.class, () -> RamRowStore.create("t", Long.MAX_VALUE, 2));
    assertThrows(IllegalArgumentException.class, () -> RamRowStore.create("t", 1L << 40, 1, 1));
  }

  @Test
  void saysThatThereIsNotEnoughMemory() {
    for (Optional<NativeMemory> os :
        Arrays.asList(NativeMemory.get(), Optional.<NativeMemory>empty())) {
      String message =
          assertThrows(
                  EngramException.class,
                  () -> RamRowStore.create("huge", 1L << 40, 1 << 10, 1L << 40, os))
              .getMessage();
      assertTrue(message.startsWith("huge: no memory for 1099511627776 rows"), message);
    }
  }

  @Test
  void aNewTableIsZero() {
    try (RamRowStore store = RamRowStore.create("t", 1000, 16)) {
      MemorySegment shard = store.shards().get(0);
      assertEquals(16000, shard.byteSize());
      assertEquals(0, shard.address() % 64);
      assertFalse(shard.isReadOnly());
      for (long i = 0; i < 16000; i++) {
        assertEquals(0, shard.get(ValueLayout.JAVA_BYTE, i));
      }
    }
  }

  /** Rows that were loaded from files. */
  @Nested
  class Loaded extends RowStoreContract {
    @TempDir Path directory;

    private final Arena arena = Arena.ofShared();
    private int files;

    @AfterEach
    void unmap() {
      arena.close();
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      int half = rows.length / 2;
      List<RowPart> parts = new ArrayList<>();
      for (byte[][] some :
          List.of(Arrays.copyOfRange(rows, 0, half), Arrays.copyOfRange(rows, half, rows.length))) {
        Path file = directory.resolve(files++ + ".bin");
        parts.add(
            MappedRowStoreTest.part(file, some, rowBytes - scaleBytes, scaleBytes, 13, arena));
      }
      return RamRowStore.load(name, rowBytes - scaleBytes, scaleBytes, parts, 3, done -> {});
    }
  }

  /** Rows that were copied from another store. */
  @Nested
  class Copied extends RowStoreContract {
    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      try (RamRowStore source = RamRowStore.create(name, rows.length, rowBytes)) {
        for (int i = 0; i < rows.length; i++) {
          source.write(i, 1, MemorySegment.ofArray(rows[i]), 0);
        }
        return RamRowStore.copyOf(source, 2, done -> {});
      }
    }
  }

  /** Several steps of the loader, with values and scales apart, by several threads. */
  @Test
  void loadingReportsItsProgressAndEveryRow(@TempDir Path directory) throws IOException {
    byte[][] rows = RowStoreContract.rows(Seeds.random("RamRowStoreTest.loading"), 70_000, 264);
    try (Arena arena = Arena.ofShared()) {
      RowPart part = MappedRowStoreTest.part(directory.resolve("t.bin"), rows, 256, 8, 24, arena);
      List<Long> progress = new ArrayList<>();
      long[] all = LongStream.range(0, rows.length).toArray();
      try (RamRowStore store = RamRowStore.load("table", 256, 8, List.of(part), 3, progress::add)) {
        assertArrayEquals(RowStoreContract.expected(rows, all), RowStoreContract.read(store, all));
        assertEquals(progress.stream().sorted().toList(), progress);
        assertEquals(70_000, progress.getLast());
        assertTrue(progress.size() >= 4, progress::toString);
        progress.clear();
        try (RamRowStore copy = RamRowStore.copyOf(store, 2, progress::add)) {
          assertArrayEquals(RowStoreContract.expected(rows, all), RowStoreContract.read(copy, all));
        }
        assertEquals(70_000, progress.getLast());
      }
    }
  }

  @Test
  void loadingFailsWhole(@TempDir Path directory) throws IOException {
    byte[][] rows = RowStoreContract.rows(Seeds.random("RamRowStoreTest.failing"), 70_000, 264);
    Path file = directory.resolve("t.bin");
    try (Arena arena = Arena.ofShared()) {
      List<RowPart> parts = List.of(MappedRowStoreTest.part(file, rows, 256, 8, 24, arena));
      for (int threads : new int[] {0, 257}) {
        assertThrows(
            IllegalArgumentException.class,
            () -> RamRowStore.load("table", 256, 8, parts, threads, done -> {}));
      }
      // The end of the loading is when the file becomes shorter.
      LongConsumer truncating =
          done -> {
            try {
              MappedRowStoreTest.truncate(file, 1 << 20);
            } catch (IOException e) {
              throw new UncheckedIOException(e);
            }
          };
      String message =
          assertThrows(
                  EngramException.class,
                  () -> RamRowStore.load("table", 256, 8, parts, 1, truncating))
              .getMessage();
      assertTrue(message.contains("t.bin: bytes at "), message);
      Files.delete(file);
      assertThrows(
          EngramException.class, () -> RamRowStore.load("table", 256, 8, parts, 2, done -> {}));
      Thread.currentThread().interrupt();
      RamRowStore source = RamRowStore.create("source", 100, 8);
      assertThrows(EngramException.class, () -> RamRowStore.copyOf(source, 2, done -> {}));
      assertTrue(Thread.interrupted(), "the interrupt was lost");
      source.close();
      assertThrows(IllegalStateException.class, () -> RamRowStore.copyOf(source, 2, done -> {}));
    }
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void largeShardsGetHugePages() throws IOException {
    Path setting = Path.of("/sys/kernel/mm/transparent_hugepage/enabled");
    assumeTrue(Files.exists(setting), "this system has no huge pages");
    try (RamRowStore store = RamRowStore.create("huge", 1 << 16, 256, 1 << 15)) {
      for (MemorySegment shard : store.shards()) {
        assertEquals(0, shard.address() % NativeMemory.HUGE_PAGE);
        assertTrue(flags(shard.address()).contains(" hg"), () -> flags(shard.address()));
      }
      byte[] row = RowStoreContract.rows(Seeds.random("RamRowStoreTest.huge"), 1, 256)[0];
      store.write(40_000, 1, MemorySegment.ofArray(row), 0);
      assertTrue(store.populate(2), "populated");
      assertArrayEquals(row, RowStoreContract.read(store, 40_000));
      assertArrayEquals(new byte[256], RowStoreContract.read(store, 39_999));
      assertThrows(IllegalArgumentException.class, () -> store.populate(0));
    }
    RamRowStore closed = RamRowStore.create("closed", 10, 4);
    closed.close();
    assertThrows(IllegalStateException.class, () -> closed.populate(1));
    try (RamRowStore without = RamRowStore.create("t", 10, 4, 8, Optional.empty())) {
      assertFalse(without.populate(1));
    }
  }

  /** The flags of the mapping that an address lies in. */
  private static String flags(long address) {
    try {
      boolean ours = false;
      for (String line : Files.readAllLines(Path.of("/proc/self/smaps"))) {
        if (line.matches("[0-9a-f]+-[0-9a-f]+ .*")) {
          String[] range = line.substring(0, line.indexOf(' ')).split("-", -1);
          ours =
              Long.parseUnsignedLong(range[0], 16) <= address
                  && address < Long.parseUnsignedLong(range[1], 16);
        } else if (ours && line.startsWith("VmFlags:")) {
          return line;
        }
      }
      return "no mapping";
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
