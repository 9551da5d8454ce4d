// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

import io.engram.EngramFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Objects;
import java.util.UUID;

/**
 * A token map that was read from a file, with what is known of its origin.
 *
 * <p>The frozen form is little-endian: 8 bytes magic, version, number of raw ids, number of
 * compressed ids, length of the provenance (4 bytes each), the provenance in UTF-8, zeros up to a
 * multiple of 4, one int32 for each raw id, and the sha256 of all that. The raw form is the int32
 * values alone, as released beside checkpoints.
 *
 * <p>Immutable and thread-safe.
 *
 * @param file the file
 * @param map its map
 * @param provenance what the map was made from, such as {@link #provenanceOf}; empty for the raw
 *     form
 */
public record TokenMapFile(Path file, TokenMap map, String provenance) {
  /** Not text (first byte) and damaged by any conversion of line ends (last bytes). */
  private static final byte[] MAGIC = {(byte) 0x89, 'E', 'N', 'G', 'T', 'M', '\r', '\n'};

  private static final int VERSION = 1;
  private static final int HEADER = 24;
  private static final int DIGEST = 32;
  private static final int MAX_PROVENANCE = 1 << 16;

  /** So that a file fits one array; vocabularies have some 10^5 ids. */
  private static final int MAX_SIZE = 1 << 28;

  /** Refuses null. */
  public TokenMapFile {
    Objects.requireNonNull(file, "file");
    Objects.requireNonNull(map, "map");
    Objects.requireNonNull(provenance, "provenance");
  }

  /**
   * Writes the frozen form. The file appears whole or not at all: it is written under another name
   * in the same directory, forced to disk and renamed over what was there.
   *
   * @param file the file
   * @param map the map
   * @param provenance what the map was made from, such as {@link #provenanceOf}; may be empty
   * @throws IOException if it cannot be written
   * @throws IllegalArgumentException if the map has more than 2^28 ids, or the provenance more than
   *     65,536 bytes or an unpaired surrogate
   */
  public static void write(Path file, TokenMap map, String provenance) throws IOException {
    FrozenUnicode.requireWellFormed(provenance);
    byte[] origin = provenance.getBytes(UTF_8);
    if (origin.length > MAX_PROVENANCE) {
      throw new IllegalArgumentException(
          "the provenance has " + origin.length + " bytes, expected at most " + MAX_PROVENANCE);
    }
    int payload = payloadStart(origin.length);
    ByteBuffer bytes = allocate(map, payload, DIGEST);
    bytes.put(MAGIC).putInt(VERSION).putInt(map.size()).putInt(map.compressedSize());
    bytes.putInt(origin.length).put(origin).position(payload);
    putValues(bytes, map);
    bytes.put(sha256(bytes, bytes.position()));
    replace(file, bytes.flip());
  }

  /**
   * Writes the raw form, as {@link #write} does.
   *
   * @param file the file
   * @param map the map
   * @throws IOException if it cannot be written
   * @throws IllegalArgumentException if the map has more than 2^28 ids
   */
  public static void writeRaw(Path file, TokenMap map) throws IOException {
    ByteBuffer bytes = allocate(map, 0, 0);
    putValues(bytes, map);
    replace(file, bytes.flip());
  }

