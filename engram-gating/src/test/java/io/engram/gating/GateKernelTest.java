// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** What the kernel promises beyond {@link EngramLayerContract}: bits, threads and memory. */
class GateKernelTest {
  private static final ConvConfig CONV = Variants.DEMO_CONV;

  static Stream<GoldenLayer> layersWithKeysAndValue() {
    return GoldenLayer.all().filter(g -> g.keysAndValue() != null);
  }

  @ParameterizedTest
  @MethodSource("layersWithKeysAndValue")
  void keysAndValueAreTheReferencesBits(GoldenLayer golden) {
    PreparedLayer layer =
        new PreparedLayer(golden.gate(), golden.conv(), golden.rowWidth(), golden.weights());
    assertArrayEquals(golden.keysAndValue(), keysAndValue(layer, golden.rows(), tokens(golden)));
  }

  private static float[] keysAndValue(PreparedLayer layer, float[] rows, int tokens) {
    float[] none = {};
    PackedProjection product = new PackedProjection(layer, GateLoops.CHOSEN);
    return new GateRun(layer, product, GateLoops.CHOSEN, 1)
        .keysAndValue(GateCall.of(1, tokens, rows, none, none));
  }

  private static int tokens(GoldenLayer golden) {
    return golden.sequences() * golden.tokens();
  }

  // --- the same bits --------------------------------------------------------------------------

  @Test
  void threadsChangeNoBit() {
    for (GateConfig gate : List.of(Variants.demo(4, 96), Variants.v41(4, 96))) {
      RandomGenerator random = Seeds.random("threads");
      Optional<ConvConfig> conv = gate.bias() ? Optional.of(CONV) : Optional.empty();
      RandomLayer r = RandomLayer.of(gate, conv, 128, Dtype.BF16, random);
      int tokens = 2 * GateRun.BLOCK + 7;
      float[] rows = RandomLayer.values(random, 2 * tokens * 128);
      float[] streams = RandomLayer.values(random, 2 * tokens * r.channels());
      float[] expected = null;
      for (int workers : new int[] {1, 2, 3, 8}) {
        GateKernel kernel = GateKernel.of(gate, conv, 128, r.weights(), GateLoops.CHOSEN, workers);
        float[] out = new float[streams.length];
        kernel.forward(GateCall.of(2, tokens, rows, streams, out));
        expected = expected == null ? out : expected;
        assertArrayEquals(expected, out, workers + " workers");
      }
    }
  }

