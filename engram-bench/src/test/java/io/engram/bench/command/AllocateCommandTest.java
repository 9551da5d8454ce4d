// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
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
class AllocateCommandTest {
  private static final List<String> PAPER =
      List.of("--total", "26.7B", "--active", "3.8B", "--experts", "72", "--top-k", "6");

  @TempDir Path directory;

  private static Run run(List<String> model, String... more) {
    List<String> all = new ArrayList<>(List.of("allocate"));
    all.addAll(model);
    all.addAll(List.of(more));
    return Run.of(all.toArray(String[]::new));
  }

  private static JsonObject json(List<String> model, String... more) {
    List<String> all = new ArrayList<>(List.of(more));
    all.add("--json");
    Run run = run(model, all.toArray(String[]::new));
    assertEquals(0, run.exitCode(), run.err());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }

  @Test
  void showsAllocationsWithTablesAsTheyWouldBeBuilt() {
    JsonObject all = json(PAPER, "--rho", "1,0.743");
    assertEquals(22_900_000_000L, all.get("sparseParameters").getAsLong());
    JsonObject none = all.getAsJsonArray("allocations").get(0).getAsJsonObject();
    assertEquals(72, none.get("experts").getAsInt());
    assertEquals(0, none.get("rows").getAsLong());
    JsonObject paper = all.getAsJsonArray("allocations").get(1).getAsJsonObject();
    assertEquals(55, paper.get("experts").getAsInt());
    assertEquals(49 / 66.0, paper.get("rho").getAsDouble(), 1e-12);
    long parameters = paper.get("tableParameters").getAsLong();
    assertTrue(parameters <= paper.get("freedParameters").getAsLong());
    assertEquals(22.9e9 * 17 / 66, (double) parameters, 1e6);
    assertEquals(2, paper.getAsJsonArray("tables").size());
    assertEquals(parameters * 4, paper.getAsJsonObject("bytes").get("F32").getAsLong());
  }

  @Test
  void printsATableThatMarksTheOptimum() {
    Run run = run(PAPER);
    assertEquals(0, run.exitCode(), run.err());
    List<String> marked = run.out().lines().filter(l -> l.endsWith("◀")).toList();
    assertEquals(3, marked.size(), run.out());
    assertTrue(run.out().contains("░") && run.out().contains("█"), run.out());
    Run one = run(PAPER, "--rho", "0.8");
    assertTrue(one.out().contains("layer 14, ") && one.out().contains("order 3"), one.out());
  }

  @Test
  void saysAtWhichRatioSlotsArePaidFor() {
    JsonObject paper = json(PAPER, "--slots", "2262400");
    assertEquals(5.792e9, paper.get("tableParameters").getAsDouble(), 0.5e6);
    assertEquals(1 - 5.792 / 22.9, paper.get("rho").getAsDouble(), 1e-4);
    Run run = run(PAPER, "--slots", "2262400");
    assertTrue(run.out().contains("5.792 B parameters"), run.out());
    Run tooMany = run(PAPER, "--slots", "100000000");
    assertEquals(1, tooMany.exitCode());
    assertTrue(tooMany.err().contains("more than the 22,900,000,000 sparse ones"), tooMany.err());
  }

  @Test
  void takesDescriptors() throws IOException {
    Path config = directory.resolve("config.json");
    Files.writeString(
        config,
        """
        {"hidden_size": 2560, "num_hidden_layers": 30, "first_k_dense_replace": 1,
         "n_routed_experts": 72, "num_experts_per_tok": 6, "moe_intermediate_size": 1536}
        """);
    JsonObject read = json(List.of("--config", config.toString()), "--rho", "0.5");
    JsonObject stated =
        json(
            List.of(
                "--hidden",
                "2560",
                "--expert-layers",
                "29",
                "--expert-width",
                "1536",
                "--experts",
                "72",
                "--top-k",
                "6"),
            "--rho",
            "0.5");
    assertEquals(stated, read);
    assertEquals(3L * 29 * 2560 * 1536 * 66, read.get("sparseParameters").getAsLong());
  }

  @Test
  void takesOtherMemories() {
    JsonObject v41 = json(PAPER, "--preset", "v41", "--rho", "0.8");
    assertEquals("[2,3,4]", v41.getAsJsonArray("orders").toString());
    JsonObject small =
        json(PAPER, "--layers", "3", "--orders", "2", "--heads", "4", "--head-dim", "32");
    assertEquals(4, small.get("headsPerOrder").getAsInt());
    assertEquals(32, small.get("headDim").getAsInt());
  }

  @Test
  void wrongCommandLinesAreRefused() {
    assertRefused(2, "--total", Run.of("allocate"));
    assertRefused(2, "--experts", Run.of("allocate", "--total", "2B", "--active", "1B"));
    assertRefused(
        2,
        "expected a number such as 27B",
        Run.of("allocate", "--total", "lots", "--active", "1B", "--experts", "8", "--top-k", "2"));
    assertRefused(1, "rho is 2.0", run(PAPER, "--rho", "2"));
    assertRefused(1, "no-such-file", Run.of("allocate", "--config", "no-such-file"));
    assertRefused(
        2, "leave --experts", run(List.of("--config", "x", "--experts", "8", "--top-k", "2")));
  }

  private static void assertRefused(int exitCode, String part, Run run) {
    assertEquals(exitCode, run.exitCode(), run.out() + run.err());
    assertTrue(run.err().contains(part), run.err());
  }
}
