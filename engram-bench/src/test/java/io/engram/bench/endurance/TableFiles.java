// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.packed.PackedConverter;
import io.engram.shard.ShardLayout;
import io.engram.store.FileRegion;
import io.engram.store.MappedRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.function.LongConsumer;
import java.util.stream.IntStream;

/**
 * A table in files of the released layout, every row of it written: in each file a run of values
 * and then a run of scales, behind some bytes of something else.
 *
 * @param files one for each part
 * @param pattern what the rows are
 * @param layout which columns the rows are of
 */
record TableFiles(List<Path> files, RowPattern pattern, HashLayout layout) {
  private static final int BEFORE = 664;
  private static final int CHUNK_ROWS = 1 << 14;

  /** The files of a table in a directory, there or not. */
  static TableFiles in(Path directory, int parts, long slotsPerHead, RowPattern pattern) {
    HashScheme scheme =
        new HashScheme(
            99_092,
            List.of(2, 3, 4),
            8,
            Collections.nCopies(3, slotsPerHead),
            List.of(1),
            0,
            HashScheme.Generator.NUMPY_PCG64,
            HashScheme.PrimeSearch.RESTART_PER_ORDER,
            1);
    return new TableFiles(
        IntStream.range(0, parts).mapToObj(i -> directory.resolve("part" + i + ".bin")).toList(),
        pattern,
        HashLayout.derive(scheme).getFirst());
  }

  long rowCount() {
    return layout.rowCount();
  }

  long firstRow(int part) {
    return rowCount() * part / files.size();
  }

  long rows(int part) {
    return firstRow(part + 1) - firstRow(part);
  }

  long bytes() {
    return rowCount() * pattern.rowBytes();
  }

  /**
   * Writes a table of three orders with eight heads each.
   *
   * @param progress given the bytes written so far
   */
  static TableFiles write(
      Path directory, int parts, long slotsPerHead, RowPattern pattern, LongConsumer progress)
      throws IOException {
    TableFiles table = in(directory, parts, slotsPerHead, pattern);
    table.write(progress);
    return table;
  }

  void write(LongConsumer progress) throws IOException {
    long before = 0;
    for (int i = 0; i < files.size(); i++) {
      before = writePart(i, before, progress);
    }
  }

  /** Whether the files are there in their full lengths. */
  boolean complete() throws IOException {
    for (int i = 0; i < files.size(); i++) {
      if (!Files.exists(files.get(i))
          || Files.size(files.get(i)) != BEFORE + rows(i) * pattern.rowBytes()) {
        return false;
      }
    }
    return true;
  }

  /** Writes a part; what is there already is replaced in place. */
  long writePart(int part, long before, LongConsumer progress) throws IOException {
    long done = before;
    ByteBuffer buffer = ByteBuffer.allocateDirect(CHUNK_ROWS * pattern.valueBytes());
    try (FileChannel channel =
        FileChannel.open(files.get(part), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      channel.truncate(0);
      channel.position(BEFORE);
      for (boolean values : new boolean[] {true, false}) {
        int bytesPerRow = values ? pattern.valueBytes() : pattern.scaleBytes();
        for (long at = firstRow(part); at < firstRow(part + 1); at += CHUNK_ROWS) {
          int rows = (int) Math.min(CHUNK_ROWS, firstRow(part + 1) - at);
          MemorySegment chunk = MemorySegment.ofBuffer(buffer.clear().limit(rows * bytesPerRow));
          for (int i = 0; i < rows; i++) {
            long to = (long) i * bytesPerRow;
            if (values) {
              pattern.putValues(at + i, chunk, to);
            } else {
              pattern.putScales(at + i, chunk, to);
            }
          }
          while (buffer.hasRemaining()) {
            done += channel.write(buffer);
          }
          progress.accept(done);
        }
      }
    }
    return done;
  }

  /** Which table this is; its rows have not been read. */
  TableIdentity identity() {
    return new TableIdentity(
        layout.layerId(),
        RowFormat.FP8_BLOCK32,
        pattern.valueBytes(),
        rowCount(),
        TableIdentity.layoutDigest(layout),
        Optional.empty());
  }

  /** The table in packed files beside its own, made if they are not there. */
  List<Path> packed(int shards) {
    Path first = files.getFirst();
    List<Path> targets =
        IntStream.range(0, shards)
            .mapToObj(i -> first.resolveSibling("packed" + i + "of" + shards + ".engram"))
            .toList();
    TableIdentity identity = identity();
    if (!targets.stream().allMatch(Files::exists)) {
      try (Arena arena = Arena.ofShared();
          RowStore store =
              MappedRowStore.of("table", pattern.valueBytes(), pattern.scaleBytes(), map(arena))) {
        PackedConverter.of(identity, Optional.empty(), store, "a test's table")
            .shards(
                shards == 1
                    ? ShardLayout.rowWise(rowCount(), 1)
                    : ShardLayout.stridedHeads(layout, shards))
            .convert(targets);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
    return targets;
  }

  /** The parts, mapped. */
  List<RowPart> map(Arena arena) throws IOException {
    List<RowPart> parts = new ArrayList<>();
    for (int i = 0; i < files.size(); i++) {
      Path file = files.get(i);
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
        MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
        long values = rows(i) * pattern.valueBytes();
        long scales = rows(i) * pattern.scaleBytes();
        parts.add(
            new RowPart(
                new FileRegion(file, BEFORE, all.asSlice(BEFORE, values)),
                scales == 0
                    ? Optional.empty()
                    : Optional.of(
                        new FileRegion(
                            file, BEFORE + values, all.asSlice(BEFORE + values, scales)))));
      }
    }
    return parts;
  }
}
