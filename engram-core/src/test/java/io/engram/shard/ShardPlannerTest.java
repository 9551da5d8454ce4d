// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.HashLayout;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class ShardPlannerTest {
  private static final int ROW_BYTES = 264;

  /** As few as a real text of this length has, so that its pairs repeat. */
  private static final int WORDS = 2000;

  /**
   * Tokens by Zipf's law with exponent 1, as words of a text are, and independent of each other.
   */
  private static int[] zipf(RandomGenerator random, int tokens, int vocabulary) {
    double[] cumulated = new double[vocabulary];
    double sum = 0;
    for (int i = 0; i < vocabulary; i++) {
      sum += 1.0 / (i + 1);
      cumulated[i] = sum;
    }
    int[] ids = new int[tokens];
    for (int t = 0; t < tokens; t++) {
      int found = Arrays.binarySearch(cumulated, random.nextDouble() * sum);
      ids[t] = Math.min(found < 0 ? -found - 1 : found, vocabulary - 1);
    }
    return ids;
  }

  private static long[] sample(String test, HashLayout layout, int tokens) {
    int[] ids = zipf(Seeds.random("ShardPlannerTest." + test), tokens, WORDS);
    WindowRule rule = new WindowRule(0, WindowRule.NO_BOUNDARY, WindowRule.Dead.REFUSED);
    return new NgramHasher(layout, rule).hash(ids);
  }

  private static ShardPlan.Candidate of(ShardPlan plan, ShardLayout.Kind kind) {
    return plan.candidates().stream()
        .filter(c -> c.layout().kind() == kind)
        .findFirst()
        .orElseThrow();
  }

  @Test
  void contiguousHeadsAreSkewedAndStridedOnesAreNot() {
    HashLayout layout = ShardLayoutTest.v41();
    long[] rowIds = sample("contiguousHeads", layout, 40_000);
    ShardPlanner planner = ShardPlanner.of(layout, ROW_BYTES, rowIds, 40_000);
    for (int shards : new int[] {2, 4, 8}) {
      ShardPlan plan = planner.plan(shards);
      assertEquals(4, plan.candidates().size());
      ShardPlan.Candidate strided = of(plan, ShardLayout.Kind.STRIDED_HEADS);
      ShardPlan.Candidate contiguous = of(plan, ShardLayout.Kind.CONTIGUOUS_HEADS);
      ShardPlan.Candidate balanced = of(plan, ShardLayout.Kind.BALANCED_HEADS);
      ShardPlan.Candidate rowWise = of(plan, ShardLayout.Kind.ROW_WISE);
      assertTrue(strided.slowest() < 1.01, () -> "strided " + strided.slowest());
      assertTrue(balanced.slowest() < 1.01, () -> "balanced " + balanced.slowest());
      assertTrue(rowWise.slowest() < 1.02, () -> "row-wise " + rowWise.slowest());
      assertTrue(contiguous.slowest() > 1.1, () -> "contiguous " + contiguous.slowest());
      assertTrue(contiguous.rowSpread() > 1.3, () -> "contiguous " + contiguous.rowSpread());
      assertTrue(strided.rowSpread() < 1.02, () -> "strided " + strided.rowSpread());
      assertEquals(1, strided.decode());
      assertTrue(rowWise.decode() > 1.1, () -> "row-wise " + rowWise.decode());
      assertSame(strided, plan.proposal(), plan::reason);
    }
  }

  /** The longer the chunk, the more the low orders repeat in it. */
  @Test
  void longerChunksAreMoreUnequal() {
    HashLayout layout = ShardLayoutTest.v41();
    long[] rowIds = sample("longerChunks", layout, 30_000);
    double before = 1;
    for (int chunk : new int[] {30, 1000, 30_000}) {
      ShardPlan plan = ShardPlanner.of(layout, ROW_BYTES, rowIds, chunk).plan(4);
      double spread = of(plan, ShardLayout.Kind.CONTIGUOUS_HEADS).rowSpread();
      assertTrue(spread > before, spread + " after " + before);
      before = spread;
    }
  }

  @Test
  void otherLayoutsAreProposedWhereHeadsDoNotDivide() {
    HashLayout layout = ShardLayoutTest.v41();
    long[] rowIds = sample("otherLayouts", layout, 20_000);
    ShardPlanner planner = ShardPlanner.of(layout, ROW_BYTES, rowIds, 2000);
    // Two of three orders: 16 of 24 shards would have two heads, and order 3 one.
    assertEquals(ShardLayout.Kind.ROW_WISE, planner.plan(20).proposal().layout().kind());
    ShardPlan plan = planner.plan(32);
    assertEquals(1, plan.candidates().size());
    assertEquals(ShardLayout.Kind.ROW_WISE, plan.proposal().layout().kind());
    assertTrue(plan.reason().contains("24 heads cannot fill 32 shards"), plan.reason());
    assertTrue(plan.proposal().slowest() < 1.2, () -> plan.proposal().toString());
    // Sixteen: in turn gives some shards orders 2 and 4 and others order 3 alone.
    ShardPlan sixteen = planner.plan(16);
    assertTrue(
        of(sixteen, ShardLayout.Kind.BALANCED_HEADS).rowSkew()
            <= of(sixteen, ShardLayout.Kind.STRIDED_HEADS).rowSkew());
    assertEquals(1, planner.plan(1).proposal().slowest());
  }

  /** Unlike orders in a ratio that heads in turn cannot even out, but heads by load can. */
  @Test
  void headsByLoadAreProposedWhereTheyAreBetter() {
    HashLayout layout = ShardLayoutTest.small(3, 1_000_003, 1);
    int tokens = 3000;
    RandomGenerator random = Seeds.random("ShardPlannerTest.headsByLoad");
    long[] rowIds = new long[tokens * 6];
    for (int t = 0; t < tokens; t++) {
      for (int c = 0; c < 6; c++) {
        // Columns 0 and 2 ask for a new row each time, the others for few.
        long most = c == 0 || c == 2 ? layout.modulus(c) : 300;
        rowIds[t * 6 + c] = layout.offset(c) + random.nextLong(most);
      }
    }
    ShardPlan plan = ShardPlanner.of(layout, ROW_BYTES, rowIds, tokens).plan(2);
    assertEquals(ShardLayout.Kind.BALANCED_HEADS, plan.proposal().layout().kind(), plan::reason);
    assertTrue(plan.proposal().slowest() < 1.05, plan::reason);
    assertTrue(of(plan, ShardLayout.Kind.STRIDED_HEADS).slowest() > 1.4);
  }

  /** Counted once more, row by row and page by page. */
  @Test
  void countsEqualPlainCounting() {
    RandomGenerator random = Seeds.random("ShardPlannerTest.countsEqual");
    for (int round = 0; round < 15; round++) {
      HashLayout layout = ShardLayoutTest.small(3, 50 + random.nextInt(3000), 1 + round);
      int rowBytes = 1 + random.nextInt(9000);
      int tokens = 1 + random.nextInt(300);
      int chunk = 1 + random.nextInt(300);
      long[] rowIds = new long[tokens * 6];
      for (int i = 0; i < rowIds.length; i++) {
        rowIds[i] = layout.offset(i % 6) + random.nextLong(layout.modulus(i % 6));
      }
      ShardPlanner planner = ShardPlanner.of(layout, rowBytes, rowIds, chunk);
      assertEquals(Math.ceilDiv(tokens, chunk), planner.chunks());
      int shards = 1 + random.nextInt(6);
      for (ShardPlan.Candidate candidate : planner.plan(shards).candidates()) {
        long[] rows = new long[shards];
        long[] pages = new long[shards];
        long[] headRows = new long[6];
        long[] headPages = new long[6];
        double most = 0;
        double sum = 0;
        for (int from = 0; from < rowIds.length; from += chunk * 6) {
          Set<Long> seen = new HashSet<>();
          Set<List<Long>> seenPages = new HashSet<>();
          Set<List<Long>> seenHeadPages = new HashSet<>();
          long[] ofChunk = new long[shards];
          for (int i = from; i < Math.min(rowIds.length, from + chunk * 6); i++) {
            int shard = candidate.layout().shardOf(rowIds[i]);
            if (seen.add(rowIds[i])) {
              ofChunk[shard]++;
              headRows[i % 6]++;
            }
            long local = candidate.layout().localRow(rowIds[i]);
            for (long page = local * rowBytes / 4096;
                page * 4096 < (local + 1) * rowBytes;
                page++) {
              pages[shard] += seenPages.add(List.of((long) shard, page)) ? 1 : 0;
            }
            long row = rowIds[i];
            for (long page = row * rowBytes / 4096; page * 4096 < (row + 1) * rowBytes; page++) {
              headPages[i % 6] += seenHeadPages.add(List.of(i % 6L, page)) ? 1 : 0;
            }
          }
          for (int s = 0; s < shards; s++) {
            rows[s] += ofChunk[s];
          }
          most += Arrays.stream(ofChunk).max().getAsLong();
          sum += seen.size();
        }
        for (int s = 0; s < shards; s++) {
          ShardPlan.Load load = candidate.loads().get(s);
          assertEquals(rows[s], load.rows());
          assertEquals(pages[s], load.pages());
          assertEquals(candidate.layout().rows(s) * rowBytes, load.bytes());
        }
        assertEquals(most * shards / sum, candidate.slowest(), 1e-9);
        for (ShardPlanner.HeadLoad head : planner.heads()) {
          assertEquals(tokens, head.asked());
          assertEquals(headRows[head.column()], head.rows());
          assertEquals(headPages[head.column()], head.pages());
          assertEquals(head.column() < 3 ? 2 : 3, head.order());
        }
      }
    }
  }

  @Test
  void wrongSamplesAreRefused() {
    HashLayout layout = ShardLayoutTest.small(1, 50, 1);
    long[] good = {0, layout.offset(1)};
    ShardPlanner.of(layout, 8, good, 1).plan(2);
    assertThrows(IllegalArgumentException.class, () -> ShardPlanner.of(layout, 8, new long[0], 1));
    assertThrows(IllegalArgumentException.class, () -> ShardPlanner.of(layout, 8, new long[3], 1));
    assertThrows(IllegalArgumentException.class, () -> ShardPlanner.of(layout, 8, good, 0));
    assertThrows(IllegalArgumentException.class, () -> ShardPlanner.of(layout, 0, good, 1));
    assertThrows(
        IllegalArgumentException.class,
        () -> ShardPlanner.of(layout, 8, good, 1).plan((int) layout.rowCount() + 1));
    for (long[] bad : new long[][] {{0, 0}, {-1, 60}, {layout.offset(1), 60}, {0, 1L << 40}}) {
      String message =
          assertThrows(IllegalArgumentException.class, () -> ShardPlanner.of(layout, 8, bad, 1))
              .getMessage();
      assertTrue(message.contains("token 0, column"), message);
    }
  }
}
