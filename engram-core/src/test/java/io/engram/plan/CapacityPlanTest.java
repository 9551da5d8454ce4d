// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.testkit.Seeds;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class CapacityPlanTest {
  private static final double EXACT = 1e-12;

  /** Makes every figure below one that can be worked out by hand. */
  private static final DiskSpeed DISK = new DiskSpeed(100e-6, 32, 100_000, 1e9, Origin.GIVEN);

  private static final List<TableShape> V41 =
      TableShape.inPlace(EngramConfig.v41Flash().build(), layer -> layer);

  private static Workload work(double stepSeconds, int batch) {
    return new Workload(40, stepSeconds, batch, 48_000, 4_000, 512);
  }

  private static CapacityPlan plan(double stepSeconds, int batch) {
    return new CapacityPlan(V41, work(stepSeconds, batch), DISK, Reuse.none());
  }

  /** Two tables of one column, so that a step of one token has one read in each. */
  private static CapacityPlan tiny(
      int before, int beforeNext, Workload work, DiskSpeed disk, Reuse reuse) {
    RowRun run = new RowRun(4096, 0);
    return new CapacityPlan(
        List.of(
            new TableShape(7, beforeNext, 1000, 1, run, Optional.empty()),
            new TableShape(3, before, 1000, 1, run, Optional.empty())),
        work,
        disk,
        reuse);
  }

  @Test
  void aTokenOfTheReleasedShapesCostsWhatIsKnownOfThem() {
    CapacityPlan inPlace = plan(1 / 30.0, 1);
    assertEquals(202_758_032_400L, inPlace.tableBytes());
    assertEquals(48, inPlace.rowsPerToken());
    assertEquals(12_672, inPlace.bytesPerToken());
    assertEquals(96, inPlace.readsPerToken());
    assertEquals(96, inPlace.pagesPerToken(), EXACT);
    CapacityPlan packed = inPlace.packed();
    assertEquals(202_758_032_400L, packed.tableBytes());
    assertEquals(12_672, packed.bytesPerToken());
    assertEquals(48, packed.readsPerToken());
    // A row of 264 bytes starts at a multiple of 8; 32 of 512 starts leave it across a page's end.
    assertEquals(48 * (1 + 32 / 512.0), packed.pagesPerToken(), EXACT);
    assertEquals(48_000 * 48, packed.promptReads(), 1e-6);
    assertEquals(2 * 48_000 * 48, inPlace.promptReads(), 1e-6);
  }

  @Test
  void pagesOfARowAreCountedOverAllPlacesThatItTakes() {
    assertEquals(1, new RowRun(256, 0).meanPages());
    assertEquals(1, new RowRun(256, 0).mostPages());
    assertEquals(1 + 1 / 16.0, new RowRun(256, 8).meanPages());
    assertEquals(2, new RowRun(256, 8).mostPages());
    assertEquals(1, new RowRun(4096, 8192).meanPages());
    assertEquals(2, new RowRun(4096, 1).meanPages());
    assertEquals(1, new RowRun(1, 77).meanPages());
    RandomGenerator random = Seeds.random("pages of a row");
    for (int i = 0; i < 50; i++) {
      int bytes = random.nextInt(1, 10_000);
      long offset = random.nextLong(1L << 40);
      long pages = 0;
      for (long row = 0; row < 4096; row++) {
        long first = offset + row * bytes;
        pages += (first + bytes - 1) / 4096 - first / 4096 + 1;
      }
      assertEquals(pages / 4096.0, new RowRun(bytes, offset).meanPages(), EXACT);
    }
  }

  @Test
  void aBatchIsAPipelineAndALoopIsNot() {
    assertEquals(0, DISK.batchSeconds(0));
    assertEquals(100e-6, DISK.batchSeconds(1), EXACT);
    assertEquals(100e-6 + 63 * 10e-6, DISK.batchSeconds(64), EXACT);
    assertEquals(64 * 100e-6, DISK.loopSeconds(64), EXACT);
    assertEquals(50_000, DISK.readsPerSecond(20_000), EXACT);
    assertEquals(100_000, DISK.readsPerSecond(4096), EXACT);
  }

  @Test
  void aLoopWaitsForEveryReadAndABatchOnceALayer() {
    CapacityPlan packed = plan(1 / 30.0, 1).packed();
    assertEquals(48 * 100e-6, packed.decode(Reading.LOOP).waitSeconds(), EXACT);
    assertEquals(2 * (100e-6 + 23 * 10e-6), packed.decode(Reading.BATCHED).waitSeconds(), EXACT);
    assertEquals(0, packed.decode(Reading.PREFETCHED).waitSeconds(), EXACT);
    assertEquals(48 * 150e-9, packed.decode(Reading.IN_MEMORY).waitSeconds(), EXACT);
    CapacityPlan inPlace = plan(1 / 30.0, 1);
    assertEquals(96 * 100e-6, inPlace.decode(Reading.LOOP).waitSeconds(), EXACT);
    assertEquals(2 * (100e-6 + 47 * 10e-6), inPlace.decode(Reading.BATCHED).waitSeconds(), EXACT);
    Timing loop = inPlace.decode(Reading.LOOP);
    assertEquals(1 / 30.0 + 9.6e-3, loop.seconds(), EXACT);
    assertEquals(9.6e-3 / (1 / 30.0 + 9.6e-3), loop.waitShare(), EXACT);
  }

  @Test
  void prefetchWaitsOnlyForWhatIsNotThereInTime() {
    // 32 sequences: 768 reads a layer. The first layer is reached after a fortieth of the step.
    CapacityPlan packed = plan(1 / 30.0, 32).packed();
    double served = 100e-6 + 767 * 10e-6;
    assertEquals(1 / 1200.0, packed.secondsBefore(packed.tables().getFirst()), EXACT);
    // The second batch, there after 2 * 7.68 ms + 0.09 ms, is early: layer 14 comes after 18.6 ms.
    assertEquals(served - 1 / 1200.0, packed.decode(Reading.PREFETCHED).waitSeconds(), EXACT);
    // With little to compute between the layers, the second is late as well.
    CapacityPlan quick = plan(1e-3, 32).packed();
    assertEquals(
        2 * 7.68e-3 + 0.09e-3 - 14e-3 / 40, quick.decode(Reading.PREFETCHED).waitSeconds(), EXACT);
  }

  @Test
  void aPromptTakesTheLongerOfComputeAndReads() {
    // Two chunks of 100 tokens; compute takes 10 ms a chunk, reads 2 * 100 * 10 us = 2 ms.
    Workload work = new Workload(10, 1e-3, 1, 200, 10_000, 100);
    CapacityPlan bound = tiny(1, 5, work, DISK, Reuse.none());
    // Only the first batch of the first chunk is late: 1.09 ms, where 1 ms is hidden.
    assertEquals(0.09e-3, bound.prefill(Reading.PREFETCHED).waitSeconds(), EXACT);
    assertEquals(4 * 1.09e-3, bound.prefill(Reading.BATCHED).waitSeconds(), EXACT);
    assertEquals(400 * 100e-6, bound.prefill(Reading.LOOP).waitSeconds(), EXACT);
    // Half the rows repeat: 50 reads a batch, all hidden.
    CapacityPlan repeated = tiny(1, 5, work, DISK, new Reuse(0.5, Origin.GIVEN, 0, Origin.ASSUMED));
    assertEquals(0, repeated.prefill(Reading.PREFETCHED).waitSeconds(), EXACT);
    assertEquals(200, repeated.promptReads(), EXACT);
    // A cache that answers nine of ten: 10 reads a batch.
    CapacityPlan cached = tiny(1, 5, work, DISK, new Reuse(1, Origin.ASSUMED, 0.9, Origin.GIVEN));
    assertEquals(4 * 0.19e-3, cached.prefill(Reading.BATCHED).waitSeconds(), EXACT);
    // A slow disk: 48,000 tokens need 2.304 million reads, 23 s, where compute takes 12 s.
    Timing prompt = plan(1, 1).packed().prefill(Reading.PREFETCHED);
    assertEquals(12, prompt.computeSeconds(), 1e-9);
    assertEquals(23.04, prompt.seconds(), 0.15);
  }

  @Test
  void aTableIsReadAtMostOnceAChunk() {
    Workload work = new Workload(10, 1e-3, 1, 5_000, 10_000, 5_000);
    CapacityPlan plan = tiny(1, 5, work, DISK, Reuse.none());
    assertEquals(2 * 1000, plan.promptReads(), EXACT);
  }

  @Test
  void bytesPerSecondLimitReadsOfManyPages() {
    RowRun run = new RowRun(40_960, 0);
    CapacityPlan plan =
        new CapacityPlan(
            List.of(new TableShape(1, 0, 1000, 24, run, Optional.empty())),
            work(1e-3, 1),
            DISK,
            Reuse.none());
    double rate = 1e9 / 40_960;
    assertEquals(100e-6 + 23 / rate, plan.decode(Reading.PREFETCHED).waitSeconds(), EXACT);
  }

  @Test
  void theReadsThatAShareNeedsGiveThatShare() {
    CapacityPlan plan = plan(1 / 30.0, 32).packed();
    for (double share : new double[] {0.01, 0.03, 0.2}) {
      double decode = plan.readsPerSecondForDecode(share).orElseThrow();
      assertEquals(share, with(plan, decode).decode(Reading.PREFETCHED).waitShare(), share / 20);
      double prefill = plan.readsPerSecondForPrefill(share).orElseThrow();
      assertEquals(share, with(plan, prefill).prefill(Reading.PREFETCHED).waitShare(), share / 20);
    }
    // A step of 1 ms reaches its first memory after 25 us, the first byte comes after 100 us.
    assertEquals(OptionalDouble.empty(), plan(1e-3, 1).readsPerSecondForDecode(0.01));
    assertTrue(plan(1e-3, 1).readsPerSecondForDecode(0.5).isPresent());
    assertThrows(IllegalArgumentException.class, () -> plan.readsPerSecondForDecode(0));
  }

  private static CapacityPlan with(CapacityPlan plan, double readsPerSecond) {
    return new CapacityPlan(
        plan.tables(),
        plan.workload(),
        new DiskSpeed(100e-6, 32, readsPerSecond, 1e12, Origin.GIVEN),
        plan.reuse());
  }

  /** More can never be better, and prefetch never worse than what it replaces. */
  @Test
  void waitsOrderAsTheyMust() {
    RandomGenerator random = Seeds.random("order of waits");
    for (int i = 0; i < 200; i++) {
      double latency = Math.pow(10, random.nextDouble(-5, -2));
      DiskSpeed disk =
          new DiskSpeed(latency, 32, random.nextDouble(1, 60) / latency, 1e9, Origin.GIVEN);
      int before = random.nextInt(0, 5);
      Workload work =
          new Workload(
              10,
              Math.pow(10, random.nextDouble(-4, 0)),
              random.nextInt(1, 100),
              random.nextInt(1, 2000),
              random.nextDouble(10, 1e5),
              random.nextInt(1, 700));
      CapacityPlan plan = tiny(before, before + random.nextInt(0, 5), work, disk, Reuse.none());
      for (boolean decode : new boolean[] {true, false}) {
        double ahead = wait(plan, decode, Reading.PREFETCHED);
        double batched = wait(plan, decode, Reading.BATCHED);
        double loop = wait(plan, decode, Reading.LOOP);
        assertTrue(ahead <= batched + EXACT, plan::toString);
        assertTrue(batched <= loop + EXACT, plan::toString);
        double faster = wait(with(plan, disk), decode, Reading.PREFETCHED);
        assertTrue(faster <= ahead + EXACT, plan::toString);
      }
    }
  }

  private static CapacityPlan with(CapacityPlan plan, DiskSpeed disk) {
    DiskSpeed faster =
        new DiskSpeed(disk.latencySeconds() / 2, 32, disk.readsPerSecond() * 2, 1e9, Origin.GIVEN);
    return new CapacityPlan(plan.tables(), plan.workload(), faster, plan.reuse());
  }

  private static double wait(CapacityPlan plan, boolean decode, Reading reading) {
    return (decode ? plan.decode(reading) : plan.prefill(reading)).waitSeconds();
  }

  @Test
  void memoryIsWhatWaitsForItsUse() {
    CapacityPlan packed = plan(1 / 30.0, 1).packed();
    assertEquals(2 * 512 * 12_672, packed.stagingBytes());
    assertEquals(32 * 2 * 4096, packed.readBufferBytes());
    assertEquals(2 * 512 * 51 * 4096, packed.leastPageCacheBytes());
    assertEquals(2000 * 12_672, plan(1 / 30.0, 2000).stagingBytes());
    assertEquals(202.758032400, packed.loadSeconds(), 1e-9);
    CapacityPlan inPlace = plan(1 / 30.0, 1);
    assertEquals(32 * 4096, inPlace.readBufferBytes());
    assertEquals(2 * 512 * 96 * 4096, inPlace.leastPageCacheBytes());
    // No more than the pages of the tables and one for a start within a page.
    Workload work = new Workload(10, 1e-3, 1, 5_000, 10_000, 2_000);
    assertEquals(2 * 1001 * 4096, tiny(1, 5, work, DISK, Reuse.none()).leastPageCacheBytes());
  }

  @Test
  void whatCannotBeIsRefused() {
    assertMessage("latencySeconds", () -> new DiskSpeed(0, 1, 1, 1, Origin.GIVEN));
    assertMessage("latencySeconds", () -> new DiskSpeed(Double.NaN, 1, 1, 1, Origin.GIVEN));
    assertMessage("one at a time", () -> new DiskSpeed(1e-4, 32, 5_000, 1e9, Origin.GIVEN));
    assertMessage("distinctShare", () -> new Reuse(0, Origin.GIVEN, 0, Origin.GIVEN));
    assertMessage("distinctShare", () -> new Reuse(Double.NaN, Origin.GIVEN, 0, Origin.GIVEN));
    assertMessage("hitShare", () -> new Reuse(1, Origin.GIVEN, 1, Origin.GIVEN));
    assertMessage("batch is 0", () -> work(1, 0));
    assertMessage("chunkTokens", () -> new Workload(1, 1, 1, 1, 1, 0));
    assertMessage("bytesPerRow", () -> new RowRun(0, 0));
    assertMessage(
        "layer 14 has 14 layers before it, but the backbone has only 14",
        () -> new CapacityPlan(V41, new Workload(14, 1, 1, 1, 1, 1), DISK, Reuse.none()));
    assertMessage(
        "at least one table", () -> new CapacityPlan(List.of(), work(1, 1), DISK, Reuse.none()));
  }

  private static void assertMessage(String part, Runnable action) {
    String message = assertThrows(IllegalArgumentException.class, action::run).getMessage();
    assertTrue(message.contains(part), message);
  }
}
