// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramFormatException;
import io.engram.shard.ShardLayout;
import io.engram.table.RowDigest;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.EOFException;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.zip.CRC32C;

/**
 * What a packed file says of itself.
 *
 * @param identity the whole table, its content digest included
 * @param tableScale the scale of the whole table, for {@link RowFormat#FP8_TENSOR} alone
 * @param shard which shard of the table the file is
 * @param layout how the table is divided, if it is
 * @param fileDigest {@link RowDigest} of the rows of the file
 * @param source what the file was made from, for people
 * @param tensors what the rows of the table were called where they came from
 */
record PackedHeader(
    TableIdentity identity,
    Optional<Float> tableScale,
    int shard,
    Optional<ShardLayout> layout,
    String fileDigest,
    String source,
    List<SourceTensor> tensors) {
  /** The header is whole pages, so that rows begin at one. */
  static final int PAGE = 4096;

  private static final long MAGIC = littleEndian(0x89454E4752570D0AL);

  /** In the place of the magic while the file is being made. */
  private static final long UNFINISHED_MAGIC = littleEndian(0x89454E4752500D0AL);

  private static final int VERSION = 1;
  private static final int LARGEST = 1 << 24;
  private static final int MOST_TEXT = 1 << 20;

  /** Bytes before the first text. */
  private static final int FIXED = 168;

  private static final int DIGEST_BYTES = 32;
  private static final List<RowFormat> FORMATS =
      List.of(
          RowFormat.F32,
          RowFormat.BF16,
          RowFormat.F16,
          RowFormat.FP8_BLOCK32,
          RowFormat.FP8_TENSOR);

  PackedHeader {
    tensors = List.copyOf(tensors);
  }

  private static long littleEndian(long bytes) {
    return Long.reverseBytes(bytes);
  }

  long rows() {
    return layout.map(l -> l.rows(shard)).orElse(identity.rowCount());
  }

  int shards() {
    return layout.map(ShardLayout::shards).orElse(1);
  }

  List<RowRange> ranges() {
    return Division.ranges(layout, shard, identity.rowCount());
  }

  int rowBytes() {
    return identity.rowBytes();
  }

  long rowsBytes() {
    return Math.multiplyExact(rows(), (long) rowBytes());
  }

  /** Bytes of a file with this header. */
  long fileBytes() {
    return fileBytes(size(), rows(), rowBytes());
  }

  private static long fileBytes(long headerBytes, long rows, long rowBytes) {
    return Math.addExact(
        Math.addExact(headerBytes, Math.multiplyExact(rows, rowBytes)),
        Math.multiplyExact((long) RowDigest.blocks(rows), (long) Integer.BYTES));
  }

  int size() {
    return encode().capacity();
  }

  ByteBuffer encode() {
    byte[] about = utf8(source);
    byte[] division = utf8(layout.map(ShardLayout::describe).orElse(""));
    long needed = FIXED + 8L + about.length + division.length + Integer.BYTES;
    for (SourceTensor tensor : tensors) {
      needed += 16 + utf8(tensor.values()).length + utf8(tensor.scales().orElse("")).length;
    }
    if (needed > LARGEST || Math.max(about.length, division.length) > MOST_TEXT) {
      throw new IllegalArgumentException(
          "the header of a packed file would take %d bytes, expected at most %d: %d tensors,"
                  .formatted(needed, LARGEST, tensors.size())
              + " divided as "
              + layout);
    }
    int bytes = Math.ceilDiv((int) needed, PAGE) * PAGE;
    ByteBuffer out = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    out.putLong(MAGIC).putInt(VERSION).putInt(bytes);
    out.putInt(identity.layer()).putInt(1 + FORMATS.indexOf(identity.format()));
    out.putInt(identity.headDim()).putInt(rowBytes());
    out.putLong(identity.rowCount()).putLong(rows());
    out.putInt(RowDigest.BLOCK_ROWS).putFloat(tableScale.orElse(0f));
    out.putInt(shard).putInt(shards()).putInt(tensors.size()).putInt(0);
    out.put(digest(identity.layoutDigest()));
    out.put(digest(identity.contentDigest().orElseThrow()));
    out.put(digest(fileDigest));
    putText(out, about);
    putText(out, division);
    for (SourceTensor tensor : tensors) {
      out.putLong(tensor.rows());
      putText(out, utf8(tensor.values()));
      putText(out, utf8(tensor.scales().orElse("")));
    }
    out.position(bytes - Integer.BYTES);
    out.putInt(checksum(out.array(), bytes - Integer.BYTES));
    return out.flip();
  }

  /** The first page of a file that is being made, which no reader takes for a header. */
  static ByteBuffer unfinished(byte[] job) {
    ByteBuffer out = ByteBuffer.allocate(PAGE).order(ByteOrder.LITTLE_ENDIAN);
    return out.putLong(UNFINISHED_MAGIC).put(job).rewind();
  }

  private static byte[] utf8(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  private static void putText(ByteBuffer out, byte[] text) {
    out.putInt(text.length).put(text);
  }

  private static byte[] digest(String hex) {
    byte[] bytes = HexFormat.of().parseHex(hex);
    if (bytes.length != DIGEST_BYTES) {
      throw new IllegalArgumentException("a digest of " + bytes.length + " bytes, expected 32");
    }
    return bytes;
  }

  private static int checksum(byte[] bytes, int count) {
    CRC32C crc = new CRC32C();
    crc.update(bytes, 0, count);
    return (int) crc.getValue();
  }

  /**
   * Reads and checks a header.
   *
   * @throws EngramFormatException if it is none, damaged, of another version, says what cannot be,
   *     or is not of a file of this size
   */
  static PackedHeader read(Path file, FileChannel channel, long size) throws IOException {
    ByteBuffer start = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN);
    if (size < PAGE) {
      throw new EngramFormatException(
          file, "is no packed row file: it has " + size + " bytes, a header alone has " + PAGE);
    }
    readFully(channel, start, 0);
    long magic = start.getLong(0);
    if (magic == UNFINISHED_MAGIC) {
      throw new EngramFormatException(
          file,
          "is a packed row file that is not finished: run engram convert again, which goes on where"
              + " it stopped");
    }
    if (magic != MAGIC) {
      throw new EngramFormatException(
          file,
          "is no packed row file: it starts with %016x, expected %016x"
              .formatted(Long.reverseBytes(magic), Long.reverseBytes(MAGIC)));
    }
    if (start.getInt(8) != VERSION) {
      throw new EngramFormatException(
          file, "is a packed row file of version " + start.getInt(8) + ", read here is " + VERSION);
    }
    int bytes = start.getInt(12);
    if (bytes < PAGE || bytes > LARGEST || bytes % PAGE != 0 || bytes > size) {
      throw new EngramFormatException(
          file,
          "a header of "
              + bytes
              + " bytes, expected a multiple of 4,096 up to "
              + LARGEST
              + " in a file of "
              + size);
    }
    ByteBuffer in = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    readFully(channel, in, 0);
    int expected = in.getInt(bytes - Integer.BYTES);
    int found = checksum(in.array(), bytes - Integer.BYTES);
    if (expected != found) {
      throw new EngramFormatException(
          file,
          "the header is damaged: its checksum is %08x, expected %08x".formatted(found, expected));
    }
    PackedHeader header;
    try {
      header = parse(in.position(16).limit(bytes - Integer.BYTES));
    } catch (IllegalArgumentException
        | ArithmeticException
        | BufferUnderflowException
        | CharacterCodingException e) {
      throw new EngramFormatException(file, "the header says what cannot be: " + e.getMessage(), e);
    }
    long wanted = fileBytes(bytes, header.rows(), header.rowBytes());
    if (size != wanted) {
      throw new EngramFormatException(
          file,
          "has "
              + size
              + " bytes, expected "
              + wanted
              + " for "
              + header.rows()
              + " rows of "
              + header.rowBytes()
              + " bytes: it is "
              + (size < wanted ? "cut off" : "too long"));
    }
    return header;
  }

  static void readFully(FileChannel channel, ByteBuffer out, long at) throws IOException {
    while (out.hasRemaining()) {
      int read = channel.read(out, at + out.position());
      if (read < 0) {
        throw new EOFException("the file ends at " + (at + out.position()));
      }
    }
    out.flip();
  }

  private static PackedHeader parse(ByteBuffer in) throws CharacterCodingException {
    int layer = in.getInt();
    int code = in.getInt();
    require(code >= 1 && code <= FORMATS.size(), "row format " + code);
    RowFormat format = FORMATS.get(code - 1);
    int headDim = in.getInt();
    int rowBytes = in.getInt();
    long tableRows = in.getLong();
    long fileRows = in.getLong();
    int blockRows = in.getInt();
    require(blockRows == RowDigest.BLOCK_ROWS, "checksums of " + blockRows + " rows");
    float scale = in.getFloat();
    boolean scaled = format == RowFormat.FP8_TENSOR;
    require(
        scaled ? scale > 0 && Float.isFinite(scale) : Float.floatToRawIntBits(scale) == 0,
        format + " with a table scale of " + scale);
    int shard = in.getInt();
    int shards = in.getInt();
    require(shards >= 1 && shard >= 0 && shard < shards, "shard " + shard + " of " + shards);
    int tensorCount = in.getInt();
    require(tensorCount >= 0, tensorCount + " names");
    require(in.getInt() == 0, "a number that is not zero");
    String layout = hex(in);
    String content = hex(in);
    String file = hex(in);
    TableIdentity identity =
        new TableIdentity(layer, format, headDim, tableRows, layout, Optional.of(content));
    require(
        rowBytes == identity.rowBytes(),
        "rows of " + rowBytes + " bytes, but " + headDim + " values in " + format);
    RowDigest.blocks(tableRows);
    String source = text(in);
    String division = text(in);
    require(division.isEmpty() == (shards == 1), shards + " shards divided as '" + division + "'");
    Optional<ShardLayout> divided = Optional.empty();
    if (shards > 1) {
      ShardLayout found = ShardLayout.parse(division);
      require(found.shards() == shards, shards + " shards divided as '" + division + "'");
      Division.checkRows(found, tableRows);
      divided = Optional.of(found);
    }
    long rows = divided.map(l -> l.rows(shard)).orElse(tableRows);
    require(fileRows == rows, fileRows + " rows, expected " + rows + " in shard " + shard);
    require(shards > 1 || content.equals(file), "two digests of the same rows");
    List<SourceTensor> tensors = new ArrayList<>();
    long named = 0;
    for (int i = 0; i < tensorCount; i++) {
      long ofTensor = in.getLong();
      String values = text(in);
      String scales = text(in);
      tensors.add(
          new SourceTensor(
              ofTensor, values, scales.isEmpty() ? Optional.empty() : Optional.of(scales)));
      require(
          scales.isEmpty() == (format.scaleBytes(headDim) == 0), "tensor " + i + " and its scales");
      named = Math.addExact(named, ofTensor);
    }
    require(tensorCount == 0 || named == tableRows, "tensors of " + named + " rows");
    while (in.hasRemaining()) {
      require(in.get() == 0, "padding that is not zero");
    }
    return new PackedHeader(
        identity,
        scaled ? Optional.of(scale) : Optional.empty(),
        shard,
        divided,
        file,
        source,
        tensors);
  }

  private static void require(boolean holds, String what) {
    if (!holds) {
      throw new IllegalArgumentException(what);
    }
  }

  private static String hex(ByteBuffer in) {
    byte[] bytes = new byte[DIGEST_BYTES];
    in.get(bytes);
    return HexFormat.of().formatHex(bytes);
  }

  private static String text(ByteBuffer in) throws CharacterCodingException {
    int length = in.getInt();
    require(length >= 0 && length <= Math.min(MOST_TEXT, in.remaining()), "a text of " + length);
    ByteBuffer bytes = in.slice(in.position(), length);
    in.position(in.position() + length);
    return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
  }

  /** Whether these bytes are this header. */
  boolean isEncodedAs(ByteBuffer found) {
    return encode().equals(found);
  }
}
