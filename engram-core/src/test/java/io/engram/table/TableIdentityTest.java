// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class TableIdentityTest {
  @Test
  void layersAndVariantsHaveDifferentLayouts() {
    List<HashLayout> v41 = HashLayout.derive(EngramConfig.v41Flash().build().hashing());
    List<HashLayout> ple = HashLayout.derive(EngramConfig.qwenPle().build().hashing());
    String first = TableIdentity.layoutDigest(v41.get(0));
    assertEquals(64, first.length());
    assertEquals(first, TableIdentity.layoutDigest(v41.get(0)));
    assertNotEquals(first, TableIdentity.layoutDigest(v41.get(1)));
    assertNotEquals(first, TableIdentity.layoutDigest(ple.get(0)));
  }

  @Test
  void saysWhatDiffers() {
    TableIdentity table =
        new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, 1000, "ab", Optional.empty());
    assertEquals(264, table.rowBytes());
    assertEquals(Optional.empty(), table.firstDifference(table.withContent("cd")));
    assertEquals(
        Optional.of("digest of the rows: expected ef, found cd"),
        table.withContent("ef").firstDifference(table.withContent("cd")));
    List<TableIdentity> others =
        List.of(
            new TableIdentity(2, RowFormat.FP8_BLOCK32, 256, 1000, "ab", Optional.empty()),
            new TableIdentity(1, RowFormat.BF16, 256, 1000, "ab", Optional.empty()),
            new TableIdentity(1, RowFormat.FP8_BLOCK32, 128, 1000, "ab", Optional.empty()),
            new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, 1001, "ab", Optional.empty()),
            new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, 1000, "ac", Optional.empty()));
    for (TableIdentity other : others) {
      assertTrue(table.firstDifference(other).isPresent(), other.toString());
    }
  }

  @Test
  void digestDependsOnEveryBlockAndTheShape() {
    assertEquals(1, RowDigest.blocks(RowDigest.BLOCK_ROWS));
    assertEquals(2, RowDigest.blocks(RowDigest.BLOCK_ROWS + 1));
    MemorySegment rows = MemorySegment.ofArray("123456789".getBytes(StandardCharsets.US_ASCII));
    // The check value of CRC-32C in every catalogue of checksums.
    assertEquals(0xE3069283, RowDigest.ofBlock(rows, 0, 9));
    String digest = RowDigest.of(70_000, 8, new int[] {1, 2});
    assertNotEquals(digest, RowDigest.of(70_000, 8, new int[] {2, 1}));
    assertNotEquals(digest, RowDigest.of(70_001, 8, new int[] {1, 2}));
    assertNotEquals(digest, RowDigest.of(70_000, 9, new int[] {1, 2}));
    assertThrows(IllegalArgumentException.class, () -> RowDigest.of(70_000, 8, new int[] {1}));
  }
}
