// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramFormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

@Tag("once")
class HistoryTest {
  @TempDir Path directory;

  @Test
  void whatIsAppendedIsRead() throws IOException {
    Path file = directory.resolve("history.jsonl");
    List<BenchRun> runs = List.of(Runs.first(), Runs.second(), Runs.elsewhere());
    for (BenchRun run : runs) {
      History.append(file, run);
    }
    assertEquals(runs, History.read(file));
    assertEquals(3, Files.readString(file).lines().count());
    assertTrue(Files.readString(file).endsWith("}\n"));
  }

  @Test
  void scoresKeepFiveDigits() {
    Score score =
        new Score(1.23456789, Double.NaN, List.of(123456.7, 0.000123456), null, null, 0.0);
    assertEquals(1.2346, score.score());
    assertEquals(null, score.error());
    assertEquals(List.of(123460.0, 0.00012346), score.samples());
  }

  private static Stream<Arguments> damages() {
    return Stream.of(
        damage("is cut", line -> line.substring(0, line.length() / 2), "End of input"),
        damage("is empty", line -> "", "is no JSON object"),
        damage("is another thing", line -> "[1]", "is no JSON object"),
        damage("is no JSON", line -> "{\"format\":1,", "line 2"),
        damage("has two objects", line -> line + line, "line 2"),
        damage(
            "has a later format",
            line -> line.replace("\"format\":1,", "\"format\":2,"),
            "format: expected 1, found 2"),
        damage(
            "lacks a number", line -> line.replace("\"cores\":2,", ""), "cores: 0 is less than 1"),
        damage(
            "lacks a flag",
            line -> line.replace(",\"dirty\":false", ""),
            "commit.dirty: is missing"),
        damage(
            "lacks a part",
            line -> line.replaceFirst("\"commit\":\\{.*?},", ""),
            "commit: is missing"),
        damage(
            "has a field that is unknown",
            line -> line.replace("\"cores\":2,", "\"cores\":2,\"sockets\":1,"),
            "machine.sockets: is unknown"),
        damage(
            "has a field twice",
            line -> line.replace("\"cores\":2,", "\"cores\":2,\"cores\":2,"),
            "line 2"),
        damage(
            "has a word for a number",
            line -> line.replace("\"cores\":2,", "\"cores\":\"two\","),
            "two"),
        damage(
            "has a number as a word",
            line -> line.replace("\"cores\":2,", "\"cores\":\"2\","),
            "machine.cores: found \"2\", which would be written as 2"),
        damage(
            "has a score below nothing",
            line -> line.replace("\"score\":10.0,", "\"score\":-10.0,"),
            "score: -10.0 is no positive number"),
        damage(
            "has a score that is none",
            line -> line.replace("\"score\":10.0,", "\"score\":NaN,"),
            "line 2"),
        damage(
            "has more digits than are kept",
            line -> line.replace("\"score\":10.0,", "\"score\":10.0000004,"),
            "score: found 10.0000004, which would be written as 10.0"),
        damage(
            "has a date that is none",
            line -> line.replace("2026-11-25T", "2026-13-25T"),
            "is none"),
        damage(
            "has a unit that is none",
            line -> line.replace("\"ns/op\"", "\"bananas\""),
            "neither a time for each operation"),
        damage(
            "has null among ratios",
            line -> line.replaceFirst("\"ratios\":\\[", "\"ratios\":[null,"),
            "line 2"));
  }

  private static Arguments damage(String name, UnaryOperator<String> how, String message) {
    return Arguments.of(name, how, message);
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("damages")
  void damagedLinesAreNamed(String name, UnaryOperator<String> how, String message)
      throws IOException {
    Path file = directory.resolve("history.jsonl");
    String good = History.line(Runs.first());
    String bad = how.apply(good);
    assertFalse(good.equals(bad), name);
    Files.writeString(file, good + "\n" + bad + "\n" + good + "\n");
    EngramFormatException e = assertThrows(EngramFormatException.class, () -> History.read(file));
    assertTrue(e.getMessage().startsWith(file + ": line 2: "), e.getMessage());
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertThrows(EngramFormatException.class, () -> History.append(file, Runs.second()));
    assertEquals(3, Files.readString(file).lines().count(), "nothing was appended");
  }

  @Test
  void aLastLineWithoutAnEndIsNamed() throws IOException {
    Path file = directory.resolve("history.jsonl");
    Files.writeString(file, History.line(Runs.first()));
    assertTrue(
        assertThrows(EngramFormatException.class, () -> History.read(file))
            .getMessage()
            .endsWith("line 1: does not end"));
  }
}
