// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramConfig;
import io.engram.testkit.Golden;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class PlanCommandTest {
  private static final double EXACT = 1e-9;

  @TempDir Path directory;

  private static JsonObject json(String... arguments) {
    List<String> all = new ArrayList<>(List.of("plan", "--json"));
    all.addAll(List.of(arguments));
    Run run = Run.of(all.toArray(String[]::new));
    assertEquals(0, run.exitCode(), run.err());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }

  private static String origin(JsonObject plan, String input) {
    for (JsonElement each : plan.getAsJsonArray("inputs")) {
      if (each.getAsJsonObject().get("name").getAsString().equals(input)) {
        return each.getAsJsonObject().get("origin").getAsString();
      }
    }
    throw new AssertionError(input + " is not among the inputs");
  }

  private static double seconds(JsonObject plan, String layout, String what, String reading) {
    return plan.getAsJsonObject("layouts")
        .getAsJsonObject(layout)
        .getAsJsonObject(what)
        .getAsJsonObject(reading)
        .get("seconds")
        .getAsDouble();
  }

  private static List<Integer> layersBefore(JsonObject plan) {
    List<Integer> found = new ArrayList<>();
    for (JsonElement each : plan.getAsJsonArray("tables")) {
      found.add(each.getAsJsonObject().get("layersBefore").getAsInt());
    }
    return found;
  }

  @Test
  void saysOfEveryInputWhereItIsFrom() {
    Run run = Run.of("plan");
    assertEquals(0, run.exitCode(), run.err());
    for (String part :
        List.of(
            "layer 14: 384,016,682 rows of 264 bytes",
            "48 rows, 12,672 bytes: 96 reads, 96.0 pages",
            "48 rows, 12,672 bytes: 48 reads, 51.0 pages",
            "decoding        assumed",
            "disk            assumed",
            "memory          measured",
            "4.61 million reads",
            "2.30 million reads",
            "in place, one by one",
            "packed, prefetched",
            "RAM      202.8 GB")) {
      assertTrue(run.out().contains(part), () -> part + "\n" + run.out());
    }
    Run given =
        Run.of(
            "plan",
            "--rate",
            "50",
            "--batch",
            "4",
            "--prompt",
            "1000",
            "--prefill-rate",
            "2000",
            "--chunk",
            "100",
            "--iops",
            "100000",
            "--latency-us",
            "100",
            "--sequential",
            "1GB",
            "--cache-hit",
            "0.5",
            "--memory",
            "24GB",
            "--redis-row-bytes",
            "330");
    assertEquals(0, given.exitCode(), given.err());
    // What repeats within a chunk is the one thing that nobody stated.
    assertEquals(1, given.out().lines().filter(l -> l.contains(" assumed ")).count(), given.out());
  }

  @Test
  void predictsByTheStatedModel() {
    JsonObject plan =
        json("--rate", "30", "--iops", "100000", "--latency-us", "100", "--sequential", "1GB");
    assertEquals("GIVEN", origin(plan, "disk"));
    assertEquals("GIVEN", origin(plan, "decoding"));
    assertEquals("ASSUMED", origin(plan, "prompt"));
    double step = 1 / 30.0;
    assertEquals(step + 96 * 100e-6, seconds(plan, "in place", "decode", "loop"), EXACT);
    assertEquals(
        step + 2 * (100e-6 + 23 * 10e-6), seconds(plan, "packed", "decode", "batched"), EXACT);
    assertEquals(step, seconds(plan, "packed", "decode", "prefetched"), EXACT);
    assertEquals(202_758_032_400L, plan.getAsJsonObject("memory").get("tables").getAsLong());
  }

  @Test
  void readsLayersOfCheckpointsAsTheyCount() {
    JsonObject deepSeek = json("--checkpoint", Golden.path("v41_mini").toString());
    assertTrue(deepSeek.getAsJsonObject("layouts").has("packed"));
    JsonObject qwen = json("--checkpoint", Golden.path("qwen_mini").toString());
    // Its configuration says 1 and 3 and counts from 1.
    assertEquals(List.of(0, 2), layersBefore(qwen));
    assertEquals(4, qwen.getAsJsonObject("workload").get("backboneLayers").getAsInt());
    assertEquals(List.of("as stored"), List.copyOf(qwen.getAsJsonObject("layouts").keySet()));
    assertEquals(List.of(1), layersBefore(json("--preset", "qwen")));
    Run silent = Run.of("plan", "--checkpoint", Golden.path("demo_mini").toString());
    assertEquals(2, silent.exitCode());
    assertTrue(silent.err().contains("add --backbone-layers"), silent.err());
  }

  @Test
  void changesPresets() {
    // The paper's 27B: 2,262,400 slots, 80 values, layers 1 and 14 from 0.
    JsonObject plan =
        json(
            "--preset",
            "paper",
            "--slots",
            "2262400",
            "--head-dim",
            "80",
            "--layers",
            "1,14",
            "--row-format",
            "bf16");
    assertEquals(List.of(1, 14), layersBefore(plan));
    JsonObject table = plan.getAsJsonArray("tables").get(0).getAsJsonObject();
    assertEquals(160, table.get("rowBytes").getAsInt());
    long rows = table.get("rows").getAsLong();
    assertTrue(rows > 2_262_400L * 16 && rows < 2_263_400L * 16, () -> rows + " rows");
  }

  @Test
  void measuresADiskByATemporaryFileAndLeavesNothing() throws IOException {
    Run run =
        Run.of(
            "plan",
            "--json",
            "--disk",
            directory.toString(),
            "--probe-size",
            "64MiB",
            "--probe-seconds",
            "0.3");
    assumeFalse(run.err().contains("past the page cache"), () -> "no O_DIRECT here: " + run.err());
    assertEquals(0, run.exitCode(), run.err());
    JsonObject plan = JsonParser.parseString(run.out()).getAsJsonObject();
    assertEquals("MEASURED", origin(plan, "disk"));
    JsonObject disk = plan.getAsJsonObject("disk");
    assertTrue(disk.get("readsPerSecond").getAsDouble() > 1);
    assertTrue(disk.get("latencySeconds").getAsDouble() < 1);
    try (Stream<Path> left = Files.list(directory)) {
      assertEquals(List.of(), left.toList());
    }
  }

  @Test
  void refusesFilesThatDoNotShowTheDisk() throws IOException {
    Path sparse = directory.resolve("sparse");
    try (RandomAccessFile file = new RandomAccessFile(sparse.toFile(), "rw")) {
      file.setLength(1L << 30);
    }
    Run holes = Run.of("plan", "--disk", sparse.toString());
    assertEquals(1, holes.exitCode());
    assertTrue(
        holes.err().contains("256 of 256 pages hold nothing but zeros")
            || holes.err().contains("past the page cache"),
        holes.err());
    Path small = Files.write(directory.resolve("small"), new byte[4096]);
    Run few = Run.of("plan", "--disk", small.toString());
    assertEquals(1, few.exitCode());
    assertTrue(few.err().contains("expected at least 67.1 MB"), few.err());
    Run absent = Run.of("plan", "--disk", directory.resolve("absent").toString());
    assertEquals(1, absent.exitCode());
    assertTrue(absent.err().contains("no such file"), absent.err());
    Run large = Run.of("plan", "--disk", directory.toString(), "--probe-size", "900TB");
    assertTrue(large.err().contains("more than half"), large.err());
  }

  @Test
  void measuresHowManyRowsOfATextDiffer() throws IOException {
    Path same = Files.writeString(directory.resolve("same"), "again ".repeat(2000));
    Path other =
        Files.writeString(
            directory.resolve("other"),
            IntStream.range(0, 500).mapToObj(Integer::toString).collect(Collectors.joining(" ")));
    JsonObject repeated = json("--preset", "paper", "--text", same.toString());
    assertEquals("MEASURED", origin(repeated, "different rows"));
    double few = repeated.getAsJsonObject("reuse").get("distinctShare").getAsDouble();
    assertTrue(few > 0 && few < 0.02, () -> "share " + few);
    JsonObject varied =
        json("--checkpoint", Golden.path("v41_mini").toString(), "--text", other.toString());
    double many = varied.getAsJsonObject("reuse").get("distinctShare").getAsDouble();
    assertTrue(many > few && many <= 1, () -> "share " + many);
  }

  @Test
  void countsDifferentRowsChunkByChunk() {
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(100, 100)
            .fill(0)
            .orders(1)
            .headsPerOrder(1)
            .slotsPerHead(1_000_003L)
            .build();
    // With single ids, one head and a table far larger than the vocabulary, rows are ids.
    int[] ids = {1, 2, 1, 2, 3, 3, 3, 3, 4};
    TokenMap map = TokenMap.identity(100);
    assertEquals((2 + 1 + 1) / 9.0, DistinctRows.share(config, map, ids, 4), EXACT);
    assertEquals(4 / 9.0, DistinctRows.share(config, map, ids, 9), EXACT);
    assertEquals(4 / 9.0, DistinctRows.share(config, map, ids, 1000), EXACT);
    assertEquals(1, DistinctRows.share(config, map, ids, 1), EXACT);
  }

  @Test
  void aWrongCommandLineSaysSo() {
    assertEquals(2, Run.of("plan", "--disk", "x", "--iops", "5", "--latency-us", "1").exitCode());
    assertEquals(2, Run.of("plan", "--iops", "5").exitCode());
    assertEquals(2, Run.of("plan", "--checkpoint", "x", "--preset", "paper").exitCode());
    assertEquals(1, Run.of("plan", "--memory", "much").exitCode());
    assertEquals(1, Run.of("plan", "--batch", "0").exitCode());
    assertEquals(1, Run.of("plan", "--iops", "5", "--latency-us", "1").exitCode());
  }

  @Test
  void sizesAreReadAsPeopleWriteThem() {
    assertEquals(24_000_000_000L, Sizes.parse("24GB"));
    assertEquals(1L << 30, Sizes.parse("1GiB"));
    assertEquals(1_500_000, Sizes.parse("1.5 mb"));
    assertEquals(17, Sizes.parse("17B"));
    for (String wrong : List.of("", "GB", "24", "-1GB", "0B", "1e3MB", "1XB", "99999999TB")) {
      assertThrows(IllegalArgumentException.class, () -> Sizes.parse(wrong), wrong);
    }
  }

  @Test
  void barsShowEveryPartThatIsNotNothing() {
    BarChart chart = new BarChart(10, 10);
    assertEquals("█████░░░░░", chart.bar(5, 5));
    assertEquals("██████████", chart.bar(10, 0));
    assertEquals("█████████░", chart.bar(9.9, 0.1));
    assertEquals("", chart.bar(0));
    assertEquals("█", chart.bar(0.001));
    assertFalse(chart.bar(9.999, 0.001).contains("░"));
  }
}
