// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.bench.report.BenchRun;
import io.engram.bench.report.History;
import io.engram.bench.report.PerformancePage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class BenchRunCommandTest {
  @TempDir Path directory;

  private String file(String name) {
    return directory.resolve(name).toString();
  }

  private Run tiny(String benchmark) {
    return Run.of(
        "bench",
        "run",
        benchmark,
        "-p",
        "work=10",
        "--rounds",
        "1",
        "--warmups",
        "1",
        "--iterations",
        "2",
        "--seconds",
        "0.02",
        "--jvm-args",
        "-Dtiny=there -Xmx256m",
        "--json",
        file("run.json"),
        "--markdown",
        file("run.md"),
        "--charts",
        file("charts"),
        "--history",
        file("history.jsonl"));
  }

  @Test
  void aRunGoesIntoFilesHistoryAndPage() throws IOException {
    Run run = tiny("TinyBenchmark.does");
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("TinyBenchmark.does work=10"), run.out());
    assertTrue(run.out().contains("noise floor: TinyBenchmark.does work=10"), run.out());
    assertTrue(run.err().contains("[2/2] round 1: TinyBenchmark.does work=10"), run.err());
    List<BenchRun> history = History.read(directory.resolve("history.jsonl"));
    assertEquals(1, history.size());
    BenchRun recorded = history.getFirst();
    assertTrue(recorded.environment().jvmArgs().contains("-Dtiny=there"));
    JsonObject json =
        JsonParser.parseString(Files.readString(directory.resolve("run.json"))).getAsJsonObject();
    assertEquals(JsonParser.parseString(History.line(recorded)), json);
    assertTrue(
        Files.readString(directory.resolve("run.md")).contains("`TinyBenchmark.does` | work=10"));
    assertTrue(
        ImageIO.read(directory.resolve("charts").resolve("times-tiny.png").toFile()).getWidth()
            > 100);
    Path page =
        Files.writeString(
            directory.resolve("page.md"), PerformancePage.BEGIN + "\n" + PerformancePage.END);
    Run report =
        Run.of(
            "bench",
            "report",
            "--history",
            file("history.jsonl"),
            "--page",
            page.toString(),
            "--charts",
            file("charts"));
    assertEquals(0, report.exitCode(), report.err());
    assertTrue(report.out().contains("1 run on 1 kind of machine"), report.out());
    assertTrue(Files.readString(page).contains(recorded.machine().kind()));
  }

  @Test
  void aFailureIsReportedAndTheRestGoesOn() throws IOException {
    Run run = tiny("TinyBenchmark.");
    assertEquals(1, run.exitCode(), run.err());
    assertTrue(
        run.out()
            .lines()
            .anyMatch(
                line -> line.contains("TinyBenchmark.fails") && line.contains("no luck at all")),
        run.out());
    BenchRun recorded = History.read(directory.resolve("history.jsonl")).getFirst();
    assertEquals(3, recorded.measured().size());
    assertEquals(2, recorded.measured().stream().filter(one -> one.rounds().size() == 1).count());
    assertTrue(Files.readString(directory.resolve("run.md")).contains("**failed**: "));
  }

  @Test
  void aDamagedHistoryIsNamedBeforeAnythingRuns() throws IOException {
    Files.writeString(directory.resolve("history.jsonl"), "{}\n");
    Run run = tiny("TinyBenchmark.does");
    assertEquals(1, run.exitCode());
    assertTrue(run.err().contains("history.jsonl: line 1: "), run.err());
    assertFalse(run.err().contains("round 1"), run.err());
  }

  @Test
  void theListRunsNothing() {
    Run run = Run.of("bench", "run", "--list", "hash");
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("HashBenchmark.java layout=v41"), run.out());
    assertTrue(run.out().contains("benchmarks, about "), run.out());
  }

  @Test
  void aWrongCommandLineIsExitCode2() {
    for (String[] wrong :
        new String[][] {
          {"bench", "run", "nothing-of-that-name"},
          {"bench", "run", "hash", "--rounds", "0"},
          {"bench", "run", "hash", "-p", "colour=red"},
          {"bench", "run", "hash", "--python", file("no-python")},
          {"bench", "run", "hash", "--list", "--seconds", "-1"}
        }) {
      assertEquals(2, Run.of(wrong).exitCode(), () -> String.join(" ", wrong));
    }
  }
}
