// SPDX-License-Identifier: Apache-2.0
package io.engram;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.checkpoint.Safetensors;
import io.engram.table.NarrowFloat;
import io.engram.testkit.Golden;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class LayerWeightsTest {
  private static final GateConfig GATE =
      new GateConfig(
          2,
          11,
          false,
          GateConfig.Shape.SIGNED_SQRT,
          GateConfig.ZeroDot.COPY_SIGN,
          GateConfig.NormWeight.AS_STORED,
          1e-20f,
          GateConfig.Rounding.BF16,
          GateConfig.Residual.IN_PLACE);

  private final Arena arena = Arena.ofAuto();

  private Tensor tensor(Dtype dtype, long... shape) {
    return new Tensor(dtype, shape, arena.allocate(Tensor.byteSize(dtype, shape), 64));
  }

  private LayerWeights weights(Tensor projection, Optional<Tensor> scales) {
    Tensor norm = tensor(Dtype.F32, 2, 11);
    return new LayerWeights(
        projection, scales, Optional.empty(), norm, norm, Optional.empty(), Optional.empty());
  }

  private String refusal(Tensor projection, Optional<Tensor> scales) {
    LayerWeights weights = weights(projection, scales);
    return assertThrows(
            IllegalArgumentException.class, () -> weights.check(GATE, Optional.empty(), 40))
        .getMessage();
  }

  @Test
  void scalesBelongToFp8AndToNothingElse() {
    Tensor fp8 = tensor(Dtype.F8_E4M3, 33, 40);
    Tensor scales = tensor(Dtype.F8_E8M0, 2, 2);
    weights(fp8, Optional.of(scales)).check(GATE, Optional.empty(), 40);
    weights(tensor(Dtype.BF16, 33, 40), Optional.empty()).check(GATE, Optional.empty(), 40);
    assertEquals(
        "projectionScales are missing for a projection of F8_E4M3", refusal(fp8, Optional.empty()));
    assertEquals(
        "projectionScales are there for a projection of BF16",
        refusal(tensor(Dtype.BF16, 33, 40), Optional.of(scales)));
    assertEquals(
        "projectionScales are U8[2, 2], expected F8_E8M0",
        refusal(fp8, Optional.of(tensor(Dtype.U8, 2, 2))));
    assertEquals(
        "projectionScales is F8_E8M0[1, 2], expected [2, 2]",
        refusal(fp8, Optional.of(tensor(Dtype.F8_E8M0, 1, 2))));
    assertEquals(
        "projection is F8_E4M3[33, 41], expected [33, 40]",
        refusal(tensor(Dtype.F8_E4M3, 33, 41), Optional.of(scales)));
    assertEquals(
        "projection is F16[33, 40], expected F32, BF16 or F8_E4M3",
        refusal(tensor(Dtype.F16, 33, 40), Optional.empty()));
  }

  @Test
  void aCheckpointsFp8ProjectionIsKeptAsItIsStored() {
    Safetensors file =
        Safetensors.open(
            Golden.path("v41_mini").resolve("model-00001-of-00002.safetensors"), arena);
    try (EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"))) {
      LayerWeights weights = memory.weights(1);
      Tensor scales = weights.projectionScales().orElseThrow();
      assertEquals("F8_E4M3[480, 768]", weights.projection().toString());
      assertEquals("F8_E8M0[15, 24]", scales.toString());
      assertArrayEquals(
          file.tensor("layers.1.engram.wkv.weight").data().toArray(ValueLayout.JAVA_BYTE),
          weights.projection().data().toArray(ValueLayout.JAVA_BYTE));
      assertArrayEquals(
          file.tensor("layers.1.engram.wkv.scale").data().toArray(ValueLayout.JAVA_BYTE),
          scales.data().toArray(ValueLayout.JAVA_BYTE));
      Tensor wide = weights.widenedProjection(arena);
      assertEquals("BF16[480, 768]", wide.toString());
      short[] row = new short[768];
      for (int r = 0; r < 480; r++) {
        weights.widenProjectionRow(r, row);
        for (int c = 0; c < 768; c++) {
          byte code = weights.projection().data().get(ValueLayout.JAVA_BYTE, r * 768L + c);
          byte scale = scales.data().get(ValueLayout.JAVA_BYTE, r / 32 * 24L + c / 32);
          float expected = NarrowFloat.e4m3(code) * NarrowFloat.e8m0(scale);
          assertEquals(expected, NarrowFloat.bf16(row[c]), "row " + r + " column " + c);
          assertEquals(row[c], wide.data().getAtIndex(ValueLayout.JAVA_SHORT, r * 768L + c));
        }
      }
    }
  }

  @Test
  void aWiderProjectionIsItself() {
    Tensor projection = tensor(Dtype.F32, 33, 40);
    assertSame(projection, weights(projection, Optional.empty()).widenedProjection(arena));
  }

  @Test
  void whatIsNoNumberIsNamed() {
    Tensor fp8 = tensor(Dtype.F8_E4M3, 33, 40);
    MemorySegment scales = arena.allocate(4);
    LayerWeights weights =
        weights(fp8, Optional.of(new Tensor(Dtype.F8_E8M0, new long[] {2, 2}, scales)));
    scales.fill((byte) 127);
    weights.widenedProjection(arena);
    fp8.data().set(ValueLayout.JAVA_BYTE, 32 * 40 + 39, (byte) 0x7F);
    String nan =
        assertThrows(IllegalArgumentException.class, () -> weights.widenedProjection(arena))
            .getMessage();
    assertTrue(nan.contains("row 32 column 39: NaN * 1.0"), nan);
    fp8.data().set(ValueLayout.JAVA_BYTE, 32 * 40 + 39, (byte) 1);
    scales.set(ValueLayout.JAVA_BYTE, 3, (byte) 2);
    String small =
        assertThrows(
                IllegalArgumentException.class, () -> weights.widenProjectionRow(32, new short[40]))
            .getMessage();
    assertTrue(small.contains("row 32 column 39: 0.001953125 * "), small);
  }
}
