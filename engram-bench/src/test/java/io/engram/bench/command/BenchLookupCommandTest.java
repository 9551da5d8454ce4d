// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.bench.command.LookupBench.Result;
import io.engram.bench.command.LookupBench.Tier;
import io.engram.store.MappedRowStore;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class BenchLookupCommandTest {
  @TempDir Path directory;

  @Test
  void measuresEveryTierAndDeletesItsTable() throws IOException {
    Run run =
        Run.of(
            "bench",
            "lookup",
            "--size",
            "4MB",
            "--directory",
            directory.toString(),
            "--batches",
            "8,64",
            "--threads",
            "1,2",
            "--seconds",
            "0.01",
            "--rounds",
            "2",
            "--no-fio",
            "--json");
    assertEquals(0, run.exitCode(), run.err());
    JsonObject found = JsonParser.parseString(run.out()).getAsJsonObject();
    Set<String> tiers = new HashSet<>();
    for (JsonElement each : found.getAsJsonArray("runs")) {
      JsonObject result = each.getAsJsonObject();
      Tier tier = Tier.valueOf(result.getAsJsonObject("of").get("tier").getAsString());
      tiers.add(tier.name());
      double resident =
          result.get("residentBefore").isJsonNull()
              ? Double.NaN
              : result.get("residentBefore").getAsDouble();
      assertEquals(LookupBench.label(tier, resident), result.get("label").getAsString());
      assertTrue(result.get("rowsPerSecond").getAsDouble() > 0);
    }
    assertTrue(tiers.containsAll(List.of("RAM", "MAPPED", "BUFFERED")), tiers::toString);
    assertTrue(
        tiers.contains("UNCACHED") || found.get("notes").toString().contains("O_DIRECT"),
        found.get("notes")::toString);
    assertFalse(tiers.contains("FIO"));
    try (Stream<Path> left = Files.list(directory)) {
      assertEquals(List.of(), left.toList());
    }
  }

  @Test
  void readsACheckpointInPlace() {
    Run run =
        Run.of(
            "bench",
            "lookup",
            "--checkpoint",
            Golden.path("v41_mini").toString(),
            "--layer",
            "1",
            "--tiers",
            "mapped,ram",
            "--batches",
            "16",
            "--seconds",
            "0.01",
            "--rounds",
            "1",
            "--no-fio");
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("layer 1 of "), run.out());
    assertTrue(run.out().contains("RAM"), run.out());
  }

  @Test
  void onlyTheResidencyDecidesWhatARunIsCalled() {
    assertEquals("cold", LookupBench.label(Tier.MAPPED, 0));
    assertEquals("cold", LookupBench.label(Tier.BUFFERED, 0.02));
    assertEquals("partly resident (2 %)", LookupBench.label(Tier.BUFFERED, 0.0201));
    assertEquals("partly resident (73 %)", LookupBench.label(Tier.MAPPED, 0.73));
    assertEquals("warm", LookupBench.label(Tier.MAPPED, 0.98));
    assertEquals("residency unknown", LookupBench.label(Tier.MAPPED, Double.NaN));
    assertEquals("in memory", LookupBench.label(Tier.RAM, Double.NaN));
    assertEquals("cold", LookupBench.label(List.of(seen(0.01), seen(0.02))));
    assertEquals("warm", LookupBench.label(List.of(seen(1), seen(0.99))));
    assertEquals("partly resident (1 to 3 %)", LookupBench.label(List.of(seen(0.01), seen(0.03))));
    assertEquals("partly resident (90 to 100 %)", LookupBench.label(List.of(seen(1), seen(0.9))));
    assertEquals("residency unknown", LookupBench.label(List.of(seen(0.01), seen(Double.NaN))));
  }

  private static Result seen(double resident) {
    LookupBench.Case of = new LookupBench.Case(Tier.MAPPED, 64, 1, LookupBench.Wanted.COLD);
    return new Result(1, of, LookupBench.label(Tier.MAPPED, resident), resident, resident, 1, 1);
  }

  /** The classic mistake: pages that are mapped somewhere stay, whatever the advice. */
  @Test
  void aFileWhoseCacheCannotBeDroppedIsNotCalledCold() throws IOException {
    try (BenchTable table = BenchTable.make(directory, 4_000_000, 264)) {
      assumeTrue(System.getProperty("os.name").equals("Linux"), "needs the page cache of Linux");
      assertEquals(Set.of("cold"), labels(table), "the file can be cold");
      try (BenchTable.Mapping held = table.mapping().get();
          MappedRowStore store = MappedRowStore.of("held", 264, 0, held.parts());
          Arena arena = Arena.ofConfined()) {
        MemorySegment out = arena.allocate(264 * 1000L);
        long[] rows = LongStream.range(0, table.rows()).toArray();
        for (int i = 0; i + 1000 <= rows.length; i += 1000) {
          store.read(rows, i, 1000, out, 0);
        }
        Set<String> labels = labels(table);
        assertFalse(labels.contains("cold"), labels::toString);
        assertFalse(labels.contains("residency unknown"), labels::toString);
      }
    }
  }

  private static Set<String> labels(BenchTable table) throws IOException {
    LookupBench.Plan plan =
        new LookupBench.Plan(
            List.of(Tier.BUFFERED), List.of(8), List.of(1), 4, 1, 0.01, false, false, false);
    Set<String> labels = new HashSet<>();
    for (Result result :
        new LookupBench(table, RowPicks.uniform(table.rows()), plan, 1, _ -> {}).run()) {
      labels.add(result.label());
    }
    return labels;
  }

  @Test
  void picksLieInTheTableAndFollowTheirLaw() throws IOException {
    long rows = 1_000_000;
    long[] uniform = RowPicks.uniform(rows).rows(5, 20_000);
    long[] zipf = RowPicks.zipf(rows).rows(5, 20_000);
    Path text = Files.writeString(directory.resolve("text"), "one two three ".repeat(100));
    long[] hashed = RowPicks.text(text, "cl100k_base", rows).rows(5, 20_000);
    for (long[] picked : List.of(uniform, zipf, hashed)) {
      assertTrue(Arrays.stream(picked).allMatch(r -> r >= 0 && r < rows));
    }
    assertTrue(Arrays.stream(uniform).distinct().count() > 19_000);
    long top =
        Arrays.stream(zipf)
            .boxed()
            .collect(Collectors.groupingBy(r -> r, Collectors.counting()))
            .values()
            .stream()
            .mapToLong(n -> n)
            .max()
            .orElseThrow();
    // The first rank has 1 of ln(1,000,001) = 13.8 shares, times ln 2.
    assertEquals(20_000 * Math.log(2) / Math.log(rows + 1.0), (double) top, 150);
    assertTrue(Arrays.stream(hashed).distinct().count() < 200);
    assertFalse(Arrays.equals(uniform, RowPicks.uniform(rows).rows(6, 20_000)));
  }

  @Test
  void aWrongCommandLineSaysSo() {
    assertEquals(2, Run.of("bench").exitCode());
    assertEquals(2, Run.of("bench", "lookup", "--batches", "0").exitCode());
    assertEquals(2, Run.of("bench", "lookup", "--checkpoint", "x").exitCode());
    Run large = Run.of("bench", "lookup", "--size", "900TB");
    assertEquals(1, large.exitCode());
    assertTrue(large.err().contains("more than half"), large.err());
  }
}
