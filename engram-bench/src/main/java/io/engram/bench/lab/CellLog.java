// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import com.google.gson.Gson;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Finished cells in a file, one JSON object a line, each on the disk before the next cell starts.
 * What an interruption left of a last line is cut off; a damaged line elsewhere is refused.
 *
 * <p>Not thread-safe, and one process at a time.
 */
public final class CellLog {
  private static final Gson GSON = new Gson();

  private final Path file;
  private final List<Line> lines;

  private record Line(String conditions, CellResult cell) {}

  private CellLog(Path file, List<Line> lines) {
    this.file = file;
    this.lines = lines;
  }

  /**
   * Opens a file, or begins one.
   *
   * @param file the file
   * @return the log
   * @throws IOException if it cannot be read, or names the line that is damaged
   */
  public static CellLog open(Path file) throws IOException {
    List<Line> lines = new ArrayList<>();
    if (Files.exists(file)) {
      byte[] bytes = Files.readAllBytes(file);
      int start = 0;
      for (int number = 1; start < bytes.length; number++) {
        int end = start;
        while (end < bytes.length && bytes[end] != '\n') {
          end++;
        }
        if (end == bytes.length) {
          // The line was being written when the run ended, so that its cell is not known.
          try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.truncate(start);
            channel.force(true);
          }
          break;
        }
        lines.add(
            parse(file, number, new String(bytes, start, end - start, StandardCharsets.UTF_8)));
        start = end + 1;
      }
    }
    return new CellLog(file, lines);
  }

  private static Line parse(Path file, int number, String text) throws IOException {
    try {
      Line line = GSON.fromJson(text, Line.class);
      if (line != null && line.cell() != null && line.conditions() != null) {
        return line;
      }
    } catch (RuntimeException e) {
      throw new IOException(damaged(file, number) + ": " + e.getMessage(), e);
    }
    throw new IOException(damaged(file, number));
  }

  private static String damaged(Path file, int number) {
    return file
        + ": line "
        + number
        + " is no finished cell; delete the line to run its cell again, or the file to run all";
  }

  /**
   * A finished cell.
   *
   * @param conditions the experiment's, which must be the same
   * @param setting the setting
   * @param seed the seed
   * @return the cell, if it is finished
   */
  public Optional<CellResult> find(String conditions, String setting, long seed) {
    return lines.stream()
        .filter(line -> line.conditions().equals(conditions))
        .map(Line::cell)
        .filter(cell -> cell.setting().equals(setting) && cell.seed() == seed)
        .findFirst();
  }

  /**
   * Keeps a finished cell.
   *
   * @param conditions the experiment's
   * @param cell the cell
   * @throws IOException if it cannot be written; nothing is kept then
   */
  public void add(String conditions, CellResult cell) throws IOException {
    Line line = new Line(conditions, cell);
    byte[] bytes = (GSON.toJson(line) + "\n").getBytes(StandardCharsets.UTF_8);
    if (file.getParent() != null) {
      Files.createDirectories(file.getParent());
    }
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
      long end = channel.size();
      try {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        while (buffer.hasRemaining()) {
          channel.write(buffer, end + buffer.position());
        }
        channel.force(true);
      } catch (IOException e) {
        channel.truncate(end);
        throw e;
      }
    }
    lines.add(line);
  }
}
