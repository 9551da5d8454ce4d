// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.vocab.JtokkitTokenizer;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Vocabulary;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;

/**
 * A vocabulary for a small model: the tokens of {@code cl100k_base} that a text needs most, with
 * ids of its own.
 *
 * <p>Ids 0 to 255 are the single bytes, so that every text can be spelt and comes back as it was;
 * the kept tokens follow: three quarters are the most frequent of the text, the most frequent
 * first, and the others the earliest merges of {@code cl100k_base}, which rare words consist of. A
 * token that was not kept is spelt with the longest kept tokens that fit, from left to right. A
 * model of a few thousand ids spends its parameters on the text, instead of on 100,277 rows of
 * which it would meet a tenth.
 *
 * <p>Immutable and thread-safe.
 */
public final class SmallVocabulary {
  /** The id of the byte 0, which no text of a corpus has: it stands between documents. */
  public static final int BOUNDARY = 0;

  private static final int BYTES = 256;

  /** One kept token of so many is there to spell rare words with. */
  private static final int PIECES = 4;

  private final JtokkitTokenizer tokenizer;
  private final List<byte[]> tokens;
  private final Vocabulary vocabulary;

  /** What each id of the large vocabulary is spelt with; filled before the constructor returns. */
  private final int[][] spelling;

  private SmallVocabulary(JtokkitTokenizer tokenizer, List<byte[]> tokens) {
    this.tokenizer = tokenizer;
    this.tokens = tokens;
    this.vocabulary = Vocabulary.ofBytes(tokens);
    Map<String, Integer> ids = new HashMap<>(tokens.size() * 2);
    int longest = 1;
    for (int id = 0; id < tokens.size(); id++) {
      Integer before = ids.putIfAbsent(latin(tokens.get(id)), id);
      if (before != null) {
        throw new IllegalArgumentException("tokens " + before + " and " + id + " are the same");
      }
      longest = Math.max(longest, tokens.get(id).length);
    }
    Vocabulary large = tokenizer.vocabulary();
    this.spelling = new int[large.size()][];
    for (int id = 0; id < spelling.length; id++) {
      if (large.isToken(id)) {
        spelling[id] = spell(latin(large.bytes(id)), ids, longest);
      }
    }
  }

  /** Bytes as a string of as many characters, which can be a key. */
  private static String latin(byte[] bytes) {
    return new String(bytes, StandardCharsets.ISO_8859_1);
  }

  private static int[] spell(String token, Map<String, Integer> ids, int longest) {
    int[] out = new int[token.length()];
    int count = 0;
    for (int at = 0; at < token.length(); ) {
      int length = Math.min(longest, token.length() - at);
      while (!ids.containsKey(token.substring(at, at + length))) {
        length--;
      }
      out[count++] = ids.get(token.substring(at, at + length));
      at += length;
    }
    return Arrays.copyOf(out, count);
  }

  /**
   * Chooses the tokens for some texts.
   *
   * @param texts what a model is to be trained on
   * @param kept how many tokens to keep beside the 256 bytes, not negative
   * @return the vocabulary, the same for the same texts
   * @throws IllegalArgumentException if kept is negative
   */
  public static SmallVocabulary choose(Collection<String> texts, int kept) {
    if (kept < 0) {
      throw new IllegalArgumentException("kept is " + kept + ", expected at least 0");
    }
    JtokkitTokenizer tokenizer = JtokkitTokenizer.cl100kBase();
    Vocabulary large = tokenizer.vocabulary();
    int[] counts = new int[large.size()];
    for (String text : texts) {
      for (int id : tokenizer.encode(text)) {
        counts[id]++;
      }
    }
    IntPredicate longer = id -> large.isToken(id) && large.bytes(id).length > 1;
    Set<Integer> chosen = new LinkedHashSet<>();
    IntStream.range(0, counts.length)
        .filter(id -> counts[id] > 0)
        .filter(longer)
        .boxed()
        .sorted(
            Comparator.<Integer>comparingInt(id -> -counts[id])
                .thenComparing(Comparator.naturalOrder()))
        .limit(kept - kept / PIECES)
        .forEach(chosen::add);
    IntStream.range(0, counts.length)
        .filter(longer)
        .takeWhile(_ -> chosen.size() < kept)
        .forEach(chosen::add);
    List<byte[]> tokens = singleBytes();
    chosen.forEach(id -> tokens.add(large.bytes(id)));
    return new SmallVocabulary(tokenizer, List.copyOf(tokens));
  }

