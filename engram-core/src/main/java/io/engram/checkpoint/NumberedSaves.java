// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Saves of one training run in one directory: {@code save-00000001}, {@code save-00000002} and so
 * on, each complete or not there. The last one is the one that counts.
 */
public final class NumberedSaves {
  private static final String PREFIX = "save-";
  private static final Pattern NAME = Pattern.compile("save-\\d{8}");
  private static final Pattern UNFINISHED =
      Pattern.compile("save-\\d{8}" + Pattern.quote(StagedDirectory.PARTIAL));
  private static final int MOST = 99_999_999;

  private NumberedSaves() {}

  /**
   * The saves of a directory.
   *
   * @param directory the directory of a run; one that is not there has none
   * @return oldest first
   * @throws EngramException if the directory cannot be read
   */
  public static List<Path> list(Path directory) {
    return named(directory, NAME);
  }

  /**
   * The last save of a directory.
   *
   * @param directory the directory of a run, or a save itself
   * @return the last save; the directory itself if it is a save; empty if it has none
   * @throws EngramException if the directory cannot be read
   */
  public static Optional<Path> last(Path directory) {
    if (Files.isRegularFile(directory.resolve(SaveManifest.FILE))) {
      return Optional.of(directory);
    }
    List<Path> all = list(directory);
    return all.isEmpty() ? Optional.empty() : Optional.of(all.getLast());
  }

  /**
   * Begins the next save. What an ended process left unfinished is removed.
   *
   * @param directory the directory of a run; made if it is not there
   * @return the next save, to be written
   * @throws EngramException if another process or thread saves there now, or the file system
   *     refuses
   */
  public static StagedDirectory begin(Path directory) {
    List<Path> all = list(directory);
    int number =
        all.isEmpty() ? 1 : Integer.parseInt(name(all.getLast()).substring(PREFIX.length())) + 1;
    if (number > MOST) {
      throw new EngramException(directory + ": has a save " + MOST + ", and none can follow it");
    }
    return StagedDirectory.begin(
        directory.resolve(PREFIX + "%08d".formatted(number)),
        directory.resolve(".lock"),
        named(directory, UNFINISHED));
  }

  /**
   * Takes the oldest saves away. To be called while the lock of {@link #begin} is held.
   *
   * @param directory the directory of a run
   * @param keep how many stay, at least 1
   * @throws IOException if the file system refuses
   */
  public static void keep(Path directory, int keep) throws IOException {
    if (keep < 1) {
      throw new IllegalArgumentException("keep is " + keep + ", expected at least 1");
    }
    List<Path> all = list(directory);
    for (Path old : all.subList(0, Math.max(0, all.size() - keep))) {
      StagedDirectory.retire(old);
    }
  }

  private static List<Path> named(Path directory, Pattern names) {
    if (!Files.isDirectory(directory)) {
      return List.of();
    }
    try (Stream<Path> entries = Files.list(directory)) {
      List<Path> found = new ArrayList<>();
      for (Path each : entries.toList()) {
        if (names.matcher(name(each)).matches() && Files.isDirectory(each)) {
          found.add(each);
        }
      }
      found.sort(null);
      return found;
    } catch (IOException e) {
      throw new EngramException(directory + ": cannot be listed: " + e, e);
    }
  }

  private static String name(Path path) {
    return Objects.toString(path.getFileName(), "");
  }
}
