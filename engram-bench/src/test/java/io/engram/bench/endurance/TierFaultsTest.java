// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.kernel.KernelChoice;
import io.engram.testkit.Seeds;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * The files of a table under several tiers at once, while another process reads them with four
 * threads and decodes. The processes are killed by nothing that is done to the files.
 */
class TierFaultsTest {
  private static final int SLOTS = 375;
  private static final int PARTS = 3;

  @TempDir Path directory;

  private final List<Child> children = new ArrayList<>();

  /** A {@link FaultChild} and what it says. */
  private record Child(Process process, BufferedReader lines) {
    void order(String line) throws IOException {
      process.outputWriter().write(line + "\n");
      process.outputWriter().flush();
    }

    /** Reads until the line that is waited for, or the end. */
    String await(String expected) throws IOException {
      StringBuilder said = new StringBuilder();
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        said.append(line).append('\n');
        if (line.startsWith(expected)) {
          return said.toString();
        }
      }
      throw new AssertionError("no line " + expected + " in:\n" + said);
    }

    int end() throws IOException, InterruptedException {
      process.outputWriter().close();
      lines.lines().forEach(System.out::println);
      return process.waitFor();
    }
  }

  private Child start(String... options) throws IOException {
    List<String> all =
        new ArrayList<>(ChildJvm.kernels(KernelChoice.get().name().toLowerCase(Locale.ROOT)));
    all.addAll(List.of(options));
    all.add("-Xmx256m");
    all.add("-XX:-CreateCoredumpOnCrash");
    Process process = ChildJvm.start(all, FaultChild.class);
    Child child = new Child(process, process.inputReader());
    children.add(child);
    return child;
  }

  @AfterEach
  void endAll() throws InterruptedException {
    for (Child child : children) {
      ChildJvm.end(child.process());
    }
  }

  private TableFiles write(Path at) {
    try {
      Files.createDirectories(at);
      TableFiles table = TableFiles.write(at, PARTS, SLOTS, FaultChild.PATTERN, done -> {});
      // Here and not in children at the same time.
      table.packed(1);
      table.packed(3);
      return table;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static String open(Path at) {
    return "open " + at + " " + PARTS + " " + SLOTS;
  }

  @Test
  void nothingDoneToTheFilesGivesWrongRowsOrADeadJvm() throws Exception {
    RandomGenerator random = Seeds.random("TierFaultsTest.nothingDoneToTheFiles");
    Child child = start();
    for (int round = 0; round < 12; round++) {
      Path at = directory.resolve("round" + round);
      TableFiles table = write(at);
      child.order(open(at));
      child.await("reading");
      Thread.sleep(50 + random.nextInt(50));
      int part = random.nextInt(PARTS);
      Path file = table.files().get(part);
      long size = Files.size(file);
      String what = round % 3 == 2 ? "swapped" : "cut";
      if (what.equals("cut")) {
        long cut =
            switch (round % 4) {
              case 0 -> 0;
              case 1 -> size - 1 - random.nextInt(100);
              default -> random.nextLong(size);
            };
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
          channel.truncate(cut);
        }
      } else if (random.nextBoolean()) {
        Files.delete(file);
      } else {
        Path other = Files.write(at.resolve("other"), new byte[(int) random.nextLong(2 * size)]);
        Files.move(other, file, StandardCopyOption.ATOMIC_MOVE);
      }
      child.order(what + " " + part);
      System.out.print(child.await(what));
    }
    assertEquals(0, child.end());
  }

  @Test
  void twoProcessesServeOneTableAndOneMayDie() throws Exception {
    Path at = directory.resolve("shared");
    write(at);
    Child first = start();
    Child second = start();
    Child third = start();
    for (Child child : children) {
      child.order(open(at));
    }
    for (Child child : children) {
      child.await("reading");
    }
    Thread.sleep(200);
    third.process().destroyForcibly();
    Thread.sleep(200);
    for (Child child : List.of(first, second)) {
      child.order("none");
      System.out.print(child.await("none"));
      assertEquals(0, child.end());
    }
  }

  @Test
  void theHarnessNoticesAWrongBit() throws Exception {
    Path at = directory.resolve("flipped");
    write(at);
    Child child = start("-Dengram.test.flip=true");
    child.order(open(at));
    child.await("reading");
    child.order("none");
    String said = child.await("none");
    assertTrue(!said.contains(" 0 wrong"), said);
    assertEquals(1, child.end());
  }
}
