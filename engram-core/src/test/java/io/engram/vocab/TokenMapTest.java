// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.hash.Lookback;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import io.engram.vocab.TokenMap.MergeClass;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import java.util.random.RandomGenerator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class TokenMapTest {
  private static final String V41_INT32 =
      "c60a86322ec17b4142bfef3c57a8d81fb428550cdf487f88a4320cb59fe46481";
  private static final String V41_INT64 =
      "26b9be2936d236a124ba318a998c417bc7032e3e92a3107fe98deee49f1dc496";

  private static Vocabulary ofTexts(String... texts) {
    return Vocabulary.ofBytes(
        Stream.of(texts).map(t -> t.getBytes(StandardCharsets.UTF_8)).toList());
  }

  /** Specification, section 6, rows 6 and 7. */
  @Test
  void compressesThePublishedToyVocabularies() {
    assertArrayEquals(
        new int[] {0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5},
        TokenMap.compress(
                ofTexts(
                    "<pad>",
                    "The",
                    "the",
                    " THE",
                    "Thé",
                    " ",
                    "  ",
                    "\t",
                    "ﬁ",
                    "fi",
                    "Ab\uFFFD",
                    "ab\uFFFD"))
            .toArray());
    assertArrayEquals(
        new int[] {0, 0, 1, 2, 2, 3, 4},
        TokenMap.compress(ofTexts("A", "a", " ", "é", "E", "\uFFFD", "")).toArray());
  }

  @Test
  void keysOfEveryOriginShareOneDictionary() {
    // Byte 0xA1 alone is no UTF-8, so its key is its spelling, which is the text of the other two.
    Vocabulary vocabulary =
        Vocabulary.ofBytes(
            List.of(
                new byte[] {(byte) 0xA1},
                "¡".getBytes(StandardCharsets.UTF_8),
                " ¡".getBytes(StandardCharsets.UTF_8)));
    assertArrayEquals(new int[] {0, 0, 0}, TokenMap.compress(vocabulary).toArray());
    // A mark alone leaves nothing, so its text is its key.
    assertArrayEquals(
        new int[] {0, 1, 0}, TokenMap.compress(ofTexts("\u0301", "\u0300", "\u0301")).toArray());
  }

  @Test
  void idsWithoutATokenShareTheEmptyKey() {
    Vocabulary vocabulary = new Vocabulary(new String[] {"a", null, "A", null, "b"});
    assertArrayEquals(new int[] {0, 1, 0, 1, 2}, TokenMap.compress(vocabulary).toArray());
  }

  @Test
  void equalsTheReleasedMapOfV41(@TempDir Path directory) throws IOException {
    TokenMap map = TokenMap.compress(DeepSeekVocabulary.v41(directory));
    assertEquals(DeepSeekVocabulary.V41_SIZE, map.size());
    assertEquals(DeepSeekVocabulary.V41_COMPRESSED, map.compressedSize());
    assertEquals(V41_INT32, map.sha256OfInt32());
    assertEquals(V41_INT64, map.sha256OfInt64());
    TokenMapFile reference =
        TokenMapFile.readRaw(DeepSeekVocabulary.file("v41_token_map.i32le.bin"))
            .requireSizes(DeepSeekVocabulary.V41_SIZE, DeepSeekVocabulary.V41_COMPRESSED)
            .requireSha256(V41_INT32);
    assertEquals(reference.map(), map);
    int base = DeepSeekVocabulary.BASE_SIZE;
    for (int id = base; id < map.size(); id++) {
      assertEquals(97_812 + id - base, map.get(id));
    }
  }

  /** Paper, table 6: 23.43 % of the ids are saved, and these are the largest classes. */
  @Test
  void equalsTheReferenceMapOfV3(@TempDir Path directory) throws IOException {
    Vocabulary vocabulary = DeepSeekVocabulary.v3(directory);
    TokenMap map = TokenMap.compress(vocabulary);
    assertEquals(DeepSeekVocabulary.V3_SIZE, map.size());
    assertEquals(DeepSeekVocabulary.V3_COMPRESSED, map.compressedSize());
    assertEquals(
        TokenMapFile.readRaw(DeepSeekVocabulary.file("v3_token_map.i32le.bin")).map(), map);
    assertEquals(TokenMapFile.readRaw(Golden.path("demo_mini/token_map.i32le.bin")).map(), map);

    List<MergeClass> classes = map.mergeClasses(vocabulary, 5);
    assertEquals(List.of(" ", "a", "o", "e", "i"), classes.stream().map(MergeClass::key).toList());
    assertEquals(
        List.of(163, 54, 40, 35, 30), classes.stream().map(c -> c.tokenIds().size()).toList());
    for (MergeClass merged : classes) {
      merged.tokenIds().forEach(id -> assertEquals(merged.compressedId(), map.get(id)));
    }
    assertEquals(0.23435, 1 - (double) map.compressedSize() / map.size(), 5e-6);

    Map<TokenKey.Origin, Long> origins =
        IntStream.range(0, DeepSeekVocabulary.BASE_SIZE)
            .mapToObj(id -> TokenKey.of(vocabulary, id, TextNormalizer::normalize).origin())
            .collect(Collectors.groupingBy(origin -> origin, Collectors.counting()));
    assertEquals(1484, origins.get(TokenKey.Origin.RAW));
    assertEquals(214, origins.get(TokenKey.Origin.TEXT));
    assertEquals(null, origins.get(TokenKey.Origin.NONE));
  }

  @ParameterizedTest
  @CsvSource({
    "0, 0",
    "1, 1",
    "2, 2",
    "3, 3",
    "14, 14",
    "16, 16",
    "223, 174",
    "270, 237",
    "455, 237",
    "671, 237",
    "6367, 237",
    "39922, 237",
    "99052, 237",
    "320, 271",
    "89653, 11412",
    "45948, 15844",
    "44388, 15844",
    "112752, 49132",
    "128799, 98611"
  })
  void mapsThePublishedSamples(int id, int compressed) throws IOException {
    TokenMap map = TokenMapFile.readRaw(Golden.path("demo_mini/token_map.i32le.bin")).map();
    assertEquals(compressed, map.get(id));
    assertEquals(compressed, map.map(id)[0]);
  }

  /** Dropping only Mn, as some ports do, moves ids: the digest shows it. */
  @Test
  void marksOfAllThreeCategoriesAreDropped(@TempDir Path directory) throws IOException {
    UnaryOperator<String> wrong =
        text -> TextNormalizer.normalize(text, 1 << Character.NON_SPACING_MARK);
    TokenMap map = TokenMap.compress(DeepSeekVocabulary.v41(directory), wrong);
    assertEquals(99_510, map.compressedSize());
    assertNotEquals(V41_INT32, map.sha256OfInt32());
  }

  @Test
  void equalsTheReferenceMapOfTheMiniCheckpoint() throws IOException {
    Vocabulary vocabulary = Vocabulary.readTokenizerJson(Golden.path("v41_mini/tokenizer.json"));
    TokenMap map = TokenMap.compress(vocabulary);
    assertArrayEquals(
        intTensor(Golden.path("v41_mini/expected.safetensors"), "token_map"), map.toArray());
    JsonObject config = Golden.json("v41_mini/config.json").getAsJsonObject("text_config");
    assertEquals(config.get("vocab_size").getAsInt(), map.size());
    assertEquals(config.get("engram_compressed_vocab_size").getAsInt(), map.compressedSize());
  }

  private static int[] intTensor(Path file, String name) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    int header = Math.toIntExact(bytes.getLong());
    byte[] json = new byte[header];
    bytes.get(json);
    JsonObject tensor =
        JsonParser.parseString(new String(json, StandardCharsets.UTF_8))
            .getAsJsonObject()
            .getAsJsonObject(name);
    JsonArray offsets = tensor.getAsJsonArray("data_offsets");
    ByteBuffer data = bytes.slice().order(ByteOrder.LITTLE_ENDIAN);
    data.position(offsets.get(0).getAsInt()).limit(offsets.get(1).getAsInt());
    boolean isLong = tensor.get("dtype").getAsString().equals("I64");
    int[] values = new int[data.remaining() / (isLong ? 8 : 4)];
    for (int i = 0; i < values.length; i++) {
      values[i] = isLong ? Math.toIntExact(data.getLong()) : data.getInt();
    }
    return values;
  }

  @Test
  void numbersFollowFirstSightInAnyVocabulary() {
    RandomGenerator random = Seeds.random("numbersFollowFirstSightInAnyVocabulary");
    for (int round = 0; round < 20; round++) {
      String[] texts = new String[1 + random.nextInt(400)];
      for (int i = 0; i < texts.length; i++) {
        texts[i] = RandomText.next(random, 2);
      }
      Vocabulary vocabulary = ofTexts(texts);
      TokenMap map = TokenMap.compress(vocabulary);
      assertEquals(map, TokenMap.of(map.toArray()));
      List<String> keys = new ArrayList<>();
      for (int id = 0; id < texts.length; id++) {
        String key = TokenKey.of(vocabulary, id, TextNormalizer::normalize).text();
        int known = keys.indexOf(key);
        assertEquals(known < 0 ? keys.size() : known, map.get(id));
        if (known < 0) {
          keys.add(key);
        }
      }
      assertEquals(keys.size(), map.compressedSize());
    }
  }

  @Test
  void mapsRunsInPlaceAndAcross() {
    TokenMap map = TokenMap.of(0, 1, 0, 2, 1);
    assertArrayEquals(new int[] {1, 2, 0, 0, 1}, map.map(4, 3, 2, 0, 1));
    assertArrayEquals(new int[0], map.map());
    int[] out = {9, 9, 9, 9};
    map.map(new int[] {4, 3, 2}, 1, 2, out, 2);
    assertArrayEquals(new int[] {9, 9, 2, 0}, out);
    int[] ids = {4, Lookback.DEAD, 2};
    map.mapOrDead(ids, 0, 3, ids, 0);
    assertArrayEquals(new int[] {1, Lookback.DEAD, 0}, ids);
  }

  @ParameterizedTest
  @ValueSource(ints = {-1, -2, 5, Integer.MAX_VALUE, Integer.MIN_VALUE})
  void refusesIdsOutOfRange(int id) {
    TokenMap map = TokenMap.of(0, 1, 0, 2, 1);
    int[] out = {9, 9, 9};
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class, () -> map.map(new int[] {3, id, 0}, 0, 3, out, 0));
    assertEquals("token id at position 1 is " + id + ", expected 0 to 4", e.getMessage());
    assertArrayEquals(new int[] {2, 9, 9}, out);
    assertThrows(IllegalArgumentException.class, () -> map.get(id));
    if (id != Lookback.DEAD) {
      e =
          assertThrows(
              IllegalArgumentException.class, () -> map.mapOrDead(new int[] {id, 3}, 0, 1, out, 0));
      assertTrue(e.getMessage().contains("position 0 is " + id), e.getMessage());
    }
  }

  @Test
  void refusesRunsOutsideTheirArrays() {
    TokenMap map = TokenMap.identity(3);
    int[] two = {0, 1};
    assertThrows(IndexOutOfBoundsException.class, () -> map.map(two, 1, 2, new int[4], 0));
    assertThrows(IndexOutOfBoundsException.class, () -> map.map(two, 0, 2, new int[4], 3));
    assertThrows(IndexOutOfBoundsException.class, () -> map.map(two, 0, -1, new int[4], 0));
    assertThrows(IndexOutOfBoundsException.class, () -> map.mapOrDead(two, -1, 1, two, 0));
  }

  @ParameterizedTest
  @CsvSource({"1 0, 0, 1", "0 2, 1, 2", "0 1 -1, 2, -1", "0 1 1 3, 3, 3"})
  void refusesValuesOutOfOrder(String values, int id, int value) {
    int[] map = Stream.of(values.split(" ")).mapToInt(Integer::parseInt).toArray();
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> TokenMap.of(map));
    assertTrue(
        e.getMessage().contains("token id " + id + " has the compressed id " + value),
        e.getMessage());
  }

  @Test
  void identityKeepsIds() {
    TokenMap map = TokenMap.identity(1000);
    assertEquals(1000, map.compressedSize());
    assertArrayEquals(IntStream.range(0, 1000).toArray(), map.toArray());
    assertThrows(IllegalArgumentException.class, () -> TokenMap.identity(0));
    assertThrows(IllegalArgumentException.class, TokenMap::of);
  }

  @Test
  void ownsItsValues() {
    int[] values = {0, 1, 2};
    TokenMap map = TokenMap.of(values);
    values[1] = 0;
    map.toArray()[1] = 0;
    assertEquals(1, map.get(1));
    assertEquals(TokenMap.identity(3), map);
    assertEquals(TokenMap.identity(3).hashCode(), map.hashCode());
    assertNotEquals(TokenMap.of(0, 1, 1), map);
  }

  @Test
  void mergeClassesNeedTheirVocabulary() {
    TokenMap map = TokenMap.compress(ofTexts("a", "A", "b", "B", " a", "c"));
    assertEquals(
        List.of(new MergeClass(0, "a", List.of(0, 1, 4)), new MergeClass(1, "b", List.of(2, 3))),
        map.mergeClasses(ofTexts("a", "A", "b", "B", " a", "c"), 9));
    assertEquals(1, map.mergeClasses(ofTexts("a", "A", "b", "B", " a", "c"), 1).size());
    assertThrows(IllegalArgumentException.class, () -> map.mergeClasses(ofTexts("a"), 9));
  }
}
