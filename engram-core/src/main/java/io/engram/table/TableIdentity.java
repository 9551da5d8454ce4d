// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import io.engram.hash.HashLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Objects;
import java.util.Optional;

/**
 * Which table this is, so that a wrong one under a right name is refused: every copy of a table
 * outside its checkpoint (packed files, a cluster) states its identity, and every reader compares.
 *
 * @param layer the layer it belongs to
 * @param format what the bytes of a row mean
 * @param headDim values of a row, at least 1
 * @param rowCount number of rows, at least 1
 * @param layoutDigest {@link #layoutDigest} of the hashing that the table was trained with
 * @param contentDigest {@link RowDigest} of all rows, where they have been read once
 */
public record TableIdentity(
    int layer,
    RowFormat format,
    int headDim,
    long rowCount,
    String layoutDigest,
    Optional<String> contentDigest) {
  /** Checks the ranges. */
  public TableIdentity {
    Objects.requireNonNull(format, "format");
    Objects.requireNonNull(layoutDigest, "layoutDigest");
    Objects.requireNonNull(contentDigest, "contentDigest");
    if (headDim < 1 || rowCount < 1) {
      throw new IllegalArgumentException(
          "a table of "
              + rowCount
              + " rows of "
              + headDim
              + " values, expected at least 1 of each");
    }
  }

  /**
   * The identity of a layer's table whose rows have not been read.
   *
   * @param layout multipliers, moduli and offsets of the layer
   * @param table its table
   * @return the identity, without a content digest
   */
  public static TableIdentity of(HashLayout layout, EngramTable table) {
    return new TableIdentity(
        layout.layerId(),
        table.format(),
        table.headDim(),
        table.rowCount(),
        layoutDigest(layout),
        Optional.empty());
  }

  /**
   * The same table, its rows having been read.
   *
   * @param digest {@link RowDigest} of all rows
   * @return an identity with that content digest
   */
  public TableIdentity withContent(String digest) {
    return new TableIdentity(layer, format, headDim, rowCount, layoutDigest, Optional.of(digest));
  }

  /**
   * Bytes of a stored row.
   *
   * @return value bytes plus scale bytes
   */
  public int rowBytes() {
    return format.rowBytes(headDim);
  }

  /**
   * SHA-256 of everything that decides which row an n-gram has: vocabulary size, orders, heads,
   * then multipliers, moduli and offsets, each as a little-endian 64-bit number.
   *
   * @param layout the layout of a layer
   * @return 64 lower-case hexadecimal digits
   */
  public static String layoutDigest(HashLayout layout) {
    MessageDigest sha = sha256();
    ByteBuffer number = ByteBuffer.allocate(Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    put(sha, number, layout.vocabularySize());
    put(sha, number, layout.orders().size());
    layout.orders().forEach(order -> put(sha, number, order));
    put(sha, number, layout.headsPerOrder());
    for (long[] numbers : new long[][] {layout.multipliers(), layout.moduli(), layout.offsets()}) {
      put(sha, number, numbers.length);
      for (long each : numbers) {
        put(sha, number, each);
      }
    }
    return HexFormat.of().formatHex(sha.digest());
  }

  private static void put(MessageDigest sha, ByteBuffer number, long value) {
    sha.update(number.clear().putLong(value).flip());
  }

  static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java platform has SHA-256", e);
    }
  }

  /**
   * What distinguishes another table from this one. Contents are compared where both are known.
   *
   * @param found the table that was found where this one was expected
   * @return what differs first, with both values, or nothing
   */
  public Optional<String> firstDifference(TableIdentity found) {
    if (layer != found.layer) {
      return differs("layer", layer, found.layer);
    }
    if (format != found.format) {
      return differs("row format", format, found.format);
    }
    if (headDim != found.headDim) {
      return differs("values of a row", headDim, found.headDim);
    }
    if (rowCount != found.rowCount) {
      return differs("rows", rowCount, found.rowCount);
    }
    if (!layoutDigest.equals(found.layoutDigest)) {
      return differs("digest of multipliers, moduli and offsets", layoutDigest, found.layoutDigest);
    }
    if (contentDigest.isPresent()
        && found.contentDigest.isPresent()
        && !contentDigest.equals(found.contentDigest)) {
      return differs("digest of the rows", contentDigest.get(), found.contentDigest.get());
    }
    return Optional.empty();
  }

  private static Optional<String> differs(String what, Object expected, Object found) {
    return Optional.of(what + ": expected " + expected + ", found " + found);
  }
}
