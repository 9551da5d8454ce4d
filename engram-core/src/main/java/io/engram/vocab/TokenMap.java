// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import io.engram.hash.Lookback;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/**
 * Raw token id to compressed id: ids whose tokens read alike get one number (paper, section 2.2;
 * released {@code engram.py}). Numbers are given in the order in which the ids are first met, so
 * the map starts with 0 and each new value is one more than the largest before it.
 *
 * <p>Multipliers, moduli and rows all follow from {@link #compressedSize}; a map that differs in
 * one number reads other rows of a table and nothing shows it. Compare {@link #sha256OfInt32} with
 * a published digest, or keep the map itself with {@link TokenMapFile}.
 *
 * <p>Immutable and thread-safe.
 */
public final class TokenMap {
  private final int[] compressed;
  private final int compressedSize;

  /** Takes over an array that has been checked. */
  private TokenMap(int[] compressed, int compressedSize) {
    this.compressed = compressed;
    this.compressedSize = compressedSize;
  }

  /**
   * Compresses a vocabulary: the key of an id is its normalised text; the text itself if nothing of
   * it is left; the token's spelling if its bytes are not UTF-8. Equal keys share a number,
   * whatever they come from. Ids without a token share the empty key.
   *
   * @param vocabulary the vocabulary, special tokens included
   * @return its map
   */
  public static TokenMap compress(Vocabulary vocabulary) {
    return compress(vocabulary, TextNormalizer::normalize);
  }

  static TokenMap compress(Vocabulary vocabulary, UnaryOperator<String> normalizer) {
    int[] compressed = new int[vocabulary.size()];
    Map<String, Integer> numbers = new HashMap<>(compressed.length * 2);
    for (int id = 0; id < compressed.length; id++) {
      String key = TokenKey.of(vocabulary, id, normalizer).text();
      Integer number = numbers.putIfAbsent(key, numbers.size());
      compressed[id] = number == null ? numbers.size() - 1 : number;
    }
    return new TokenMap(compressed, numbers.size());
  }

  /**
   * The map that leaves every id as it is, for variants that hash raw ids.
   *
   * @param size number of ids, at least 1
   * @return the map
   * @throws IllegalArgumentException if the size is not positive
   */
  public static TokenMap identity(int size) {
    if (size < 1) {
      throw new IllegalArgumentException("size is " + size + ", expected at least 1");
    }
    return new TokenMap(IntStream.range(0, size).toArray(), size);
  }

  /**
   * A map from its values.
   *
   * @param compressed the compressed id of raw id 0, 1 and so on; copied
   * @return the map
   * @throws IllegalArgumentException if there are none, or the values are not numbered in the order
   *     in which they are first met, naming the first that is not
   */
  public static TokenMap of(int... compressed) {
    return takeOver(compressed.clone());
  }

  static TokenMap takeOver(int[] compressed) {
    if (compressed.length == 0) {
      throw new IllegalArgumentException("a token map needs at least one id");
    }
    int next = 0;
    for (int id = 0; id < compressed.length; id++) {
      int value = compressed[id];
      if (value < 0 || value > next) {
        throw new IllegalArgumentException(
            "token id "
                + id
                + " has the compressed id "
                + value
                + ", expected 0 to "
                + next
                + ": numbers are given in the order in which they are first met");
      }
      if (value == next) {
        next++;
      }
    }
    return new TokenMap(compressed, next);
  }

  /**
   * The number of raw ids.
   *
   * @return raw ids are 0 to size - 1
   */
  public int size() {
    return compressed.length;
  }

  /**
   * The number of compressed ids: the vocabulary size that hashing is made for.
   *
   * @return compressed ids are 0 to compressedSize - 1
   */
  public int compressedSize() {
    return compressedSize;
  }

  /**
   * The compressed id of one raw id.
   *
   * @param id 0 to size - 1
   * @return its compressed id
   * @throws IllegalArgumentException if the id is out of range
   */
  public int get(int id) {
    if (id < 0 || id >= compressed.length) {
      throw new IllegalArgumentException(
          "token id is " + id + ", expected 0 to " + (compressed.length - 1));
    }
    return compressed[id];
  }

  /**
   * Compresses a sequence of ids.
   *
   * @param ids raw ids, each 0 to size - 1
   * @return a new array of their compressed ids
   * @throws IllegalArgumentException if an id is out of range, naming its position
   */
  public int[] map(int... ids) {
    int[] out = new int[ids.length];
    map(ids, 0, ids.length, out, 0);
    return out;
  }

  /**
   * Compresses a run of ids. The output may be the input, at the same place.
   *
   * @param ids raw ids, each 0 to size - 1
   * @param from where to start in ids
   * @param count how many ids
   * @param out where compressed ids go
   * @param outFrom where to start in out
   * @throws IndexOutOfBoundsException if a run lies outside its array
   * @throws IllegalArgumentException if an id is out of range, naming its position in ids; out then
   *     holds the ids before it
   */
  public void map(int[] ids, int from, int count, int[] out, int outFrom) {
    map(ids, from, count, out, outFrom, compressed.length);
  }

  /**
   * Compresses a run of ids in which positions without a token are marked by {@link Lookback#DEAD},
   * which stays as it is. The output may be the input, at the same place.
   *
   * @param ids raw ids, each 0 to size - 1 or {@link Lookback#DEAD}
   * @param from where to start in ids
   * @param count how many ids
   * @param out where compressed ids go
   * @param outFrom where to start in out
   * @throws IndexOutOfBoundsException if a run lies outside its array
   * @throws IllegalArgumentException if an id is out of range, naming its position in ids; out then
   *     holds the ids before it
   */
  public void mapOrDead(int[] ids, int from, int count, int[] out, int outFrom) {
    map(ids, from, count, out, outFrom, Lookback.DEAD);
  }

  /** A value that is passed through as it is: DEAD, or one that cannot be asked for. */
  private void map(int[] ids, int from, int count, int[] out, int outFrom, int passed) {
    Objects.checkFromIndexSize(from, count, ids.length);
    Objects.checkFromIndexSize(outFrom, count, out.length);
    int[] map = compressed;
    for (int i = 0; i < count; i++) {
      int id = ids[from + i];
      if (Integer.compareUnsigned(id, map.length) < 0) {
        out[outFrom + i] = map[id];
      } else if (id == Lookback.DEAD && passed == Lookback.DEAD) {
        out[outFrom + i] = Lookback.DEAD;
      } else {
        throw new IllegalArgumentException(
            "token id at position "
                + (from + i)
                + " is "
                + id
                + ", expected 0 to "
                + (map.length - 1)
                + (passed == Lookback.DEAD ? ", or -1 for no token" : ""));
      }
    }
  }

  /**
   * All compressed ids.
   *
   * @return a new array: the compressed id of raw id 0, 1 and so on
   */
  public int[] toArray() {
    return compressed.clone();
  }

  /**
   * The digest of the map as 32-bit integers, which ports of DeepSeek-V4.1-Flash publish.
   *
   * @return sha256 of all values as little-endian int32, 64 lower-case hexadecimal digits
   */
  public String sha256OfInt32() {
    return sha256(Integer.BYTES);
  }

  /**
   * The digest of the map as 64-bit integers.
   *
   * @return sha256 of all values as little-endian int64, 64 lower-case hexadecimal digits
   */
  public String sha256OfInt64() {
    return sha256(Long.BYTES);
  }

  private String sha256(int width) {
    MessageDigest digest = sha256();
    ByteBuffer buffer = ByteBuffer.allocate(8192 * width).order(ByteOrder.LITTLE_ENDIAN);
    for (int value : compressed) {
      if (width == Long.BYTES) {
        buffer.putLong(value);
      } else {
        buffer.putInt(value);
      }
      if (!buffer.hasRemaining()) {
        digest.update(buffer.flip());
        buffer.clear();
      }
    }
    digest.update(buffer.flip());
    return HexFormat.of().formatHex(digest.digest());
  }

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }

  /**
   * Raw ids that share a compressed id.
   *
   * @param compressedId their compressed id
   * @param key the string that they share
   * @param tokenIds the raw ids, ascending, at least two
   */
  public record MergeClass(int compressedId, String key, List<Integer> tokenIds) {
    /** Copies the list. */
    public MergeClass {
      Objects.requireNonNull(key, "key");
      tokenIds = List.copyOf(tokenIds);
    }
  }

  /**
   * What was merged, to look at: classes of more than one id, the largest first, those of one size
   * by compressed id (paper, table 6).
   *
   * @param vocabulary the vocabulary of the map, for the keys
   * @param limit how many classes at most, not negative
   * @return the largest classes
   * @throws IllegalArgumentException if the vocabulary has another size than the map
   */
  public List<MergeClass> mergeClasses(Vocabulary vocabulary, int limit) {
    if (vocabulary.size() != compressed.length) {
      throw new IllegalArgumentException(
          "the map is for " + compressed.length + " ids, the vocabulary has " + vocabulary.size());
    }
    Map<Integer, List<Integer>> classes =
        IntStream.range(0, compressed.length)
            .boxed()
            .collect(Collectors.groupingBy(id -> compressed[id]));
    return classes.entrySet().stream()
        .filter(e -> e.getValue().size() > 1)
        .sorted(
            Comparator.<Map.Entry<Integer, List<Integer>>>comparingInt(e -> -e.getValue().size())
                .thenComparingInt(Map.Entry::getKey))
        .limit(limit)
        .map(e ->
            new MergeClass(
                e.getKey(),
                TokenKey.of(vocabulary, e.getValue().getFirst(), TextNormalizer::normalize).text(),
                e.getValue()))
        .toList();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof TokenMap map && Arrays.equals(compressed, map.compressed);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(compressed);
  }

  @Override
  public String toString() {
    return "TokenMap of " + compressed.length + " ids to " + compressedSize;
  }
}
