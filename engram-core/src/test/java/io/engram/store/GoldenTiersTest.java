// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import io.engram.EngramException;
import io.engram.checkpoint.Checkpoint;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every tier over the released layouts: the same bytes, whatever fetched them. */
@Tag("once")
class GoldenTiersTest {
  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void everyTierHasTheBytesOfTheFiles(String name) {
    Path path = Golden.path(name);
    RandomGenerator random = Seeds.random("GoldenTiersTest " + name);
    try (Checkpoint checkpoint = Checkpoint.open(path)) {
      for (int layer : checkpoint.config().layerIds()) {
        List<RowPart> parts = checkpoint.rowParts(layer);
        int values = checkpoint.config().rowFormat().valueBytes(checkpoint.config().headDim());
        int scales = checkpoint.config().rowFormat().scaleBytes(checkpoint.config().headDim());
        MappedRowStore mapped = MappedRowStore.of("table", values, scales, parts);
        long[] all = LongStream.range(0, mapped.rowCount()).toArray();
        byte[] expected = RowStoreContract.read(mapped, all);
        assertFalse(Arrays.equals(new byte[expected.length], expected), "rows of zeros");
        for (Map.Entry<String, RowStore> tier : tiers(values, scales, parts).entrySet()) {
          try (RowStore store = tier.getValue()) {
            assertEquals(mapped.rowCount(), store.rowCount(), tier.getKey());
            assertEquals(mapped.rowBytes(), store.rowBytes(), tier.getKey());
            assertArrayEquals(expected, RowStoreContract.read(store, all), tier.getKey());
            for (int i = 0; i < 20; i++) {
              long[] some = random.longs(1 + random.nextInt(100), 0, all.length).toArray();
              assertArrayEquals(
                  RowStoreContract.read(mapped, some),
                  RowStoreContract.read(store, some),
                  tier.getKey());
            }
          }
        }
      }
    }
  }

  private static Map<String, RowStore> tiers(int values, int scales, List<RowPart> parts) {
    Map<String, RowStore> tiers = new HashMap<>();
    tiers.put("RAM", RamRowStore.load("table", values, scales, parts, 2, done -> {}));
    tiers.put(
        "buffered", DirectRowStore.of("table", values, scales, parts, DirectReads.buffered()));
    tiers.put(
        "by channel",
        DirectRowStore.of(
            "table",
            values,
            scales,
            parts,
            DirectReads.buffered(),
            PositionalFile.Opener::channel));
    try {
      tiers.put(
          "uncached", DirectRowStore.of("table", values, scales, parts, DirectReads.uncached()));
    } catch (EngramException e) {
      System.err.println("GoldenTiersTest: not past the page cache: " + e.getMessage());
    }
    return tiers;
  }
}
