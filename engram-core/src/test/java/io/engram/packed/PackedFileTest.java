// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.table.RowDigest;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.zip.CRC32C;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a packed file is refused for, and what damage to it looks like. */
@Tag("once")
class PackedFileTest {
  private static final int HEADER = 4096;

  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  /** Rows of 8 bytes in three blocks. */
  private Path packed() throws IOException {
    SyntheticTable table =
        SyntheticTable.write(
            directory.resolve("source"), RowFormat.BF16, 4, 2 * RowDigest.BLOCK_ROWS + 777, 5);
    Path file = directory.resolve(PackedTable.fileName(7));
    table.converter(arena).convert(file);
    return file;
  }

  private static void write(Path file, long at, byte... bytes) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(bytes), at);
    }
  }

  private String refused(Path file) {
    return assertThrows(EngramFormatException.class, () -> PackedTable.open(file, arena))
        .getMessage();
  }

  @Test
  void everyByteOfTheHeaderCounts() throws IOException {
    Path file = packed();
    byte[] header = Arrays.copyOf(Files.readAllBytes(file), HEADER);
    RandomGenerator random = Seeds.random("PackedFileTest.everyByte");
    for (int i = 0; i < HEADER; i++) {
      write(file, i, (byte) (header[i] ^ (1 << random.nextInt(8))));
      String message = refused(file);
      assertTrue(message.startsWith(file.toString()), message);
      write(file, i, header[i]);
    }
    PackedTable.open(file, arena);
  }

  /** The layout as it is documented, read without this package's help. */
  @Test
  void theLayoutIsTheDocumentedOne() throws IOException {
    Path file = packed();
    ByteBuffer in = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    byte[] magic = new byte[8];
    in.get(magic);
    assertArrayEquals(new byte[] {(byte) 0x89, 'E', 'N', 'G', 'R', 'W', '\r', '\n'}, magic);
    assertEquals(1, in.getInt(8));
    assertEquals(HEADER, in.getInt(12));
    assertEquals(7, in.getInt(16));
    assertEquals(2, in.getInt(20));
    assertEquals(4, in.getInt(24));
    assertEquals(8, in.getInt(28));
    long rows = 2 * RowDigest.BLOCK_ROWS + 777;
    assertEquals(rows, in.getLong(32));
    assertEquals(rows, in.getLong(40));
    assertEquals(RowDigest.BLOCK_ROWS, in.getInt(48));
    assertEquals(0, in.getInt(52));
    assertEquals(0, in.getInt(56));
    assertEquals(1, in.getInt(60));
    assertEquals(0, in.getInt(64));
    assertEquals(0, in.getInt(68));
    assertEquals(0x01, in.get(72));
    int description = in.getInt(168);
    assertEquals(0, in.getInt(172 + description));
    CRC32C crc = new CRC32C();
    crc.update(in.array(), 0, HEADER - 4);
    assertEquals((int) crc.getValue(), in.getInt(HEADER - 4));
    int trailer = HEADER + 8 * (int) rows;
    assertEquals(trailer + 12, in.capacity());
    for (int block = 0; block < 3; block++) {
      crc.reset();
      int from = HEADER + block * 8 * RowDigest.BLOCK_ROWS;
      crc.update(in.array(), from, Math.min(8 * RowDigest.BLOCK_ROWS, trailer - from));
      assertEquals((int) crc.getValue(), in.getInt(trailer + 4 * block));
    }
  }

  /** Headers with a right checksum that say what cannot be. */
  @Test
  void whatAHeaderSaysIsChecked() throws IOException {
    Path file = packed();
    byte[] whole = Files.readAllBytes(file);
    byte[] header = Arrays.copyOf(whole, HEADER);
    RandomGenerator random = Seeds.random("PackedFileTest.whatAHeaderSays");
    int opened = 0;
    for (int round = 0; round < 3000; round++) {
      byte[] wrong = header.clone();
      ByteBuffer out = ByteBuffer.wrap(wrong).order(ByteOrder.LITTLE_ENDIAN);
      int at = 12 + 4 * random.nextInt(60);
      out.putInt(
          at,
          switch (random.nextInt(5)) {
            case 0 -> random.nextInt();
            case 1 -> -1;
            case 2 -> Integer.MAX_VALUE;
            case 3 -> 0;
            default -> out.getInt(at) + 1;
          });
      CRC32C crc = new CRC32C();
      crc.update(wrong, 0, HEADER - 4);
      out.putInt(HEADER - 4, (int) crc.getValue());
      write(file, 0, wrong);
      try {
        PackedTable.open(file, arena);
        opened++;
      } catch (EngramFormatException e) {
        assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
      }
    }
    // The layer, the layout digest and the description may be anything.
    assertTrue(opened < 1500, opened + " of 3000 opened");
    write(file, 0, header);
    PackedTable.open(file, arena);
    for (int at : new int[] {24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 104, 136}) {
      byte[] wrong = header.clone();
      wrong[at]++;
      CRC32C crc = new CRC32C();
      crc.update(wrong, 0, HEADER - 4);
      ByteBuffer.wrap(wrong)
          .order(ByteOrder.LITTLE_ENDIAN)
          .putInt(HEADER - 4, (int) crc.getValue());
      write(file, 0, wrong);
      refused(file);
    }
  }

  @Test
  void anotherSizeIsRefused() throws IOException {
    Path file = packed();
    byte[] whole = Files.readAllBytes(file);
    for (int size : new int[] {0, 1, 4095, 4096, 5000, whole.length - 4, whole.length - 1}) {
      Files.write(file, Arrays.copyOf(whole, size));
      refused(file);
    }
    Files.write(file, Arrays.copyOf(whole, whole.length - 1));
    assertTrue(refused(file).contains("cut off"), refused(file));
    Files.write(file, Arrays.copyOf(whole, whole.length + 1));
    assertTrue(refused(file).contains("too long"), refused(file));
    Files.write(file, new byte[10_000]);
    assertTrue(refused(file).contains("no packed row file"), refused(file));
    assertTrue(refused(directory).contains("is not a regular file"));
    assertTrue(refused(directory.resolve("absent")).contains("no such file"));
  }

  @Test
  void anotherVersionIsNamed() throws IOException {
    Path file = packed();
    write(file, 8, (byte) 2);
    assertTrue(refused(file).contains("version 2, read here is 1"), refused(file));
  }

  @Test
  void damagedChecksumsAreNoticedAtOpening() throws IOException {
    Path file = packed();
    long size = Files.size(file);
    byte[] last = Arrays.copyOfRange(Files.readAllBytes(file), (int) size - 12, (int) size);
    for (int i = 0; i < 12; i++) {
      write(file, size - 12 + i, (byte) (last[i] ^ 4));
      assertTrue(refused(file).contains("checksums of the rows are damaged"), refused(file));
      write(file, size - 12 + i, last[i]);
    }
    PackedTable.open(file, arena);
  }

  @Test
  void damagedRowsAreFoundAndLocated() throws IOException {
    Path file = packed();
    PackedTable table = PackedTable.open(file, arena);
    assertTrue(table.verify(2, _ -> {}).holds());
    byte[] whole = Files.readAllBytes(file);
    long row = RowDigest.BLOCK_ROWS + 5L;
    long at = HEADER + 8 * row + 3;
    write(file, at, (byte) (whole[(int) at] ^ 1));
    long lastByte = HEADER + 8L * (2 * RowDigest.BLOCK_ROWS + 777) - 1;
    write(file, lastByte, (byte) (whole[(int) lastByte] ^ 0x80));
    long[] rows = {0};
    Verification found = PackedTable.open(file, arena).verify(2, done -> rows[0] = done);
    assertEquals(2 * RowDigest.BLOCK_ROWS + 777, rows[0]);
    assertFalse(found.holds());
    assertEquals(2, found.damage().size());
    Verification.Damage first = found.damage().getFirst();
    assertEquals(1, first.block());
    assertEquals(
        List.of(new RowRange(RowDigest.BLOCK_ROWS, RowDigest.BLOCK_ROWS)), first.tableRows());
    assertTrue(first.toString().contains("rows 65536 to 131071"), first::toString);
    assertEquals(
        List.of(new RowRange(2 * RowDigest.BLOCK_ROWS, 777)), found.damage().get(1).tableRows());
  }

  @Test
  void aFileThatIsCutOffOrReplacedMeanwhileIsNoticed() throws IOException {
    Path file = packed();
    PackedTable table = PackedTable.open(file, arena);
    table.checkUnchanged();
    Path other = Files.copy(file, directory.resolve("other"));
    Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
    assertThrows(EngramFormatException.class, table::checkUnchanged);
    // Whoever has it mapped keeps the old bytes.
    assertEquals(8, table.store().rowBytes());
    PackedTable second = PackedTable.open(file, arena);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.truncate(HEADER + 8 * 1000);
    }
    assertThrows(EngramFormatException.class, second::checkUnchanged);
    assertThrows(EngramException.class, () -> second.verify(1, _ -> {}));
    assertThrows(EngramException.class, second::store);
  }
}
