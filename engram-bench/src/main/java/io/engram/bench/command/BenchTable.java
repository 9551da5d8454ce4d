// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.checkpoint.Checkpoint;
import io.engram.store.FileRegion;
import io.engram.store.RowPart;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;

/**
 * A table in files, to be mapped again and again: only pages that nothing maps can be dropped.
 *
 * @param description what it is, for people
 * @param valueBytes value bytes of a row
 * @param scaleBytes scale bytes of a row that are stored apart, 0 if none are
 * @param rows number of rows
 * @param mapping maps it anew
 * @param delete what to do in the end
 */
record BenchTable(
    String description,
    int valueBytes,
    int scaleBytes,
    long rows,
    Supplier<Mapping> mapping,
    Runnable delete)
    implements AutoCloseable {

  /**
   * A mapping.
   *
   * @param parts the rows
   * @param unmap ends it
   */
  record Mapping(List<RowPart> parts, Runnable unmap) implements AutoCloseable {
    List<FileRegion> regions() {
      return parts.stream().flatMap(part -> part.regions().stream()).toList();
    }

    List<Path> files() {
      return regions().stream().map(FileRegion::file).distinct().toList();
    }

    @Override
    public void close() {
      unmap.run();
    }
  }

  int rowBytes() {
    return valueBytes + scaleBytes;
  }

  long bytes() {
    return rows * rowBytes();
  }

  /** A new file of random rows, which is deleted on close. */
  static BenchTable make(Path directory, long bytes, int rowBytes) throws IOException {
    long rows = bytes / rowBytes;
    if (rows < 1) {
      throw new IllegalArgumentException(
          "a table of " + Sizes.bytes(bytes) + " has no row of " + rowBytes + " bytes");
    }
    long usable = Files.getFileStore(directory).getUsableSpace();
    if (bytes > usable / 2) {
      throw new IOException(
          directory
              + ": a table of "
              + Sizes.bytes(bytes)
              + " would take more than half of the "
              + Sizes.bytes(usable)
              + " that are free");
    }
    Path file = Files.createTempFile(directory, "engram-bench-", ".tmp");
    file.toFile().deleteOnExit();
    Runnable delete =
        () -> {
          try {
            Files.deleteIfExists(file);
          } catch (IOException e) {
            throw new UncheckedIOException(e);
          }
        };
    try {
      DiskProbe.fill(file, rows * rowBytes);
    } catch (IOException | RuntimeException e) {
      delete.run();
      throw e;
    }
    return new BenchTable(
        "a new file of random rows in " + directory,
        rowBytes,
        0,
        rows,
        () -> map(file, rows * rowBytes),
        delete);
  }

  private static Mapping map(Path file, long bytes) {
    Arena arena = Arena.ofShared();
    try (FileChannel channel = FileChannel.open(file)) {
      MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes, arena);
      return new Mapping(
          List.of(new RowPart(new FileRegion(file, 0, all), Optional.empty())), arena::close);
    } catch (IOException e) {
      arena.close();
      throw new UncheckedIOException(e);
    }
  }

  /** A layer of a checkpoint, in place. */
  static BenchTable of(Path directory, int layer) {
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      RowFormat format = checkpoint.config().rowFormat();
      int headDim = checkpoint.config().headDim();
      return new BenchTable(
          "layer " + layer + " of " + directory,
          format.valueBytes(headDim),
          format.scaleBytes(headDim),
          checkpoint.layout(layer).rowCount(),
          () -> {
            Checkpoint again = Checkpoint.open(directory);
            return new Mapping(again.rowParts(layer), again::close);
          },
          () -> {});
    }
  }

  @Override
  public void close() {
    delete.run();
  }
}
