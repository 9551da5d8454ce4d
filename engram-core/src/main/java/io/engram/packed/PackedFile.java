// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.shard.ShardLayout;
import io.engram.store.FileRegion;
import io.engram.store.RowPart;
import io.engram.table.RowDigest;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.function.LongConsumer;

/**
 * One packed row file, mapped: a whole table, or one shard of it for a machine that owns no more.
 *
 * <p>Opening checks the header, the size and the checksums' own checksum, and reads no row; {@link
 * #verify} reads all. Immutable and thread-safe; the arena decides how long the rows can be read.
 */
public final class PackedFile {
  private final Path path;
  private final PackedHeader header;
  private final int[] checksums;
  private final FileRegion rows;
  private final BasicFileAttributes attributes;

  private PackedFile(
      Path path,
      PackedHeader header,
      int[] checksums,
      FileRegion rows,
      BasicFileAttributes attributes) {
    this.path = path;
    this.header = header;
    this.checksums = checksums;
    this.rows = rows;
    this.attributes = attributes;
  }

  /**
   * Opens a file.
   *
   * @param path the file
   * @param arena owns the mapping
   * @return the open file
   * @throws EngramFormatException if there is no such file, it is not finished, its header or its
   *     checksums are damaged, or it does not have the size that it should
   * @throws EngramException if it cannot be read or mapped
   */
  public static PackedFile open(Path path, Arena arena) {
    Objects.requireNonNull(arena, "arena");
    try {
      BasicFileAttributes attributes = Files.readAttributes(path, BasicFileAttributes.class);
      if (!attributes.isRegularFile()) {
        throw new EngramFormatException(path, "is not a regular file");
      }
      try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
        PackedHeader header = PackedHeader.read(path, channel, channel.size());
        int[] checksums = readChecksums(path, channel, header);
        FileRegion rows =
            new FileRegion(
                path,
                header.size(),
                channel.map(
                    FileChannel.MapMode.READ_ONLY, header.size(), header.rowsBytes(), arena));
        return new PackedFile(path, header, checksums, rows, attributes);
      }
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(path, "there is no such file", e);
    } catch (IOException e) {
      throw new EngramException(path + ": cannot be read: " + e, e);
    }
  }

  private static int[] readChecksums(Path path, FileChannel channel, PackedHeader header)
      throws IOException {
    int[] checksums = new int[RowDigest.blocks(header.rows())];
    ByteBuffer bytes =
        ByteBuffer.allocate(Math.multiplyExact(checksums.length, Integer.BYTES))
            .order(ByteOrder.LITTLE_ENDIAN);
    PackedHeader.readFully(channel, bytes, header.size() + header.rowsBytes());
    bytes.asIntBuffer().get(checksums);
    String digest = RowDigest.of(header.rows(), header.rowBytes(), checksums);
    if (!digest.equals(header.fileDigest())) {
      throw new EngramFormatException(
          path,
          "the checksums of the rows are damaged: their digest is "
              + digest
              + ", the header says "
              + header.fileDigest());
    }
    return checksums;
  }

  /**
   * The file.
   *
   * @return its path as given
   */
  public Path path() {
    return path;
  }

  /**
   * Which table the rows are of.
   *
   * @return the identity of the whole table, with its content digest
   */
  public TableIdentity identity() {
    return header.identity();
  }

  /**
   * The scale of the whole table.
   *
   * @return the factor of every value, for {@link io.engram.table.RowFormat#FP8_TENSOR} alone
   */
  public Optional<Float> tableScale() {
    return header.tableScale();
  }

  /**
   * Which shard this is.
   *
   * @return from 0
   */
  public int shard() {
    return header.shard();
  }

  /**
   * Number of shards.
   *
   * @return 1 for a table in one file
   */
  public int shards() {
    return header.shards();
  }

  /**
   * How the table is divided.
   *
   * @return the layout of the shards, empty for a table in one file
   */
  public Optional<ShardLayout> layout() {
    return header.layout();
  }

  /**
   * Which rows of the table lie in this file.
   *
   * @return ranges whose concatenation are the rows of the file, from its row 0 on; immutable
   */
  public List<RowRange> ranges() {
    return header.ranges();
  }

  /**
   * Rows of this file.
   *
   * @return at least 1
   */
  public long rowCount() {
    return header.rows();
  }

  /**
   * Size of this file.
   *
   * @return bytes of header, rows and checksums
   */
  public long size() {
    return header.fileBytes();
  }

  /**
   * Digest of the rows of this file.
   *
   * @return {@link RowDigest}, 64 lower-case hexadecimal digits
   */
  public String digest() {
    return header.fileDigest();
  }

  /**
   * What the file was made from.
   *
   * @return a line for people
   */
  public String source() {
    return header.source();
  }

  /**
   * What the rows of the table were called in the checkpoint that they came from.
   *
   * @return in the order of the table's rows, empty if they came from no checkpoint; immutable
   */
  public List<SourceTensor> tensors() {
    return header.tensors();
  }

  /**
   * Where the rows of this file lie.
   *
   * @return whole rows, {@link TableIdentity#rowBytes} bytes each and no scales apart
   */
  public RowPart rowPart() {
    return new RowPart(rows, Optional.empty());
  }

  RowPart rowPart(long localFirst, long count) {
    long rowBytes = header.rowBytes();
    return new RowPart(
        new FileRegion(
            path,
            rows.offset() + localFirst * rowBytes,
            rows.bytes().asSlice(localFirst * rowBytes, count * rowBytes)),
        Optional.empty());
  }

  BlockChecks.Subject subject() {
    return new BlockChecks.Subject(path, header, checksums);
  }

  /**
   * Reads all rows and compares their checksums.
   *
   * @param threads how many threads read, at least 1
   * @param progress given the number of rows read so far, on the caller's thread
   * @return which blocks differ, if any
   * @throws EngramException if the file cannot be read
   */
  public Verification verify(int threads, LongConsumer progress) {
    return PackedTable.verify(List.of(this), threads, progress);
  }

  /**
   * Makes sure that the file is the one that was opened: the same size, time of modification and,
   * where the file system has one, identity.
   *
   * @throws EngramFormatException if it is another one
   * @throws EngramException if that cannot be found out
   */
  public void checkUnchanged() {
    BasicFileAttributes now;
    try {
      now = Files.readAttributes(path, BasicFileAttributes.class);
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(path, "the file has been removed since it was opened", e);
    } catch (IOException e) {
      throw new EngramException(path + ": cannot be inspected: " + e, e);
    }
    if (now.size() != attributes.size()
        || !now.lastModifiedTime().equals(attributes.lastModifiedTime())
        || !Objects.equals(now.fileKey(), attributes.fileKey())) {
      throw new EngramFormatException(
          path,
          "the file has changed since it was opened: it had %d bytes of %s, it has %d of %s"
              .formatted(
                  attributes.size(),
                  attributes.lastModifiedTime(),
                  now.size(),
                  now.lastModifiedTime()));
    }
  }

  @Override
  public String toString() {
    return path
        + ": "
        + rowCount()
        + " rows of layer "
        + identity().layer()
        + (shards() == 1 ? "" : ", shard " + shard() + " of " + shards());
  }
}
