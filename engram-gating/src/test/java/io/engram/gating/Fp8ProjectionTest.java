// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** A projection in FP8 with block scales is the same layer as the one widened beforehand. */
class Fp8ProjectionTest {
  private static final Arena ARENA = Arena.ofAuto();

  static Stream<GateConfig> gates() {
    return Stream.of(Variants.v41(4, 96), Variants.v41(3, 35), Variants.qwen(2, 50));
  }

  /** Scales far apart; one beyond what the packed form can express, which is widened beforehand. */
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 60, 134, 135})
  void anyScaleGivesTheSameBits(int extreme) {
    GateConfig gate = Variants.v41(2, 40);
    RandomGenerator random = Seeds.random("scale " + extreme);
    LayerWeights fp8 = random(gate, 70, random);
    // A number that bfloat16 holds at any scale.
    fp8.projection().data().asSlice(0, 32 * 70).fill((byte) 0x38);
    fp8.projectionScales().orElseThrow().data().set(ValueLayout.JAVA_BYTE, 0, (byte) extreme);
    LayerWeights wide = widened(fp8);
    PreparedLayer[] layers = {
      new PreparedLayer(gate, Optional.empty(), 70, fp8),
      new PreparedLayer(gate, Optional.empty(), 70, wide)
    };
    float[] rows = RandomLayer.rounded(RandomLayer.values(random, 9 * 70));
    float[] none = {};
    float[][] results = new float[2][];
    for (int i = 0; i < 2; i++) {
      PackedProjection product = new PackedProjection(layers[i], GateLoops.CHOSEN);
      results[i] =
          new GateRun(layers[i], product, GateLoops.CHOSEN, 1)
              .keysAndValue(GateCall.of(1, 9, rows, none, none));
    }
    assertArrayEquals(results[1], results[0]);
  }

  private static LayerWeights widened(LayerWeights fp8) {
    return new LayerWeights(
        fp8.widenedProjection(ARENA),
        fp8.bias(),
        fp8.keyNorm(),
        fp8.queryNorm(),
        fp8.convNorm(),
        fp8.conv());
  }

  private static LayerWeights random(GateConfig gate, int rowWidth, RandomGenerator random) {
    long outputs = gate.projectionRows();
    byte[] codes = new byte[(int) outputs * rowWidth];
    for (int i = 0; i < codes.length; i++) {
      codes[i] = (byte) (random.nextInt(2) << 7 | random.nextInt(127));
    }
    byte[] scales = new byte[(int) Math.ceilDiv(outputs, 32L) * Math.ceilDiv(rowWidth, 32)];
    for (int i = 0; i < scales.length; i++) {
      scales[i] = (byte) random.nextInt(114, 120);
    }
    return new LayerWeights(
        new Tensor(Dtype.F8_E4M3, new long[] {outputs, rowWidth}, memory(codes)),
        Optional.of(
            new Tensor(
                Dtype.F8_E8M0,
                new long[] {Math.ceilDiv(outputs, 32L), Math.ceilDiv(rowWidth, 32)},
                memory(scales))),
        Optional.empty(),
        RandomLayer.tensor(random, 1, 0.2, Dtype.F32, gate.streams(), gate.width()),
        RandomLayer.tensor(random, 1, 0.2, Dtype.F32, gate.streams(), gate.width()),
        Optional.empty(),
        Optional.empty());
  }

  private static MemorySegment memory(byte[] bytes) {
    return ARENA.allocate(bytes.length, 64).copyFrom(MemorySegment.ofArray(bytes));
  }

  @ParameterizedTest
  @MethodSource("gates")
  void bothGiveTheSameBits(GateConfig gate) {
    RandomGenerator random = Seeds.random("FP8 projection " + gate);
    for (int rowWidth : new int[] {32, 77, 384, 601}) {
      LayerWeights fp8 = random(gate, rowWidth, random);
      LayerWeights wide = widened(fp8);
      assertEquals(Dtype.BF16, wide.projection().dtype());
      for (int tokens : new int[] {1, 5, 70}) {
        float[] rows = RandomLayer.rounded(RandomLayer.values(random, tokens * rowWidth));
        float[] streams =
            RandomLayer.rounded(RandomLayer.values(random, tokens * gate.streams() * gate.width()));
        assertArrayEquals(
            GateKernel.of(gate, Optional.empty(), rowWidth, wide).forward(rows, streams),
            GateKernel.of(gate, Optional.empty(), rowWidth, fp8).forward(rows, streams));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("gates")
  void theWayBackIsTheSame(GateConfig gate) {
    RandomGenerator random = Seeds.random("FP8 backward " + gate);
    LayerWeights fp8 = random(gate, 77, random);
    float[] rows = RandomLayer.values(random, 9 * 77);
    float[] streams = RandomLayer.values(random, 9 * gate.streams() * gate.width());
    float[][] gradients = new float[2][rows.length];
    for (int i = 0; i < 2; i++) {
      LayerWeights weights = i == 0 ? fp8 : widened(fp8);
      GateKernel kernel = GateKernel.of(gate, Optional.empty(), 77, weights);
      GateTape tape = kernel.newTape();
      kernel.forward(GateCall.of(1, 9, rows, streams, new float[streams.length]), tape);
      kernel.backward(
          tape,
          MemorySegment.ofArray(streams),
          MemorySegment.ofArray(gradients[i]),
          MemorySegment.ofArray(new float[streams.length]),
          LayerWeights.zeros(gate, Optional.empty(), 77, ARENA));
    }
    assertArrayEquals(gradients[1], gradients[0]);
    GateKernel kernel = GateKernel.of(gate, Optional.empty(), 77, fp8);
    assertThrows(IllegalStateException.class, kernel::refresh);
  }

  @ParameterizedTest
  @EnumSource
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void whoeverMultipliesTakesIt(ProjectionChoice choice) {
    RandomGenerator random = Seeds.random("FP8 projection by " + choice);
    GateConfig gate = Variants.qwen(2, 50);
    LayerWeights fp8 = random(gate, 77, random);
    float[] rows = RandomLayer.rounded(RandomLayer.values(random, 9 * 77));
    float[] streams = RandomLayer.values(random, 9 * 100);
    float[] expected = GateKernel.of(gate, Optional.empty(), 77, fp8).forward(rows, streams);
    float[] out = new float[streams.length];
    PreparedLayer layer = new PreparedLayer(gate, Optional.empty(), 77, fp8);
    new GateRun(layer, GateKernel.product(layer, fp8, choice), GateLoops.CHOSEN, 2)
        .forward(GateCall.of(1, 9, rows, streams, out));
    for (int i = 0; i < out.length; i++) {
      assertEquals(expected[i], out[i], 1e-4 * (1 + Math.abs(expected[i])), "element " + i);
    }
  }

  @ParameterizedTest
  @MethodSource("gates")
  void whatIsNoNumberIsRefused(GateConfig gate) {
    RandomGenerator random = Seeds.random("FP8 refusals " + gate);
    LayerWeights fp8 = random(gate, 77, random);
    fp8.projection().data().set(ValueLayout.JAVA_BYTE, 2 * 77 + 70, (byte) 0xFF);
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> GateKernel.of(gate, Optional.empty(), 77, fp8))
            .getMessage();
    assertTrue(message.contains("row 2 column 70"), message);
  }
}
