// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramException;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Saves that are killed, and disks that are full. */
@Tag("once")
class SaveFaultsTest {
  @TempDir Path directory;

  /**
   * Kills processes that save, each going on where the one before was killed, until so many were
   * killed in the middle of a save. After every kill, the last complete save has the right bytes.
   */
  private void killAtAnyMoment(int kills) throws Exception {
    RandomGenerator random = Seeds.random("SaveFaultsTest");
    int midway = 0;
    int completed = 0;
    int attempts = 0;
    long next = 0;
    long longest = TimeUnit.MILLISECONDS.toNanos(40);
    try (Runs expected = SavingChild.run();
        Runs restored = SavingChild.run()) {
      while (midway < kills) {
        assertTrue(attempts++ < 4 * kills + 20, midway + " kills in " + attempts + " attempts");
        long begun = -1;
        long saved = next - 1;
        long nanos = 0;
        Process process = SavingChild.start(directory, next, 0);
        try (BufferedReader said = process.inputReader()) {
          // From the first word that a save has begun, or the second, to about its end.
          int words = 1 + 2 * random.nextInt(2);
          String line = "";
          for (int i = 0; i < words && (line = said.readLine()) != null; i++) {
            if (line.startsWith("saving ")) {
              begun = number(line);
              nanos = -System.nanoTime();
            } else {
              saved = number(line);
              nanos += System.nanoTime();
              longest = nanos;
            }
          }
          assertTrue(line != null, "the process ended by itself");
          TimeUnit.NANOSECONDS.sleep(random.nextLong(longest * 5 / 4));
          // By its handle: what it has said can still be read.
          process.toHandle().destroyForcibly();
          process.waitFor();
          while ((line = said.readLine()) != null) {
            begun = line.startsWith("saving ") ? number(line) : begun;
            saved = line.startsWith("saved ") ? number(line) : saved;
          }
        }
        midway += unfinished() ? 1 : 0;
        if (TrainingCheckpoint.saves(directory).isEmpty()) {
          assertEquals(-1, saved, "a save was lost");
          continue;
        }
        TrainingCheckpoint.Restored result =
            TrainingCheckpoint.restore(directory, restored.state());
        restored.take(result);
        assertTrue(
            result.step() >= saved && result.step() <= Math.max(begun, saved),
            "restored step %d, saved %d, begun %d".formatted(result.step(), saved, begun));
        expected.train(result.step());
        assertEquals(expected.fingerprint(), restored.fingerprint(), "step " + result.step());
        completed += (int) (result.step() + 1 - next);
        next = result.step() + 1;
      }
      TrainingCheckpoint.save(directory, expected.state(), 1, done -> {});
      assertFalse(unfinished());
      assertEquals(1, TrainingCheckpoint.saves(directory).size());
    }
    System.out.println(
        "%d kills: %d in the middle of a save, %d saves completed, each last one right"
            .formatted(attempts, midway, completed));
  }

  private static long number(String line) {
    return Long.parseLong(line.substring(line.indexOf(' ') + 1));
  }

  private boolean unfinished() throws IOException {
    if (!Files.isDirectory(directory)) {
      return false;
    }
    try (Stream<Path> entries = Files.list(directory)) {
      return entries.anyMatch(p -> p.toString().endsWith(".partial"));
    }
  }

  @Test
  @Timeout(120)
  void aKilledSaveLeavesTheOneBefore() throws Exception {
    killAtAnyMoment(4);
  }

  @Test
  @Tag("long")
  @Timeout(600)
  void fiftyKillsLeaveNothingWrong() throws Exception {
    killAtAnyMoment(50);
  }

  /** A file that may not grow, in the middle of a save that would be larger than the one before. */
  @Test
  @Timeout(120)
  void aFileThatMayNotGrowLeavesTheSaveBefore() throws Exception {
    assumeTrue(File.separatorChar == '/', "skipped: ulimit is a command of Unix shells");
    try (Runs run = SavingChild.run()) {
      run.train(5);
      int before = run.fingerprint();
      TrainingCheckpoint.save(directory, run.state());
      // Tables of 2.5 MB, files of at most 1 MB.
      Process process = SavingChild.start(directory, 6, 2000, "1");
      String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertEquals(0, process.waitFor(), said);
      assertTrue(said.contains("failed "), said);
      assertTrue(said.contains("the last complete save, save-00000001, is as it was"), said);
      assertTrue(said.contains("table-1.safetensors"), said);
      assertFalse(unfinished(), "the space was not given back");
      run.train(7);
      run.take(TrainingCheckpoint.restore(directory, run.state()));
      assertEquals(before, run.fingerprint());
    }
  }

  /** A real full disk: a small file system in memory, filled up by somebody else meanwhile. */
  @Test
  void aFullDiskLeavesTheSaveBefore() throws Exception {
    Path disk = Files.createDirectory(directory.resolve("disk"));
    assumeTrue(
        run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk.toString()) == 0,
        "skipped: mounting a tmpfs takes root");
    try (Runs run = Runs.of(RowFormat.F32, 3000, 1000, 1)) {
      Path saves = disk.resolve("run");
      run.train(1);
      int before = run.fingerprint();
      TrainingCheckpoint.save(saves, run.state());
      run.train(2);
      Path filler = disk.resolve("filler");
      String full =
          assertThrows(
                  EngramException.class,
                  () -> TrainingCheckpoint.save(saves, run.state(), 1, done -> fill(filler, disk)))
              .getMessage();
      assertTrue(full.contains("the last complete save, save-00000001, is as it was"), full);
      assertTrue(full.contains("space"), full);
      assertEquals(List.of(saves.resolve("save-00000001")), TrainingCheckpoint.saves(saves));
      String beforehand =
          assertThrows(EngramException.class, () -> TrainingCheckpoint.save(saves, run.state()))
              .getMessage();
      assertTrue(beforehand.contains("bytes are free"), beforehand);
      run.take(TrainingCheckpoint.restore(saves, run.state()));
      assertEquals(before, run.fingerprint());
      Files.delete(filler);
      run.train(3);
      TrainingCheckpoint.save(saves, run.state(), 1, done -> {});
      assertEquals(3, TrainingCheckpoint.restore(saves, run.state()).step());
    } finally {
      assertEquals(0, run("umount", disk.toString()));
    }
  }

  private static void fill(Path filler, Path disk) {
    if (!Files.exists(filler)) {
      try {
        Files.write(filler, new byte[Math.toIntExact(Files.getFileStore(disk).getUsableSpace())]);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }

  private static int run(String... command) throws InterruptedException {
    try {
      return new ProcessBuilder(command).redirectErrorStream(true).start().waitFor();
    } catch (IOException e) {
      return -1;
    }
  }
}
