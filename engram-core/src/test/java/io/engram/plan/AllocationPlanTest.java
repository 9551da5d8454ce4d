// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.util.Arrays;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class AllocationPlanTest {
  /** Paper, table 5: 80 values a row, layers 2 and 15 counted from 1. */
  private static final EngramConfig PAPER =
      EngramConfig.paper().layers(1, 14).headDim(80).width(2560).build();

  private static AllocationPlan plan(long sparse, int experts, int active) {
    return new AllocationPlan(new SparseBackbone(experts, active, sparse), PAPER);
  }

  @Test
  void tablesOfThePaperHaveTheParametersOfThePaper() {
    AllocationPlan plan = plan(23_000_000_000L, 72, 6);
    assertEquals(5.792e9, (double) plan.tableParameters(2_262_400), 0.5e6);
    assertEquals(18.534e9, (double) plan.tableParameters(7_239_680), 0.5e6);
    assertEquals(1 - 5.792 / 23, plan.ratioFor(2_262_400), 1e-4);
  }

  @Test
  void whatTablesCostBuysTheSameTables() {
    for (long slots : new long[] {2_262_400, 7_239_680}) {
      long cost = plan(23_000_000_000L, 72, 6).tableParameters(slots);
      // Two experts, one of them inactive: all or nothing of it is freed.
      Allocation bought = plan(cost, 2, 1).at(0);
      assertEquals(cost, bought.freedParameters());
      assertEquals(cost, bought.tableParameters());
      List<HashLayout> wanted =
          HashLayout.derive(
              EngramConfig.paper().layers(1, 14).slotsPerHead(slots).build().hashing());
      for (int i = 0; i < 2; i++) {
        assertArrayEquals(wanted.get(i).moduli(), bought.layouts().get(i).moduli());
      }
    }
  }

  @Test
  void expertsAreTheActiveOnesAndAShareOfTheOthers() {
    // 55 of the 72 experts stay in the paper's 27B model at 74.3 %; 46 of 106 at 40 %.
    assertEquals(55, plan(22_900_000_000L, 72, 6).at(0.743).experts());
    assertEquals(46, plan(5_000_000_000L, 106, 6).at(0.4).experts());
    AllocationPlan plan = plan(66_000_000, 72, 6);
    Allocation all = plan.at(1);
    assertEquals(72, all.experts());
    assertEquals(0, all.freedParameters());
    assertEquals(0, all.slotsPerHead());
    assertEquals(0, all.tableParameters());
    assertEquals(0, all.bytes(RowFormat.F32));
    Allocation none = plan.at(0);
    assertEquals(6, none.experts());
    assertEquals(66_000_000, none.freedParameters());
    Allocation half = plan.at(0.5);
    assertEquals(39, half.experts());
    assertEquals(0.5, half.ratio());
    assertEquals(33_000_000, half.freedParameters());
  }

  @Test
  void tablesAreTheLargestThatAreFreeToHave() {
    RandomGenerator random = Seeds.random("AllocationPlanTest");
    for (int i = 0; i < 40; i++) {
      long sparse = (long) Math.exp(random.nextDouble(Math.log(1e5), Math.log(1e11)));
      int active = random.nextInt(1, 9);
      int experts = active + random.nextInt(1, 200);
      EngramConfig memory =
          random.nextBoolean()
              ? PAPER
              : EngramConfig.v41Flash().layers(0).headsPerOrder(2).headDim(16).build();
      AllocationPlan plan = new AllocationPlan(new SparseBackbone(experts, active, sparse), memory);
      Allocation allocation = plan.at(random.nextDouble());
      if (allocation.slotsPerHead() == 0) {
        assertTrue(allocation.freedParameters() < plan.tableParameters(2));
        continue;
      }
      assertTrue(allocation.tableParameters() <= allocation.freedParameters());
      assertEquals(plan.tableParameters(allocation.slotsPerHead()), allocation.tableParameters());
      assertTrue(
          plan.tableParameters(allocation.slotsPerHead() + 1) > allocation.freedParameters());
      long[] moduli =
          allocation.layouts().stream()
              .flatMapToLong(layout -> LongStream.of(layout.moduli()))
              .toArray();
      assertEquals(moduli.length, Arrays.stream(moduli).distinct().count());
      assertEquals(
          allocation.tableParameters(), Arrays.stream(moduli).sum() * allocation.headDim());
    }
  }

  @Test
  void bytesFollowTheRowFormat() {
    Allocation allocation = plan(1_000_000_000, 72, 6).at(0.8);
    long rows = allocation.rows();
    assertEquals(rows * 320, allocation.bytes(RowFormat.F32));
    assertEquals(rows * 160, allocation.bytes(RowFormat.BF16));
    // 80 values are three blocks of scales.
    assertEquals(rows * 83, allocation.bytes(RowFormat.FP8_BLOCK32));
  }

  @Test
  void theGateHasTheParametersOfItsWeights() {
    for (EngramConfig memory :
        List.of(
            EngramConfig.paper().layers(1).width(64).headDim(4).build(),
            EngramConfig.v41Flash().layers(1).width(64).headDim(4).build())) {
      long expected = 0;
      try (Arena arena = Arena.ofConfined()) {
        LayerWeights weights =
            LayerWeights.initial(memory.gate(), memory.conv(), memory.rowWidth(), 1, arena);
        for (Tensor tensor :
            Stream.of(
                    Stream.of(weights.projection(), weights.keyNorm(), weights.queryNorm()),
                    weights.bias().stream(),
                    weights.convNorm().stream(),
                    weights.conv().stream())
                .flatMap(s -> s)
                .toList()) {
          assertEquals(Dtype.F32, tensor.dtype());
          expected += tensor.data().byteSize() / Float.BYTES;
        }
      }
      assertEquals(
          expected,
          new AllocationPlan(new SparseBackbone(2, 1, 1_000_000), memory).gateParameters());
    }
  }

  @Test
  void backbonesAreCounted() {
    assertEquals(
        new SparseBackbone(72, 6, 22_900_000_000L),
        SparseBackbone.ofTotals(26_700_000_000L, 3_800_000_000L, 72, 6));
    assertEquals(
        3L * 29 * 2560 * 1000 * 66,
        SparseBackbone.ofShapes(29, 2560, 1000, 72, 6).sparseParameters());
    assertEquals(
        3.0 * 29 * 2560 * 1000,
        SparseBackbone.ofShapes(29, 2560, 1000, 72, 6).parametersPerExpert());
  }

  @Test
  void nonsenseIsNamed() {
    assertMessage("experts is 6", () -> new SparseBackbone(6, 6, 1));
    assertMessage("totalParameters is 3", () -> SparseBackbone.ofTotals(3, 3, 8, 2));
    assertMessage("fit 63 bits", () -> SparseBackbone.ofShapes(1 << 30, 1 << 30, 1 << 30, 8, 2));
    assertMessage("rho is 1.1", () -> plan(1, 8, 2).at(1.1));
    assertMessage("rho is NaN", () -> plan(1, 8, 2).at(Double.NaN));
    assertMessage("slotsPerHead is 1", () -> plan(1, 8, 2).ratioFor(1));
  }

  private static void assertMessage(String part, Runnable body) {
    String message = assertThrows(IllegalArgumentException.class, body::run).getMessage();
    assertTrue(message.contains(part), message);
  }
}
