// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.EngramException;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A process that trains and saves for ever, and may be killed at it. */
final class SavingChild {
  /** Tables, moments and a tensor of some megabytes: a save takes long enough to be met. */
  static final int SLOTS = 20_000;

  static final int HEAP = 100_000;

  private SavingChild() {}

  static Runs run() {
    return Runs.of(RowFormat.F32, SLOTS, HEAP, 1);
  }

  /**
   * Saves: directory, first step. With a third argument, the number of saves, after which it ends
   * or says why it could not.
   */
  public static void main(String[] arguments) {
    Path directory = Path.of(arguments[0]);
    long from = Long.parseLong(arguments[1]);
    long to = arguments.length > 2 ? from + Long.parseLong(arguments[2]) : Long.MAX_VALUE;
    try (Runs run = run()) {
      for (long step = from; step < to; step++) {
        run.train(step);
        System.out.println("saving " + step);
        try {
          TrainingCheckpoint.save(directory, run.state(), 1, done -> {});
        } catch (EngramException e) {
          System.out.println("failed " + e.getMessage());
          return;
        }
        System.out.println("saved " + step);
      }
    }
  }

  /**
   * Starts one.
   *
   * @param fileBlocks the most 512-byte blocks that a file of it may have, or 0 for no limit
   */
  static Process start(Path directory, long from, int fileBlocks, String... more)
      throws IOException {
    List<String> command = new ArrayList<>();
    if (fileBlocks > 0) {
      command.addAll(List.of("sh", "-c", "ulimit -f " + fileBlocks + " && exec \"$@\"", "sh"));
    }
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(
        List.of(
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Xshare:auto",
            // Its file of counters would be cut off by a limit on files, and the process with it.
            "-XX:-UsePerfData",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            System.getProperty("surefire.test.class.path", System.getProperty("java.class.path")),
            SavingChild.class.getName(),
            directory.toString(),
            Long.toString(from)));
    command.addAll(List.of(more));
    return new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
  }
}
