// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramFormatException;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.function.Consumer;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

@Tag("once")
class VocabularyTest {
  @TempDir Path directory;

  @Test
  void readsTheMiniTokenizer() throws IOException {
    Vocabulary vocabulary = Vocabulary.readTokenizerJson(Golden.path("v41_mini/tokenizer.json"));
    assertEquals(644, vocabulary.size());
    assertEquals("<｜begin▁of▁sentence｜>", vocabulary.token(0));
    assertEquals("<｜begin▁of▁sentence｜>", vocabulary.text(0));
    assertEquals("<｜image｜>", vocabulary.text(643));
    assertArrayEquals("<｜image｜>".getBytes(UTF_8), vocabulary.bytes(643));
    JsonObject vocab = TokenizerFixture.mini().getAsJsonObject("model").getAsJsonObject("vocab");
    vocab
        .entrySet()
        .forEach(e -> assertEquals(e.getKey(), vocabulary.token(e.getValue().getAsInt())));
    int space = vocab.get("Ġ").getAsInt();
    assertEquals(" ", vocabulary.text(space));
    assertArrayEquals(new byte[] {' '}, vocabulary.bytes(space));
    assertTrue(vocabulary.isToken(space));
    assertEquals("Vocabulary of 644 ids", vocabulary.toString());
  }

  @Test
  void spellsEveryByte() {
    List<byte[]> bytes =
        Stream.iterate(0, b -> b + 1).limit(256).map(b -> new byte[] {b.byteValue()}).toList();
    Vocabulary vocabulary = Vocabulary.ofBytes(bytes);
    for (int b = 0; b < 256; b++) {
      assertArrayEquals(bytes.get(b), vocabulary.bytes(b));
      assertEquals(1, vocabulary.token(b).length());
      assertFalse(Character.isWhitespace(vocabulary.token(b).charAt(0)));
    }
    assertEquals("Ġ", vocabulary.token(' '));
    assertEquals("Ċ", vocabulary.token('\n'));
    assertEquals("Ā", vocabulary.token(0));
    assertEquals("Ń", vocabulary.token(0xAD));
    assertEquals("é", vocabulary.token(0xE9));
    assertEquals("\uFFFD", vocabulary.text(0xE9));
    assertEquals("é", vocabulary.decode(0xC3, 0xA9));
  }

  @Test
  void refusesIdsOutOfRange() {
    Vocabulary vocabulary = new Vocabulary(new String[] {"a", null});
    for (int id : new int[] {-1, 2, Integer.MAX_VALUE}) {
      assertThrows(IllegalArgumentException.class, () -> vocabulary.token(id));
      assertThrows(IllegalArgumentException.class, () -> vocabulary.isToken(id));
      assertThrows(IllegalArgumentException.class, () -> vocabulary.text(id));
    }
    assertFalse(vocabulary.isToken(1));
    assertThrows(IllegalArgumentException.class, () -> vocabulary.text(1));
    assertThrows(IllegalArgumentException.class, () -> vocabulary.decode(0, 1));
    assertThrows(IllegalArgumentException.class, () -> Vocabulary.ofBytes(List.of()));
  }

  @Test
  void readsTiktokenPlainAndCompressed() throws IOException {
    String lines = line("<s>", 0) + line("b ", 2) + "\n" + line("é", 1).replace("\n", "\r\n");
    for (boolean gzip : new boolean[] {false, true}) {
      Vocabulary vocabulary = Vocabulary.readTiktoken(tiktoken(lines, gzip));
      assertEquals(3, vocabulary.size());
      assertEquals("bĠ", vocabulary.token(2));
      assertEquals("é<s>b ", vocabulary.decode(1, 0, 2));
    }
    Path specials = Files.writeString(directory.resolve("s.json"), "{\"<s>\":0,\"<｜x｜>\":3}");
    Vocabulary vocabulary = Vocabulary.readTiktoken(tiktoken(lines, true), specials);
    assertEquals(4, vocabulary.size());
    assertEquals("<｜x｜>", vocabulary.token(3));
    assertEquals("<｜x｜>", vocabulary.text(3));
  }

