// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramFormatException;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class TokenMapFileTest {
  private static final TokenMap MAP = TokenMap.of(0, 1, 0, 2, 3, 3, 1);

  @TempDir Path directory;
  private Path file;

  @BeforeEach
  void name() {
    file = directory.resolve("map.bin");
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "a", "ab", "abc", "abcd", "tokenizer.json sha256:c90d", "é 深"})
  void readsWhatItWrote(String provenance) throws IOException {
    TokenMapFile.write(file, MAP, provenance);
    TokenMapFile read = TokenMapFile.read(file);
    assertEquals(new TokenMapFile(file, MAP, provenance), read);
    assertEquals(
        MAP,
        read.requireSizes(7, 4)
            .requireSha256(MAP.sha256OfInt32())
            .requireProvenance(provenance)
            .map());
  }

  /** The bytes of the format, one by one: they may not change without a new version. */
  @Test
  void keepsItsFormat() throws Exception {
    TokenMapFile.write(file, TokenMap.of(0, 1, 0), "ab");
    ByteBuffer expected = ByteBuffer.allocate(24 + 4 + 12 + 32).order(ByteOrder.LITTLE_ENDIAN);
    expected.put(new byte[] {(byte) 0x89, 'E', 'N', 'G', 'T', 'M', 13, 10});
    expected.putInt(1).putInt(3).putInt(2).putInt(2);
    expected.put("ab\0\0".getBytes(UTF_8)).putInt(0).putInt(1).putInt(0);
    expected.put(MessageDigest.getInstance("SHA-256").digest(Arrays.copyOf(expected.array(), 40)));
    assertArrayEquals(expected.array(), Files.readAllBytes(file));
  }

  @Test
  void readsAndWritesTheReleasedRawForm() throws IOException {
    Path golden = Golden.path("demo_mini/token_map.i32le.bin");
    TokenMapFile read = TokenMapFile.readRaw(golden).requireSizes(128_815, 98_627);
    TokenMapFile.writeRaw(file, read.map());
    assertEquals(-1, Files.mismatch(golden, file));
    assertEquals("", read.provenance());
    assertEquals(sha256(Files.readAllBytes(golden)), read.map().sha256OfInt32());
  }

  private static String sha256(byte[] bytes) {
    return HexFormat.of().formatHex(TokenMap.sha256().digest(bytes));
  }

  @Test
  void keepsTheMapOfAFullVocabulary() throws IOException {
    TokenMap map = TokenMapFile.readRaw(Golden.path("demo_mini/token_map.i32le.bin")).map();
    TokenMapFile.write(
        file, map, TokenMapFile.provenanceOf(Golden.path("v41_mini/tokenizer.json")));
    TokenMapFile read = TokenMapFile.read(file);
    assertEquals(map, read.map());
    assertTrue(
        read.provenance().matches("tokenizer\\.json sha256:[0-9a-f]{64}"), read.provenance());
  }

  @Test
  void refusesEveryFlippedBit() throws IOException {
    TokenMapFile.write(file, MAP, "from here");
    byte[] whole = Files.readAllBytes(file);
    for (int bit = 0; bit < whole.length * 8; bit++) {
      byte[] damaged = whole.clone();
      damaged[bit / 8] ^= (byte) (1 << bit % 8);
      Files.write(file, damaged);
      int at = bit / 8;
      assertThrows(EngramFormatException.class, () -> TokenMapFile.read(file), () -> "byte " + at);
    }
  }

  @Test
  void refusesEveryLength() throws IOException {
    TokenMapFile.write(file, MAP, "from here");
    byte[] whole = Files.readAllBytes(file);
    for (int length = 0; length <= whole.length + 40; length++) {
      if (length != whole.length) {
        Files.write(file, Arrays.copyOf(whole, length));
        int cut = length;
        assertThrows(
            EngramFormatException.class, () -> TokenMapFile.read(file), () -> "length " + cut);
      }
    }
  }

  /** Damage that a correct digest covers, as somebody else's writer could make it. */
  @ParameterizedTest
  @CsvSource({
    "0, 0, no frozen token map",
    "8, 2, version is 2",
    "12, 0, says 0 ids",
    "12, -1, says -1 ids",
    "12, 2147483647, says 2147483647 ids",
    "12, 268435456, expected 1073741888 for 268435456 ids",
    "12, 6, bytes",
    "16, 5, 'maps 7 ids to 4, expected 7 to 5'",
    "16, -1, 'maps 7 ids to 4, expected 7 to -1'",
    "20, -1, -1 bytes of provenance",
    "20, 65537, 65537 bytes of provenance",
    "20, 4, bytes",
    "20, 7, byte 31 is",
    "24, 255, the provenance is not UTF-8",
    "32, 1, token id 0 has the compressed id 1",
    "36, -1, token id 1 has the compressed id -1",
    "40, 9, token id 2 has the compressed id 9",
    "56, 2147483647, token id 6",
  })
  void refusesContentThatIsWrong(int position, int value, String problem) throws IOException {
    TokenMapFile.write(file, MAP, "12345678");
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    bytes.putInt(position, value);
    int end = bytes.limit() - 32;
    bytes.put(end, TokenMap.sha256().digest(Arrays.copyOf(bytes.array(), end)));
    Files.write(file, bytes.array());
    EngramFormatException e =
        assertThrows(EngramFormatException.class, () -> TokenMapFile.read(file));
    assertTrue(e.getMessage().contains(problem), e.getMessage());
    assertTrue(e.getMessage().startsWith(file.toString()), e.getMessage());
  }

  @Test
  void refusesBrokenRawMaps() throws IOException {
    Files.write(file, new byte[0]);
    assertThrows(EngramFormatException.class, () -> TokenMapFile.readRaw(file));
    Files.write(file, new byte[6]);
    EngramFormatException e =
        assertThrows(EngramFormatException.class, () -> TokenMapFile.readRaw(file));
    assertTrue(e.getMessage().contains("has 6 bytes"), e.getMessage());
    TokenMapFile.writeRaw(file, MAP);
    byte[] raw = Files.readAllBytes(file);
    assertEquals(28, raw.length);
    raw[12] = 9;
    Files.write(file, raw);
    e = assertThrows(EngramFormatException.class, () -> TokenMapFile.readRaw(file));
    assertTrue(e.getMessage().contains("token id 3 has the compressed id 9"), e.getMessage());
    // Big-endian values.
    ByteBuffer swapped = ByteBuffer.allocate(28);
    for (int id = 0; id < 7; id++) {
      swapped.putInt(MAP.get(id));
    }
    Files.write(file, swapped.array());
    assertThrows(EngramFormatException.class, () -> TokenMapFile.readRaw(file));
    assertThrows(NoSuchFileException.class, () -> TokenMapFile.readRaw(directory.resolve("none")));
    assertThrows(NoSuchFileException.class, () -> TokenMapFile.read(directory.resolve("none")));
  }

  @Test
  void refusesAnotherRevision() throws IOException {
    String[] texts = {"the", "The", "cat", " Cat", "dog"};
    TokenMap expected = TokenMap.compress(vocabulary(texts));
    texts[4] = "Dogs";
    texts[3] = "cats";
    TokenMap other = TokenMap.compress(vocabulary(texts));
    TokenMapFile.write(file, other, "revision 2");
    TokenMapFile read = TokenMapFile.read(file);
    assertNotEquals(expected.sha256OfInt32(), other.sha256OfInt32());
    EngramFormatException e =
        assertThrows(
            EngramFormatException.class, () -> read.requireSha256(expected.sha256OfInt32()));
    assertTrue(e.getMessage().contains("expected " + expected.sha256OfInt32()), e.getMessage());
    e = assertThrows(EngramFormatException.class, () -> read.requireProvenance("revision 1"));
    assertTrue(e.getMessage().contains("was made from 'revision 2'"), e.getMessage());
    e =
        assertThrows(
            EngramFormatException.class, () -> read.requireSizes(5, expected.compressedSize()));
    assertTrue(e.getMessage().contains("maps 5 ids to 4, expected 5 to 3"), e.getMessage());
    assertThrows(EngramFormatException.class, () -> read.requireSizes(6, 4));
  }

  private static Vocabulary vocabulary(String... texts) {
    return Vocabulary.ofBytes(Stream.of(texts).map(t -> t.getBytes(UTF_8)).toList());
  }

  @Test
  void replacesAFileAndLeavesNothingBehind() throws IOException {
    Files.writeString(file, "what was there");
    TokenMapFile.write(file, MAP, "first");
    TokenMapFile.write(file, TokenMap.identity(4), "second");
    assertEquals("second", TokenMapFile.read(file).provenance());
    try (Stream<Path> files = Files.list(directory)) {
      assertEquals(1, files.count());
    }
  }

  /** A directory in the way makes the last step fail: what was there stays, no rest is left. */
  @Test
  void leavesNothingBehindAfterAFailure() throws IOException {
    Path blocked = Files.createDirectories(directory.resolve("blocked"));
    Files.writeString(blocked.resolve("inside"), "kept");
    assertThrows(FileSystemException.class, () -> TokenMapFile.write(blocked, MAP, ""));
    assertEquals("kept", Files.readString(blocked.resolve("inside")));
    try (Stream<Path> files = Files.list(directory)) {
      assertEquals(1, files.count());
    }
    assertThrows(
        NoSuchFileException.class,
        () -> TokenMapFile.write(directory.resolve("none/map.bin"), MAP, ""));
  }

  @Test
  void refusesProvenanceThatDoesNotFit() throws IOException {
    TokenMapFile.write(file, MAP, "x".repeat(65_536));
    assertEquals(65_536, TokenMapFile.read(file).provenance().length());
    assertThrows(
        IllegalArgumentException.class, () -> TokenMapFile.write(file, MAP, "é".repeat(32_769)));
    assertThrows(IllegalArgumentException.class, () -> TokenMapFile.write(file, MAP, "\uD800"));
    assertEquals(65_536, TokenMapFile.read(file).provenance().length());
  }

  @Test
  void roundTripsRandomMaps() throws IOException {
    RandomGenerator random = Seeds.random("roundTripsRandomMaps");
    for (int round = 0; round < 20; round++) {
      int[] values = new int[1 + random.nextInt(3_000)];
      int next = 0;
      for (int i = 0; i < values.length; i++) {
        values[i] = random.nextInt(next + 1);
        next = Math.max(next, values[i] + 1);
      }
      TokenMap map = TokenMap.of(values);
      TokenMapFile.write(file, map, RandomText.next(random, 9));
      assertEquals(map, TokenMapFile.read(file).map());
      TokenMapFile.writeRaw(file, map);
      assertEquals(map, TokenMapFile.readRaw(file).map());
    }
  }
}
