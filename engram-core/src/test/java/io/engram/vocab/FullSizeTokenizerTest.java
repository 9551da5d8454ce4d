// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The DeepSeek vocabulary as a {@code tokenizer.json}, rebuilt from its tiktoken form. */
@Tag("once")
class FullSizeTokenizerTest {
  @TempDir Path directory;

  @Test
  void equalsTheReference() throws IOException {
    Vocabulary v41 = DeepSeekVocabulary.v41(directory);
    String json = tokenizerJson(v41).toString();
    Path file = TokenizerFixture.write(directory, json);
    assertTrue(Files.size(file) > 4_000_000, "about as large as the released file");

    long start = System.nanoTime();
    Vocabulary vocabulary = Vocabulary.readTokenizerJson(file);
    long read = System.nanoTime();
    TokenMap map = TokenMap.compress(vocabulary);
    long compressed = System.nanoTime();
    System.out.printf(
        "vocabulary read in %d ms, compressed in %d ms%n",
        (read - start) / 1_000_000, (compressed - read) / 1_000_000);
    assertEquals(DeepSeekVocabulary.V41_SIZE, vocabulary.size());
    assertEquals(DeepSeekVocabulary.V41_COMPRESSED, map.compressedSize());
    assertEquals(TokenMap.compress(v41), map);

    Tokenizer tokenizer = Tokenizer.readTokenizerJson(file);
    RandomGenerator random = Seeds.random("FullSizeTokenizerTest");
    try (Reference reference = new Reference(json)) {
      for (int i = 0; i < 1_000; i++) {
        StringBuilder text = new StringBuilder(RandomText.next(random, 10));
        for (int n = random.nextInt(20); n > 0; n--) {
          text.append(v41.text(random.nextInt(v41.size())));
        }
        int[] ids = tokenizer.encode(text.toString());
        assertArrayEquals(
            reference.encode(text.toString()), ids, () -> RandomText.show(text.toString()));
        assertEquals(text.toString(), tokenizer.decode(ids));
      }
      for (int id = 0; id < vocabulary.size(); id += 7) {
        assertEquals(reference.decode(id), vocabulary.text(id));
      }
    }
  }

  private static JsonObject tokenizerJson(Vocabulary v41) {
    JsonObject json = TokenizerFixture.mini();
    JsonObject vocab = new JsonObject();
    JsonArray added = new JsonArray();
    for (int id = 0; id < v41.size(); id++) {
      if (id < DeepSeekVocabulary.BASE_SIZE) {
        vocab.addProperty(v41.token(id), id);
      }
      if (id < 3 || id >= DeepSeekVocabulary.BASE_SIZE) {
        added.add(
            JsonParser.parseString(TokenizerFixture.addedToken(id, v41.token(id), "special")));
      }
    }
    json.add("added_tokens", added);
    json.getAsJsonObject("model").add("vocab", vocab);
    json.getAsJsonObject("model").add("merges", merges(v41));
    return TokenizerFixture.with(json, "pre_tokenizer", TokenizerFixture.DEEPSEEK);
  }

  /**
   * The merge that makes each token, by id: what its bytes come to with the merges before it. Ids
   * of a tiktoken file are ranks.
   */
  private static JsonArray merges(Vocabulary vocabulary) {
    MergeTable table = new MergeTable(DeepSeekVocabulary.BASE_SIZE);
    int[] byteIds = new int[256];
    for (int id = 3; id < DeepSeekVocabulary.BASE_SIZE; id++) {
      byte[] bytes = vocabulary.bytes(id);
      if (bytes.length == 1) {
        byteIds[bytes[0] & 0xFF] = id;
      }
    }
    JsonArray merges = new JsonArray();
    MergeTable.Word word = new MergeTable.Word();
    List<Integer> skipped = new ArrayList<>();
    for (int id = 3; id < DeepSeekVocabulary.BASE_SIZE; id++) {
      byte[] bytes = vocabulary.bytes(id);
      if (bytes.length == 1) {
        continue;
      }
      word.clear();
      for (byte b : bytes) {
        word.add(byteIds[b & 0xFF]);
      }
      IntList parts = new IntList();
      table.merge(word, parts);
      if (parts.size() != 2) {
        skipped.add(id);
        continue;
      }
      table.add(parts.get(0), parts.get(1), id);
      merges.add(vocabulary.token(parts.get(0)) + " " + vocabulary.token(parts.get(1)));
    }
    assertTrue(skipped.size() < 1_000, () -> "tokens that no merge makes: " + skipped.size());
    return merges;
  }
}