  /** As DeepSeek's: ids 0 to 2 are in both files, and the special spelling counts. */
  @Test
  void specialsMayRepeatABaseToken() throws IOException {
    Path specials = Files.writeString(directory.resolve("s.json"), "{\"<｜x｜>\":0}");
    Vocabulary vocabulary = Vocabulary.readTiktoken(tiktoken(line("<｜x｜>", 0), false), specials);
    assertEquals("<｜x｜>", vocabulary.token(0));
    assertEquals("<｜x｜>", vocabulary.text(0));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "YQ== 0;YQ 1;YQ= 2         | line 3 is not base64",
        "YQ== 0;Y*== 1             | line 2 is not base64",
        "YQ==                      | line 1 is not \"base64 id\"",
        " 0                        | line 1 is not",
        "YQ== -1                   | line 1 has the id '-1'",
        "YQ== 1.0                  | line 1 has the id '1.0'",
        "YQ== 01                   | line 1 has the id '01'",
        "YQ== 4294967296           | line 1 has the id '4294967296'",
        "YQ== 2147483648           | line 1 has the id '2147483648'",
        "YQ== 2147483647           | there are 1 tokens and one has the id 2147483647",
        "YQ== 0;Yg== 2             | each id from 0 to 1 must have a token",
        "YQ== 0;Yg== 0             | line 2 has the id 0 again",
        "YQ== 0;YQ== 1             | ids 0 and 1 are the same bytes",
        "YQ== 0 1                  | line 1 has the id '0 1'",
      })
  void refusesBrokenTiktokenFiles(String lines, String problem) throws IOException {
    Path file = tiktoken(lines.strip().replace(';', '\n'), true);
    refused(problem, file, () -> Vocabulary.readTiktoken(file));
  }

  @Test
  void refusesEmptyTruncatedAndEndlessTiktokenFiles() throws IOException {
    Path empty = tiktoken("\n", false);
    refused("no token found", empty, () -> Vocabulary.readTiktoken(empty));
    Path whole = tiktoken((line("ab", 0) + line("cd", 1)).repeat(1), true);
    byte[] bytes = Files.readAllBytes(whole);
    Files.write(whole, Arrays.copyOf(bytes, bytes.length - 9));
    refused("the gzip stream is broken", whole, () -> Vocabulary.readTiktoken(whole));
    bytes[bytes.length - 7] ^= 1;
    Files.write(whole, bytes);
    refused("the gzip stream is broken", whole, () -> Vocabulary.readTiktoken(whole));
    // 64 MiB of one line in 64 KiB of gzip.
    Path bomb = directory.resolve("bomb");
    try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(bomb))) {
      byte[] block = "A".repeat(1 << 20).getBytes(UTF_8);
      for (int i = 0; i < 64; i++) {
        out.write(block);
      }
    }
    refused("line 1 is longer than 65536 bytes", bomb, () -> Vocabulary.readTiktoken(bomb));
    Path missing = directory.resolve("missing");
    assertThrows(NoSuchFileException.class, () -> Vocabulary.readTiktoken(missing));
    assertThrows(NoSuchFileException.class, () -> Vocabulary.readTokenizerJson(missing));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{\"x\":0}          | the special token 'x' has the id 0 of the token 'a'",
        "{\"x\":2,\"y\":2}  | the special token 'y' has the id 2 of the token 'x'",
        "{\"x\":2,\"x\":3}  | the token 'x' is there twice",
        "{\"b\":2}          | the special token 'b' has the id 2, but 1 too",
        "{\"x\":3}          | there are 3 tokens and one has the id 3",
        "{\"x\":-2}         | the id of a special token is -2",
        "{\"x\":\"2\"}      | found STRING at $.x",
        "{\"\":2}           | an empty token",
        "[]                 | found BEGIN_ARRAY",
        "{\"x\":2           | not JSON",
        "{\"x\":2} 1        | not JSON",
      })
  void refusesBrokenSpecials(String json, String problem) throws IOException {
    Path file = tiktoken(line("a", 0) + line("b", 1), false);
    Path specials = Files.writeString(directory.resolve("s.json"), json.strip());
    refused(problem, specials, () -> Vocabulary.readTiktoken(file, specials));
  }

  static Stream<Arguments> brokenTokenizers() {
    return Stream.of(
        broken("model is missing", json -> json.remove("model")),
        broken("model.vocab is missing", json -> json.getAsJsonObject("model").remove("vocab")),
        broken("model.type is missing", json -> json.getAsJsonObject("model").remove("type")),
        broken("model.type is 'Unigram'", json -> model(json, "type", "\"Unigram\"")),
        broken("model.type is 'WordPiece'", json -> model(json, "type", "\"WordPiece\"")),
        broken("model.byte_fallback is true", json -> model(json, "byte_fallback", "true")),
        broken("model.dropout is 0.1", json -> model(json, "dropout", "0.1")),
        broken("model.unk_token is \"<unk>\"", json -> model(json, "unk_token", "\"<unk>\"")),
        broken(
            "model.continuing_subword_prefix is \"##\"",
            json -> model(json, "continuing_subword_prefix", "\"##\"")),
        broken(
            "model.end_of_word_suffix is \"</w>\"",
            json -> model(json, "end_of_word_suffix", "\"</w>\"")),
        broken("model.words is not known", json -> model(json, "words", "1")),
        broken("version is \"2.0\"", json -> section(json, "version", "\"2.0\"")),
        broken("'extra' is not a part", json -> section(json, "extra", "1")),
        broken("decoder is null", json -> section(json, "decoder", "null")),
        broken("decoder is null", json -> json.remove("decoder")),
        broken(
            "decoder is \"Metaspace\"",
            json -> section(json, "decoder", "{\"type\":\"Metaspace\"}")),
        broken(
            "decoder is \"Sequence\"",
            json -> section(json, "decoder", "{\"type\":\"Sequence\",\"decoders\":[]}")),
        broken("found BEGIN_ARRAY at $.model", json -> section(json, "model", "[]")),
        broken("found BEGIN_ARRAY at $.model.vocab", json -> model(json, "vocab", "[]")),
        broken(
            "found STRING at $.model.ignore_merges", json -> model(json, "ignore_merges", "\"\"")),
        broken("a token's id is -5 at $.model.vocab.A", json -> vocab(json).addProperty("A", -5)),
        broken(
            "a token's id is 1e3 at $.model.vocab.A",
            json -> vocab(json).add("A", JsonParser.parseString("1e3"))),
        broken(
            "a token's id is 35.0 at",
            json -> vocab(json).add("A", JsonParser.parseString("35.0"))),
        broken("a token's id is 4294967331 at", json -> vocab(json).addProperty("A", 4294967331L)),
        broken("found STRING at $.model.vocab.A", json -> vocab(json).addProperty("A", "35")),
        broken("found NULL at $.model.vocab.A", json -> vocab(json).add("A", null)),
        broken(
            "the token 'A' has the id 2147483647, but model.vocab has 640 tokens",
            json -> vocab(json).addProperty("A", Integer.MAX_VALUE)),
        broken("have the same id 36", json -> vocab(json).addProperty("A", 36)),
        broken(
            "have the same id 36",
            json -> {
              vocab(json).addProperty("A", 36);
              vocab(json).addProperty("B", 36);
            }),
        broken("an empty token", json -> vocab(json).addProperty("", 640)),
        broken("found BEGIN_OBJECT at $.added_tokens", json -> section(json, "added_tokens", "{}")),
        broken("has the id 641, expected 640: the next one", json -> added(json).remove(3)),
        broken("has the id 700, expected 643", json -> addedToken(json, 6, "id", "700")),
        broken(
            "has the id 5, expected 0 as in model.vocab", json -> addedToken(json, 0, "id", "5")),
        broken(
            "the added token '<|EOT|>' is there twice",
            json -> addedToken(json, 6, "content", "\"<|EOT|>\"")),
        broken("the id of an added token is -1", json -> addedToken(json, 6, "id", "-1")),
        broken(
            "added token 6 (id 643", json -> added(json).get(6).getAsJsonObject().remove("lstrip")),
        broken("added token 6 (id 643", json -> addedToken(json, 6, "content", "\"\"")),
        broken("with an unknown field 'x'", json -> addedToken(json, 6, "x", "1")),
        broken(
            "there is no token",
            json -> {
              model(json, "vocab", "{}");
              section(json, "added_tokens", "[]");
            }));
  }

  private static Arguments broken(String problem, Consumer<JsonObject> change) {
    return Arguments.of(problem, change);
  }

  private static void section(JsonObject json, String name, String value) {
    TokenizerFixture.with(json, name, value);
  }

  private static void model(JsonObject json, String name, String value) {
    TokenizerFixture.withModel(json, name, value);
  }

  private static JsonObject vocab(JsonObject json) {
    return json.getAsJsonObject("model").getAsJsonObject("vocab");
  }

  private static JsonArray added(JsonObject json) {
    return json.getAsJsonArray("added_tokens");
  }

  private static void addedToken(JsonObject json, int index, String field, String value) {
    added(json).get(index).getAsJsonObject().add(field, JsonParser.parseString(value));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("brokenTokenizers")
  void refusesBrokenTokenizers(String problem, Consumer<JsonObject> change) {
    JsonObject json = TokenizerFixture.mini();
    change.accept(json);
    Path file =
        TokenizerFixture.write(directory, new GsonBuilder().serializeNulls().create().toJson(json));
    refused(problem, file, () -> Vocabulary.readTokenizerJson(file));
    refused(problem, file, () -> Tokenizer.readTokenizerJson(file));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "''                                            | not JSON: End of input",
        "[1]                                           | found BEGIN_ARRAY at $",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{}}     | not JSON",
        "{\"model\":{\"vocab\":{\"a\":0,\"a\":1}}}     | the token 'a' is there twice",
        "{\"model\":{\"vocab\":{\"a\":0},\"vocab\":{}}} | model.vocab is there twice",
        "{\"version\":\"1.0\",\"version\":\"1.0\"}     | version is there twice",
        "{\"model\":{\"vocab\":{\"\\ud800\":0}}}       | unpaired surrogate U+D800 at char 0",
        "{'model':{}}                                  | not JSON",
        "{\"model\":{\"vocab\":{\"a\":NaN}}}           | not JSON",
        "{\"model\":{\"vocab\":{\"a\":0,}}}            | not JSON",
      })
  void refusesWhatIsNotATokenizer(String json, String problem) {
    Path file = TokenizerFixture.write(directory, json == null ? "" : json.strip());
    refused(problem, file, () -> Vocabulary.readTokenizerJson(file));
  }

  @Test
  void refusesDeepJsonAndOtherEncodings() throws IOException {
    Path deep = TokenizerFixture.write(directory, "{\"normalizer\":" + "[".repeat(100_000) + "}");
    refused("not JSON", deep, () -> Vocabulary.readTokenizerJson(deep));
    Path latin = directory.resolve("latin");
    Files.write(latin, new byte[] {'{', '"', (byte) 0xE9, '"', ':', '1', '}'});
    refused("not UTF-8", latin, () -> Vocabulary.readTokenizerJson(latin));
  }

  /**
   * Whatever is cut off or changed, the answer is a vocabulary or a refusal that names the file.
   */
  @Test
  void survivesDamagedFiles() throws IOException {
    RandomGenerator random = Seeds.random("survivesDamagedFiles");
    byte[] whole = Files.readAllBytes(Golden.path("v41_mini/tokenizer.json"));
    int refused = 0;
    for (int i = 0; i < 300; i++) {
      byte[] damaged = whole.clone();
      if (random.nextBoolean()) {
        damaged = Arrays.copyOf(damaged, random.nextInt(damaged.length));
      } else {
        for (int n = random.nextInt(4); n >= 0; n--) {
          damaged[random.nextInt(damaged.length)] = (byte) random.nextInt(256);
        }
      }
      Path file = Files.write(directory.resolve("damaged"), damaged);
      try {
        Tokenizer.readTokenizerJson(file);
      } catch (EngramFormatException e) {
        assertEquals(file, e.file());
        refused++;
      }
    }
    assertTrue(refused > 200, "refused " + refused + " of 300");
  }

  static Stream<Arguments> unsupportedTokenizers() {
    return Stream.of(
        broken("truncation is {", json -> section(json, "truncation", "{\"max_length\":8}")),
        broken("padding is {", json -> section(json, "padding", "{\"pad_id\":2}")),
        broken(
            "normalizer is NFKC, which is not supported",
            json -> section(json, "normalizer", "{\"type\":\"NFKC\"}")),
        broken(
            "normalizer is Lowercase, which is not supported",
            json ->
                section(
                    json,
                    "normalizer",
                    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}")),
        broken("normalizer is 3, expected an object", json -> section(json, "normalizer", "3")),
        broken(
            "normalizer.normalizers is null",
            json -> section(json, "normalizer", "{\"type\":\"Sequence\"}")),
        broken(
            "normalizer has more than 8 nested",
            json ->
                section(
                    json,
                    "normalizer",
                    "{\"type\":\"Sequence\",\"normalizers\":[".repeat(20) + "]}".repeat(20))),
        broken(
            "pre_tokenizer is null, expected ByteLevel",
            json -> section(json, "pre_tokenizer", "null")),
        broken(
            "expected ByteLevel, alone",
            json ->
                section(json, "pre_tokenizer", "{\"type\":\"Digits\",\"individual_digits\":true}")),
        broken(
            "pre_tokenizer is Metaspace, which is not supported",
            json -> section(json, "pre_tokenizer", "{\"type\":\"Metaspace\"}")),
        broken(
            "pre_tokenizer has Digits behind ByteLevel",
            json ->
                section(
                    json,
                    "pre_tokenizer",
                    "{\"type\":\"Sequence\",\"pretokenizers\":["
                        + TokenizerFixture.BYTE_LEVEL
                        + ",{\"type\":\"Digits\",\"individual_digits\":true}]}")),
        broken(
            "the behavior of Split is 'Merged'",
            json -> preTokenizer(json, TokenizerFixture.split("Regex", "a", "Merged", false))),
        broken(
            "has \\w at char 0, which is not supported",
            json -> preTokenizer(json, TokenizerFixture.split("\\w+"))),
        broken(
            "the pattern of Split is empty",
            json -> preTokenizer(json, TokenizerFixture.split("String", "", "Isolated", false))),
        broken(
            "expected String or Regex",
            json -> preTokenizer(json, TokenizerFixture.split("Glob", "*", "Isolated", false))),
        broken(
            "pre_tokenizer.invert is null",
            json ->
                preTokenizer(json, TokenizerFixture.split("a").replace(",\"invert\":false", ""))),
        broken(
            "pre_tokenizer.add_prefix_space is null",
            json -> section(json, "pre_tokenizer", "{\"type\":\"ByteLevel\"}")),
        broken(
            "post_processor is BertProcessing, which is not supported",
            json -> section(json, "post_processor", "{\"type\":\"BertProcessing\"}")),
        broken("merge 0 needs the token 'zzz'", json -> model(json, "merges", "[[\"zzz\",\"a\"]]")),
        broken("merge 1 needs the token 'ÿÿ'", json -> model(json, "merges", "[\"Ġ t\",\"ÿ ÿ\"]")),
        broken(
            "merge 1 of 'Ġ' and 't' is there twice",
            json -> model(json, "merges", "[\"Ġ t\",[\"Ġ\",\"t\"]]")),
        broken("merge 0 is 'Ġ t h'", json -> model(json, "merges", "[\"Ġ t h\"]")),
        broken("merge 0 is 'Ġt'", json -> model(json, "merges", "[\"Ġt\"]")),
        broken(
            "found STRING at $.model.merges[0][2]",
            json -> model(json, "merges", "[[\"Ġ\",\"t\",\"h\"]]")),
        broken(
            "found END_ARRAY at $.model.merges[0][1]", json -> model(json, "merges", "[[\"Ġ\"]]")),
        broken("found NUMBER at $.model.merges[0]", json -> model(json, "merges", "[1]")),
        broken(
            "model.vocab has no token '!' for the byte 0x21",
            json -> {
              int id = vocab(json).remove("!").getAsInt();
              vocab(json).addProperty("!!!!!!!", id);
              model(json, "merges", "[]");
            }),
        broken(
            "has the same normal form as another one",
            json -> {
              section(json, "normalizer", "{\"type\":\"NFC\"}");
              added(json)
                  .add(
                      JsonParser.parseString(TokenizerFixture.addedToken(644, "éa", "normalized")));
              added(json)
                  .add(
                      JsonParser.parseString(
                          TokenizerFixture.addedToken(645, "e\u0301a", "normalized")));
            }));
  }

  private static void preTokenizer(JsonObject json, String step) {
    section(json, "pre_tokenizer", TokenizerFixture.sequence(step));
  }

  /** What only matters for encoding is refused there; the vocabulary can still be read. */
  @ParameterizedTest(name = "{0}")
  @MethodSource("unsupportedTokenizers")
  void refusesWhatCannotBeEncoded(String problem, Consumer<JsonObject> change) throws IOException {
    JsonObject json = TokenizerFixture.mini();
    change.accept(json);
    Path file =
        TokenizerFixture.write(directory, new GsonBuilder().serializeNulls().create().toJson(json));
    refused(problem, file, () -> Tokenizer.readTokenizerJson(file));
    assertTrue(Vocabulary.readTokenizerJson(file).size() >= 644);
  }

  @Test
  void acceptsPostProcessorsThatAddSpecialTokensOnly() throws IOException {
    int[] ids = Tokenizer.readTokenizerJson(Golden.path("v41_mini/tokenizer.json")).encode("the");
    String template =
        "{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],\"special_tokens\":{}}";
    String byteLevel = "{\"type\":\"ByteLevel\",\"trim_offsets\":true}";
    for (String processor :
        List.of(
            template,
            byteLevel,
            "{\"type\":\"Sequence\",\"processors\":[" + byteLevel + "," + template + "]}")) {
      JsonObject json = TokenizerFixture.mini();
      section(json, "post_processor", processor);
      Path file = TokenizerFixture.write(directory, json);
      assertArrayEquals(ids, Tokenizer.readTokenizerJson(file).encode("the"));
    }
  }

  private static String line(String token, int id) {
    return Base64.getEncoder().encodeToString(token.getBytes(UTF_8)) + " " + id + "\n";
  }

  private Path tiktoken(String lines, boolean gzip) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (OutputStream out = gzip ? new GZIPOutputStream(bytes) : bytes) {
      out.write(lines.getBytes(UTF_8));
    }
    return Files.write(directory.resolve("tokens.tiktoken"), bytes.toByteArray());
  }

  private interface Read {
    Object read() throws IOException;
  }

  private static void refused(String problem, Path file, Read read) {
    EngramFormatException e = assertThrows(EngramFormatException.class, read::read);
    assertTrue(e.getMessage().contains(problem), e.getMessage());
    assertTrue(e.getMessage().startsWith(file + ": "), e.getMessage());
    assertEquals(file, e.file());
  }
}
