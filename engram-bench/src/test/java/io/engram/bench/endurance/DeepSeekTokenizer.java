// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Golden;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.zip.GZIPInputStream;

/**
 * A {@code tokenizer.json} of V4.1's 129,280 ids, made from the base tokens in tiktoken form, and
 * the token map that the reference made of them. They are no part of the project: tests that want
 * them are skipped where {@code engram.tokenizer} names no directory with them.
 */
final class DeepSeekTokenizer {
  static final int SIZE = 129_280;
  static final int BASE_SIZE = 128_000;

  private DeepSeekTokenizer() {}

  static Path file(String name) {
    Path path = Path.of(System.getProperty("engram.tokenizer", "tokenizer"), name);
    assumeTrue(
        Files.exists(path),
        () ->
            path.toAbsolutePath().normalize()
                + " is missing: set -Dengram.tokenizer to the directory with the DeepSeek tokens");
    return path;
  }

  /** Compressed ids by raw ids, as the reference numbered them. */
  static int[] referenceMap() throws IOException {
    int[] map = new int[SIZE];
    ByteBuffer.wrap(Files.readAllBytes(file("v41_token_map.i32le.bin")))
        .order(ByteOrder.LITTLE_ENDIAN)
        .asIntBuffer()
        .get(map);
    return map;
  }

  static void write(Path target) throws IOException {
    Path base = file("deepseek_base.tiktoken.gz");
    JsonObject specials =
        JsonParser.parseString(Files.readString(file("deepseek_base_special.json")))
            .getAsJsonObject();
    Map<Integer, String> texts = new TreeMap<>();
    specials.asMap().forEach((text, id) -> texts.put(id.getAsInt(), text));
    for (int id = BASE_SIZE; id < SIZE; id++) {
      // The texts of some are not at hand; any that differ from all else give the same map.
      texts.putIfAbsent(id, "<｜added▁" + id + "｜>");
    }
    JsonArray added = new JsonArray();
    texts.forEach((id, text) -> added.add(added(id, text)));
    JsonObject vocab = new JsonObject();
    List<String> tokens = new ArrayList<>();
    try (BufferedReader lines =
        new BufferedReader(
            new InputStreamReader(
                new GZIPInputStream(Files.newInputStream(base)), StandardCharsets.US_ASCII))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        byte[] bytes = Base64.getDecoder().decode(line.substring(0, line.indexOf(' ')));
        int id = tokens.size();
        tokens.add(texts.containsKey(id) ? "" : spell(bytes));
        vocab.addProperty(texts.getOrDefault(id, tokens.getLast()), id);
      }
    }
    JsonObject json = Golden.json("v41_mini/tokenizer.json");
    json.add("added_tokens", added);
    json.getAsJsonObject("model").add("vocab", vocab);
    json.getAsJsonObject("model").add("merges", merges(tokens));
    Files.writeString(target, json.toString());
  }

  private static JsonObject added(int id, String content) {
    JsonObject token = new JsonObject();
    token.addProperty("id", id);
    token.addProperty("content", content);
    for (String flag : List.of("single_word", "lstrip", "rstrip", "normalized")) {
      token.addProperty(flag, false);
    }
    token.addProperty("special", true);
    return token;
  }

  /** The GPT-2 spelling of bytes: printable ones stand for themselves. */
  private static String spell(byte[] bytes) {
    StringBuilder text = new StringBuilder();
    for (byte b : bytes) {
      text.append(SPELLING.charAt(b & 0xFF));
    }
    return text.toString();
  }

  private static final String SPELLING = spelling();

  private static String spelling() {
    StringBuilder all = new StringBuilder();
    int next = 256;
    for (int b = 0; b < 256; b++) {
      boolean printable = (b > 32 && b < 127) || (b > 160 && b != 173);
      all.append((char) (printable ? b : next++));
    }
    return all.toString();
  }

  /** The merge that makes each token, by id: what its bytes come to with the merges before it. */
  private static JsonArray merges(List<String> tokens) {
    Map<String, Integer> ranks = new HashMap<>();
    JsonArray merges = new JsonArray();
    for (int id = 0; id < tokens.size(); id++) {
      String token = tokens.get(id);
      List<String> parts = new ArrayList<>();
      token.chars().forEach(c -> parts.add(String.valueOf((char) c)));
      while (parts.size() > 2) {
        int best = -1;
        int lowest = Integer.MAX_VALUE;
        for (int i = 0; i + 1 < parts.size(); i++) {
          Integer rank = ranks.get(parts.get(i) + parts.get(i + 1));
          if (rank != null && rank < lowest) {
            lowest = rank;
            best = i;
          }
        }
        if (best < 0) {
          break;
        }
        parts.set(best, parts.get(best) + parts.remove(best + 1));
      }
      if (parts.size() == 2) {
        merges.add(parts.get(0) + " " + parts.get(1));
      }
      if (!token.isEmpty()) {
        ranks.put(token, id);
      }
    }
    return merges;
  }
}