  @Test
  void aTokenHasTheSameBitsInAnyBatch() {
    RandomGenerator random = Seeds.random("batches");
    RandomLayer r = RandomLayer.of(Variants.demo(3, 37), Optional.of(CONV), 45, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    int sequences = 70;
    int tokens = 3;
    float[] rows = RandomLayer.values(random, sequences * tokens * 45);
    float[] streams = RandomLayer.values(random, sequences * tokens * r.channels());
    float[] all = new float[streams.length];
    kernel.forward(GateCall.of(sequences, tokens, rows, streams, all));
    for (int b = 0; b < sequences; b++) {
      int from = b * tokens * r.channels();
      int to = from + tokens * r.channels();
      float[] one =
          kernel.forward(
              Arrays.copyOfRange(rows, b * tokens * 45, (b + 1) * tokens * 45),
              Arrays.copyOfRange(streams, from, to));
      assertArrayEquals(Arrays.copyOfRange(all, from, to), one, "sequence " + b);
    }
  }

  @Test
  void callersAtOnceDoNotDisturbEachOther() throws Exception {
    RandomGenerator random = Seeds.random("callers");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 64), Optional.of(CONV), 64, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    List<float[]> rows = new ArrayList<>();
    List<float[]> streams = new ArrayList<>();
    List<float[]> expected = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      int tokens = 1 + 37 * i;
      rows.add(RandomLayer.values(random, tokens * 64));
      streams.add(RandomLayer.values(random, tokens * 128));
      expected.add(kernel.forward(rows.get(i), streams.get(i)));
    }
    try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
      List<Callable<float[]>> calls = new ArrayList<>();
      for (int i = 0; i < 64; i++) {
        int which = i % 8;
        calls.add(() -> kernel.forward(rows.get(which), streams.get(which)));
      }
      List<Future<float[]>> results = threads.invokeAll(calls);
      for (int i = 0; i < results.size(); i++) {
        assertArrayEquals(expected.get(i % 8), results.get(i).get(), "call " + i);
      }
    }
  }

  @Test
  void aRefusedCallLeavesNothingBehind() {
    RandomGenerator random = Seeds.random("refused");
    RandomLayer r = RandomLayer.of(Variants.v41(2, 9), Optional.empty(), 8, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    float[] rows = RandomLayer.values(random, 100 * 8);
    float[] streams = RandomLayer.values(random, 100 * 18);
    float[] expected = kernel.forward(rows, streams);
    float[] bad = rows.clone();
    bad[99 * 8] = Float.NaN;
    float[] inPlace = streams.clone();
    assertThrows(
        IllegalArgumentException.class,
        () -> kernel.forward(GateCall.of(1, 100, bad, inPlace, inPlace)));
    assertArrayEquals(streams, inPlace, "a refused call wrote to the streams");
    kernel.forward(GateCall.of(1, 100, rows, inPlace, inPlace));
    assertArrayEquals(expected, inPlace);
  }

  // --- who multiplies -------------------------------------------------------------------------

  @ParameterizedTest
  @EnumSource
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void whoeverMultipliesTheLayerIsTheSame(ProjectionChoice choice) {
    RandomGenerator random = Seeds.random("product " + choice);
    int tokens = GateRun.BLOCK + 71;
    for (Dtype dtype : new Dtype[] {Dtype.F32, Dtype.BF16}) {
      for (GateConfig gate : List.of(Variants.demo(3, 72), Variants.v41(2, 40))) {
        Optional<ConvConfig> conv = gate.bias() ? Optional.of(CONV) : Optional.empty();
        RandomLayer r = RandomLayer.of(gate, conv, 48, dtype, random);
        PreparedLayer layer = new PreparedLayer(gate, conv, 48, r.weights());
        BlockProduct.Maker product = GateKernel.product(layer, r.weights(), choice);
        boolean exact = layer.inDouble();
        assertEquals(
            !exact && (choice == ProjectionChoice.ONEDNN || choice == ProjectionChoice.OPENBLAS),
            product instanceof LibraryProduct.Maker,
            "only sums in float32 are left to a library");
        // Rows of a bfloat16 table, which a library that rounds its input leaves alone.
        float[] rows = RandomLayer.rounded(RandomLayer.values(random, tokens * 48));
        float[] streams = RandomLayer.values(random, tokens * r.channels());
        float[] out = new float[streams.length];
        GateRun run = new GateRun(layer, product, GateLoops.CHOSEN, 2);
        run.forward(GateCall.of(1, tokens, rows, streams, out));
        ReferenceLayer expected = new ReferenceLayer(r, 1, tokens, rows, streams, null);
        for (int i = 0; i < out.length; i++) {
          double value = expected.output[i];
          // Where a dot product is next to nothing, its root magnifies what float32 keys cost.
          double dot = expected.dots[i / gate.width()];
          double loss = exact ? 4e-3 : 1e-5 + 1e-6 / Math.sqrt(Math.max(Math.abs(dot), 1e-6));
          assertEquals(value, out[i], loss * Math.max(Math.abs(value), 1), "element " + i);
        }
      }
    }
  }

  // --- rounding -------------------------------------------------------------------------------

  @Test
  void streamsInBfloat16AreRoundedOnceAndInFloat32NotAtAll() {
    RandomGenerator random = Seeds.random("rounding");
    RandomLayer r = RandomLayer.of(Variants.v41(2, 33), Optional.empty(), 20, Dtype.BF16, random);
    GateKernel kernel = r.kernel();
    int tokens = 50;
    float[] rows = RandomLayer.rounded(RandomLayer.values(random, tokens * 20));
    float[] streams = RandomLayer.rounded(RandomLayer.values(random, tokens * r.channels()));
    float[] single = kernel.forward(rows, streams);
    MemorySegment narrow = MemorySegment.ofArray(new short[streams.length]);
    for (int i = 0; i < streams.length; i++) {
      narrow.set(Memory.SHORT, 2L * i, Bfloat16.toBits(streams[i]));
    }
    // Written in place, on the streams' own memory.
    kernel.forward(GateCall.of(1, tokens, Dtype.BF16, MemorySegment.ofArray(rows), narrow, narrow));
    int changed = 0;
    for (int i = 0; i < streams.length; i++) {
      assertEquals(Bfloat16.toBits(single[i]), narrow.get(Memory.SHORT, 2L * i), "element " + i);
      changed += Bfloat16.toFloat(Bfloat16.toBits(single[i])) == single[i] ? 0 : 1;
    }
    assertTrue(changed > streams.length / 2, "float32 results look rounded");
  }

  @Test
  void roundingOfTheKeysIsTheConfigurationsChoice() {
    RandomGenerator random = Seeds.random("keys");
    RandomLayer r = RandomLayer.of(Variants.v41(1, 8), Optional.empty(), 8, Dtype.F32, random);
    RandomLayer demo = RandomLayer.of(Variants.qwen(1, 8), Optional.empty(), 8, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 8);
    for (RandomLayer layer : List.of(r, demo)) {
      PreparedLayer prepared = new PreparedLayer(layer.gate(), layer.conv(), 8, layer.weights());
      float[] keys = keysAndValue(prepared, rows, 1);
      assertEquals(
          layer.gate().rounding() == GateConfig.Rounding.BF16,
          Arrays.equals(RandomLayer.rounded(keys), keys),
          "keys and value are bfloat16: " + layer.gate().rounding());
    }
  }

  // --- size -----------------------------------------------------------------------------------

  @Test
  void thePapersSizeAgreesWithTheSpecification() {
    RandomGenerator random = Seeds.random("paper size");
    RandomLayer r =
        RandomLayer.of(Variants.demo(4, 1024), Optional.of(CONV), 1024, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 5 * 1024);
    float[] streams = RandomLayer.values(random, 5 * r.channels());
    assertAgrees(r, rows, streams, 5);
  }

  /** A mini model can be right where the real size is wrong. */
  @Test
  @Tag("long")
  void theReleasedSizeAgreesWithTheSpecification() {
    RandomGenerator random = Seeds.random("released size");
    RandomLayer r =
        RandomLayer.of(Variants.v41(4, 5120), Optional.empty(), 6144, Dtype.BF16, random);
    float[] rows = RandomLayer.rounded(RandomLayer.values(random, 2 * 6144));
    float[] streams = RandomLayer.rounded(RandomLayer.values(random, 2 * r.channels()));
    assertAgrees(r, rows, streams, 2);
  }

  private static void assertAgrees(RandomLayer r, float[] rows, float[] streams, int tokens) {
    float[] out = new float[streams.length];
    float[] gates = new float[tokens * r.gate().streams()];
    r.kernel()
        .forward(
            GateCall.of(1, tokens, rows, streams, out).withGates(MemorySegment.ofArray(gates)));
    ReferenceLayer expected = new ReferenceLayer(r, 1, tokens, rows, streams, null);
    for (int i = 0; i < gates.length; i++) {
      double size = Math.max(Math.abs(expected.dots[i]), 1e-6);
      assertEquals(expected.gates[i], gates[i], 1e-6 + 5e-8 / Math.sqrt(size), "gate " + i);
    }
    for (int i = 0; i < out.length; i++) {
      double exact = expected.output[i];
      assertEquals(exact, out[i], 1e-5 * Math.max(Math.abs(exact), 1), "element " + i);
    }
  }

  // --- memory ---------------------------------------------------------------------------------

  @Test
  void memoryOfAnyKindIsTaken() {
    RandomGenerator random = Seeds.random("memory");
    RandomLayer r = RandomLayer.of(Variants.demo(4, 64), Optional.of(CONV), 64, Dtype.F32, random);
    GateKernel kernel = GateKernel.of(r.gate(), r.conv(), 64, r.weights(), GateLoops.CHOSEN, 4);
    int tokens = 100;
    float[] rows = RandomLayer.values(random, tokens * 64);
    float[] streams = RandomLayer.values(random, tokens * 256);
    float[] expected = kernel.forward(rows, streams);
    // Pool threads may not touch a confined arena: the call must not hand them any of it.
    try (Arena confined = Arena.ofConfined();
        Arena shared = Arena.ofShared()) {
      for (Arena arena : List.of(confined, shared, Arena.ofAuto())) {
        // Odd addresses: nothing may rest on alignment.
        MemorySegment out = arena.allocate(4L * streams.length + 1, 1).asSlice(1);
        kernel.forward(
            GateCall.of(1, tokens, Dtype.F32, copy(arena, rows), copy(arena, streams), out));
        float[] actual = new float[streams.length];
        MemorySegment.copy(out, Memory.FLOAT, 0, actual, 0, actual.length);
        assertArrayEquals(expected, actual);
      }
    }
  }

  private static MemorySegment copy(Arena arena, float[] values) {
    MemorySegment memory = arena.allocate(4L * values.length + 1, 1).asSlice(1);
    MemorySegment.copy(values, 0, memory, Memory.FLOAT, 0, values.length);
    return memory;
  }

  @Test
  void memoryOfTheWrongSizeOrStateIsRefused() {
    RandomLayer r =
        RandomLayer.of(
            Variants.demo(2, 6), Optional.empty(), 5, Dtype.F32, Seeds.random("wrong memory"));
    GateKernel kernel = r.kernel();
    refused(kernel, GateCall.of(2, 3, new float[31], new float[72], new float[72]), "rows has 124");
    refused(kernel, GateCall.of(2, 3, new float[30], new float[71], new float[72]), "streams");
    refused(kernel, GateCall.of(2, 3, new float[30], new float[72], new float[73]), "out has 292");
    GateCall call = GateCall.of(2, 3, new float[30], new float[72], new float[72]);
    refused(kernel, call.withLive(MemorySegment.ofArray(new byte[5])), "live");
    refused(kernel, call.withGates(MemorySegment.ofArray(new float[11])), "gates");
    MemorySegment readOnly = MemorySegment.ofArray(new float[72]).asReadOnly();
    refused(
        kernel,
        GateCall.of(2, 3, Dtype.F32, call.rows(), call.streams(), readOnly),
        "out is read-only");
    refused(kernel, call.withGates(MemorySegment.ofArray(new float[12]).asReadOnly()), "read-only");
    MemorySegment closed;
    try (Arena arena = Arena.ofConfined()) {
      closed = arena.allocate(4 * 72, 4);
    }
    GateCall late = GateCall.of(2, 3, Dtype.F32, call.rows(), closed, call.out());
    IllegalStateException e = assertThrows(IllegalStateException.class, () -> kernel.forward(late));
    assertTrue(e.getMessage().contains("streams is already closed"), e.getMessage());
  }

  @Test
  void resultsThatOverlapInputsAreRefused() {
    RandomGenerator random = Seeds.random("overlap");
    for (GateConfig gate : List.of(Variants.demo(2, 6), Variants.v41(2, 6))) {
      boolean inPlace = gate.residual() == GateConfig.Residual.IN_PLACE;
      GateKernel kernel = RandomLayer.of(gate, Optional.empty(), 12, Dtype.F32, random).kernel();
      MemorySegment memory = MemorySegment.ofArray(new float[100]);
      MemorySegment rows = MemorySegment.ofArray(new float[36]);
      MemorySegment streams = memory.asSlice(0, 4 * 36);
      GateCall same = GateCall.of(1, 3, Dtype.F32, rows, streams, streams);
      if (inPlace) {
        kernel.forward(same);
      } else {
        refused(kernel, same, "out overlaps that of streams");
      }
      MemorySegment shifted = memory.asSlice(4, 4 * 36);
      refused(
          kernel,
          GateCall.of(1, 3, Dtype.F32, rows, streams, shifted),
          "out overlaps that of streams");
      refused(
          kernel,
          GateCall.of(1, 3, Dtype.F32, shifted, MemorySegment.ofArray(new float[36]), streams),
          "out overlaps that of rows");
      GateCall apart =
          GateCall.of(1, 3, Dtype.F32, rows, streams, MemorySegment.ofArray(new float[36]));
      refused(kernel, apart.withGates(streams.asSlice(0, 24)), "gates overlaps that of streams");
      refused(kernel, apart.withGates(rows.asSlice(0, 24)), "gates overlaps that of rows");
      refused(kernel, apart.withGates(apart.out().asSlice(0, 24)), "gates overlaps that of out");
    }
  }

  private static void refused(GateKernel kernel, GateCall call, String part) {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> kernel.forward(call));
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  @Test
  void callsThatMakeNoSenseAreRefused() {
    float[] none = {};
    assertThrows(IllegalArgumentException.class, () -> GateCall.of(0, 1, none, none, none));
    assertThrows(IllegalArgumentException.class, () -> GateCall.of(1, -1, none, none, none));
    assertThrows(
        IllegalArgumentException.class, () -> GateCall.of(1 << 20, 1 << 20, none, none, none));
    MemorySegment empty = MemorySegment.ofArray(none);
    assertThrows(
        IllegalArgumentException.class, () -> GateCall.of(1, 0, Dtype.F16, empty, empty, empty));
    ConvState state = ConvState.start(Variants.demo(1, 1), CONV, 0);
    GateCall call = GateCall.of(2, 0, none, none, none);
    assertThrows(IllegalArgumentException.class, () -> call.withStates(List.of(state)));
  }

  @Test
  void weightsThatAreNoNumbersAreRefusedAndNamed() {
    RandomGenerator random = Seeds.random("weights");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, random);
    LayerWeights w = r.weights();
    for (Tensor tensor :
        List.of(
            w.projection(),
            w.bias().orElseThrow(),
            w.keyNorm(),
            w.queryNorm(),
            w.convNorm().orElseThrow(),
            w.conv().orElseThrow())) {
      float good = tensor.data().get(Memory.FLOAT, 4 * 5);
      for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
        tensor.data().set(Memory.FLOAT, 4 * 5, bad);
        IllegalArgumentException e = assertThrows(IllegalArgumentException.class, r::kernel);
        assertTrue(
            e.getMessage().contains(tensor.equals(w.projection()) ? "row 1" : "element 5"),
            e.getMessage());
      }
      tensor.data().set(Memory.FLOAT, 4 * 5, good);
    }
    assertThrows(
        IllegalArgumentException.class,
        () -> GateKernel.of(r.gate(), Optional.empty(), 5, r.weights()));
    assertThrows(
        IllegalArgumentException.class, () -> GateKernel.of(r.gate(), r.conv(), 6, r.weights()));
  }

  @Test
  void aWarmCallAllocatesNothing() {
    RandomGenerator random = Seeds.random("allocation");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 32), Optional.of(CONV), 32, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    GateCall call =
        GateCall.of(
                3,
                1,
                RandomLayer.values(random, 3 * 32),
                RandomLayer.values(random, 3 * 64),
                new float[3 * 64])
            .withStates(List.of(kernel.newState(2), kernel.newState(2), kernel.newState(2)));
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    long least = Long.MAX_VALUE;
    // What the interpreter makes of the Vector API ends once the loops are compiled.
    long end = System.nanoTime() + 10_000_000_000L;
    while (least > 0 && System.nanoTime() < end) {
      long before = threads.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 100; i++) {
        kernel.forward(call);
      }
      least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
    }
    assertEquals(0, least, "bytes allocated by 100 calls");
  }

  @Test
  void anEmptyCallTouchesNothing() {
    RandomLayer r =
        RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, Seeds.random("empty"));
    ConvState state = r.kernel().newState(0);
    float[] none = {};
    r.kernel().forward(GateCall.of(1, 0, none, none, none).withStates(List.of(state)));
    assertEquals(0, state.position());
    assertEquals(0, r.kernel().forward(none, none).length);
    assertNotEquals(0, r.kernel().forward(new float[5], new float[12]).length);
  }
}
