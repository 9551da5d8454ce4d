// SPDX-License-Identifier: Apache-2.0
package io.engram;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.checkpoint.Checkpoint;
import io.engram.hash.Lookback;
import io.engram.packed.PackedConverter;
import io.engram.packed.PackedTable;
import io.engram.shard.ShardLayout;
import io.engram.stats.LayerStatistics;
import io.engram.store.DirectReads;
import io.engram.store.FileRegion;
import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every way to serve a checkpoint gives the same rows, and says how it does it. */
@Tag("once")
class MemoryTiersTest {
  private static final List<String> CHECKPOINTS = List.of("v41_mini", "qwen_mini", "demo_mini");

  private static Stream<Arguments> everyWay() {
    return CHECKPOINTS.stream()
        .flatMap(name ->
            Stream.of(
                    MemoryOptions.DEFAULT,
                    MemoryOptions.builder().tier(Tier.RAM).build(),
                    MemoryOptions.builder().tier(Tier.MAPPED).build(),
                    MemoryOptions.builder().tier(Tier.DIRECT).build(),
                    MemoryOptions.builder()
                        .tier(Tier.DIRECT)
                        .directReads(DirectReads.uncached().withDepth(3))
                        .build(),
                    MemoryOptions.builder().tier(Tier.MAPPED).cache(1 << 20).build(),
                    MemoryOptions.builder().tier(Tier.MAPPED).shadowCache().build())
                .map(options -> Arguments.of(name, options)));
  }

  private static int[] tokens(EngramMemory memory, int count) {
    return Seeds.random("MemoryTiersTest.tokens")
        .ints(count, 0, memory.config().vocabularySize())
        .toArray();
  }

  @ParameterizedTest
  @MethodSource("everyWay")
  void servesTheSameRows(String name, MemoryOptions options) {
    AtomicLong copied = new AtomicLong();
    try (EngramMemory plain =
            EngramMemory.open(
                Golden.path(name), MemoryOptions.builder().tier(Tier.MAPPED).build());
        EngramMemory memory = EngramMemory.open(Golden.path(name), options, copied::set)) {
      int[] ids = tokens(plain, 300);
      long all = 0;
      for (int layer : memory.config().layerIds()) {
        assertArrayEquals(plain.lookup(layer, ids), memory.lookup(layer, ids));
        all += memory.table(layer).rowCount();
      }
      boolean ram = memory.tiers().getFirst().tier() == Tier.RAM;
      assertEquals(ram ? all : 0, copied.get());
    }
  }

  @Test
  void smallTablesAreServedFromMemoryAndLargerOnesInPlace() {
    for (String name : CHECKPOINTS) {
      try (EngramMemory memory = EngramMemory.open(Golden.path(name))) {
        for (TierChoice choice : memory.tiers()) {
          assertEquals(Tier.RAM, choice.tier());
          assertTrue(choice.reason().contains("fit the memory budget"), choice.reason());
        }
      }
      MemoryOptions tight = MemoryOptions.builder().memoryBudget(4096).build();
      try (EngramMemory memory = EngramMemory.open(Golden.path(name), tight)) {
        for (TierChoice choice : memory.tiers()) {
          assertEquals(Tier.MAPPED, choice.tier());
          assertTrue(choice.reason().contains("page cache can hold"), choice.reason());
        }
      }
    }
  }

  private static RowStore copy(RowStore source, long rows) {
    RamRowStore copy = RamRowStore.create("copy of " + source.name(), rows, source.rowBytes());
    byte[] row = new byte[source.rowBytes()];
    MemorySegment segment = MemorySegment.ofArray(row);
    for (long id = 0; id < rows; id++) {
      source.read(new long[] {id}, 0, 1, segment, 0);
      copy.write(id, 1, segment, 0);
    }
    return copy;
  }

