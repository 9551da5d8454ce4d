// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** Sources of rivals as files, which compilers and interpreters want. */
final class Resources {
  private Resources() {}

  static Path extract(String name, Path directory) throws IOException {
    Path file = directory.resolve(name);
    try (InputStream in = Rival.class.getResourceAsStream("/io/engram/bench/rival/" + name)) {
      if (in == null) {
        throw new IOException("no resource " + name);
      }
      Files.copy(in, file);
    }
    return file;
  }

  /** Deletes a directory of files. */
  static void delete(Path directory) {
    try (Stream<Path> files = Files.list(directory)) {
      List<Path> all = files.toList();
      for (Path file : all) {
        Files.delete(file);
      }
      Files.delete(directory);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
