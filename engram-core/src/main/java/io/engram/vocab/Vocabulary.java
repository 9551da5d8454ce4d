// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;

/**
 * What a tokenizer's ids stand for: for each id from 0 to {@link #size} - 1 its token, in the
 * byte-level spelling of GPT-2, and from it the bytes and the text.
 *
 * <p>Immutable and thread-safe.
 */
public final class Vocabulary {
  /** A null is an id without a token. */
  private final String[] tokens;

  /** Takes the array over. */
  Vocabulary(String[] tokens) {
    if (tokens.length == 0) {
      throw new IllegalArgumentException("a vocabulary needs at least one token");
    }
    this.tokens = tokens;
  }

  static Vocabulary of(TokenizerJson json) {
    return new Vocabulary(json.tokens().toArray(String[]::new));
  }

  /**
   * The vocabulary of any byte-level tokenizer, from the bytes of its tokens. Two ids may stand for
   * the same bytes.
   *
   * @param tokens the bytes of id 0, of id 1 and so on, at least one
   * @return the vocabulary
   * @throws IllegalArgumentException if the list is empty
   */
  public static Vocabulary ofBytes(List<byte[]> tokens) {
    return new Vocabulary(tokens.stream().map(ByteAlphabet::spell).toArray(String[]::new));
  }

  /**
   * Reads the vocabulary of a HuggingFace {@code tokenizer.json}: a BPE model with the ByteLevel
   * decoder and its added tokens.
   *
   * <p>Only what decides the text of an id is looked at, so vocabularies are read whose text
   * splitting {@link Tokenizer#readTokenizerJson} refuses. Ids must be 0 to n - 1 without a gap,
   * and an added token must have the id that the reference gives it: that of the model's
   * vocabulary, or else the next one in the order of the file.
   *
   * @param file the file
   * @return its vocabulary
   * @throws IOException if the file cannot be read
   * @throws io.engram.EngramFormatException if it is not such a file, naming what was found
   */
  public static Vocabulary readTokenizerJson(Path file) throws IOException {
    return of(TokenizerJson.read(file, false));
  }

  /**
   * Reads a tiktoken file: one line for each token, its bytes in base64, a space, its id. It may be
   * compressed with gzip. Each id from 0 to the largest must have a token.
   *
   * @param file the file
   * @return its vocabulary
   * @throws IOException if the file cannot be read
   * @throws io.engram.EngramFormatException if it is not such a file, naming the line
   */
  public static Vocabulary readTiktoken(Path file) throws IOException {
    return new Vocabulary(TiktokenFile.read(file, null));
  }

  /**
   * Reads a tiktoken file and its special tokens.
   *
   * <p>A special token may repeat a token of the tiktoken file, with the same id and text. Each id
   * from 0 to the largest must have a token in one of the two: a forgotten special token would
   * change the compressed size.
   *
   * @param file the tiktoken file, as in {@link #readTiktoken(Path)}
   * @param specials a JSON object from the text of each special token to its id
   * @return the vocabulary of both
   * @throws IOException if a file cannot be read
   * @throws io.engram.EngramFormatException if a file is not of its form, naming what was found
   */
  public static Vocabulary readTiktoken(Path file, Path specials) throws IOException {
    return new Vocabulary(TiktokenFile.read(file, Objects.requireNonNull(specials, "specials")));
  }

  /**
   * The number of ids, {@code len(tokenizer)} in the field's words.
   *
   * @return one more than the largest id
   */
  public int size() {
    return tokens.length;
  }

  /**
   * Whether an id has a token. Some vocabularies leave ids between the last base token and the
   * special ones unused.
   *
   * @param id 0 to size - 1
   * @return whether it stands for a token
   * @throws IllegalArgumentException if the id is out of range
   */
  public boolean isToken(int id) {
    return at(id) != null;
  }

  /**
   * The token as the tokenizer spells it: each byte as one printable character, a space as U+0120;
   * special tokens as they are.
   *
   * @param id 0 to size - 1
   * @return the token
   * @throws IllegalArgumentException if the id is out of range or has no token
   */
  public String token(int id) {
    String token = at(id);
    if (token == null) {
      throw new IllegalArgumentException("id " + id + " has no token in " + this);
    }
    return token;
  }

  /**
   * The bytes that an id stands for, which may be part of a character only.
   *
   * @param id 0 to size - 1
   * @return a new array
   * @throws IllegalArgumentException if the id is out of range or has no token
   */
  public byte[] bytes(int id) {
    return ByteAlphabet.bytesOf(token(id));
  }

  /**
   * The text that an id stands for.
   *
   * @param id 0 to size - 1
   * @return its bytes as UTF-8, U+FFFD for each maximal part that is ill-formed
   * @throws IllegalArgumentException if the id is out of range or has no token
   */
  public String text(int id) {
    return LossyUtf8.decode(bytes(id));
  }

  /**
   * The text of a sequence of ids: all their bytes as UTF-8, so that characters cut in two by the
   * tokenizer are whole again. Special tokens are included.
   *
   * @param ids ids, each 0 to size - 1
   * @return the text, U+FFFD for each maximal part that is ill-formed
   * @throws IllegalArgumentException if an id is out of range or has no token, naming its position
   */
  public String decode(int... ids) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(ids.length * 4);
    for (int i = 0; i < ids.length; i++) {
      if (ids[i] < 0 || ids[i] >= tokens.length || tokens[ids[i]] == null) {
        throw new IllegalArgumentException(
            "id " + ids[i] + " at position " + i + " is not a token of " + this);
      }
      bytes.writeBytes(ByteAlphabet.bytesOf(tokens[ids[i]]));
    }
    return LossyUtf8.decode(bytes.toByteArray());
  }

  private String at(int id) {
    if (id < 0 || id >= tokens.length) {
      throw new IllegalArgumentException("id is " + id + ", expected 0 to " + (tokens.length - 1));
    }
    return tokens[id];
  }

  @Override
  public String toString() {
    return "Vocabulary of " + tokens.length + " ids";
  }
}
