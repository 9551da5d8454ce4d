// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.testkit.Seeds;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class ShardLayoutTest {
  /** Small heads of different sizes, and rows behind them that no hash reaches. */
  static HashLayout small(int heads, long slots, int alignment) {
    return HashLayout.derive(
            new HashScheme(
                100,
                List.of(2, 3),
                heads,
                List.of(slots, slots),
                List.of(1),
                0,
                HashScheme.Generator.NUMPY_PCG64,
                HashScheme.PrimeSearch.RESTART_PER_ORDER,
                alignment))
        .getFirst();
  }

  static HashLayout v41() {
    return HashLayout.derive(EngramConfig.v41Flash().build().hashing()).getFirst();
  }

  private static long[] loads(RandomGenerator random, int columns) {
    return random.longs(columns, 0, 1000).toArray();
  }

  private static List<ShardLayout> all(HashLayout hash, int shards, RandomGenerator random) {
    List<ShardLayout> layouts = new ArrayList<>();
    if (shards <= hash.columns()) {
      layouts.add(ShardLayout.stridedHeads(hash, shards));
      layouts.add(ShardLayout.contiguousHeads(hash, shards));
      layouts.add(ShardLayout.balancedHeads(hash, shards, loads(random, hash.columns())));
    }
    layouts.add(ShardLayout.rowWise(hash.rowCount(), shards));
    return layouts;
  }

  /** Every row once, in the order of the table, and the runs say the same as the arithmetic. */
  private static void checkAll(ShardLayout layout) {
    int[] seen = new int[(int) layout.rowCount()];
    long total = 0;
    for (int shard = 0; shard < layout.shards(); shard++) {
      assertTrue(layout.rows(shard) >= 1, layout::toString);
      total += layout.rows(shard);
      long before = -1;
      for (long local = 0; local < layout.rows(shard); local++) {
        long row = layout.tableRow(shard, local);
        assertTrue(row > before, layout::toString);
        before = row;
        seen[(int) row]++;
        assertEquals(shard, layout.shardOf(row));
        assertEquals(local, layout.localRow(row));
      }
      int s = shard;
      long[] next = {0, 0};
      layout.forEachRange(
          shard,
          (local, first, rows) -> {
            assertEquals(next[0], local);
            assertEquals(first, layout.rangeFirst(s, next[1]));
            assertEquals(rows, layout.rangeRows(s, next[1]));
            assertTrue(rows >= 1);
            for (long i = 0; i < rows; i++) {
              assertEquals(first + i, layout.tableRow(s, local + i));
            }
            next[0] += rows;
            next[1]++;
          });
      assertEquals(layout.rows(shard), next[0]);
      assertEquals(layout.ranges(shard), next[1]);
      assertThrows(IndexOutOfBoundsException.class, () -> layout.tableRow(s, layout.rows(s)));
      assertThrows(IndexOutOfBoundsException.class, () -> layout.rangeFirst(s, layout.ranges(s)));
    }
    assertEquals(layout.rowCount(), total);
    assertTrue(Arrays.stream(seen).allMatch(count -> count == 1), layout::toString);
  }

  @Test
  void everyRowHasOnePlaceInSmallTables() {
    RandomGenerator random = Seeds.random("ShardLayoutTest.everyRowHasOnePlace");
    for (int heads : new int[] {1, 2, 3, 5}) {
      for (long slots : new long[] {2, 7, 30}) {
        for (int alignment : new int[] {1, 16}) {
          HashLayout hash = small(heads, slots, alignment);
          for (int shards = 1; shards <= Math.min(40, hash.rowCount()); shards++) {
            all(hash, shards, random).forEach(ShardLayoutTest::checkAll);
          }
        }
      }
    }
  }

  @Test
  void everyRowHasOnePlaceInRandomTables() {
    RandomGenerator random = Seeds.random("ShardLayoutTest.randomTables");
    for (int i = 0; i < 60; i++) {
      HashLayout hash =
          small(1 + random.nextInt(12), 2 + random.nextInt(300), 1 + random.nextInt(200));
      all(hash, 1 + random.nextInt((int) Math.min(100, hash.rowCount())), random)
          .forEach(ShardLayoutTest::checkAll);
      long rows = 1 + random.nextLong(5000);
      long block = 1L << random.nextInt(8);
      int most = (int) Math.ceilDiv(rows, block);
      checkAll(ShardLayout.rowWise(rows, 1 + random.nextInt(most), block));
    }
  }

  private static void checkSome(ShardLayout layout, RandomGenerator random) {
    long total = 0;
    for (int shard = 0; shard < layout.shards(); shard++) {
      long rows = layout.rows(shard);
      assertTrue(rows >= 1, layout::toString);
      total += rows;
      for (long local : new long[] {0, rows - 1, rows / 2, random.nextLong(rows)}) {
        long row = layout.tableRow(shard, local);
        assertEquals(shard, layout.shardOf(row), layout::toString);
        assertEquals(local, layout.localRow(row), layout::toString);
      }
      long last = layout.ranges(shard) - 1;
      assertEquals(layout.rangeFirst(shard, 0), layout.tableRow(shard, 0));
      assertEquals(
          layout.rangeFirst(shard, last) + layout.rangeRows(shard, last) - 1,
          layout.tableRow(shard, rows - 1));
    }
    assertEquals(layout.rowCount(), total);
    for (int i = 0; i < 200; i++) {
      long row = random.nextLong(layout.rowCount());
      assertEquals(row, layout.tableRow(layout.shardOf(row), layout.localRow(row)));
    }
    assertEquals(layout, ShardLayout.parse(layout.describe()));
  }

  @Test
  void theReleasedTableInOneTo100Shards() {
    RandomGenerator random = Seeds.random("ShardLayoutTest.theReleasedTable");
    HashLayout hash = v41();
    assertEquals(384_006_168L, hash.rowCount());
    for (int shards = 1; shards <= 100; shards++) {
      if (shards <= 24) {
        checkSome(ShardLayout.stridedHeads(hash, shards), random);
        checkSome(ShardLayout.balancedHeads(hash, shards, loads(random, 24)), random);
      }
      ShardLayout rowWise = ShardLayout.rowWise(hash.rowCount(), shards);
      checkSome(rowWise, random);
      long least = LongStream.range(0, shards).map(s -> rowWise.rows((int) s)).min().getAsLong();
      long most = LongStream.range(0, shards).map(s -> rowWise.rows((int) s)).max().getAsLong();
      assertTrue(most - least <= 4096, () -> rowWise + ": " + least + " to " + most);
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {(1L << 31) + 5, (1L << 32) + 4097, (1L << 40) + 1, Long.MAX_VALUE})
  void rowsBeyond32Bits(long rows) {
    RandomGenerator random = Seeds.random("ShardLayoutTest.rowsBeyond32Bits");
    for (int shards : new int[] {1, 2, 3, 7, 64, 100, ShardLayout.MAX_SHARDS}) {
      checkSome(ShardLayout.rowWise(rows, shards), random);
      for (long block : new long[] {1, 4096, 1L << 20}) {
        if (rows / block >= shards) {
          checkSome(ShardLayout.rowWise(rows, shards, block), random);
        }
      }
    }
    String heads = "heads=" + rows / 4 + "," + rows / 4 + "," + rows / 4 + ",9";
    checkSome(ShardLayout.parse("strided-heads shards=3 " + heads), random);
    checkSome(ShardLayout.parse("balanced-heads shards=2 " + heads + " owners=1,0,1,1"), random);
  }

  @Test
  void stridedHeadsGiveEveryShardEveryOrder() {
    ShardLayout layout = ShardLayout.stridedHeads(v41(), 4);
    HashLayout hash = v41();
    for (int column = 0; column < 24; column++) {
      assertEquals(column % 4, layout.shardOf(hash.offset(column)));
      assertEquals(column % 4, layout.shardOf(hash.offset(column) + hash.modulus(column) - 1));
    }
    assertEquals(6, layout.ranges(0));
    ShardLayout one = ShardLayout.stridedHeads(hash, 1);
    assertEquals(1, one.ranges(0));
    assertEquals(hash.rowCount(), one.rangeRows(0, 0));
    ShardLayout contiguous = ShardLayout.contiguousHeads(hash, 3);
    for (int column = 0; column < 24; column++) {
      assertEquals(column / 8, contiguous.shardOf(hash.offset(column)));
    }
    assertEquals(1, contiguous.ranges(1));
  }

  @Test
  void balancedHeadsSpreadTheLoad() {
    HashLayout hash = small(4, 50, 1);
    ShardLayout layout = ShardLayout.balancedHeads(hash, 2, new long[] {1, 1, 1, 1, 4, 1, 1, 2});
    long[] load = new long[2];
    long[] loads = {1, 1, 1, 1, 4, 1, 1, 2};
    for (int column = 0; column < 8; column++) {
      load[layout.shardOf(hash.offset(column))] += loads[column];
    }
    assertEquals(load[0], load[1]);
    // A sample that asks for one head only leaves no shard empty.
    ShardLayout most = ShardLayout.balancedHeads(hash, 8, new long[] {9, 0, 0, 0, 0, 0, 0, 0});
    assertEquals(8, LongStream.range(0, 8).map(s -> most.rows((int) s)).filter(r -> r > 0).count());
  }

  @Test
  void moreShardsThanHeadsAreRefusedWithAWayOut() {
    HashLayout hash = v41();
    for (org.junit.jupiter.api.function.Executable wrong :
        List.<org.junit.jupiter.api.function.Executable>of(
            () -> ShardLayout.stridedHeads(hash, 25),
            () -> ShardLayout.contiguousHeads(hash, 32),
            () -> ShardLayout.balancedHeads(hash, 100, new long[24]))) {
      String message = assertThrows(IllegalArgumentException.class, wrong).getMessage();
      assertTrue(message.contains("24 heads do not fill"), message);
      assertTrue(message.contains("row-wise"), message);
    }
    checkAll(ShardLayout.rowWise(101, 101));
    String message =
        assertThrows(IllegalArgumentException.class, () -> ShardLayout.rowWise(3, 4)).getMessage();
    assertTrue(message.contains("fewer shards"), message);
    message =
        assertThrows(IllegalArgumentException.class, () -> ShardLayout.rowWise(1000, 16, 256))
            .getMessage();
    assertTrue(message.contains("smaller blocks"), message);
  }

  @Test
  void wrongArgumentsAreRefused() {
    HashLayout hash = small(2, 10, 1);
    assertThrows(IllegalArgumentException.class, () -> ShardLayout.stridedHeads(hash, 0));
    assertThrows(IllegalArgumentException.class, () -> ShardLayout.stridedHeads(hash, -3));
    assertThrows(
        IllegalArgumentException.class, () -> ShardLayout.balancedHeads(hash, 2, new long[3]));
    assertThrows(
        IllegalArgumentException.class,
        () -> ShardLayout.balancedHeads(hash, 2, new long[] {1, 1, -1, 1}));
    assertThrows(IllegalArgumentException.class, () -> ShardLayout.rowWise(0, 1));
    assertThrows(IllegalArgumentException.class, () -> ShardLayout.rowWise(10, 0));
    assertThrows(IllegalArgumentException.class, () -> ShardLayout.rowWise(10, 1, 3));
    assertThrows(
        IllegalArgumentException.class,
        () -> ShardLayout.rowWise(1L << 40, ShardLayout.MAX_SHARDS + 1));
    ShardLayout layout = ShardLayout.rowWise(10, 2);
    for (long row : new long[] {-1, 10, 1L << 32, Long.MIN_VALUE, Long.MAX_VALUE}) {
      assertThrows(IndexOutOfBoundsException.class, () -> layout.shardOf(row));
      assertThrows(IndexOutOfBoundsException.class, () -> layout.localRow(row));
    }
    assertThrows(IndexOutOfBoundsException.class, () -> layout.rows(2));
    assertThrows(IndexOutOfBoundsException.class, () -> layout.ranges(-1));
  }

  @Test
  void descriptionsComeBackAsTheyWere() {
    RandomGenerator random = Seeds.random("ShardLayoutTest.descriptions");
    HashLayout hash = small(6, 100, 64);
    for (int shards = 1; shards <= 40; shards++) {
      for (ShardLayout layout : all(hash, shards, random)) {
        if (layout.kind() == ShardLayout.Kind.CONTIGUOUS_HEADS) {
          assertThrows(IllegalArgumentException.class, () -> ShardLayout.parse(layout.describe()));
          continue;
        }
        ShardLayout again = ShardLayout.parse(layout.describe());
        assertEquals(layout, again);
        assertEquals(layout.hashCode(), again.hashCode());
        assertEquals(layout.describe(), again.describe());
        checkAll(again);
      }
    }
    assertEquals("row-wise shards=3 rows=5000 block=16", ShardLayout.rowWise(5000, 3).describe());
    assertEquals(
        "strided-heads shards=2 heads=11,13,17,19,23,31",
        ShardLayout.stridedHeads(small(3, 10, 6), 2).describe());
    assertNotEquals(ShardLayout.rowWise(5000, 3), ShardLayout.rowWise(5000, 4));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        " ",
        "row-wise",
        "row-wise shards=3 rows=5000",
        "row-wise shards=3 rows=5000 block=48",
        "row-wise shards=3 rows=5000 block=0",
        "row-wise shards=3 rows=5000 block=4096",
        "row-wise shards=0 rows=5000 block=16",
        "row-wise shards=4294967299 rows=5000 block=16",
        "row-wise shards=65537 rows=5000000 block=1",
        "row-wise shards=3 rows=0 block=16",
        "row-wise shards=3 rows=-5000 block=16",
        "row-wise shards=3 rows=9223372036854775808 block=16",
        "row-wise rows=5000 shards=3 block=16",
        "row-wise  shards=3 rows=5000 block=16",
        "row-wise shards=3 rows=5000 block=16 ",
        "row-wise shards=3 rows=5000 block=16\n",
        "row-wise shards=3 rows=05000 block=16",
        "row-wise shards=+3 rows=5000 block=16",
        "Row-wise shards=3 rows=5000 block=16",
        "contiguous-heads shards=2 heads=11,13",
        "strided-heads shards=2 heads=",
        "strided-heads shards=2 heads=11",
        "strided-heads shards=2 heads=11,13,",
        "strided-heads shards=2 heads=11,0",
        "strided-heads shards=2 heads=11,-13",
        "strided-heads shards=2 heads=9223372036854775807,1",
        "strided-heads shards=0 heads=11,13",
        "strided-heads shards=2 heads=11,13 owners=0,1",
        "balanced-heads shards=2 heads=11,13",
        "balanced-heads shards=2 heads=11,13 owners=0",
        "balanced-heads shards=2 heads=11,13 owners=0,2",
        "balanced-heads shards=2 heads=11,13 owners=0,-1",
        "balanced-heads shards=2 heads=11,13 owners=1,1",
        "balanced-heads shards=2 heads=11,13 owners=0,4294967297"
      })
  void otherDescriptionsAreRefused(String description) {
    String message =
        assertThrows(IllegalArgumentException.class, () -> ShardLayout.parse(description))
            .getMessage();
    assertTrue(message.startsWith("shard layout \""), message);
  }

  /** A line that goes on for ever must not take memory for what it says. */
  @Test
  void aDescriptionWithTooManyHeadsIsRefused() {
    String heads = String.join(",", Collections.nCopies(70_000, "1"));
    assertThrows(
        IllegalArgumentException.class,
        () -> ShardLayout.parse("strided-heads shards=2 heads=" + heads));
  }
}
