// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.packed.PackedConverter;
import io.engram.packed.PackedTable;
import io.engram.shard.ShardLayout;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;

/** The contract over packed files, whole and divided. */
@Tag("once")
class PackedRowStoreTest {
  @Nested
  class Whole extends Packed {
    @Override
    ShardLayout shards(int rows) {
      return ShardLayout.rowWise(rows, 1, 1);
    }
  }

  /** Row by row in turn, so that no two rows of a shard are neighbours. */
  @Nested
  class Divided extends Packed {
    @Override
    ShardLayout shards(int rows) {
      return ShardLayout.rowWise(rows, 2, 1);
    }
  }

  abstract static class Packed extends RowStoreContract {
    @TempDir Path directory;

    private final Arena arena = Arena.ofShared();
    private int made;

    abstract ShardLayout shards(int rows);

    @AfterEach
    void unmap() {
      arena.close();
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      TableIdentity identity =
          new TableIdentity(
              1, RowFormat.FP8_TENSOR, rowBytes, rows.length, "ab".repeat(32), Optional.empty());
      Path own = Files.createDirectory(directory.resolve("" + made++));
      ShardLayout shards = shards(rows.length);
      List<Path> files =
          IntStream.range(0, shards.shards())
              .mapToObj(s -> own.resolve(PackedTable.fileName(1, s, shards.shards())))
              .toList();
      try (RowStore source = new Rows(rows)) {
        PackedConverter.of(identity, Optional.of(1f), source, "a test")
            .shards(shards)
            .threads(1)
            .convert(files);
      }
      List<RowPart> parts = new ArrayList<>(PackedTable.open(files, arena).rowParts());
      return MappedRowStore.of(name, rowBytes, 0, parts);
    }
  }

  private record Rows(List<byte[]> rows) implements RowStore {
    Rows(byte[][] rows) {
      this(List.of(rows));
    }

    @Override
    public String name() {
      return "rows";
    }

    @Override
    public long rowCount() {
      return rows.size();
    }

    @Override
    public int rowBytes() {
      return rows.getFirst().length;
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      for (int i = 0; i < count; i++) {
        byte[] row = rows.get((int) rowIds[from + i]);
        MemorySegment.copy(
            MemorySegment.ofArray(row), 0, out, outOffset + (long) i * row.length, row.length);
      }
    }

    @Override
    public void close() {}
  }
}
