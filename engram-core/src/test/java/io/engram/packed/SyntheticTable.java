// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.store.FileRegion;
import io.engram.store.RowPart;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;

/**
 * A table in a file, values and scales apart, both after some bytes of something else.
 *
 * @param identity the table
 * @param file its file
 * @param seed of its bytes
 */
record SyntheticTable(TableIdentity identity, Path file, long seed) {
  private static final int BEFORE = 1717;
  static final String LAYOUT = "0123456789abcdef".repeat(4);

  static SyntheticTable write(Path file, RowFormat format, int headDim, long rows, long seed)
      throws IOException {
    TableIdentity identity = new TableIdentity(7, format, headDim, rows, LAYOUT, Optional.empty());
    SyntheticTable table = new SyntheticTable(identity, file, seed);
    long bytes = 2L * BEFORE + rows * identity.rowBytes();
    SplittableRandom random = new SplittableRandom(seed);
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      channel.truncate(0);
      byte[] chunk = new byte[1 << 20];
      while (channel.size() < bytes) {
        random.nextBytes(chunk);
        long left = bytes - channel.size();
        channel.write(
            java.nio.ByteBuffer.wrap(chunk, 0, (int) Math.min(chunk.length, left)), channel.size());
      }
    }
    return table;
  }

  List<RowPart> parts(Arena arena) throws IOException {
    int headDim = identity.headDim();
    long values = identity.rowCount() * identity.format().valueBytes(headDim);
    long scales = identity.rowCount() * identity.format().scaleBytes(headDim);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      FileRegion first = new FileRegion(file, BEFORE, all.asSlice(BEFORE, values));
      long at = 2L * BEFORE + values;
      return List.of(
          new RowPart(
              first,
              scales == 0
                  ? Optional.empty()
                  : Optional.of(new FileRegion(file, at, all.asSlice(at, scales)))));
    }
  }

  PackedConverter converter(Arena arena) throws IOException {
    return PackedConverter.of(identity, Optional.empty(), parts(arena), file.toString(), List.of());
  }

  /** The stored rows, values and scales of each together. */
  byte[] rows() throws IOException {
    byte[] bytes = Files.readAllBytes(file);
    int n = (int) identity.rowCount();
    int values = identity.format().valueBytes(identity.headDim());
    int scales = identity.format().scaleBytes(identity.headDim());
    byte[] rows = new byte[n * (values + scales)];
    for (int i = 0; i < n; i++) {
      System.arraycopy(bytes, BEFORE + i * values, rows, i * (values + scales), values);
      System.arraycopy(
          bytes,
          2 * BEFORE + n * values + i * scales,
          rows,
          i * (values + scales) + values,
          scales);
    }
    return rows;
  }

  static byte[] rows(PackedTable table) {
    MemorySegment out =
        MemorySegment.ofArray(
            new byte[(int) (table.identity().rowCount() * table.identity().rowBytes())]);
    table.readInOrder(table.division(), 0, (int) table.identity().rowCount(), out);
    return out.toArray(ValueLayout.JAVA_BYTE);
  }
}
