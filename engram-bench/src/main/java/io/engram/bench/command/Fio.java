// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;

/** The raw disk, by {@code fio}: random reads of 4 KiB past the page cache. */
final class Fio {
  private Fio() {}

  /** The version that is installed, if one is. */
  static Optional<String> version() {
    try {
      return Optional.of(run(List.of("fio", "--version")).strip());
    } catch (IOException e) {
      return Optional.empty();
    }
  }

  /**
   * Reads a file at random.
   *
   * @param file the file
   * @param depth reads outstanding, by asynchronous reads of one thread
   * @param seconds how long
   * @return reads per second, or nothing where fio cannot do that here
   */
  static OptionalDouble readsPerSecond(Path file, int depth, double seconds) {
    try {
      String json =
          run(
              List.of(
                  "fio",
                  "--name=engram",
                  // A colon separates names for fio.
                  "--filename=" + file.toAbsolutePath().toString().replace(":", "\\:"),
                  "--rw=randread",
                  "--bs=4k",
                  "--direct=1",
                  "--readonly",
                  "--ioengine=libaio",
                  "--iodepth=" + depth,
                  "--time_based",
                  "--runtime=" + String.format(Locale.ROOT, "%.0fms", seconds * 1000),
                  "--output-format=json"));
      JsonElement job =
          JsonParser.parseString(json.substring(Math.max(0, json.indexOf('{'))))
              .getAsJsonObject()
              .getAsJsonArray("jobs")
              .get(0);
      JsonObject read = job.getAsJsonObject().getAsJsonObject("read");
      return OptionalDouble.of(read.get("iops").getAsDouble());
    } catch (IOException | JsonParseException | IllegalStateException | NullPointerException e) {
      return OptionalDouble.empty();
    }
  }

  private static String run(List<String> command) throws IOException {
    Process process =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
    process.getOutputStream().close();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    try {
      int exit = process.waitFor();
      if (exit != 0) {
        throw new IOException(command.getFirst() + " ended with " + exit);
      }
    } catch (InterruptedException e) {
      process.destroy();
      Thread.currentThread().interrupt();
      throw new IOException(command.getFirst() + " was interrupted", e);
    }
    return out;
  }
}