  private static List<byte[]> singleBytes() {
    List<byte[]> tokens = new ArrayList<>();
    for (int b = 0; b < BYTES; b++) {
      tokens.add(new byte[] {(byte) b});
    }
    return tokens;
  }

  /**
   * The number of ids.
   *
   * @return ids are 0 to size - 1
   */
  public int size() {
    return tokens.size();
  }

  /**
   * The ids of a text.
   *
   * @param text well-formed Unicode
   * @return a new array
   * @throws IllegalArgumentException if the text has half of a surrogate pair
   */
  public int[] encode(String text) {
    int[] large = tokenizer.encode(text);
    int length = 0;
    for (int id : large) {
      length += spelling[id].length;
    }
    int[] out = new int[length];
    int at = 0;
    for (int id : large) {
      System.arraycopy(spelling[id], 0, out, at, spelling[id].length);
      at += spelling[id].length;
    }
    return out;
  }

  /**
   * The text of ids: what {@link #encode} was given, if they are its result.
   *
   * @param ids ids, each 0 to size - 1
   * @return the text, U+FFFD for each maximal part that is no UTF-8
   * @throws IllegalArgumentException if an id is out of range
   */
  public String decode(int... ids) {
    return vocabulary.decode(ids);
  }

  /**
   * The bytes of one id.
   *
   * @param id 0 to size - 1
   * @return a new array
   * @throws IndexOutOfBoundsException if the id is out of range
   */
  public byte[] bytes(int id) {
    return tokens.get(Objects.checkIndex(id, tokens.size())).clone();
  }

  /**
   * The tokens as the library knows vocabularies.
   *
   * @return a vocabulary of the same ids
   */
  public Vocabulary vocabulary() {
    return vocabulary;
  }

  /**
   * The compressed ids that a memory hashes: spellings that mean the same share one (paper, section
   * 2.2).
   *
   * @return a map for these ids
   */
  public TokenMap tokenMap() {
    return TokenMap.compress(vocabulary);
  }

  /**
   * The vocabulary as a tiktoken file: one line for each id, its bytes in base64, a space, the id.
   *
   * @return ASCII
   */
  public byte[] toBytes() {
    StringBuilder lines = new StringBuilder();
    for (int id = 0; id < tokens.size(); id++) {
      lines.append(Base64.getEncoder().encodeToString(tokens.get(id))).append(' ').append(id);
      lines.append('\n');
    }
    return lines.toString().getBytes(StandardCharsets.US_ASCII);
  }

  /**
   * Reads what {@link #toBytes} wrote.
   *
   * @param bytes the lines
   * @return the same vocabulary
   * @throws IllegalArgumentException if a line is not as written, naming it, or the first 256 ids
   *     are not the single bytes
   */
  public static SmallVocabulary fromBytes(byte[] bytes) {
    List<String> lines = new String(bytes, StandardCharsets.US_ASCII).lines().toList();
    List<byte[]> tokens = new ArrayList<>();
    for (int id = 0; id < lines.size(); id++) {
      int space = lines.get(id).indexOf(' ');
      if (space < 1 || !lines.get(id).substring(space + 1).equals(Integer.toString(id))) {
        throw new IllegalArgumentException(
            "line "
                + (id + 1)
                + " of a vocabulary is \""
                + lines.get(id)
                + "\", expected base64, a space and "
                + id);
      }
      tokens.add(Base64.getDecoder().decode(lines.get(id).substring(0, space)));
    }
    for (int b = 0; b < BYTES; b++) {
      if (tokens.size() <= b || tokens.get(b).length != 1 || tokens.get(b)[0] != (byte) b) {
        throw new IllegalArgumentException(
            "id " + b + " of a vocabulary is not the byte " + b + ": it was cut or is another's");
      }
    }
    return new SmallVocabulary(JtokkitTokenizer.cl100kBase(), List.copyOf(tokens));
  }

  @Override
  public String toString() {
    return "SmallVocabulary of " + tokens.size() + " ids";
  }
}
