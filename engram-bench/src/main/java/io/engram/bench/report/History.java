// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.Strictness;
import io.engram.EngramFormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * The history file: one run a line, as JSON, the newest last. Lines are only ever appended.
 *
 * <p>Reading is strict: a line that is cut, has a field too many or too few, or a value out of
 * range is refused with its number, since a table made from half of the truth would not look like
 * it.
 */
public final class History {
  private static final Gson GSON =
      new GsonBuilder().setStrictness(Strictness.STRICT).disableHtmlEscaping().create();
  private static final Gson PRETTY = GSON.newBuilder().setPrettyPrinting().create();

  private History() {}

  /**
   * Reads a history.
   *
   * @param file the file
   * @return its runs, in the order of the lines
   * @throws IOException if it cannot be read
   * @throws EngramFormatException if a line is damaged, with its number
   */
  public static List<BenchRun> read(Path file) throws IOException {
    List<BenchRun> runs = new ArrayList<>();
    String text = Files.readString(file);
    int number = 0;
    for (String line : text.lines().toList()) {
      number++;
      try {
        runs.add(parse(line));
      } catch (JsonParseException | IllegalArgumentException e) {
        throw new EngramFormatException(file, "line " + number + ": " + e.getMessage(), e);
      }
    }
    if (!text.isEmpty() && !text.endsWith("\n")) {
      throw new EngramFormatException(file, "line " + number + ": does not end");
    }
    return runs;
  }

  /**
   * Appends a run, after everything that is there has been read without complaint.
   *
   * @param file the file, which is made if it is not there
   * @param run the run
   * @throws IOException if it cannot be read or written
   * @throws EngramFormatException if a line is damaged
   */
  public static void append(Path file, BenchRun run) throws IOException {
    if (Files.exists(file)) {
      read(file);
    }
    Files.write(
        file,
        (line(run) + "\n").getBytes(StandardCharsets.UTF_8),
        StandardOpenOption.CREATE,
        StandardOpenOption.APPEND);
  }

  /**
   * A run as one line.
   *
   * @param run the run
   * @return JSON without line breaks
   */
  public static String line(BenchRun run) {
    return GSON.toJson(run);
  }

  /**
   * A run for people and other programs.
   *
   * @param run the run
   * @return the same JSON with line breaks
   */
  public static String pretty(BenchRun run) {
    return PRETTY.toJson(run) + "\n";
  }

  /**
   * Reads one line.
   *
   * @param line the line
   * @return the run
   * @throws IllegalArgumentException if it is damaged
   */
  static BenchRun parse(String line) {
    JsonElement tree;
    BenchRun run;
    try {
      tree = GSON.fromJson(line, JsonElement.class);
      if (tree == null || !tree.isJsonObject()) {
        throw new IllegalArgumentException("is no JSON object");
      }
      run = GSON.fromJson(tree, BenchRun.class);
    } catch (JsonParseException e) {
      throw new IllegalArgumentException(reason(e), e);
    } catch (IllegalArgumentException e) {
      throw e;
    } catch (RuntimeException e) {
      throw new IllegalArgumentException(reason(e), e);
    }
    // A field that is missing reads as 0 and one that is unknown is passed over: writing it again
    // shows both.
    difference("", tree, GSON.toJsonTree(run))
        .ifPresent(where -> {
          throw new IllegalArgumentException(where);
        });
    if (!line(run).equals(line)) {
      throw new IllegalArgumentException("has a field twice, or was not written by this program");
    }
    return run;
  }

  /** Records complain in their constructors, and the reader wraps what they say. */
  private static String reason(Throwable e) {
    Throwable telling = e;
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (cause instanceof IllegalArgumentException
          || !(telling instanceof IllegalArgumentException)) {
        telling = cause;
      }
    }
    String message = telling.getMessage();
    return message == null
        ? telling.getClass().getSimpleName()
        : message.lines().findFirst().orElse("");
  }

  private static Optional<String> difference(String path, JsonElement found, JsonElement meant) {
    if (found instanceof JsonObject left && meant instanceof JsonObject right) {
      for (String name : right.keySet()) {
        if (!left.has(name)) {
          return Optional.of(inside(path, name) + ": is missing");
        }
      }
      for (String name : left.keySet()) {
        if (!right.has(name)) {
          return Optional.of(inside(path, name) + ": is unknown");
        }
        Optional<String> deeper = difference(inside(path, name), left.get(name), right.get(name));
        if (deeper.isPresent()) {
          return deeper;
        }
      }
      return Optional.empty();
    }
    if (found instanceof JsonArray left
        && meant instanceof JsonArray right
        && left.size() == right.size()) {
      for (int i = 0; i < left.size(); i++) {
        Optional<String> deeper = difference(path + "[" + i + "]", left.get(i), right.get(i));
        if (deeper.isPresent()) {
          return deeper;
        }
      }
      return Optional.empty();
    }
    return found.equals(meant)
        ? Optional.empty()
        : Optional.of(path + ": found " + found + ", which would be written as " + meant);
  }

  private static String inside(String path, String name) {
    return path.isEmpty() ? name : path + "." + name;
  }
}