  /**
   * Reads the frozen form and checks everything that it says.
   *
   * @param file the file
   * @return its map and provenance
   * @throws IOException if it cannot be read
   * @throws EngramFormatException if it is not such a file, is truncated, or a byte of it has
   *     changed
   */
  public static TokenMapFile read(Path file) throws IOException {
    ByteBuffer bytes;
    int size;
    int compressedSize;
    int originLength;
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      long length = channel.size();
      if (length < HEADER) {
        throw new EngramFormatException(
            file, "has " + length + " bytes, expected at least " + HEADER);
      }
      // Nothing is allocated for what the header says until the length of the file agrees.
      ByteBuffer header = readFully(file, channel, ByteBuffer.allocate(HEADER));
      checkMagicAndVersion(file, header);
      size = header.getInt();
      compressedSize = header.getInt();
      originLength = header.getInt();
      if (size < 1 || size > MAX_SIZE || originLength < 0 || originLength > MAX_PROVENANCE) {
        throw new EngramFormatException(
            file,
            "says "
                + size
                + " ids and "
                + originLength
                + " bytes of provenance, expected 1 to "
                + MAX_SIZE
                + " and 0 to "
                + MAX_PROVENANCE);
      }
      int expected = payloadStart(originLength) + size * Integer.BYTES + DIGEST;
      if (length != expected) {
        throw new EngramFormatException(
            file, "has " + length + " bytes, expected " + expected + " for " + size + " ids");
      }
      bytes = ByteBuffer.allocate(expected).put(header.rewind());
      readFully(file, channel, bytes);
    }
    int payload = payloadStart(originLength);
    int end = bytes.limit() - DIGEST;
    byte[] stored = new byte[DIGEST];
    bytes.get(end, stored);
    byte[] found = sha256(bytes, end);
    if (!MessageDigest.isEqual(stored, found)) {
      throw new EngramFormatException(
          file,
          "sha256 of the content is "
              + HexFormat.of().formatHex(found)
              + ", expected "
              + HexFormat.of().formatHex(stored)
              + " as stored: the file has changed");
    }
    String provenance;
    try {
      provenance = UTF_8.newDecoder().decode(bytes.slice(HEADER, originLength)).toString();
    } catch (CharacterCodingException e) {
      throw new EngramFormatException(file, "the provenance is not UTF-8", e);
    }
    for (int i = HEADER + originLength; i < payload; i++) {
      if (bytes.get(i) != 0) {
        throw new EngramFormatException(
            file, "byte " + i + " is " + bytes.get(i) + ", expected 0 up to the values");
      }
    }
    TokenMap map = values(file, bytes.position(payload).limit(end));
    return new TokenMapFile(file, map, provenance).requireSizes(size, compressedSize);
  }

  /**
   * Reads the raw form: one little-endian int32 for each raw id, numbered in the order in which the
   * values are first met. It carries no checksum: follow with {@link #requireSizes} or {@link
   * #requireSha256}.
   *
   * @param file the file
   * @return its map, with an empty provenance
   * @throws IOException if it cannot be read
   * @throws EngramFormatException if its length is no multiple of 4 or a value is out of order,
   *     naming the first
   */
  public static TokenMapFile readRaw(Path file) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      long length = channel.size();
      if (length % Integer.BYTES != 0 || length == 0 || length > (long) MAX_SIZE * Integer.BYTES) {
        throw new EngramFormatException(
            file,
            "has "
                + length
                + " bytes, expected a multiple of "
                + Integer.BYTES
                + " up to "
                + (long) MAX_SIZE * Integer.BYTES);
      }
      ByteBuffer bytes = readFully(file, channel, ByteBuffer.allocate((int) length));
      return new TokenMapFile(file, values(file, bytes), "");
    }
  }

  /**
   * A provenance that names a tokenizer's file: its file name and the sha256 of its bytes.
   *
   * @param tokenizerFile the file that the vocabulary was read from
   * @return such as {@code tokenizer.json sha256:c90d...}
   * @throws IOException if it cannot be read
   */
  public static String provenanceOf(Path tokenizerFile) throws IOException {
    MessageDigest digest = TokenMap.sha256();
    try (InputStream in = new DigestInputStream(Files.newInputStream(tokenizerFile), digest)) {
      byte[] buffer = new byte[1 << 16];
      while (in.read(buffer) >= 0) {}
    }
    return tokenizerFile.getFileName() + " sha256:" + HexFormat.of().formatHex(digest.digest());
  }

  /**
   * Refuses the map unless it has the sizes that a model's configuration says.
   *
   * @param size the number of raw ids ({@code vocab_size})
   * @param compressedSize the number of compressed ids ({@code engram_compressed_vocab_size})
   * @return this
   * @throws EngramFormatException if a size differs
   */
  public TokenMapFile requireSizes(int size, int compressedSize) {
    if (map.size() != size || map.compressedSize() != compressedSize) {
      throw new EngramFormatException(
          file,
          "maps "
              + map.size()
              + " ids to "
              + map.compressedSize()
              + ", expected "
              + size
              + " to "
              + compressedSize
              + ": every multiplier and row id depends on these sizes");
    }
    return this;
  }

  /**
   * Refuses the map unless its values have a known digest.
   *
   * @param sha256OfInt32 as {@link TokenMap#sha256OfInt32} gives it
   * @return this
   * @throws EngramFormatException if the digest differs
   */
  public TokenMapFile requireSha256(String sha256OfInt32) {
    String found = map.sha256OfInt32();
    if (!found.equals(sha256OfInt32)) {
      throw new EngramFormatException(
          file,
          "sha256 of the values is "
              + found
              + ", expected "
              + sha256OfInt32
              + ": made from another tokenizer or revision");
    }
    return this;
  }

  /**
   * Refuses the map unless it was made from what the caller has at hand.
   *
   * @param expected as given to {@link #write}, such as {@link #provenanceOf} of the tokenizer
   * @return this
   * @throws EngramFormatException if the provenance differs
   */
  public TokenMapFile requireProvenance(String expected) {
    if (!provenance.equals(expected)) {
      throw new EngramFormatException(
          file, "was made from '" + provenance + "', expected '" + expected + "'");
    }
    return this;
  }

  private static int payloadStart(int provenanceLength) {
    return (HEADER + provenanceLength + 3) & ~3;
  }

  private static ByteBuffer allocate(TokenMap map, int before, int after) {
    if (map.size() > MAX_SIZE) {
      throw new IllegalArgumentException(
          "the map has " + map.size() + " ids, expected at most " + MAX_SIZE);
    }
    return ByteBuffer.allocate(before + map.size() * Integer.BYTES + after)
        .order(ByteOrder.LITTLE_ENDIAN);
  }

  private static void putValues(ByteBuffer bytes, TokenMap map) {
    for (int id = 0; id < map.size(); id++) {
      bytes.putInt(map.get(id));
    }
  }

  private static TokenMap values(Path file, ByteBuffer bytes) {
    int[] values = new int[bytes.remaining() / Integer.BYTES];
    bytes.asIntBuffer().get(values);
    try {
      return TokenMap.takeOver(values);
    } catch (IllegalArgumentException e) {
      throw new EngramFormatException(file, e.getMessage(), e);
    }
  }

  private static byte[] sha256(ByteBuffer bytes, int end) {
    MessageDigest digest = TokenMap.sha256();
    digest.update(bytes.slice(0, end));
    return digest.digest();
  }

  private static void checkMagicAndVersion(Path file, ByteBuffer header) {
    byte[] magic = new byte[MAGIC.length];
    header.get(magic);
    if (!Arrays.equals(magic, MAGIC)) {
      throw new EngramFormatException(
          file,
          "starts with "
              + HexFormat.of().formatHex(magic)
              + ", expected "
              + HexFormat.of().formatHex(MAGIC)
              + ": no frozen token map");
    }
    int version = header.getInt();
    if (version != VERSION) {
      throw new EngramFormatException(file, "version is " + version + ", expected " + VERSION);
    }
  }

  /** Fills what remains of a buffer and makes it ready to be read from its start. */
  private static ByteBuffer readFully(Path file, FileChannel channel, ByteBuffer bytes)
      throws IOException {
    while (bytes.hasRemaining()) {
      if (channel.read(bytes) < 0) {
        throw new EngramFormatException(
            file, "ended after " + bytes.position() + " bytes, expected " + bytes.limit());
      }
    }
    return bytes.flip().order(ByteOrder.LITTLE_ENDIAN);
  }

  private static void replace(Path file, ByteBuffer bytes) throws IOException {
    Path target = file.toAbsolutePath();
    Path temporary = target.resolveSibling("." + target.getFileName() + "." + UUID.randomUUID());
    try {
      try (FileChannel channel =
          FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
        while (bytes.hasRemaining()) {
          channel.write(bytes);
        }
        channel.force(true);
      }
      Files.move(
          temporary, target, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    } finally {
      Files.deleteIfExists(temporary);
    }
  }
}
