// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A JVM of its own, for what must not be said of the JVM of the tests: its heap, its death. */
record ChildJvm(int exitCode, String output, double seconds) {

  /** Starts one and waits for its end. */
  static ChildJvm run(List<String> options, Class<?> main, Object... arguments)
      throws IOException, InterruptedException {
    long start = System.nanoTime();
    Process process = start(options, main, arguments);
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int exitCode = process.waitFor();
    return new ChildJvm(exitCode, output, (System.nanoTime() - start) / 1e9);
  }

  /** Starts one; its output and its errors are one stream. */
  static Process start(List<String> options, Class<?> main, Object... arguments)
      throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("--enable-native-access=ALL-UNNAMED");
    command.addAll(options);
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(main.getName());
    for (Object argument : arguments) {
      command.add(argument.toString());
    }
    // A JVM that dies would leave its report in the working directory.
    command.add(
        1,
        "-XX:ErrorFile="
            + System.getProperty("java.io.tmpdir")
            + File.separator
            + "engram-test-%p.log");
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  /** Ends a child that a failed test left behind. */
  static void end(Process process) throws InterruptedException {
    process.destroyForcibly();
    process.waitFor(10, TimeUnit.SECONDS);
  }

  static List<String> kernels(String choice) {
    return choice.equals("vector")
        ? List.of("--add-modules=jdk.incubator.vector", "-Dengram.kernels=vector")
        : List.of("-Dengram.kernels=scalar");
  }
}
