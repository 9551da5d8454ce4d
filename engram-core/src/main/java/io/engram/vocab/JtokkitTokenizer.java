// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import com.knuddels.jtokkit.Encodings;
import com.knuddels.jtokkit.api.Encoding;
import com.knuddels.jtokkit.api.EncodingType;
import com.knuddels.jtokkit.api.IntArrayList;

/**
 * A tokenizer of the optional library JTokkit, which carries the vocabularies of OpenAI: text to
 * ids without any file. Needs {@code com.knuddels:jtokkit} on the class path; no other class of
 * this library refers to it.
 *
 * <p>Special tokens written in a text are encoded as plain text.
 *
 * <p>Immutable and thread-safe.
 */
public final class JtokkitTokenizer implements Tokenizer {

  private final Encoding encoding;
  private final Vocabulary vocabulary;

  private JtokkitTokenizer(Encoding encoding, Vocabulary vocabulary) {
    this.encoding = encoding;
    this.vocabulary = vocabulary;
  }

  /**
   * The encoding {@code cl100k_base}: 100,277 ids, of which 100,256 and 100,261 to 100,275 have no
   * token.
   *
   * @return the tokenizer
   */
  public static JtokkitTokenizer cl100kBase() {
    return of(EncodingType.CL100K_BASE);
  }

  /**
   * An encoding that JTokkit brings along.
   *
   * @param type which one
   * @return the tokenizer
   */
  public static JtokkitTokenizer of(EncodingType type) {
    int size =
        switch (type) {
          case R50K_BASE -> 50_257;
          case P50K_BASE -> 50_281;
          case P50K_EDIT -> 50_284;
          case CL100K_BASE -> 100_277;
          case O200K_BASE -> 200_019;
        };
    return of(Encodings.newLazyEncodingRegistry().getEncoding(type), size);
  }

  /**
   * Any encoding of JTokkit.
   *
   * @param encoding the encoding
   * @param size one more than its largest id, special tokens included; JTokkit does not tell
   * @return the tokenizer
   * @throws IllegalArgumentException if size - 1 is no id of the encoding, or size is one
   */
  public static JtokkitTokenizer of(Encoding encoding, int size) {
    if (size < 1 || bytes(encoding, size - 1) == null || bytes(encoding, size) != null) {
      throw new IllegalArgumentException(
          "size is " + size + ", expected one more than the largest id of " + encoding.getName());
    }
    String[] tokens = new String[size];
    for (int id = 0; id < size; id++) {
      byte[] bytes = bytes(encoding, id);
      tokens[id] = bytes == null ? null : ByteAlphabet.spell(bytes);
    }
    return new JtokkitTokenizer(encoding, new Vocabulary(tokens));
  }

  /** The bytes of an id, or null if it has no token. */
  private static byte[] bytes(Encoding encoding, int id) {
    IntArrayList one = new IntArrayList(1);
    one.add(id);
    try {
      return encoding.decodeBytes(one);
    } catch (NullPointerException | IllegalArgumentException e) {
      // How it says that there is no such token depends on the version.
      return null;
    }
  }

  @Override
  public int[] encode(String text) {
    FrozenUnicode.requireWellFormed(text);
    return encoding.encodeOrdinary(text).toArray();
  }

  @Override
  public Vocabulary vocabulary() {
    return vocabulary;
  }

  @Override
  public String toString() {
    return encoding.getName() + " with a " + vocabulary;
  }
}
