// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.knuddels.jtokkit.api.EncodingType;
import io.engram.vocab.JtokkitTokenizer;
import io.engram.vocab.TokenMapFile;
import io.engram.vocab.Tokenizer;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** Where a vocabulary is from: a file, or an encoding that JTokkit brings along. */
final class TokenizerSource {
  private TokenizerSource() {}

  static Tokenizer tokenizer(String source) throws IOException {
    Optional<Tokenizer> embedded = embedded(source);
    return embedded.isPresent() ? embedded.get() : Tokenizer.readTokenizerJson(existing(source));
  }

  static Vocabulary vocabulary(String source, Path special) throws IOException {
    Optional<Tokenizer> embedded = embedded(source);
    if (embedded.isPresent()) {
      return embedded.get().vocabulary();
    }
    Path file = existing(source);
    if (source.endsWith(".json")) {
      return Vocabulary.readTokenizerJson(file);
    }
    return special == null ? Vocabulary.readTiktoken(file) : Vocabulary.readTiktoken(file, special);
  }

  static boolean isTiktoken(String source) {
    return EncodingType.fromName(source).isEmpty() && !source.endsWith(".json");
  }

  /** Added tokens have texts of their own: what they are does not matter to a token map. */
  static Vocabulary filledUp(Vocabulary vocabulary, int size) {
    if (size < vocabulary.size()) {
      throw new IllegalArgumentException(
          "--size is " + size + ", but the file has tokens for " + vocabulary.size() + " ids");
    }
    List<byte[]> tokens = new ArrayList<>(size);
    for (int id = 0; id < size; id++) {
      tokens.add(
          id < vocabulary.size()
              ? vocabulary.bytes(id)
              : ("<|engram added token " + id + "|>").getBytes(StandardCharsets.UTF_8));
    }
    return Vocabulary.ofBytes(tokens);
  }

  static String provenance(String source) throws IOException {
    return EncodingType.fromName(source).isPresent()
        ? "JTokkit " + source
        : TokenMapFile.provenanceOf(Path.of(source));
  }

  static Path ofCheckpoint(Path directory) {
    Path file = directory.resolve("tokenizer.json");
    if (!Files.isRegularFile(file)) {
      throw new IllegalArgumentException(
          directory
              + " has no tokenizer.json, so a text cannot be turned into its ids; engram hash and"
              + " engram forward take ids");
    }
    return file;
  }

  private static Optional<Tokenizer> embedded(String source) {
    return EncodingType.fromName(source).map(JtokkitTokenizer::of);
  }

  private static Path existing(String source) {
    Path file = Path.of(source);
    if (!Files.isRegularFile(file)) {
      throw new IllegalArgumentException(
          source
              + ": no such file, and none of the embedded encodings "
              + Arrays.stream(EncodingType.values()).map(EncodingType::getName).toList());
    }
    return file;
  }
}
