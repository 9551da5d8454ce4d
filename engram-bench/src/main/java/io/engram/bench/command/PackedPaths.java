// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.packed.PackedFile;
import io.engram.packed.PackedTable;
import io.engram.packed.Verification;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** Packed tables named on a command line: files, shards, or directories that hold some. */
final class PackedPaths {
  private PackedPaths() {}

  /** Whether a path means packed rows and no checkpoint. */
  static boolean isPacked(Path path) {
    if (!Files.isDirectory(path)) {
      return Files.isRegularFile(path);
    }
    if (Files.exists(path.resolve("config.json"))) {
      return false;
    }
    try (Stream<Path> files = Files.list(path)) {
      return files.anyMatch(f -> f.getFileName().toString().endsWith(".rows"));
    } catch (IOException e) {
      throw new EngramException(path + ": cannot be listed: " + e, e);
    }
  }

  static List<PackedTable> open(List<Path> paths, Arena arena) {
    List<Path> directories = new ArrayList<>();
    Map<Integer, List<Path>> byLayer = new TreeMap<>();
    for (Path path : paths) {
      if (Files.isDirectory(path)) {
        directories.add(path);
      } else {
        int layer = PackedFile.open(path, arena).identity().layer();
        byLayer.computeIfAbsent(layer, _ -> new ArrayList<>()).add(path);
      }
    }
    PackedTable.findAll(directories)
        .forEach(
            (layer, files) -> byLayer.computeIfAbsent(layer, _ -> new ArrayList<>()).addAll(files));
    if (byLayer.isEmpty()) {
      throw new EngramFormatException(paths.getFirst(), "holds no packed row files");
    }
    return byLayer.values().stream().map(files -> PackedTable.open(files, arena)).toList();
  }

  static Verification verify(PackedTable table, int threads) {
    try (Progress bar =
        Progress.start("layer " + table.identity().layer(), table.identity().rowCount(), "rows")) {
      return table.verify(threads, bar::reached);
    }
  }

  static void requireVerified(PackedTable table, int threads) {
    Verification read = verify(table, threads);
    if (!read.holds()) {
      throw new EngramException(read.damage().getFirst().toString());
    }
  }
}
