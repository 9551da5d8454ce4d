// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class MappedRowStoreTest {
  private static final int VALUES = 256;
  private static final int SCALES = 8;
  private static final int ROW = VALUES + SCALES;

  /** Enough for several pages of scales. */
  private static final int ROWS = 2000;

  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  static FileRegion map(Path file, long offset, long bytes, Arena arena) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      return new FileRegion(file, offset, all.asSlice(offset, bytes));
    }
  }

  /**
   * Writes rows as a run of values and a run of scales, each after some bytes of something else.
   */
  static RowPart part(
      Path file, byte[][] rows, int valueBytes, int scaleBytes, int before, Arena arena)
      throws IOException {
    byte[] bytes = new byte[2 * before + rows.length * (valueBytes + scaleBytes)];
    int scalesAt = 2 * before + rows.length * valueBytes;
    for (int i = 0; i < rows.length; i++) {
      System.arraycopy(rows[i], 0, bytes, before + i * valueBytes, valueBytes);
      System.arraycopy(rows[i], valueBytes, bytes, scalesAt + i * scaleBytes, scaleBytes);
    }
    Files.write(file, bytes);
    FileRegion values = map(file, before, (long) rows.length * valueBytes, arena);
    return new RowPart(
        values,
        scaleBytes == 0
            ? Optional.empty()
            : Optional.of(map(file, scalesAt, (long) rows.length * scaleBytes, arena)));
  }

  abstract static class InParts extends RowStoreContract {
    @TempDir Path directory;

    private final Arena arena = Arena.ofShared();
    private final Optional<NativeMemory> os;
    private final int parts;
    private int files;

    InParts(Optional<NativeMemory> os, int parts) {
      this.os = os;
      this.parts = parts;
    }

    @AfterEach
    void unmap() {
      arena.close();
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      List<RowPart> list = new ArrayList<>();
      for (int i = 0; i < parts; i++) {
        int from = i * rows.length / parts;
        int to = (i + 1) * rows.length / parts;
        list.add(
            part(
                directory.resolve(files++ + ".bin"),
                Arrays.copyOfRange(rows, from, to),
                rowBytes - scaleBytes,
                scaleBytes,
                13,
                arena));
      }
      return MappedRowStore.of(name, rowBytes - scaleBytes, scaleBytes, list, os);
    }
  }

  @Nested
  class OnePart extends InParts {
    OnePart() {
      super(NativeMemory.get(), 1);
    }
  }

  /** Parts of unequal sizes; of tables with fewer rows some are empty. */
  @Nested
  class ManyParts extends InParts {
    ManyParts() {
      super(NativeMemory.get(), 23);
    }
  }

  /** Where there is no native access, and so no page size. */
  @Nested
  class WithoutSystemCalls extends InParts {
    WithoutSystemCalls() {
      super(Optional.empty(), 2);
    }
  }

  static void truncate(Path file, long size) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.truncate(size);
    }
  }

  /** Rows without a zero byte, so that no zero can be mistaken for one of them. */
  private static byte[][] rows(String test, int count) {
    RandomGenerator random = Seeds.random("MappedRowStoreTest." + test);
    byte[][] rows = new byte[count][ROW];
    for (byte[] row : rows) {
      for (int i = 0; i < ROW; i++) {
        row[i] = (byte) (1 + random.nextInt(255));
      }
    }
    return rows;
  }

  private MappedRowStore store(Path file, byte[][] rows) throws IOException {
    return MappedRowStore.of(
        "table", VALUES, SCALES, List.of(part(file, rows, VALUES, SCALES, 24, arena)));
  }

  /**
   * Wherever the file is cut, each row is either right or refused, in the call that reads it. The
   * first calls are interpreted, the later ones compiled.
   */
  @Test
  void aTruncatedFileNeverYieldsWrongRows() throws IOException {
    byte[][] rows = rows("aTruncatedFile", ROWS);
    RandomGenerator random = Seeds.random("MappedRowStoreTest.aTruncatedFile.cuts");
    Path file = directory.resolve("t.bin");
    long size = 48L + ROWS * ROW;
    long[] id = new long[1];
    byte[] out = new byte[ROW];
    MemorySegment segment = MemorySegment.ofArray(out);
    int refused = 0;
    int right = 0;
    for (int round = 0; round < 24; round++) {
      // A cut is harder to notice where the last byte was zero anyway.
      rows[ROWS - 1][VALUES - 1] = (byte) (round % 2);
      rows[ROWS - 1][ROW - 1] = (byte) (round % 2);
      MappedRowStore store = store(file, rows);
      for (int i = 0; i < 3000; i++) {
        id[0] = random.nextInt(ROWS);
        store.read(id, 0, 1, segment, 0);
        assertArrayEquals(rows[(int) id[0]], out);
      }
      long cut =
          switch (round / 2) {
            case 0 -> 0;
            case 1 -> size - 300;
            case 2 -> size - ROWS * SCALES;
            case 3 -> 24 + ROWS * VALUES - 1;
            default -> random.nextLong(size);
          };
      truncate(file, cut);
      for (int i = 0; i < ROWS; i++) {
        id[0] = i;
        Arrays.fill(out, (byte) 0);
        try {
          store.read(id, 0, 1, segment, 0);
          assertArrayEquals(rows[i], out, "cut at " + cut + ", row " + i);
          right++;
        } catch (EngramException e) {
          assertTrue(e.getMessage().contains("t.bin"), e::getMessage);
          refused++;
        }
      }
    }
    assertTrue(refused > 10_000 && right >= ROWS, refused + " refused, " + right + " right");
  }

  @Test
  void aPartWhoseFileIsWholeCanStillBeRead() throws IOException {
    byte[][] rows = rows("aPartWhoseFileIsWhole", 3000);
    List<RowPart> parts = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      byte[][] some = Arrays.copyOfRange(rows, 1000 * i, 1000 * (i + 1));
      parts.add(part(directory.resolve(i + ".bin"), some, VALUES, SCALES, 24, arena));
    }
    MappedRowStore store = MappedRowStore.of("table", VALUES, SCALES, parts);
    truncate(directory.resolve("1.bin"), 200_000);
    for (int i = 0; i < 3000; i++) {
      long row = i;
      if (i / 1000 == 1) {
        String message =
            assertThrows(
                    EngramException.class,
                    () -> RowStoreContract.read(store, row),
                    () -> "row " + row)
                .getMessage();
        assertTrue(message.contains("1.bin"), message);
      } else {
        assertArrayEquals(rows[i], RowStoreContract.read(store, i));
      }
    }
    for (long[] ids : new long[][] {{5, 1005}, {1005, 5}, {5, 1005, 6}, {5, 1005, 2005, 6}}) {
      assertThrows(EngramException.class, () -> RowStoreContract.read(store, ids));
    }
  }

  @Test
  void saysWhichRowOfWhichFileIsGone() throws IOException {
    byte[][] rows = rows("saysWhichRow", 600);
    Path file = directory.resolve("t.bin");
    MappedRowStore store = store(file, rows);
    truncate(file, 24 + 100 * VALUES);
    String message =
        assertThrows(EngramException.class, () -> RowStoreContract.read(store, 3, 250, 7))
            .getMessage();
    assertTrue(message.startsWith(file.toString()), message);
    assertTrue(message.contains("row 3 of table"), message);
    assertTrue(message.contains("it has " + (24 + 100 * VALUES) + " now"), message);
  }

  /** A wrong id after a row that has failed: nothing of the fault is left to hit the caller. */
  @Test
  void aFaultDoesNotOutliveItsRead() throws IOException {
    byte[][] rows = rows("aFaultDoesNotOutlive", 600);
    Path file = directory.resolve("t.bin");
    MappedRowStore store = store(file, rows);
    for (int i = 0; i < 20_000; i++) {
      assertThrows(IndexOutOfBoundsException.class, () -> RowStoreContract.read(store, 3, 600));
      RowStoreContract.read(store, 3, 4);
    }
    truncate(file, 100);
    for (int i = 0; i < 1000; i++) {
      assertThrows(EngramException.class, () -> RowStoreContract.read(store, 3, 600));
      MappedFaults.raisePending();
    }
  }

  @Test
  void aFileThatWasShorterForATimeIsNoticed() throws IOException {
    byte[][] rows = rows("aFileThatWasShorter", 600);
    Path file = directory.resolve("t.bin");
    MappedRowStore store = store(file, rows);
    long size = Files.size(file);
    truncate(file, 100);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(new byte[1]), size - 1);
    }
    String message =
        assertThrows(EngramException.class, () -> RowStoreContract.read(store, 250)).getMessage();
    assertTrue(message.contains("the file has changed"), message);
  }

  @Test
  void aReplacedFileStaysWhatItWas() throws IOException {
    byte[][] rows = rows("aReplacedFile", 600);
    Path file = directory.resolve("t.bin");
    MappedRowStore store = store(file, rows);
    Path other = Files.write(directory.resolve("other"), new byte[10]);
    Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
    for (int i = 0; i < 600; i++) {
      assertArrayEquals(rows[i], RowStoreContract.read(store, i));
    }
    Files.delete(file);
    assertArrayEquals(rows[599], RowStoreContract.read(store, 599));
  }

  @Test
  void aShortFileIsRefusedWhenItIsOpened() throws IOException {
    byte[][] rows = rows("aShortFile", 600);
    Path file = directory.resolve("t.bin");
    RowPart part = part(file, rows, VALUES, SCALES, 24, arena);
    for (long size : new long[] {Files.size(file) - 1, 24 + 600 * VALUES - 1, 0}) {
      truncate(file, size);
      assertThrows(
          EngramException.class, () -> MappedRowStore.of("table", VALUES, SCALES, List.of(part)));
    }
  }

  @Test
  void aClosedMappingEndsReading() throws IOException {
    Arena own = Arena.ofShared();
    byte[][] rows = rows("aClosedMapping", 600);
    MappedRowStore store =
        MappedRowStore.of(
            "table",
            VALUES,
            SCALES,
            List.of(part(directory.resolve("t.bin"), rows, VALUES, SCALES, 24, own)));
    own.close();
    for (long row : new long[] {5, 599}) {
      String message =
          assertThrows(IllegalStateException.class, () -> RowStoreContract.read(store, row))
              .getMessage();
      assertTrue(message.contains("table: the row store is closed"), message);
    }
  }

  /** Row ids and offsets beyond 32 bits, in a file of which a few pages exist. */
  @Test
  void readsMoreThanTwoToThe31Rows() throws IOException {
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
    RowPart part = new RowPart(map(file, 7, count, arena), Optional.empty());
    MappedRowStore store = MappedRowStore.of("wide", 1, 0, List.of(part, part));
    assertEquals(2 * count, store.rowCount());
    assertArrayEquals(expected, RowStoreContract.read(store, ids));
    long[] second = Arrays.stream(ids).map(id -> id + count).toArray();
    assertArrayEquals(expected, RowStoreContract.read(store, second));
    assertArrayEquals(new byte[1], RowStoreContract.read(store, (1L << 31) | 7));
    assertThrows(IndexOutOfBoundsException.class, () -> RowStoreContract.read(store, 2 * count));
    Files.delete(file);
  }

  @Test
  void partsMustFitTogether() throws IOException {
    byte[][] rows = rows("partsMustFit", 10);
    RowPart part = part(directory.resolve("t.bin"), rows, VALUES, SCALES, 24, arena);
    FileRegion values = part.values();
    FileRegion scales = part.scales().orElseThrow();
    FileRegion fewer =
        new FileRegion(scales.file(), scales.offset(), scales.bytes().asSlice(0, 9 * SCALES));
    FileRegion broken =
        new FileRegion(values.file(), values.offset(), values.bytes().asSlice(0, 1000));
    record Case(String expected, int valueBytes, int scaleBytes, List<RowPart> parts) {}
    for (Case wrong :
        List.of(
            new Case(
                "has no scales",
                VALUES,
                SCALES,
                List.of(part, new RowPart(values, Optional.empty()))),
            new Case("has scales, but the format has none", VALUES, 0, List.of(part)),
            new Case(
                "scales of 9 rows",
                VALUES,
                SCALES,
                List.of(new RowPart(values, Optional.of(fewer)))),
            new Case(
                "no whole rows", VALUES, SCALES, List.of(new RowPart(broken, Optional.of(scales)))),
            new Case("no whole rows", VALUES - 1, SCALES, List.of(part)),
            new Case("0 rows", VALUES, SCALES, List.of()),
            new Case("-1 scale bytes", VALUES, -1, List.of(part)),
            new Case("0 value bytes", 0, SCALES, List.of(part)))) {
      String message =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> MappedRowStore.of("table", wrong.valueBytes, wrong.scaleBytes, wrong.parts))
              .getMessage();
      assertTrue(message.contains(wrong.expected), () -> wrong + ": " + message);
    }
    assertThrows(
        IllegalArgumentException.class, () -> new FileRegion(values.file(), -1, values.bytes()));
  }

  /** Without the advice the system reads ahead hundreds of times what is asked for. */
  @Test
  @EnabledOnOs(OS.LINUX)
  void theSystemIsToldNotToReadAhead() throws IOException {
    Path file = directory.resolve("advised.bin");
    byte[][] rows = rows("theSystemIsTold", 600);
    RowPart part = part(file, rows, VALUES, SCALES, 24, arena);
    assertEquals(List.of(), flagsOf(file, " rr "));
    MappedRowStore.of("table", VALUES, SCALES, List.of(part));
    assertEquals(2, flagsOf(file, " rr ").size(), "mappings with the flag of MADV_RANDOM");
  }

  private static List<String> flagsOf(Path file, String flag) throws IOException {
    List<String> found = new ArrayList<>();
    boolean ours = false;
    for (String line : Files.readAllLines(Path.of("/proc/self/smaps"))) {
      if (line.contains(" r--s ") || line.contains(" r--p ") || line.contains(" rw-p ")) {
        ours = line.endsWith(file.getFileName().toString());
      } else if (ours && line.startsWith("VmFlags:") && (line + " ").contains(flag)) {
        found.add(line);
      }
    }
    return found;
  }
}
