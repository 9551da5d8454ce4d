// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class TrainCommandTest {
  private static final int INTERRUPTED = 130;

  @TempDir Path directory;

  private Path text() throws IOException {
    return Files.writeString(
        directory.resolve("text"),
        "Only Alexander the Great could tame the horse Bucephalus.\nIt was afraid of its shadow.\n"
            .repeat(120));
  }

  private List<String> arguments(String... more) throws IOException {
    List<String> all =
        new ArrayList<>(
            List.of(
                "train",
                "--out",
                directory.resolve("model").toString(),
                "--text",
                text().toString()));
    all.addAll(List.of(more));
    return all;
  }

  private static final String[] SMALL = {
    "--vocabulary",
    "50",
    "--width",
    "16",
    "--heads",
    "2",
    "--context",
    "16",
    "--batch",
    "4",
    "--slots",
    "97",
    "--sample",
    "8"
  };

  private Run small(String... more) throws IOException {
    List<String> all = arguments(SMALL);
    all.addAll(List.of(more));
    return Run.of(all.toArray(String[]::new));
  }

  private static JsonObject json(Run run) {
    assertEquals(0, run.exitCode(), run.err());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }

  @Test
  void aRunGoesOnWhereItWasAndWritesWhatItLearned() throws IOException {
    JsonObject first = json(small("--steps", "20", "--json"));
    assertEquals(20, first.get("step").getAsLong());
    assertTrue(first.get("finished").getAsBoolean());
    double before =
        first.getAsJsonArray("heldOut").get(0).getAsJsonObject().get("loss").getAsDouble();
    assertTrue(first.get("heldOutLoss").getAsDouble() < before - 0.5, first::toString);
    assertFalse(first.get("sample").getAsString().isEmpty());
    Path model = directory.resolve("model");
    for (String file : List.of("run.json", "vocabulary.tiktoken", "loss.svg", "loss.csv")) {
      assertTrue(Files.size(model.resolve(file)) > 0, file);
    }

    Run again = Run.of("train", "--out", model.toString());
    assertEquals(0, again.exitCode(), again.err());
    assertTrue(again.out().contains("20 steps were made already"), again.out());

    JsonObject more = json(small("--steps", "30", "--resume", "--json"));
    assertEquals(10, more.get("steps").getAsLong());
    assertEquals(30, more.get("step").getAsLong());

    Run other = small("--steps", "40", "--layers", "3", "--orders", "2,3,4");
    assertEquals(1, other.exitCode());
    assertTrue(other.err().contains("layers: 2 there, 3 asked for"), other.err());
    assertTrue(other.err().contains("orders: [2, 3] there, [2, 3, 4] asked for"), other.err());

    String[] generate = {
      "generate", "--model", model.toString(), "--prompt", "Only Alex", "--tokens", "12", "--json"
    };
    JsonObject one = json(Run.of(generate));
    assertEquals("Only Alex", one.get("prompt").getAsString());
    assertEquals(one, json(Run.of(generate)));
    List<String> off = new ArrayList<>(List.of(generate));
    off.addAll(List.of("--memory-off", "--temperature", "0"));
    assertNotEquals("", json(Run.of(off.toArray(String[]::new))).get("continuation").getAsString());
  }

  @Test
  void aPlainTransformerHasFewerParameters() throws IOException {
    JsonObject plain = json(small("--steps", "2", "--no-memory", "--json"));
    assertEquals(plain.get("parameters").getAsLong(), plain.get("activeParameters").getAsLong());
    assertEquals(plain.get("parameters").getAsLong(), plain.get("denseParameters").getAsLong());
    Run experts = Run.of(with("experts", "--experts", "4", "--streams", "2", "--json"));
    JsonObject mixture = json(experts);
    assertTrue(
        mixture.get("activeParameters").getAsLong() < mixture.get("denseParameters").getAsLong(),
        experts::out);
  }

  private String[] with(String name, String... more) throws IOException {
    List<String> all = arguments(SMALL);
    all.set(2, directory.resolve(name).toString());
    all.addAll(List.of("--steps", "2"));
    all.addAll(List.of(more));
    return all.toArray(String[]::new);
  }

  @Test
  void whatCannotBeIsRefused() throws IOException {
    assertEquals(2, small("--no-memory", "--memory-layers", "1").exitCode());
    assertEquals(2, small("--sample", "-1").exitCode());
    assertFails("no run to go on with", small("--resume"));
    assertFails("a memory at layer 7", small("--memory-layers", "7"));
    assertFails("holds no model", Run.of("generate", "--model", directory.toString()));
    assertFails(
        "expected at least",
        Run.of(
            "train",
            "--out",
            directory.resolve("short").toString(),
            "--text",
            Files.writeString(directory.resolve("short.txt"), "one\ntwo\nthree\n").toString()));
    assertFails(
        "missing.txt", Run.of("train", "--text", directory.resolve("missing.txt").toString()));
    assertFalse(Files.exists(directory.resolve("short").resolve("run.json")));
  }

  private static void assertFails(String what, Run run) {
    assertEquals(1, run.exitCode(), run.out());
    assertTrue(run.err().contains(what), run.err());
  }

  @Test
  void anInterruptSavesAndSaysSo() throws Exception {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "--sun-misc-unsafe-memory-access=allow",
                "-cp",
                System.getProperty("java.class.path"),
                EngramCommand.class.getName()));
    command.addAll(List.of(with("interrupted")));
    command.set(command.lastIndexOf("2"), "1000000");
    Path log = directory.resolve("log");
    Process process =
        new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    // The first look comes before the first step, the first checkpoint only at the end.
    while (process.isAlive() && !Files.readString(log).contains("step ")) {
      Thread.sleep(50);
    }
    new ProcessBuilder("kill", "-INT", Long.toString(process.pid())).start().waitFor();
    assertEquals(INTERRUPTED, process.waitFor(), Files.readString(log));
    assertTrue(Files.readString(log).contains("stopped    at step"), Files.readString(log));
    Run resumed =
        Run.of("train", "--out", directory.resolve("interrupted").toString(), "--steps", "1");
    assertEquals(0, resumed.exitCode(), resumed.err());
    assertTrue(resumed.out().contains("resumed    at step"), resumed.out());
  }
}