  @ParameterizedTest
  @CsvSource({"v41_mini,1", "v41_mini,3", "qwen_mini,1", "demo_mini,2"})
  void packedRowsAreFoundAndServed(String name, int shards, @TempDir Path directory)
      throws IOException {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path(name))) {
      for (int layer : checkpoint.config().layerIds()) {
        PackedConverter converter = PackedConverter.of(checkpoint, layer);
        if (shards == 1) {
          converter.convert(directory.resolve(PackedTable.fileName(layer)));
        } else {
          List<Path> files = new ArrayList<>();
          for (int i = 0; i < shards; i++) {
            files.add(directory.resolve(PackedTable.fileName(layer, i, shards)));
          }
          converter
              .shards(ShardLayout.stridedHeads(checkpoint.layout(layer), shards))
              .convert(files);
        }
      }
    }
    for (Tier tier : List.of(Tier.RAM, Tier.MAPPED, Tier.DIRECT)) {
      MemoryOptions options = MemoryOptions.builder().tier(tier).packed(directory).build();
      try (EngramMemory plain = EngramMemory.open(Golden.path(name));
          EngramMemory memory = EngramMemory.open(Golden.path(name), options)) {
        int[] ids = tokens(plain, 200);
        for (TierChoice choice : memory.tiers()) {
          assertTrue(choice.reason().contains("packed rows"), choice.reason());
          assertEquals(tier, choice.tier());
          assertArrayEquals(plain.lookup(choice.layer(), ids), memory.lookup(choice.layer(), ids));
        }
        memory.checkUnchanged();
      }
    }
    Path first;
    Path second;
    try (Stream<Path> all = Files.list(directory)) {
      List<Path> files = all.sorted().toList();
      first = files.getFirst();
      second = files.getLast();
    }
    Files.copy(second, first, StandardCopyOption.REPLACE_EXISTING);
    MemoryOptions wrong = MemoryOptions.builder().packed(directory).build();
    String message =
        assertThrows(
                EngramFormatException.class,
                () -> EngramMemory.open(Golden.path(name), wrong).close())
            .getMessage();
    assertTrue(message.contains(".rows: is "), message);
  }

  @Test
  void storesOfOnesOwnAreToldWhatIsExpectedAndChecked() {
    List<RowStore> given = new ArrayList<>();
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path("v41_mini"))) {
      MemoryOptions options =
          MemoryOptions.builder()
              .stores(expected -> {
                assertEquals(checkpoint.layout(expected.layer()).rowCount(), expected.rowCount());
                RowStore store =
                    copy(checkpoint.table(expected.layer()).store(), expected.rowCount());
                given.add(store);
                return store;
              })
              .build();
      try (EngramMemory plain = EngramMemory.open(Golden.path("v41_mini"));
          EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"), options)) {
        for (TierChoice choice : memory.tiers()) {
          assertEquals(Tier.GIVEN, choice.tier());
          int[] ids = tokens(memory, 50);
          assertArrayEquals(plain.lookup(choice.layer(), ids), memory.lookup(choice.layer(), ids));
        }
      }
      assertFalse(given.isEmpty());
      for (RowStore store : given) {
        assertThrows(
            IllegalStateException.class,
            () -> store.read(new long[1], 0, 1, MemorySegment.NULL, 0));
      }
      MemoryOptions wrong =
          MemoryOptions.builder()
              .stores(expected -> copy(checkpoint.table(expected.layer()).store(), 7))
              .build();
      String message =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> EngramMemory.open(Golden.path("v41_mini"), wrong).close())
              .getMessage();
      assertTrue(message.contains("has 7 rows of 66 bytes, the checkpoint says"), message);
    }
  }

  @Test
  void countsWhatItDid() {
    try (EngramMemory memory =
        EngramMemory.open(
            Golden.path("v41_mini"), MemoryOptions.builder().tier(Tier.MAPPED).build())) {
      int layer = memory.config().layerIds().getFirst();
      int columns = memory.config().hashing().columns();
      memory.lookup(layer, tokens(memory, 10));
      MemorySegment out = Arena.ofAuto().allocate(4L * 20 * memory.config().rowWidth());
      memory.lookup(layer, tokens(memory, 20), 0, 20, Lookback.start(), out);
      LayerStatistics found = memory.statistics().layers().getFirst();
      assertEquals(layer, found.choice().layer());
      assertEquals(30L * columns, found.tier().rows());
      assertEquals(30L * columns * memory.table(layer).store().rowBytes(), found.tier().bytes());
      assertEquals(0, found.tier().failures());
      assertEquals(2, found.lookups().count());
      assertTrue(found.lookups().p50() <= found.lookups().max());
      assertThrows(
          IndexOutOfBoundsException.class, () -> memory.table(layer).gather(new long[] {-1}));
      assertEquals(1, memory.statistics().layers().getFirst().tier().failures());
      assertEquals(0, memory.statistics().layers().getLast().tier().rows());
    }
  }

  private static void assertRefused(String expected, MemoryOptions options) {
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> EngramMemory.open(Golden.path("v41_mini"), options).close())
            .getMessage();
    assertTrue(message.contains(expected), message);
  }

  @Test
  void whatWouldBeIgnoredIsRefused(@TempDir Path directory) {
    assertRefused("no packed rows in", MemoryOptions.builder().packed(directory).build());
    assertRefused(
        "no layer's tier is GIVEN",
        MemoryOptions.builder()
            .stores(_ -> {
              throw new AssertionError();
            })
            .tier(Tier.MAPPED)
            .build());
  }

  /** The same shape, and other weights: nothing but the rows can tell. */
  @Test
  void rowsOfOtherWeightsAreRefused(@TempDir Path directory) throws IOException {
    Path copy = directory.resolve("checkpoint");
    Files.createDirectories(copy);
    try (Stream<Path> files = Files.list(Golden.path("v41_mini"))) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(file.getFileName().toString()));
      }
    }
    Path packed = copy.resolve(PackedTable.DIRECTORY);
    Files.createDirectories(packed);
    try (Checkpoint checkpoint = Checkpoint.open(copy)) {
      PackedConverter.of(checkpoint, 1).convert(packed.resolve(PackedTable.fileName(1)));
      MemoryOptions given =
          MemoryOptions.builder()
              .stores(expected -> {
                RamRowStore other =
                    RamRowStore.copyOf(checkpoint.table(expected.layer()).store(), 1, rows -> {});
                byte[] wrong = new byte[other.rowBytes()];
                for (long row = 0; row < other.rowCount(); row++) {
                  other.write(row, 1, MemorySegment.ofArray(wrong), 0);
                }
                return other;
              })
              .build();
      assertRefused("it holds other weights", given);
    }
    EngramMemory.open(copy).close();
    // The values of layer 1, in place, as if the checkpoint had been trained on.
    String file;
    long from;
    long bytes;
    try (Checkpoint checkpoint = Checkpoint.open(copy)) {
      FileRegion values = checkpoint.rowParts(1).getFirst().values();
      file = values.file().toString();
      from = values.offset();
      bytes = values.bytes().byteSize();
    }
    byte[] all = Files.readAllBytes(Path.of(file));
    for (long i = from; i < from + bytes; i++) {
      all[(int) i] ^= 0x11;
    }
    Files.delete(Path.of(file));
    Files.write(Path.of(file), all);
    String message =
        assertThrows(EngramFormatException.class, () -> EngramMemory.open(copy).close())
            .getMessage();
    assertTrue(message.contains("packed from other weights"), message);
  }

  @Test
  void aMemoryThatCannotBeOpenedLeavesNoFilesOpen() throws IOException {
    MemoryOptions tooSmall = MemoryOptions.builder().tier(Tier.DIRECT).cache(512).build();
    long before = openFiles();
    for (int i = 0; i < 20; i++) {
      assertThrows(
          IllegalArgumentException.class,
          () -> EngramMemory.open(Golden.path("v41_mini"), tooSmall).close());
    }
    assertTrue(openFiles() < before + 10, before + " files, then " + openFiles());
  }

  private static long openFiles() throws IOException {
    Path all = Path.of("/proc/self/fd");
    assumeTrue(Files.isDirectory(all), "open files cannot be counted on this system");
    try (Stream<Path> files = Files.list(all)) {
      return files.count();
    }
  }
}
