// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.table.RowDigest;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Conversions in other processes: killed at any moment, or two at once. */
@Tag("once")
class KilledConversionTest {
  @TempDir Path directory;

  private long rows;
  private Path source;
  private List<Path> files;
  private Path output;

  private void prepare(int blocks) throws IOException {
    rows = (long) blocks * RowDigest.BLOCK_ROWS + 12_345;
    source = directory.resolve("source");
    SyntheticTable.write(source, ConvertProcess.FORMAT, ConvertProcess.HEAD_DIM, rows, 11);
    Files.createDirectories(directory.resolve("a"));
    Files.createDirectories(directory.resolve("b"));
    files =
        List.of(
            directory.resolve("a").resolve(PackedTable.fileName(7, 0, 2)),
            directory.resolve("b").resolve(PackedTable.fileName(7, 1, 2)));
    output = directory.resolve("output");
  }

  /** How long an undisturbed conversion takes, and its files, which are removed. */
  private long undisturbed(List<byte[]> expected) throws IOException, InterruptedException {
    long started = System.nanoTime();
    Process process = ConvertProcess.start(source, rows, files, output);
    assertEquals(0, process.waitFor(), () -> said(output));
    long nanos = System.nanoTime() - started;
    for (Path file : files) {
      expected.add(Files.readAllBytes(file));
    }
    remove();
    return nanos;
  }

  private static String said(Path output) {
    try {
      return Files.readString(output);
    } catch (IOException e) {
      return e.toString();
    }
  }

  private void remove() throws IOException {
    for (Path file : files) {
      try (Stream<Path> all = Files.list(file.getParent())) {
        for (Path each : all.toList()) {
          Files.delete(each);
        }
      }
    }
  }

  /**
   * Kills conversions until as many have been killed in the middle, letting each go on where the
   * one before was killed. After every kill: a name that is there means a file that is right.
   */
  private void killAtAnyMoment(int kills, int blocks) throws Exception {
    prepare(blocks);
    RandomGenerator random = Seeds.random("KilledConversionTest");
    List<byte[]> expected = new ArrayList<>();
    long nanos = undisturbed(expected);
    int killed = 0;
    int resumed = 0;
    int finished = 0;
    for (int attempt = 0; killed < kills; attempt++) {
      assertTrue(attempt < 6 * kills + 20, killed + " kills in " + attempt + " attempts");
      Process process = ConvertProcess.start(source, rows, files, output);
      // At any moment, start and end included; and, every other time, surely in the middle.
      boolean ended =
          attempt % 2 == 1
              ? process.waitFor(random.nextLong(nanos), TimeUnit.NANOSECONDS)
              : endedBefore(process, random.nextLong(rows));
      if (ended) {
        finished += check(expected, process.exitValue());
        continue;
      }
      process.destroyForcibly().waitFor();
      if (process.exitValue() == 0) {
        finished += check(expected, 0);
        continue;
      }
      killed++;
      for (int s = 0; s < files.size(); s++) {
        if (Files.exists(files.get(s))) {
          assertArrayEquals(expected.get(s), Files.readAllBytes(files.get(s)));
        }
        Path partial = files.get(s).resolveSibling(files.get(s).getFileName() + ".partial");
        if (Files.exists(partial)) {
          resumed += mayBeOpened(partial, expected.get(s)) ? 0 : 1;
        }
      }
    }
    Process last = ConvertProcess.start(source, rows, files, output);
    finished += check(expected, last.waitFor());
    System.out.println(
        killed + " kills, " + resumed + " unfinished files, " + finished + " finished conversions");
    assertTrue(resumed > 0, "no kill came in the middle");
  }

  /** Waits until a conversion has come so far. */
  private boolean endedBefore(Process process, long wanted)
      throws IOException, InterruptedException {
    while (!process.waitFor(1, TimeUnit.MILLISECONDS)) {
      long done =
          Files.readString(output)
              .lines()
              .filter(line -> line.matches("converted \\d+"))
              .mapToLong(line -> Long.parseLong(line.substring(10)))
              .max()
              .orElse(-1);
      if (done >= wanted) {
        return false;
      }
    }
    return true;
  }

  /** An unfinished file is refused, unless all that it lacks is its name. */
  private static boolean mayBeOpened(Path partial, byte[] expected) throws IOException {
    try (Arena arena = Arena.ofShared()) {
      PackedFile.open(partial, arena);
    } catch (EngramException e) {
      return false;
    }
    assertArrayEquals(expected, Files.readAllBytes(partial));
    return true;
  }

  private int check(List<byte[]> expected, int exitCode) throws IOException {
    assertEquals(0, exitCode, () -> said(output));
    for (int s = 0; s < files.size(); s++) {
      assertArrayEquals(expected.get(s), Files.readAllBytes(files.get(s)));
      try (Stream<Path> all = Files.list(files.get(s).getParent())) {
        assertEquals(1, all.count(), "something was left behind");
      }
    }
    remove();
    return 1;
  }

  @Test
  @Timeout(120)
  void aKilledConversionGoesOn() throws Exception {
    killAtAnyMoment(3, 20);
  }

  @Test
  @Tag("long")
  @Timeout(600)
  void fiftyKillsLeaveNothingWrong() throws Exception {
    killAtAnyMoment(50, 120);
  }

  @Test
  @Timeout(120)
  void anotherProcessIsRefusedMeanwhile() throws Exception {
    prepare(6);
    List<Integer> codes = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      ConvertProcess.table(source, rows)
          .converter(arena)
          .shards(ConvertProcess.shards(rows))
          .threads(1)
          .listener(
              new ConversionListener() {
                @Override
                public void converted(long done, long of) {
                  if (codes.isEmpty() && done > 0) {
                    try {
                      codes.add(ConvertProcess.start(source, rows, files, output).waitFor());
                    } catch (IOException | InterruptedException e) {
                      throw new IllegalStateException(e);
                    }
                  }
                }
              })
          .convert(files);
      assertNotEquals(0, codes.getFirst());
      assertTrue(said(output).contains("another conversion"), said(output));
      assertTrue(PackedTable.open(files, arena).verify(1, _ -> {}).holds());
    }
    remove();
    assertThrows(EngramException.class, () -> PackedTable.open(files, Arena.ofAuto()));
  }
}
