// SPDX-License-Identifier: Apache-2.0
package io.engram;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.prefetch.PrefetchOptions;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

@Tag("once")
class TierPlannerTest {
  private static final long GIB = 1L << 30;

  /** The tables of DeepSeek-V4.1-Flash: 384,006,168 and 384,016,682 rows of 264 bytes. */
  private static final Map<Integer, Long> V41 =
      tables(1, 384_006_168L * 264, 14, 384_016_682L * 264);

  private static Map<Integer, Long> tables(long... layerAndBytes) {
    Map<Integer, Long> tables = new LinkedHashMap<>();
    for (int i = 0; i < layerAndBytes.length; i += 2) {
      tables.put((int) layerAndBytes[i], layerAndBytes[i + 1]);
    }
    return tables;
  }

  private static List<Tier> tiers(MemoryOptions options, long cache, Map<Integer, Long> tables) {
    return new TierPlanner(options, cache).choose(tables).stream().map(TierChoice::tier).toList();
  }

  private static MemoryOptions budget(long bytes) {
    return MemoryOptions.builder().memoryBudget(bytes).build();
  }

  @Test
  void aLargeTableStaysInItsFile() {
    assertEquals(List.of(Tier.DIRECT, Tier.DIRECT), tiers(MemoryOptions.DEFAULT, 20 * GIB, V41));
    assertEquals(List.of(Tier.MAPPED, Tier.MAPPED), tiers(MemoryOptions.DEFAULT, 300 * GIB, V41));
    assertEquals(List.of(Tier.RAM, Tier.DIRECT), tiers(budget(100 * GIB), 20 * GIB, V41));
    assertEquals(List.of(Tier.RAM, Tier.RAM), tiers(budget(200 * GIB), 0, V41));
  }

  @Test
  void smallTablesAreTakenFirst() {
    Map<Integer, Long> tables = tables(3, 8 * GIB, 7, GIB, 9, 3 * GIB);
    assertEquals(
        List.of(Tier.MAPPED, Tier.RAM, Tier.RAM), tiers(budget(5 * GIB), 100 * GIB, tables));
    assertEquals(
        List.of(Tier.DIRECT, Tier.RAM, Tier.DIRECT), tiers(budget(2 * GIB), 10 * GIB, tables));
  }

  @Test
  void theBudgetIsNeverExceeded() {
    for (long budget = 1 << 20; budget < 16 * GIB; budget += 37_000_003) {
      for (long cache : new long[] {0, 1 << 19}) {
        if (cache * 3 + (budget / 4) > budget) {
          continue;
        }
        MemoryOptions options = MemoryOptions.builder().memoryBudget(budget).cache(cache).build();
        List<TierChoice> choices =
            new TierPlanner(options, GIB).choose(tables(1, 2 * GIB, 2, 3 * GIB, 3, 5 * GIB));
        long taken = options.prefetch().stagingBytes();
        for (TierChoice choice : choices) {
          taken += choice.tier() == Tier.RAM ? choice.tableBytes() : cache;
        }
        assertTrue(taken <= budget, choices + " take " + taken + " of " + budget);
      }
    }
  }

  @Test
  void theUserDecides() {
    MemoryOptions options =
        MemoryOptions.builder()
            .memoryBudget(120 * GIB)
            .tier(Tier.MAPPED)
            .tier(14, Tier.RAM)
            .build();
    assertEquals(List.of(Tier.MAPPED, Tier.RAM), tiers(options, 0, V41));
    assertEquals(
        "layer 14: RAM, as decided by the options",
        new TierPlanner(options, 0).choose(V41).get(1).toString());
    MemoryOptions given =
        MemoryOptions.builder()
            .stores(_ -> {
              throw new AssertionError();
            })
            .tier(1, Tier.DIRECT)
            .build();
    assertEquals(List.of(Tier.DIRECT, Tier.GIVEN), tiers(given, 0, V41));
  }

  /** What is decided to be mapped takes its place in the page cache. */
  @Test
  void decidedTablesCount() {
    MemoryOptions first = MemoryOptions.builder().tier(1, Tier.MAPPED).build();
    assertEquals(List.of(Tier.MAPPED, Tier.DIRECT), tiers(first, 110 * GIB, V41));
    assertEquals(List.of(Tier.MAPPED, Tier.MAPPED), tiers(first, 210 * GIB, V41));
  }

  @Test
  void saysWhy() {
    List<TierChoice> choices = new TierPlanner(budget(100 * GIB), 20 * GIB).choose(V41);
    assertEquals("since its 94.4 GiB fit the memory budget of 100.0 GiB", choices.get(0).reason());
    assertEquals(
        "since its 94.4 GiB exceed what is left of the memory budget of 100.0 GiB, and the page"
            + " cache has room for 20.0 GiB only",
        choices.get(1).reason());
  }

  @Test
  void whatCannotBeIsRefused() {
    assertRefused(
        "layer 1 needs 94.4 GiB of memory, and the budget of 8.0 GiB has 7.9 GiB left",
        MemoryOptions.builder().memoryBudget(8 * GIB).tier(Tier.RAM).build());
    assertRefused(
        "layer 14 needs 80.0 MiB of memory",
        MemoryOptions.builder().cache(80 << 20).tier(Tier.MAPPED).memoryBudget(200 << 20).build());
    assertRefused(
        "a tier is decided for layer 2, which has no memory; layers [1, 14] have one",
        MemoryOptions.builder().tier(2, Tier.MAPPED).build());
    assertRefused("memoryBudget", () -> MemoryOptions.builder().memoryBudget(-1).build());
    assertRefused("cacheBytes", () -> MemoryOptions.builder().cache(-1).build());
    assertRefused("a memoryBudget of", () -> MemoryOptions.builder().cache(GIB).build());
    assertRefused(
        "bytes of staging",
        () ->
            MemoryOptions.builder()
                .prefetch(PrefetchOptions.defaults().withStagingBytes(GIB))
                .build());
    assertRefused("no stores", () -> MemoryOptions.builder().tier(Tier.GIVEN).build());
  }

  private static void assertRefused(String message, MemoryOptions options) {
    assertRefused(message, () -> new TierPlanner(options, GIB).choose(V41));
  }

  private static void assertRefused(String message, Executable executable) {
    String found = assertThrows(IllegalArgumentException.class, executable).getMessage();
    assertTrue(found.contains(message), found);
  }

  @Test
  void thePageCacheIsWhatOthersLeave() {
    long some = TierPlanner.pageCacheBytes(MemoryOptions.DEFAULT);
    assertTrue(some >= 0);
    assertEquals(0, TierPlanner.pageCacheBytes(budget(Long.MAX_VALUE / 2)));
    assertEquals(Optional.empty(), MemoryOptions.DEFAULT.tier());
  }
}
