// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;

/**
 * The 128,000 base tokens of DeepSeek-V3 and V4.1, which are no part of the project: tests that
 * want them are skipped where {@code engram.tokenizer} names no such directory.
 */
final class DeepSeekVocabulary {
  static final int BASE_SIZE = 128_000;
  static final int V3_SIZE = 128_815;
  static final int V3_COMPRESSED = 98_627;
  static final int V41_SIZE = 129_280;
  static final int V41_COMPRESSED = 99_092;

  private DeepSeekVocabulary() {}

  static Path file(String name) {
    Path path = Path.of(System.getProperty("engram.tokenizer", "tokenizer"), name);
    assumeTrue(
        Files.exists(path),
        () ->
            path.toAbsolutePath().normalize()
                + " is missing: set -Dengram.tokenizer to the directory with the DeepSeek tokens");
    return path;
  }

  static Path base() {
    return file("deepseek_base.tiktoken.gz");
  }

  /** Base tokens and the 815 added tokens of V3. */
  static Vocabulary v3(Path directory) throws IOException {
    return withAdded(directory, V3_SIZE);
  }

  /** Base tokens and the 1,280 added tokens of V4.1. */
  static Vocabulary v41(Path directory) throws IOException {
    return withAdded(directory, V41_SIZE);
  }

  /**
   * Fills the list of added tokens up. The texts of some are not at hand; any that differ from each
   * other and from all else give the same map.
   */
  private static Vocabulary withAdded(Path directory, int size) throws IOException {
    JsonObject specials =
        JsonParser.parseString(Files.readString(file("deepseek_base_special.json")))
            .getAsJsonObject();
    Set<Integer> known = new HashSet<>();
    specials.asMap().values().forEach(id -> known.add(id.getAsInt()));
    for (int id = BASE_SIZE; id < size; id++) {
      if (!known.contains(id)) {
        specials.addProperty("<｜added▁" + id + "｜>", id);
      }
    }
    Path file = directory.resolve("specials.json");
    Files.writeString(file, specials.toString());
    return Vocabulary.readTiktoken(base(), file);
  }
}
