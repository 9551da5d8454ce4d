// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.checkpoint.Checkpoint;
import io.engram.checkpoint.Safetensors;
import io.engram.checkpoint.TensorInfo;
import io.engram.hash.HashLayout;
import io.engram.shard.ShardLayout;
import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowDigest;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.TreeSet;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class PackedConverterTest {
  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  private static final class Heard implements ConversionListener {
    private final List<String> notices = new ArrayList<>();
    private long converted = -1;
    private long verified = -1;

    @Override
    public void converted(long rows, long of) {
      assertTrue(rows >= converted && rows <= of);
      converted = rows;
    }

    @Override
    public void verified(long rows, long of) {
      assertTrue(rows > verified && rows <= of);
      verified = rows;
    }

    @Override
    public void notice(String text) {
      notices.add(text);
    }
  }

  private static final class Enough extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  /** Stops a conversion from the inside after some rows. */
  private static ConversionListener stopAfter(long rows) {
    return new ConversionListener() {
      @Override
      public void converted(long done, long of) {
        if (done >= rows) {
          throw new Enough();
        }
      }
    };
  }

  private void assertOnly(String... names) throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      assertEquals(
          new TreeSet<>(List.of(names)),
          new TreeSet<>(files.map(f -> f.getFileName().toString()).toList()));
    }
  }

  private List<Path> paths(int layer, int shards) {
    return IntStream.range(0, shards)
        .mapToObj(s -> directory.resolve(PackedTable.fileName(layer, s, shards)))
        .toList();
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void goldenCheckpointsComeBackByteForByte(String name) {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path(name))) {
      List<PackedTable> tables = new ArrayList<>();
      List<String> names = new ArrayList<>();
      for (int layer : checkpoint.config().layerIds()) {
        HashLayout layout = checkpoint.layout(layer);
        Path whole = directory.resolve(PackedTable.fileName(layer));
        Conversion done = PackedConverter.of(checkpoint, layer).convert(whole);
        assertEquals(layout.rowCount(), done.rowsNow());
        List<Path> files = paths(layer, 3);
        Conversion divided =
            PackedConverter.of(checkpoint, layer)
                .shards(ShardLayout.stridedHeads(layout, 3))
                .convert(files);
        assertEquals(done.identity(), divided.identity());
        assertEquals(
            done.identity().contentDigest().orElseThrow(),
            PackedConverter.of(checkpoint, layer).contentDigest(_ -> {}));
        PackedTable one = PackedTable.open(whole, arena);
        PackedTable three = PackedTable.open(files, arena);
        assertTrue(three.verify(2, _ -> {}).holds());
        try (EngramTable original = checkpoint.table(layer);
            EngramTable packed = one.table();
            EngramTable shards = three.table()) {
          TableIdentity identity = TableIdentity.of(layout, original);
          one.require(identity);
          three.require(identity);
          assertEquals(OptionalLong.empty(), one.firstDifference(original.store(), 5000, 1));
          long[] ids = new long[(int) original.rowCount()];
          Arrays.setAll(ids, i -> i);
          float[] expected = original.gather(ids);
          assertArrayEquals(expected, packed.gather(ids));
          assertArrayEquals(expected, shards.gather(ids));
        }
        tables.add(tables.isEmpty() ? one : three);
        checkpoint.tableTensors(layer).forEach(names::addAll);
      }
      Path back = directory.resolve("back.safetensors");
      PackedTable.writeSafetensors(tables, back);
      Safetensors again = Safetensors.open(back, arena);
      assertEquals(names.size(), again.tensors().size());
      for (String tensor : names) {
        TensorInfo expected = checkpoint.tensors().info(tensor);
        TensorInfo found = again.info(tensor);
        assertEquals(expected.dtype(), found.dtype());
        assertEquals(expected.shape(), found.shape());
        assertEquals(
            -1,
            checkpoint.tensors().region(tensor).bytes().mismatch(again.region(tensor).bytes()),
            tensor);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = RowFormat.class,
      names = {"FP8_TENSOR"},
      mode = EnumSource.Mode.EXCLUDE)
  void rowsAreWholeWhateverTheFormat(RowFormat format) throws IOException {
    RandomGenerator random = Seeds.random("PackedConverterTest.rowsAreWhole");
    SyntheticTable table =
        SyntheticTable.write(
            directory.resolve("source"),
            format,
            format == RowFormat.FP8_BLOCK32 ? 33 : 5,
            RowDigest.BLOCK_ROWS + 1 + random.nextInt(70_000),
            random.nextLong());
    Path file = directory.resolve("t.rows");
    Heard heard = new Heard();
    Conversion done = table.converter(arena).threads(3).listener(heard).convert(file);
    assertEquals(table.identity().rowCount(), heard.converted);
    assertEquals(table.identity().rowCount(), heard.verified);
    assertEquals(Files.size(file), done.bytes());
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
    assertOnly("source", "t.rows");
  }

  @Test
  void shardsOfAnyBlocksHoldTheTable() throws IOException {
    RandomGenerator random = Seeds.random("PackedConverterTest.shardsOfAnyBlocks");
    int rows = 3 * RowDigest.BLOCK_ROWS + 4321;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 3, rows, 9);
    String digest = table.converter(arena).contentDigest(_ -> {});
    for (int round = 0; round < 4; round++) {
      int shards = 1 + random.nextInt(5);
      ShardLayout layout = ShardLayout.rowWise(rows, shards, 1L << random.nextInt(5, 15));
      List<Path> files = paths(7, shards);
      Conversion done =
          table.converter(arena).shards(layout).threads(2).replace(true).convert(files);
      assertEquals(Optional.of(digest), done.identity().contentDigest());
      assertEquals(files, PackedTable.find(directory, 7));
      PackedTable packed = PackedTable.open(files.reversed(), arena);
      assertTrue(packed.verify(2, _ -> {}).holds());
      assertArrayEquals(table.rows(), SyntheticTable.rows(packed));
      PackedFile last = PackedFile.open(files.getLast(), arena);
      assertEquals(layout.rows(shards - 1), last.rowCount());
      assertEquals(layout.ranges(shards - 1), last.ranges().size());
      assertEquals(layout.rangeFirst(shards - 1, 0), last.ranges().getFirst().first());
      assertTrue(last.verify(1, _ -> {}).holds());
      for (Path file : files) {
        Files.delete(file);
      }
    }
  }

  @Test
  void shardsMustBeAllOfOneTable() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F32, 2, 1000, 1);
    ShardLayout halves = ShardLayout.rowWise(1000, 2, 64);
    List<Path> files = paths(7, 2);
    table.converter(arena).shards(halves).convert(files);
    assertRefused("is shard 1 of 2, expected shard 0 of the 1 files", files.get(1));
    assertRefused("expected shard 1", files.get(0), files.get(0));
    List<Path> other = List.of(directory.resolve("o0"), directory.resolve("o1"));
    table.converter(arena).shards(ShardLayout.rowWise(1000, 2, 32)).convert(other);
    assertRefused("is divided as", files.get(0), other.get(1));
    Path moved = Files.move(files.get(1), directory.resolve("away"));
    assertTrue(
        assertThrows(EngramFormatException.class, () -> PackedTable.find(directory, 7))
            .getMessage()
            .contains("shard 1 of 2 is missing"));
    // The other half of a table that was trained on: all is equal but the contents.
    SyntheticTable trainedOn =
        SyntheticTable.write(directory.resolve("source2"), RowFormat.F32, 2, 1000, 2);
    Files.move(files.get(0), directory.resolve("kept"));
    trainedOn.converter(arena).shards(halves).convert(files);
    assertRefused("digest of the rows", directory.resolve("kept"), files.get(1));
    PackedTable.open(List.of(directory.resolve("kept"), moved), arena);
    PackedConverter converter = table.converter(arena);
    assertThrows(
        IllegalArgumentException.class, () -> converter.shards(ShardLayout.rowWise(999, 2)));
    assertThrows(IllegalArgumentException.class, () -> table.converter(arena).convert(files));
  }

  private void assertRefused(String expected, Path... files) {
    String message =
        assertThrows(EngramFormatException.class, () -> PackedTable.open(List.of(files), arena))
            .getMessage();
    assertTrue(message.contains(expected), message);
  }

  @Test
  void aWrongTableUnderARightNameIsRefused() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F32, 2, 1000, 1);
    Path file = directory.resolve(PackedTable.fileName(7));
    String digest = table.converter(arena).convert(file).identity().contentDigest().orElseThrow();
    PackedTable packed = PackedTable.open(file, arena);
    TableIdentity right = table.identity();
    packed.require(right);
    packed.require(right.withContent(digest));
    for (TableIdentity wrong :
        List.of(
            new TableIdentity(8, RowFormat.F32, 2, 1000, SyntheticTable.LAYOUT, Optional.empty()),
            new TableIdentity(7, RowFormat.F16, 4, 1000, SyntheticTable.LAYOUT, Optional.empty()),
            new TableIdentity(7, RowFormat.F32, 1, 1000, SyntheticTable.LAYOUT, Optional.empty()),
            new TableIdentity(7, RowFormat.F32, 2, 999, SyntheticTable.LAYOUT, Optional.empty()),
            new TableIdentity(7, RowFormat.F32, 2, 1000, "f".repeat(64), Optional.empty()),
            right.withContent("f".repeat(64)))) {
      String message =
          assertThrows(EngramFormatException.class, () -> packed.require(wrong)).getMessage();
      assertTrue(message.contains("not the table that is wanted"), message);
    }
    SyntheticTable trainedOn =
        SyntheticTable.write(directory.resolve("source2"), RowFormat.F32, 2, 1000, 2);
    try (RowStore other =
        io.engram.store.MappedRowStore.of("other", 8, 0, trainedOn.parts(arena))) {
      assertTrue(packed.firstDifference(other, 10, 3).isPresent());
    }
    String message =
        assertThrows(EngramFormatException.class, () -> trainedOn.converter(arena).convert(file))
            .getMessage();
    assertTrue(message.contains("differs from the source"), message);
    assertTrue(message.contains("--replace"), message);
    trainedOn.converter(arena).replace(true).convert(file);
    assertArrayEquals(trainedOn.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
    assertOnly("source", "source2", PackedTable.fileName(7));
  }

  @Test
  void whatIsThereAlreadyIsComparedAndKept() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.FP8_BLOCK32, 64, 3000, 1);
    Path file = directory.resolve("t.rows");
    Conversion first = table.converter(arena).convert(file);
    assertFalse(first.alreadyThere());
    Object key = Files.readAttributes(file, "unix:ino").get("ino");
    Conversion second = table.converter(arena).convert(file);
    assertTrue(second.alreadyThere());
    assertEquals(first.identity(), second.identity());
    assertEquals(first.bytes(), second.bytes());
    assertEquals(key, Files.readAttributes(file, "unix:ino").get("ino"));
    assertOnly("source", "t.rows");
  }

  /** Three quarters of a table, then the rest: nothing is converted twice. */
  @Test
  void goesOnWhereItStopped() throws IOException {
    int rows = 8 * RowDigest.BLOCK_ROWS;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    assertThrows(
        Enough.class,
        () ->
            table
                .converter(arena)
                .threads(1)
                .listener(stopAfter(6L * RowDigest.BLOCK_ROWS))
                .convert(file));
    assertOnly("source", "t.rows.partial", "t.rows.journal");
    assertRefused("not finished", directory.resolve("t.rows.partial"));
    Heard heard = new Heard();
    Conversion done = table.converter(arena).listener(heard).convert(file);
    assertEquals(6L * RowDigest.BLOCK_ROWS, done.rowsBefore());
    assertEquals(2L * RowDigest.BLOCK_ROWS, done.rowsNow());
    assertEquals(List.of(), heard.notices);
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
    assertOnly("source", "t.rows");
  }

  @Test
  void anotherSourceStartsOverAndSaysSo() throws IOException {
    int rows = 4 * RowDigest.BLOCK_ROWS;
    Path source = directory.resolve("source");
    SyntheticTable table = SyntheticTable.write(source, RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    assertThrows(
        Enough.class,
        () -> table.converter(arena).threads(1).listener(stopAfter(rows / 2)).convert(file));
    SyntheticTable changed = SyntheticTable.write(source, RowFormat.F16, 2, rows, 2);
    Heard heard = new Heard();
    Conversion done = changed.converter(arena).listener(heard).convert(file);
    assertEquals(0, done.rowsBefore());
    assertTrue(heard.notices.getFirst().contains("starts over"), heard.notices::toString);
    assertArrayEquals(changed.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
  }

  @Test
  void aSourceThatChangesMeanwhileIsNoticed() throws IOException {
    int rows = 3 * RowDigest.BLOCK_ROWS;
    Path source = directory.resolve("source");
    SyntheticTable table = SyntheticTable.write(source, RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    ConversionListener overwriting =
        new ConversionListener() {
          @Override
          public void converted(long done, long of) {
            try (FileChannel channel = FileChannel.open(source, StandardOpenOption.WRITE)) {
              channel.write(ByteBuffer.allocate(1), 5000);
              Files.setLastModifiedTime(
                  source, java.nio.file.attribute.FileTime.fromMillis(1_000_000 + done));
            } catch (IOException e) {
              throw new java.io.UncheckedIOException(e);
            }
          }
        };
    String message =
        assertThrows(
                EngramException.class,
                () -> table.converter(arena).threads(1).listener(overwriting).convert(file))
            .getMessage();
    assertTrue(message.contains("the source changed while it was converted"), message);
    assertTrue(Files.notExists(file));
    table.converter(arena).convert(file);
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
  }

  @Test
  void aSourceThatIsCutOffIsNamed() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(
            directory.resolve("source"), RowFormat.FP8_BLOCK32, 64, 3 * RowDigest.BLOCK_ROWS, 1);
    PackedConverter converter = table.converter(arena);
    try (FileChannel channel = FileChannel.open(table.file(), StandardOpenOption.WRITE)) {
      channel.truncate(channel.size() - 100_000);
    }
    Path file = directory.resolve("t.rows");
    String message =
        assertThrows(EngramFormatException.class, () -> converter.convert(file)).getMessage();
    assertTrue(message.startsWith(table.file() + ": ends at byte"), message);
    assertTrue(Files.notExists(file));
  }

  /** Damage to what is unfinished: by reading back, not by trust in the journal. */
  @Test
  void whatTheJournalBelievesIsReadBack() throws IOException {
    int rows = 4 * RowDigest.BLOCK_ROWS;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    Path partial = directory.resolve("t.rows.partial");
    assertThrows(
        Enough.class,
        () -> table.converter(arena).threads(1).listener(stopAfter(rows / 2)).convert(file));
    try (FileChannel channel = FileChannel.open(partial, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(new byte[] {1, 2, 3, 4, 5, 6, 7, 8}), 4096 + 4 * 70_000);
    }
    String message =
        assertThrows(EngramException.class, () -> table.converter(arena).convert(file))
            .getMessage();
    assertTrue(message.contains("rows 65536 to 131071"), message);
    assertTrue(Files.notExists(file));
    Conversion done = table.converter(arena).convert(file);
    assertEquals(RowDigest.BLOCK_ROWS, done.rowsNow());
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
  }

  @Test
  void unfinishedFilesOfSomethingElseAreNotGoneOnWith() throws IOException {
    int rows = 4 * RowDigest.BLOCK_ROWS;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    Path partial = directory.resolve("t.rows.partial");
    for (int round = 0; round < 4; round++) {
      int how = round;
      assertThrows(
          Enough.class,
          () -> table.converter(arena).threads(1).listener(stopAfter(rows / 2)).convert(file));
      switch (how) {
        case 0 -> Files.delete(partial);
        case 1 -> Files.write(partial, new byte[100]);
        case 2 -> Files.write(partial, new byte[1 << 20]);
        default -> Files.write(directory.resolve("t.rows.journal"), new byte[77]);
      }
      Heard heard = new Heard();
      Conversion done = table.converter(arena).listener(heard).convert(file);
      assertEquals(0, done.rowsBefore());
      assertEquals(how == 3 ? 0 : 1, heard.notices.size(), heard.notices::toString);
      assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
      Files.delete(file);
    }
  }

  /** A journal may end anywhere: in the middle of a record, or with bytes of something else. */
  @Test
  void aJournalMayEndAnywhere() throws IOException {
    RandomGenerator random = Seeds.random("PackedConverterTest.aJournalMayEndAnywhere");
    int rows = 6 * RowDigest.BLOCK_ROWS;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    Path journal = directory.resolve("t.rows.journal");
    for (int round = 0; round < 12; round++) {
      assertThrows(
          Enough.class,
          () ->
              table
                  .converter(arena)
                  .threads(1)
                  .syncEvery(1, 0)
                  .listener(stopAfter(rows * 2L / 3))
                  .convert(file));
      byte[] bytes = Files.readAllBytes(journal);
      byte[] cut = Arrays.copyOf(bytes, bytes.length - random.nextInt(60));
      if (random.nextBoolean()) {
        cut[cut.length - 1 - random.nextInt(60)] ^= 64;
      }
      Files.write(journal, cut);
      table.converter(arena).threads(1).convert(file);
      assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
      Files.delete(file);
    }
  }

  @Test
  void aSecondConversionOfTheSameFileIsRefused() throws IOException {
    int rows = 3 * RowDigest.BLOCK_ROWS;
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 2, rows, 1);
    Path file = directory.resolve("t.rows");
    List<String> refusals = new ArrayList<>();
    ConversionListener intruding =
        new ConversionListener() {
          @Override
          public void converted(long done, long of) {
            refusals.add(
                assertThrows(EngramException.class, () -> table.converter(arena).convert(file))
                    .getMessage());
          }
        };
    table.converter(arena).threads(1).listener(intruding).convert(file);
    assertEquals(4, refusals.size());
    assertTrue(refusals.getLast().contains("another conversion"), refusals::toString);
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, arena)));
    assertOnly("source", "t.rows");
  }

  /** Shards in another order have another journal, and still one file in common. */
  @Test
  void aSecondConversionThatSharesAFileIsRefused() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(directory.resolve("source"), RowFormat.F32, 2, 1000, 1);
    ShardLayout halves = ShardLayout.rowWise(1000, 2, 64);
    List<Path> files = paths(7, 2);
    List<String> refusals = new ArrayList<>();
    ConversionListener intruding =
        new ConversionListener() {
          @Override
          public void converted(long done, long of) {
            refusals.add(
                assertThrows(
                        EngramException.class,
                        () -> table.converter(arena).shards(halves).convert(files.reversed()))
                    .getMessage());
          }
        };
    table.converter(arena).shards(halves).listener(intruding).convert(files);
    assertTrue(refusals.getLast().contains("another conversion"), refusals::toString);
    assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(files, arena)));
  }

  @Test
  void rowsInMemoryAreConvertedToo() {
    RandomGenerator random = Seeds.random("PackedConverterTest.rowsInMemory");
    int rows = RowDigest.BLOCK_ROWS + 99;
    TableIdentity identity =
        new TableIdentity(
            3, RowFormat.FP8_TENSOR, 16, rows, SyntheticTable.LAYOUT, Optional.empty());
    try (RamRowStore store = RamRowStore.create("ram", rows, 16)) {
      byte[] bytes = new byte[16];
      for (int i = 0; i < rows; i++) {
        random.nextBytes(bytes);
        store.write(i, 1, MemorySegment.ofArray(bytes), 0);
      }
      Path file = directory.resolve("t.rows");
      PackedConverter.of(identity, Optional.of(0.5f), store, "memory").convert(file);
      PackedTable packed = PackedTable.open(file, arena);
      assertEquals(OptionalLong.empty(), packed.firstDifference(store, 20_000, 4));
      assertEquals(Optional.of(0.5f), packed.files().getFirst().tableScale());
      long[] ids = {0, 5, rows - 1};
      assertArrayEquals(
          EngramTable.ofScaledFp8(store, 16, 0.5f).gather(ids), packed.table().gather(ids));
      String message =
          assertThrows(
                  EngramFormatException.class,
                  () ->
                      PackedTable.writeSafetensors(
                          List.of(packed), directory.resolve("back.safetensors")))
              .getMessage();
      assertTrue(message.contains("does not say what the tensors"), message);
      assertThrows(
          IllegalArgumentException.class,
          () -> PackedConverter.of(identity, Optional.empty(), store, "memory"));
    }
  }

  @Test
  void tooLittleSpaceIsSaidBeforehand() throws IOException {
    Path source = directory.resolve("sparse");
    long rows = 1L << 40;
    SyntheticTable table =
        new SyntheticTable(
            new TableIdentity(7, RowFormat.F32, 1, rows, SyntheticTable.LAYOUT, Optional.empty()),
            source,
            0);
    try (FileChannel channel =
        FileChannel.open(source, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.allocate(1), 4 * rows + 10_000);
    }
    String message =
        assertThrows(
                EngramException.class,
                () -> table.converter(arena).convert(directory.resolve("t.rows")))
            .getMessage();
    assertTrue(message.contains("needs 4,398,"), message);
    assertTrue(message.contains("are free"), message);
    assertTrue(Files.notExists(directory.resolve("t.rows.journal")));
  }

  /** A real full disk: a small file system in memory, filled up by somebody else meanwhile. */
  @Test
  void aDiskThatBecomesFullCanBeGoneOnWith() throws Exception {
    Path disk = Files.createDirectory(directory.resolve("disk"));
    assumeTrue(
        run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk.toString()) == 0,
        "skipped: mounting a tmpfs takes root");
    try {
      int rows = 8 * RowDigest.BLOCK_ROWS;
      SyntheticTable table =
          SyntheticTable.write(directory.resolve("source"), RowFormat.F16, 3, rows, 1);
      Path file = disk.resolve("t.rows");
      Path filler = Files.write(disk.resolve("filler"), new byte[1 << 20]);
      String beforehand =
          assertThrows(EngramException.class, () -> table.converter(arena).convert(file))
              .getMessage();
      assertTrue(beforehand.contains("needs 3,149,"), beforehand);
      assertEquals(1, disk.toFile().list().length, "something was left behind");
      String message =
          assertThrows(
                  EngramException.class,
                  () ->
                      table
                          .converter(arena)
                          .threads(1)
                          .syncEvery(1 << 19, 0)
                          .withoutCheckOfSpace()
                          .convert(file))
              .getMessage();
      assertTrue(message.contains("the disk is full"), message);
      assertTrue(Files.notExists(file));
      Files.delete(filler);
      Conversion done = table.converter(arena).convert(file);
      assertTrue(done.rowsBefore() > 0, "started over");
      assertFalse(done.fromDisk() && done.rowsNow() == 0);
      try (Arena own = Arena.ofShared()) {
        assertArrayEquals(table.rows(), SyntheticTable.rows(PackedTable.open(file, own)));
      }
    } finally {
      assertEquals(0, run("umount", disk.toString()));
    }
  }

  private static int run(String... command) throws IOException, InterruptedException {
    try {
      return new ProcessBuilder(command).redirectErrorStream(true).start().waitFor();
    } catch (IOException e) {
      return -1;
    }
  }

  @Test
  void directoriesAreSearchedForAllShards() throws IOException {
    assertEquals(List.of(), PackedTable.find(directory, 1));
    assertEquals(List.of(), PackedTable.find(directory.resolve("absent"), 1));
    Path a = Files.createDirectory(directory.resolve("a"));
    Path b = Files.createDirectory(directory.resolve("b"));
    Files.createFile(a.resolve("layer-1-shard-0-of-2.rows"));
    Files.createFile(b.resolve("layer-1-shard-1-of-2.rows"));
    Files.createFile(b.resolve("layer-14.rows"));
    Files.createFile(b.resolve("layer-14.rows.partial"));
    Files.createFile(b.resolve("other.rows"));
    List<Path> both = List.of(a, b);
    assertEquals(
        List.of(a.resolve("layer-1-shard-0-of-2.rows"), b.resolve("layer-1-shard-1-of-2.rows")),
        PackedTable.find(both, 1));
    assertEquals(List.of(b.resolve("layer-14.rows")), PackedTable.find(both, 14));
    Files.createFile(a.resolve("layer-14.rows"));
    assertThrows(EngramFormatException.class, () -> PackedTable.find(both, 14));
    Files.delete(a.resolve("layer-14.rows"));
    Files.createFile(a.resolve("layer-1.rows"));
    assertThrows(EngramFormatException.class, () -> PackedTable.find(both, 1));
  }
}
