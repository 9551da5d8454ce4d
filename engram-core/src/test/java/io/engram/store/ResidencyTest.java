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
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** What is in the page cache, and what the tiers do about what is not. */
@Tag("once")
@EnabledOnOs(OS.LINUX)
class ResidencyTest {
  private static final int ROW = 512;
  private static final int ROWS = 16_384;

  /** The system may drop some pages again at any time. */
  private static final double MOST = 0.9;

  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();
  private byte[] bytes;
  private Path file;

  @BeforeEach
  void write() throws Exception {
    bytes = new byte[ROW * ROWS];
    Seeds.random("ResidencyTest").nextBytes(bytes);
    file = Files.write(directory.resolve("rows.bin"), bytes);
  }

  @AfterEach
  void close() {
    arena.close();
  }

  private RowPart part() throws Exception {
    return new RowPart(MappedRowStoreTest.map(file, 0, (long) ROW * ROWS, arena), Optional.empty());
  }

  /** The part, of a file of which next to nothing is in memory. */
  private RowPart coldPart() throws Exception {
    PageCache.evict(file);
    RowPart part = part();
    assumeTrue(share(part) < 0.1, "the system keeps the file in memory");
    return part;
  }

  private static double share(RowPart part) {
    return Residency.of(part.regions()).orElseThrow().share();
  }

  private byte[] expected(long... ids) {
    byte[] rows = new byte[ids.length * ROW];
    for (int i = 0; i < ids.length; i++) {
      System.arraycopy(bytes, (int) ids[i] * ROW, rows, i * ROW, ROW);
    }
    return rows;
  }

  @Test
  void everyPageOrSomeAreLookedAt() throws Exception {
    RowPart cold = coldPart();
    int page = NativeMemory.get().orElseThrow().pageSize();
    assertEquals(ROW * ROWS / page, Residency.of(cold.regions()).orElseThrow().pages());
    Files.readAllBytes(file);
    assertTrue(share(cold) > MOST, () -> "share " + share(cold));
    Residency sample = Residency.sampled(cold.regions(), 50).orElseThrow();
    assertTrue(sample.share() > 0.8, sample::toString);
    assertTrue(sample.pages() >= 40 && sample.pages() <= 50, sample::toString);
    FileRegion odd = new FileRegion(file, 4000, cold.values().bytes().asSlice(4000, 200));
    assertEquals(new Residency(2, 2), Residency.of(List.of(odd)).orElseThrow());
    assertEquals(new Residency(4, 4), Residency.of(List.of(odd, odd)).orElseThrow());
    assertEquals(Optional.of(new Residency(0, 0)), Residency.of(List.of()));
  }

  @Test
  void whatIsNoMappingHasNoResidency() throws Exception {
    FileRegion heap = new FileRegion(file, 0, MemorySegment.ofArray(new byte[100]));
    assertEquals(Optional.empty(), Residency.of(List.of(heap)));
    assertThrows(IllegalArgumentException.class, () -> Residency.sampled(List.of(heap), 0));
    assertThrows(IllegalArgumentException.class, () -> new Residency(2, 1));
    Arena own = Arena.ofShared();
    FileRegion closed = MappedRowStoreTest.map(file, 0, 100, own);
    own.close();
    assertThrows(IllegalStateException.class, () -> Residency.of(List.of(closed)));
  }

  /** Cold rows are right, before and after the store has noticed that they are cold. */
  @Test
  void coldMappedBatchesAreRightAndReadNoMoreThanTheyNeed() throws Exception {
    RowPart part = coldPart();
    MappedRowStore store = MappedRowStore.of("table", ROW, 0, List.of(part));
    RandomGenerator random = Seeds.random("ResidencyTest.cold");
    for (int count : new int[] {1, 20, 64, 9, 200}) {
      long[] ids = random.longs(count, 0, ROWS).toArray();
      assertArrayEquals(expected(ids), RowStoreContract.read(store, ids));
    }
    assertTrue(share(part) < 0.5, "pages that nobody asked for were read: " + share(part));
  }

  @Test
  void warmingUpMakesAsMuchResidentAsTheBudgetAllows() throws Exception {
    RowPart part = coldPart();
    MappedRowStore store = MappedRowStore.of("table", ROW, 0, List.of(part));
    List<Long> progress = new ArrayList<>();
    assertEquals(0, store.warmUp(0, progress::add));
    assertEquals(0, store.warmUp(ROW - 1, progress::add));
    assertTrue(share(part) < 0.1, "without a budget");
    long half = (long) ROW * ROWS / 2;
    assertEquals(half, store.warmUp(half, progress::add));
    assertTrue(share(part) >= 0.5 && share(part) < 0.9, () -> "share " + share(part));
    long all = (long) ROW * ROWS;
    assertEquals(all, store.warmUp(Long.MAX_VALUE, progress::add));
    assertTrue(share(part) > MOST, () -> "share " + share(part));
    assertEquals(all, progress.getLast());
    assertThrows(IllegalArgumentException.class, () -> store.warmUp(-1, progress::add));
    store.close();
    assertThrows(IllegalStateException.class, () -> store.warmUp(all, progress::add));
  }

  @Test
  void warmingUpNeedsNoSystemCalls() throws Exception {
    RowPart part = coldPart();
    MappedRowStore store = MappedRowStore.of("table", ROW, 0, List.of(part), Optional.empty());
    assertEquals((long) ROW * ROWS, store.warmUp(Long.MAX_VALUE, done -> {}));
    assertTrue(share(part) > MOST, () -> "share " + share(part));
  }

  @Test
  void warmingUpNoticesAShorterFile() throws Exception {
    for (Optional<NativeMemory> os : List.of(NativeMemory.get(), Optional.<NativeMemory>empty())) {
      Files.write(file, bytes);
      MappedRowStore store = MappedRowStore.of("table", ROW, 0, List.of(part()), os);
      MappedRowStoreTest.truncate(file, ROW * 1000);
      String message =
          assertThrows(EngramException.class, () -> store.warmUp(Long.MAX_VALUE, done -> {}))
              .getMessage();
      assertTrue(message.contains("rows.bin"), message);
    }
  }

  /** Nothing is read into the page cache that was not there. */
  @Test
  void directReadsPastThePageCacheAndLoadingLeaveItAlone() throws Exception {
    RowPart part = coldPart();
    try {
      PositionalFile.Opener.system(file, false).close();
    } catch (EngramException e) {
      assumeTrue(false, "no O_DIRECT in " + directory);
    }
    long[] ids = new long[ROWS];
    Arrays.setAll(ids, i -> i);
    try (DirectRowStore store =
        DirectRowStore.of("table", ROW, 0, List.of(part), DirectReads.uncached())) {
      assertArrayEquals(bytes, RowStoreContract.read(store, ids));
    }
    try (RamRowStore store = RamRowStore.load("table", ROW, 0, List.of(part), 2, done -> {})) {
      assertArrayEquals(bytes, RowStoreContract.read(store, ids));
    }
    assertTrue(share(part) < 0.2, () -> "share " + share(part));
    try (DirectRowStore store =
        DirectRowStore.of("table", ROW, 0, List.of(part), DirectReads.buffered())) {
      assertArrayEquals(bytes, RowStoreContract.read(store, ids));
    }
    assertFalse(share(part) < 0.9, "reads through the page cache leave nothing there");
  }
}
