// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.io.IOException;
import java.nio.file.Path;

/**
 * Text to token ids and back.
 *
 * <p>Implementations are immutable and thread-safe.
 */
public interface Tokenizer {
  /**
   * The ids of a text. No special token is added at its start or end; whether special tokens
   * written in the text are recognised is up to the implementation.
   *
   * @param text well-formed Unicode text
   * @return its ids, none for an empty text
   * @throws IllegalArgumentException if the text holds an unpaired surrogate
   */
  int[] encode(String text);

  /**
   * The text of a sequence of ids, special tokens included.
   *
   * @param ids ids of the vocabulary
   * @return their bytes as UTF-8, U+FFFD for each maximal part that is ill-formed
   * @throws IllegalArgumentException if an id is no token of the vocabulary, naming its position
   */
  default String decode(int... ids) {
    return vocabulary().decode(ids);
  }

  /**
   * What the ids stand for.
   *
   * @return the vocabulary
   */
  Vocabulary vocabulary();

  /**
   * Reads a HuggingFace {@code tokenizer.json} with a byte-level BPE model, as the released models
   * have it.
   *
   * <p>Its ids equal those of the Rust library {@code tokenizers} without special tokens added (the
   * post-processor is not run) and with added tokens recognised wherever they are written, special
   * ones too. Supported: the normalizers NFC or none; the pre-tokenizers Split, Digits and
   * ByteLevel, alone or in a Sequence that ends in ByteLevel; added tokens with all their flags;
   * {@code ignore_merges}. Anything else is refused by name, truncation and padding included.
   *
   * <p>Regular expressions are written for Oniguruma. The part of its syntax is accepted that means
   * the same on the JDK: literals, classes of literals, ranges, {@code \s \d \p{L}} and the other
   * general categories, alternation, look-ahead, quantifiers, and case-insensitive groups of ASCII
   * letters. Tests compare every general category, {@code \s} and {@code \d} on every code point,
   * and whole tokenizers of the DeepSeek, Qwen and GPT-2 shapes on random multilingual text.
   * Verified on JDK 25, whose general categories are those of Unicode 16, as in versions 0.21 to
   * 0.23 of the library; on another JDK, letters that are younger than that may be cut differently.
   *
   * @param file the file
   * @return its tokenizer
   * @throws IOException if the file cannot be read
   * @throws io.engram.EngramFormatException if it is not such a file or needs something that is not
   *     supported, naming what was found
   */
  static Tokenizer readTokenizerJson(Path file) throws IOException {
    return BpeTokenizer.read(file);
  }
}
