// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;

/** Small byte-level BPE tokenizers in the shapes of released ones. */
final class TokenizerFixture {
  static final String BYTE_LEVEL =
      """
      {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}
      """;

  /** Numbers, ideographs and kana, and words apart, as DeepSeek-V3 has it. */
  static final String DEEPSEEK =
      sequence(
          split("\\p{N}{1,3}"),
          split("[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+"),
          split(
              "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                  + "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                  + "| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"));

  /** One pattern, with contractions in any case, as Qwen has it behind NFC. */
  static final String QWEN =
      sequence(
          split(
              "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                  + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"));

  /** Optional groups and look-ahead, as in the vocabularies of 200,000 tokens. */
  static final String O200K =
      sequence(
          split(
              "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"
                  + "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                  + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
                  + "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
                  + "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"));

  private TokenizerFixture() {}

  static String split(String regex) {
    return split("Regex", regex, "Isolated", false);
  }

  static String split(String kind, String pattern, String behavior, boolean invert) {
    JsonObject split = new JsonObject();
    split.addProperty("type", "Split");
    JsonObject of = new JsonObject();
    of.addProperty(kind, pattern);
    split.add("pattern", of);
    split.addProperty("behavior", behavior);
    split.addProperty("invert", invert);
    return split.toString();
  }

  /** Steps, and ByteLevel behind them. */
  static String sequence(String... steps) {
    return "{\"type\":\"Sequence\",\"pretokenizers\":["
        + String.join(",", steps)
        + ",{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
        + "\"use_regex\":false}]}";
  }

  static String addedToken(int id, String content, String... flags) {
    JsonObject token = new JsonObject();
    token.addProperty("id", id);
    token.addProperty("content", content);
    for (String flag : List.of("single_word", "lstrip", "rstrip", "normalized", "special")) {
      token.addProperty(flag, List.of(flags).contains(flag));
    }
    return token.toString();
  }

  /** The tokenizer of the mini checkpoint, to be changed. */
  static JsonObject mini() {
    return Golden.json("v41_mini/tokenizer.json");
  }

  /**
   * A tokenizer with the 256 byte tokens and merges trained on random text: not by frequency, but
   * of pairs that occur, which is enough to exercise the merging.
   */
  static JsonObject trained(RandomGenerator random, int merges) {
    JsonObject vocab = new JsonObject();
    for (int b = 0; b < 256; b++) {
      vocab.addProperty(String.valueOf(ByteAlphabet.charOf(b)), b);
    }
    List<List<String>> words = new ArrayList<>();
    for (int i = 0; i < 600; i++) {
      List<String> word = new ArrayList<>();
      byte[] bytes = RandomText.next(random, 6).getBytes(UTF_8);
      ByteAlphabet.spell(bytes).chars().forEach(c -> word.add(String.valueOf((char) c)));
      words.add(word);
    }
    JsonArray list = new JsonArray();
    Map<String, Boolean> seen = new HashMap<>();
    while (list.size() < merges) {
      List<String> word = words.get(random.nextInt(words.size()));
      if (word.size() < 2) {
        continue;
      }
      int at = random.nextInt(word.size() - 1);
      String left = word.get(at);
      String right = word.get(at + 1);
      if (left.length() + right.length() > 12 || seen.put(left + " " + right, true) != null) {
        continue;
      }
      if (!vocab.has(left + right)) {
        vocab.addProperty(left + right, vocab.size());
      }
      JsonArray pair = new JsonArray();
      pair.add(left);
      pair.add(right);
      list.add(pair);
      for (List<String> other : words) {
        for (int i = 0; i + 1 < other.size(); i++) {
          if (other.get(i).equals(left) && other.get(i + 1).equals(right)) {
            other.set(i, left + right);
            other.remove(i + 1);
          }
        }
      }
    }
    JsonObject json = mini();
    JsonObject model = json.getAsJsonObject("model");
    model.add("vocab", vocab);
    model.add("merges", list);
    json.add("added_tokens", new JsonArray());
    return json;
  }

  static JsonObject with(JsonObject json, String section, String value) {
    json.add(section, JsonParser.parseString(value));
    return json;
  }

  static JsonObject withModel(JsonObject json, String field, String value) {
    json.getAsJsonObject("model").add(field, JsonParser.parseString(value));
    return json;
  }

  static Path write(Path directory, JsonElement json) {
    return write(directory, json.toString());
  }

  static Path write(Path directory, String text) {
    try {
      return Files.writeString(directory.resolve("tokenizer.json"), text);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
