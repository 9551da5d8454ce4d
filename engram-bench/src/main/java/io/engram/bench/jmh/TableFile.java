// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.FileRegion;
import io.engram.store.MappedRowStore;
import io.engram.store.Residency;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** A table in a file of whole rows, deleted when it is closed. */
final class TableFile implements AutoCloseable {
  /** Where tables go: a directory on the disk that is to be measured. */
  static final String DIRECTORY = "engram.bench.dir";

  private static final int LOOKED_AT = 10_000;

  private final Path file;
  private final Arena arena;
  private final RowPart part;
  private final TableRows rows;

  private TableFile(Path file, Arena arena, RowPart part, TableRows rows) {
    this.file = file;
    this.arena = arena;
    this.part = part;
    this.rows = rows;
  }

  /** A new directory for one benchmark. */
  static Path directory() throws IOException {
    Path parent = Path.of(System.getProperty(DIRECTORY, System.getProperty("java.io.tmpdir")));
    return Files.createTempDirectory(parent, "engram-bench");
  }

  /** A table of which every row is written. */
  static TableFile full(TableRows rows, long rowCount) {
    return of(
        rows,
        rowCount,
        channel -> {
          for (long row = 0; row < rowCount; row += TableRows.PERIOD) {
            long count = Math.min(TableRows.PERIOD, rowCount - row);
            write(channel, rows.block().asSlice(0, count * rows.rowBytes()), row * rows.rowBytes());
          }
        });
  }

  /** A table that has only some rows: the rest of its file is hole. */
  static TableFile sparse(TableRows rows, long rowCount, long[] ids) {
    return of(
        rows,
        rowCount,
        channel -> {
          MemorySegment stored = rows.expected(ids, 0, ids.length);
          for (int i = 0; i < ids.length; i++) {
            write(
                channel,
                stored.asSlice((long) i * rows.rowBytes(), rows.rowBytes()),
                ids[i] * rows.rowBytes());
          }
        });
  }

  @FunctionalInterface
  private interface Writing {
    void to(FileChannel channel) throws IOException;
  }

  private static TableFile of(TableRows rows, long rowCount, Writing writing) {
    try {
      Path file = directory().resolve("rows");
      Arena arena = Arena.ofShared();
      try (FileChannel channel =
          FileChannel.open(
              file,
              StandardOpenOption.CREATE_NEW,
              StandardOpenOption.SPARSE,
              StandardOpenOption.READ,
              StandardOpenOption.WRITE)) {
        long bytes = rowCount * rows.rowBytes();
        channel.write(ByteBuffer.allocate(1), bytes - 1);
        writing.to(channel);
        channel.force(false);
        MemorySegment mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes, arena);
        RowPart part = new RowPart(new FileRegion(file, 0, mapped), Optional.empty());
        return new TableFile(file, arena, part, rows);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static void write(FileChannel channel, MemorySegment bytes, long at) throws IOException {
    ByteBuffer buffer = bytes.asByteBuffer();
    while (buffer.hasRemaining()) {
      channel.write(buffer, at + buffer.position());
    }
  }

  RowStore mapped() {
    return MappedRowStore.of("benchmark", rows.rowBytes(), 0, List.of(part));
  }

  RowStore direct(DirectReads reads) {
    return DirectRowStore.of("benchmark", rows.rowBytes(), 0, List.of(part), reads);
  }

  /** How much of the pages of some rows is in memory, for people. */
  String residency(long[] ids) {
    FileRegion all = part.values();
    List<FileRegion> looked =
        Arrays.stream(ids)
            .limit(LOOKED_AT)
            .map(id -> id * rows.rowBytes())
            .mapToObj(at -> new FileRegion(file, at, all.bytes().asSlice(at, rows.rowBytes())))
            .toList();
    return Residency.of(looked)
        .map(r -> String.format(Locale.ROOT, "%.1f %% of pages are resident", 100 * r.share()))
        .orElse("the residency is unknown");
  }

  @Override
  public void close() {
    arena.close();
    try {
      Files.delete(file);
      Files.delete(file.getParent());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
