// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.zip.CRC32C;

/**
 * A checksum of a table's rows that can be taken block by block, in any order, by several threads,
 * and over as many sittings as it takes: CRC-32C of each block of {@link #BLOCK_ROWS} stored rows
 * (the last block may have fewer), then SHA-256 over number of rows, bytes of a row and all block
 * checksums. It guards against damage and mix-ups, not against forgery.
 */
public final class RowDigest {
  /** Rows that share one checksum. */
  public static final int BLOCK_ROWS = 1 << 16;

  private RowDigest() {}

  /**
   * Number of blocks of a table.
   *
   * @param rowCount its rows, at least 1
   * @return blocks, the last of which may have fewer rows
   * @throws IllegalArgumentException if there are more than 2^31 - 1
   */
  public static int blocks(long rowCount) {
    long blocks = (rowCount + BLOCK_ROWS - 1) / BLOCK_ROWS;
    if (rowCount < 1 || blocks > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(rowCount + " rows have no digest");
    }
    return (int) blocks;
  }

  /**
   * Checksum of one block.
   *
   * @param rows holds the stored rows of the block, values and scales of each row together
   * @param offset where the first row starts, in bytes
   * @param bytes number of rows times bytes of a row, at most 2^31 - 1
   * @return CRC-32C
   */
  public static int ofBlock(MemorySegment rows, long offset, long bytes) {
    CRC32C crc = new CRC32C();
    crc.update(rows.asSlice(offset, bytes).asByteBuffer());
    return (int) crc.getValue();
  }

  /**
   * The digest of a table, from the checksums of its blocks.
   *
   * @param rowCount number of rows
   * @param rowBytes bytes of a stored row
   * @param blockChecksums {@link #ofBlock} of each block in order
   * @return 64 lower-case hexadecimal digits
   * @throws IllegalArgumentException if there are not {@link #blocks} checksums
   */
  public static String of(long rowCount, int rowBytes, int[] blockChecksums) {
    if (blockChecksums.length != blocks(rowCount)) {
      throw new IllegalArgumentException(
          blockChecksums.length + " checksums, expected " + blocks(rowCount));
    }
    MessageDigest sha = TableIdentity.sha256();
    ByteBuffer buffer = ByteBuffer.allocate(2 * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    sha.update(buffer.putLong(rowCount).putLong(rowBytes).flip());
    for (int checksum : blockChecksums) {
      sha.update(buffer.clear().putInt(checksum).flip());
    }
    return HexFormat.of().formatHex(sha.digest());
  }
}
