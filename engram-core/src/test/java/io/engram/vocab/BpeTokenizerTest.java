// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class BpeTokenizerTest {
  @TempDir Path directory;

  @Test
  void equalsTheGoldenEncodings() throws IOException {
    Tokenizer tokenizer = Tokenizer.readTokenizerJson(Golden.path("v41_mini/tokenizer.json"));
    JsonArray cases =
        JsonParser.parseString(Files.readString(Golden.path("v41_mini/encodings.json")))
            .getAsJsonArray();
    assertTrue(cases.size() > 10);
    for (JsonElement each : cases) {
      String text = each.getAsJsonObject().get("text").getAsString();
      int[] ids = Golden.ints(each.getAsJsonObject().get("ids"));
      assertArrayEquals(ids, tokenizer.encode(text), text);
      assertEquals(text, tokenizer.decode(ids));
    }
  }

  static Stream<Arguments> shapes() {
    String literal = TokenizerFixture.split("String", "a.", "MergedWithNext", false);
    return Stream.of(
        Arguments.of("deepseek", "null", TokenizerFixture.DEEPSEEK),
        Arguments.of("qwen", "{\"type\":\"NFC\"}", TokenizerFixture.QWEN),
        Arguments.of("o200k", "{\"type\":\"Sequence\",\"normalizers\":[]}", TokenizerFixture.O200K),
        Arguments.of("gpt2", "null", TokenizerFixture.BYTE_LEVEL),
        Arguments.of(
            "gpt2 with prefix space",
            "null",
            TokenizerFixture.BYTE_LEVEL.replace("space\":false", "space\":true")),
        Arguments.of(
            "digits",
            "null",
            """
            {"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
             {"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true}]}
            """),
        Arguments.of(
            "runs of digits",
            "null",
            TokenizerFixture.sequence(
                "{\"type\":\"Digits\",\"individual_digits\":false}", literal)));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("shapes")
  void equalsTheReferenceOnRandomText(String shape, String normalizer, String preTokenizer)
      throws IOException {
    RandomGenerator random = Seeds.random(shape);
    JsonObject json = TokenizerFixture.trained(random, 500);
    TokenizerFixture.with(json, "normalizer", normalizer);
    TokenizerFixture.with(json, "pre_tokenizer", preTokenizer);
    compare(json, random, 2_000);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"})
  void equalsTheReferenceForEveryBehavior(String behavior) throws IOException {
    RandomGenerator random = Seeds.random(behavior);
    // The third matches nothing between two letters, and next to a match.
    for (String regex : List.of("\\s", "[a-m]+", "x*", "(?=[\\p{Lu}a-f])|\\d")) {
      for (boolean invert : new boolean[] {false, true}) {
        JsonObject json = TokenizerFixture.trained(random, 300);
        String split = TokenizerFixture.split("Regex", regex, behavior, invert);
        TokenizerFixture.with(json, "pre_tokenizer", TokenizerFixture.sequence(split));
        compare(json, random, 200);
      }
    }
  }

  @Test
  void equalsTheReferenceWithAddedTokens() throws IOException {
    RandomGenerator random = Seeds.random("equalsTheReferenceWithAddedTokens");
    for (String normalizer : List.of("null", "{\"type\":\"NFC\"}")) {
      JsonObject json = TokenizerFixture.trained(random, 300);
      int next = json.getAsJsonObject("model").getAsJsonObject("vocab").size();
      TokenizerFixture.with(
          json,
          "added_tokens",
          Stream.of(
                  TokenizerFixture.addedToken(next, "<a>", "special"),
                  TokenizerFixture.addedToken(next + 1, "<ab>", "lstrip", "special"),
                  TokenizerFixture.addedToken(next + 2, "<a><a>", "rstrip"),
                  TokenizerFixture.addedToken(next + 3, "word", "single_word", "normalized"),
                  TokenizerFixture.addedToken(next + 4, "\u00E9\u00E9", "normalized", "special"),
                  TokenizerFixture.addedToken(next + 5, "e\u0301f", "normalized", "lstrip"),
                  TokenizerFixture.addedToken(next + 6, "\uFB01\uD83D\uDE42"),
                  TokenizerFixture.addedToken(next + 7, " ", "rstrip"),
                  TokenizerFixture.addedToken(next + 8, "\n\n", "lstrip", "rstrip"),
                  TokenizerFixture.addedToken(next + 9, "\t"),
                  TokenizerFixture.addedToken('q', "q", "single_word", "lstrip"))
              .toList()
              .toString());
      TokenizerFixture.with(json, "normalizer", normalizer);
      // The token q is one of the model's too: byte tokens are numbered by byte.
      String[] parts = {
        "<a>",
        "<ab>",
        "<a",
        ">",
        "word",
        "é",
        "e\u0301",
        "f",
        "ﬁ\uD83D\uDE42",
        " ",
        "  ",
        "\n",
        "q",
        "\u00A0",
        "_",
        "\u2160",
        "1",
        "x",
        "\u0301",
        "\t",
        "\u0085"
      };
      try (Reference reference = new Reference(json.toString())) {
        Tokenizer tokenizer = read(json);
        for (int i = 0; i < 5_000; i++) {
          StringBuilder text = new StringBuilder();
          for (int n = random.nextInt(12); n > 0; n--) {
            text.append(
                random.nextInt(8) == 0
                    ? RandomText.next(random, 2)
                    : parts[random.nextInt(parts.length)]);
          }
          compare(reference, tokenizer, text.toString());
        }
      }
    }
  }

  @Test
  void equalsTheReferenceWithoutMergesForWholeWords() throws IOException {
    RandomGenerator random = Seeds.random("equalsTheReferenceWithoutMergesForWholeWords");
    JsonObject json = TokenizerFixture.trained(random, 100);
    JsonObject vocab = json.getAsJsonObject("model").getAsJsonObject("vocab");
    for (String word : List.of("Ġthe", "don", "Ġif", "ing", "Ã©", "12")) {
      if (!vocab.has(word)) {
        vocab.addProperty(word, vocab.size());
      }
    }
    int whole = vocab.get("Ġthe").getAsInt();
    TokenizerFixture.withModel(json, "ignore_merges", "true");
    compare(json, random, 1_000);
    assertArrayEquals(new int[] {whole, whole}, read(json).encode(" the the"));
    TokenizerFixture.withModel(json, "ignore_merges", "false");
    compare(json, random, 1_000);
    assertTrue(read(json).encode(" the the").length > 2);
  }

  /** The same result from another pair, with the other's rank: the reference lets it pass. */
  @Test
  void equalsTheReferenceWhereAMergeIsOutOfDate() throws IOException {
    RandomGenerator random = Seeds.random("equalsTheReferenceWhereAMergeIsOutOfDate");
    for (int round = 0; round < 40; round++) {
      JsonObject json = TokenizerFixture.trained(random, 0);
      JsonObject vocab = json.getAsJsonObject("model").getAsJsonObject("vocab");
      JsonArray merges = new JsonArray();
      String[] tokens = {"a", "b", "c"};
      for (int i = 0; i < 30; i++) {
        String left = tokens[random.nextInt(tokens.length)];
        String right = tokens[random.nextInt(tokens.length)];
        JsonArray pair =
            JsonParser.parseString("[\"" + left + "\",\"" + right + "\"]").getAsJsonArray();
        if (left.length() + right.length() <= 5 && !merges.contains(pair)) {
          merges.add(pair);
          if (!vocab.has(left + right)) {
            vocab.addProperty(left + right, vocab.size());
          }
          tokens =
              Stream.concat(Arrays.stream(tokens), Stream.of(left + right)).toArray(String[]::new);
        }
      }
      TokenizerFixture.withModel(json, "merges", merges.toString());
      try (Reference reference = new Reference(json.toString())) {
        Tokenizer tokenizer = read(json);
        for (int i = 0; i < 200; i++) {
          StringBuilder text = new StringBuilder();
          for (int n = random.nextInt(20); n > 0; n--) {
            text.append((char) ('a' + random.nextInt(3)));
          }
          compare(reference, tokenizer, text.toString());
        }
      }
    }
  }

  @Test
  void decodesLikeTheReference() throws IOException {
    RandomGenerator random = Seeds.random("decodesLikeTheReference");
    JsonObject json = TokenizerFixture.mini();
    Tokenizer tokenizer = read(json);
    int size = tokenizer.vocabulary().size();
    try (Reference reference = new Reference(json.toString())) {
      for (int id = 0; id < size; id++) {
        assertEquals(reference.decode(id), tokenizer.vocabulary().text(id));
      }
      for (int i = 0; i < 5_000; i++) {
        int[] ids =
            IntStream.generate(() -> random.nextInt(size)).limit(random.nextInt(8)).toArray();
        assertEquals(reference.decode(ids), tokenizer.decode(ids), () -> Arrays.toString(ids));
      }
    }
  }

  /** Any bytes, ill-formed ones above all. */
  @Test
  void decodesBytesLikeTheReference() throws IOException {
    RandomGenerator random = Seeds.random("decodesBytesLikeTheReference");
    JsonObject json = TokenizerFixture.trained(random, 0);
    Tokenizer tokenizer = read(json);
    int[] edges = {
      0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1,
      0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF
    };
    try (Reference reference = new Reference(json.toString())) {
      for (int i = 0; i < 20_000; i++) {
        int[] ids =
            IntStream.generate(() -> edges[random.nextInt(edges.length)])
                .limit(1 + random.nextInt(6))
                .toArray();
        assertEquals(reference.decode(ids), tokenizer.decode(ids), () -> Arrays.toString(ids));
      }
      // What the JDK's own decoder does differently.
      assertEquals("\uFFFD\uFFFD\uFFFD", tokenizer.decode(0xED, 0xA0, 0x80));
    }
  }

  @Test
  void roundTripsAnyText() throws IOException {
    RandomGenerator random = Seeds.random("roundTripsAnyText");
    Tokenizer tokenizer =
        read(
            TokenizerFixture.with(
                TokenizerFixture.trained(random, 200), "pre_tokenizer", TokenizerFixture.DEEPSEEK));
    for (int i = 0; i < 2_000; i++) {
      String text = RandomText.next(random, 20);
      assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {" ", "a", "1", "\n", "'", "é", "\u0301", "🙂"})
  void takesLongRuns(String unit) throws IOException {
    RandomGenerator random = Seeds.random("takesLongRuns");
    for (String shape :
        List.of(TokenizerFixture.DEEPSEEK, TokenizerFixture.QWEN, TokenizerFixture.O200K)) {
      Tokenizer tokenizer =
          read(
              TokenizerFixture.with(TokenizerFixture.trained(random, 200), "pre_tokenizer", shape));
      String text = unit.repeat(50_000);
      assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
    }
  }

  @Test
  void encodesFromManyThreads() throws Exception {
    Tokenizer tokenizer = Tokenizer.readTokenizerJson(Golden.path("v41_mini/tokenizer.json"));
    RandomGenerator random = Seeds.random("encodesFromManyThreads");
    List<String> texts = Stream.generate(() -> RandomText.next(random, 30)).limit(200).toList();
    List<int[]> expected = texts.stream().map(tokenizer::encode).toList();
    Callable<Void> all =
        () -> {
          for (int i = 0; i < texts.size(); i++) {
            assertArrayEquals(expected.get(i), tokenizer.encode(texts.get(i)));
          }
          return null;
        };
    try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
      for (Future<Void> future : threads.invokeAll(List.of(all, all, all, all))) {
        future.get();
      }
    }
  }

  @Test
  void refusesTextAndIdsThatAreNone() throws IOException {
    Tokenizer tokenizer = Tokenizer.readTokenizerJson(Golden.path("v41_mini/tokenizer.json"));
    assertArrayEquals(new int[0], tokenizer.encode(""));
    assertEquals("", tokenizer.decode());
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> tokenizer.encode("ab\uD83Dc"));
    assertEquals("unpaired surrogate U+D83D at char 2 of the text", e.getMessage());
    e = assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(5, 644));
    assertTrue(e.getMessage().startsWith("id 644 at position 1"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> tokenizer.decode(-1));
  }

  private Tokenizer read(JsonObject json) throws IOException {
    return Tokenizer.readTokenizerJson(TokenizerFixture.write(directory, json));
  }

  private void compare(JsonObject json, RandomGenerator random, int count) throws IOException {
    try (Reference reference = new Reference(json.toString())) {
      Tokenizer tokenizer = read(json);
      for (int i = 0; i < count; i++) {
        compare(reference, tokenizer, RandomText.next(random, 15));
      }
    }
  }

  private static void compare(Reference reference, Tokenizer tokenizer, String text) {
    assertArrayEquals(reference.encode(text), tokenizer.encode(text), () -> RandomText.show(text));
  }
}
