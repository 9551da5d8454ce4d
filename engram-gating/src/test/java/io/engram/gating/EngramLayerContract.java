// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.MemoryOptions;
import io.engram.Tensor;
import io.engram.checkpoint.Safetensors;
import io.engram.gating.EngramLayer.Engine;
import io.engram.gating.EngramLayer.Gradients;
import io.engram.gating.EngramLayer.Input;
import io.engram.gating.EngramLayer.Output;
import io.engram.gating.EngramLayer.Recorded;
import io.engram.hash.Lookback;
import io.engram.prefetch.PrefetchOptions;
import io.engram.prefetch.Retrieval;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.memory.conf.WorkspaceConfiguration;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;

/** What holds for a layer whoever does the arithmetic. */
abstract class EngramLayerContract {
  abstract Engine engine();

  /** Whether a token has the same bits however many tokens are computed with it. */
  abstract boolean sameBitsInAnyChunk();

  static Stream<GoldenLayer> goldenLayers() {
    return GoldenLayer.all();
  }

  // --- golden files ---------------------------------------------------------------------------

  @ParameterizedTest
  @MethodSource("goldenLayers")
  void gatesAndOutputsAreTheReferences(GoldenLayer golden) {
    EngramLayer layer =
        EngramLayer.of(golden.gate(), golden.conv(), golden.rowWidth(), golden.weights(), engine());
    Input input =
        Input.of(
            streams(golden.streams(), golden.sequences(), golden.tokens(), golden.gate())
                .castTo(golden.dtype() == Dtype.F32 ? DataType.FLOAT : DataType.BFLOAT16),
            rows(golden.rows(), golden.sequences(), golden.tokens()));
    Output output = layer.forward(input);
    if (golden.gates() != null) {
      assertArrayEquals(golden.gates(), floats(output.gates()), 1e-6f);
    }
    assertOutput(golden, golden.unmasked(), output);
    if (golden.live() != null) {
      output = layer.forward(input.withLive(live(golden.live(), golden.sequences())));
      assertOutput(golden, golden.output(), output);
    }
  }

  private static void assertOutput(GoldenLayer golden, float[] expected, Output output) {
    float[] actual = floats(output.streams());
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      float tolerance =
          golden.dtype() == Dtype.F32
              ? 1e-5f * Math.max(Math.abs(expected[i]), 0.1f)
              : bfloat16Ulp(expected[i]);
      assertEquals(expected[i], actual[i], tolerance, golden + " element " + i);
    }
  }

  private static float bfloat16Ulp(float value) {
    return Math.scalb(1f, Math.max(Math.getExponent(value), -126) - 7);
  }

  @Test
  void retrievedRowsGoInAsTheyAre() {
    MemoryOptions options =
        MemoryOptions.builder()
            .prefetch(PrefetchOptions.defaults().withVerify(true))
            .memoryBudget(1 << 27)
            .build();
    try (EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"), options)) {
      EngramConfig config = memory.config();
      int[] tokens = {413, 420, 263, 415};
      INDArray streams =
          Nd4j.rand(DataType.FLOAT, 1, 4, config.gate().streams(), config.gate().width());
      try (Retrieval retrieval = memory.prefetch(tokens, Lookback.start())) {
        for (int id : config.layerIds()) {
          EngramLayer layer = EngramLayer.load(memory, id, engine());
          INDArray rows =
              Nd4j.createFromArray(memory.lookup(id, tokens)).reshape(1, 4, config.rowWidth());
          assertEquals(layer.forward(streams, rows), layer.forward(streams, retrieval.rows(id)));
          MemorySegment less = retrieval.rows(id).asSlice(4);
          assertThrows(IllegalArgumentException.class, () -> layer.forward(streams, less));
          assertThrows(
              IllegalArgumentException.class,
              () -> layer.forward(streams.reshape(4, -1), retrieval.rows(id)));
        }
      }
      INDArray none =
          Nd4j.create(DataType.FLOAT, 1, 0, config.gate().streams(), config.gate().width());
      try (Retrieval retrieval = memory.prefetch(new int[0], Lookback.start())) {
        assertEquals(
            0, EngramLayer.load(memory, 1, engine()).forward(none, retrieval.rows(1)).length());
      }
    }
  }

  // --- random layers --------------------------------------------------------------------------

  @Test
  void anyConfigurationAgreesWithTheSpecificationInDoublePrecision() {
    RandomGenerator random = Seeds.random("anyConfiguration" + engine());
    for (int trial = 0; trial < 60; trial++) {
      RandomLayer r = RandomLayer.any(random);
      int sequences = random.nextInt(1, 4);
      int tokens = pick(random, 0, 1, 2, 7, 40);
      boolean bf16 = random.nextBoolean();
      float[] rows = RandomLayer.values(random, sequences * tokens * r.rowWidth());
      float[] streams = RandomLayer.values(random, sequences * tokens * r.channels());
      boolean[] live = random.nextBoolean() ? null : new boolean[sequences * tokens];
      for (int i = 0; live != null && i < live.length; i++) {
        live[i] = random.nextInt(3) > 0;
      }
      if (bf16) {
        streams = RandomLayer.rounded(streams);
      }
      Input input =
          Input.of(
              streams(streams, sequences, tokens, r.gate())
                  .castTo(bf16 ? DataType.BFLOAT16 : DataType.FLOAT),
              rows(rows, sequences, tokens, r.rowWidth()));
      if (live != null) {
        input = input.withLive(live(live, sequences));
      }
      Output output = layer(r).forward(input);
      assertNear(
          new ReferenceLayer(r, sequences, tokens, rows, streams, live), r, bf16, output, trial);
    }
  }

  private static void assertNear(
      ReferenceLayer expected, RandomLayer r, boolean bf16, Output output, int trial) {
    String where = "trial " + trial + ", " + r.gate() + ", " + r.conv();
    float[] gates = floats(output.gates());
    float[] actual = floats(output.streams());
    int count = r.gate().streams();
    int width = r.gate().width();
    for (int i = 0; i < gates.length; i++) {
      // What float32 keys cost, magnified by norm and square root; their sign is open next to zero.
      double size = Math.abs(expected.dots[i]);
      double slope =
          r.gate().shape() == GateConfig.Shape.PLAIN
              ? 0.25
              : 0.125 / Math.sqrt(Math.max(size, 1e-6));
      double error = 5e-7 * Math.max(1, 1 / expected.keyRms[i]);
      double tolerance = size < 2 * error && size > 0 ? 1.1e-3 : 1e-6 + error * slope;
      assertEquals(expected.gates[i], gates[i], tolerance, where + " gate " + i);
      for (int d = 0; d < width; d++) {
        int c = i * width + d;
        int value = i / count * r.gate().projectionRows() + r.channels() + d;
        double size2 = Math.abs(expected.output[c]);
        double outTolerance =
            1e-5 * (1 + size2)
                + tolerance * Math.abs(expected.keysAndValue[value])
                + 1e-6 * expected.growth[c];
        if (bf16) {
          outTolerance += bfloat16Ulp((float) size2) * 0.501;
        }
        assertEquals(expected.output[c], actual[c], outTolerance, where + " element " + c);
      }
    }
  }

  @Test
  void arraysOfAnyOrderAndViewsGiveTheSame() {
    RandomLayer r = demoLike("views");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("views values");
    INDArray rows = rows(RandomLayer.values(random, 2 * 5 * r.rowWidth()), 2, 5, r.rowWidth());
    INDArray streams = streams(RandomLayer.values(random, 2 * 5 * r.channels()), 2, 5, r.gate());
    float[] expected = floats(layer.forward(streams, rows));
    assertArrayEquals(expected, floats(layer.forward(streams.dup('f'), rows.dup('f'))), 1e-6f);
    // The same numbers in the middle of larger arrays.
    INDArray wideRows = Nd4j.create(DataType.FLOAT, 4, 5, r.rowWidth() + 2);
    INDArray innerRows =
        wideRows.get(
            NDArrayIndex.interval(1, 3),
            NDArrayIndex.all(),
            NDArrayIndex.interval(1, 1 + r.rowWidth()));
    innerRows.assign(rows);
    INDArray wideStreams = Nd4j.create(DataType.FLOAT, 4, 5, r.gate().streams(), r.gate().width());
    INDArray innerStreams = wideStreams.get(NDArrayIndex.interval(1, 3));
    innerStreams.assign(streams);
    assertArrayEquals(expected, floats(layer.forward(innerStreams, innerRows)), 1e-6f);
  }

  @Test
  void inputsAreLeftAsTheyAre() {
    for (GateConfig gate : List.of(Variants.demo(2, 9), Variants.v41(2, 9))) {
      RandomLayer r = RandomLayer.of(gate, Optional.empty(), 10, Dtype.F32, Seeds.random("inputs"));
      INDArray rows = rows(RandomLayer.values(Seeds.random("rows"), 3 * 10), 1, 3, 10);
      INDArray streams = streams(RandomLayer.values(Seeds.random("s"), 3 * 18), 1, 3, gate);
      INDArray rowsBefore = rows.dup();
      INDArray streamsBefore = streams.dup();
      INDArray live = live(new boolean[] {true, false, true}, 1);
      INDArray result = layer(r).forward(Input.of(streams, rows).withLive(live)).streams();
      assertEquals(rowsBefore, rows);
      assertEquals(streamsBefore, streams);
      assertEquals(DataType.FLOAT, result.dataType());
      assertFalse(result.isAttached(), "the result must not lie in a workspace");
    }
  }

  @Test
  void arraysInAWorkspaceOfTheCallerAreTaken() {
    RandomLayer r = demoLike("workspace");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("workspace values");
    float[] rows = RandomLayer.values(random, 6 * r.rowWidth());
    float[] streams = RandomLayer.values(random, 6 * r.channels());
    float[] expected = run(layer, r, rows, streams, 6);
    WorkspaceConfiguration config = WorkspaceConfiguration.builder().initialSize(1 << 20).build();
    for (int i = 0; i < 3; i++) {
      try (MemoryWorkspace _ =
          Nd4j.getWorkspaceManager().getAndActivateWorkspace(config, "CALLER")) {
        INDArray attached = streams(streams, 1, 6, r.gate()).dup();
        assertTrue(attached.isAttached(), "this test needs arrays of a workspace");
        INDArray result = layer.forward(attached, rows(rows, 1, 6, r.rowWidth()).dup());
        assertArrayEquals(expected, floats(result), 1e-6f);
      }
    }
  }

  @Test
  void callsOfChangingSizeDoNotDisturbEachOther() {
    RandomLayer r = demoLike("sizes");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("sizes values");
    int[] sizes = {1, 30, 2, 64, 1, 100, 30};
    for (int tokens : sizes) {
      float[] rows = RandomLayer.values(random, tokens * r.rowWidth());
      float[] streams = RandomLayer.values(random, tokens * r.channels());
      Output output =
          layer.forward(
              Input.of(streams(streams, 1, tokens, r.gate()), rows(rows, 1, tokens, r.rowWidth())));
      assertNear(new ReferenceLayer(r, 1, tokens, rows, streams, null), r, false, output, tokens);
    }
  }

  // --- causality ------------------------------------------------------------------------------

  @Test
  void aLaterTokenChangesNothingEarlier() {
    for (GateConfig gate : List.of(Variants.demo(3, 17), Variants.v41(3, 17))) {
      boolean conv = gate.residual() == GateConfig.Residual.DELTA;
      RandomGenerator random = Seeds.random("causality");
      RandomLayer r =
          RandomLayer.of(
              gate,
              conv ? Optional.of(Variants.DEMO_CONV) : Optional.empty(),
              12,
              Dtype.F32,
              random);
      EngramLayer layer = layer(r);
      int tokens = 25;
      int changed = 11;
      float[] rows = RandomLayer.values(random, tokens * 12);
      float[] streams = RandomLayer.values(random, tokens * r.channels());
      float[] before = run(layer, r, rows, streams, tokens);
      float[] otherRows = rows.clone();
      float[] otherStreams = streams.clone();
      otherRows[changed * 12] += 1;
      otherStreams[changed * r.channels()] += 1;
      float[] after = run(layer, r, otherRows, otherStreams, tokens);
      for (int n = 0; n < tokens; n++) {
        int from = n * r.channels();
        boolean same =
            Arrays.equals(before, from, from + r.channels(), after, from, from + r.channels());
        // A convolution of 4 taps at distance 3 reaches positions 3, 6 and 9 later.
        int later = n - changed;
        boolean reached = later == 0 || (conv && (later == 3 || later == 6 || later == 9));
        assertEquals(!reached, same, gate.residual() + " token " + n);
      }
    }
  }

  // --- gates ----------------------------------------------------------------------------------

  @Test
  void aZeroDotIsAHalfOrAThousandthAside() {
    // sigmoid(sqrt(1e-6))
    float aside = (float) (1 / (1 + Math.exp(-1e-3)));
    assertEquals(0.50025f, aside, 1e-8f);
    assertZeroDotGates(Variants.demo(2, 5), 0.5f);
    assertZeroDotGates(Variants.qwen(2, 5), 0.5f);
    assertZeroDotGates(Variants.paper(2, 5), 0.5f);
    assertZeroDotGates(Variants.v41(2, 5), aside);
  }

  private void assertZeroDotGates(GateConfig gate, float expected) {
    RandomLayer r = RandomLayer.of(gate, Optional.empty(), 6, Dtype.F32, Seeds.random("zero"));
    for (float zero : new float[] {0f, -0f}) {
      float[] streams = new float[r.channels()];
      Arrays.fill(streams, zero);
      Output output =
          layer(r)
              .forward(
                  Input.of(
                      streams(streams, 1, 1, gate),
                      rows(RandomLayer.values(Seeds.random("row"), 6), 1, 1, 6)));
      assertArrayEquals(
          new float[] {expected, expected}, floats(output.gates()), 0f, gate + " of " + zero);
    }
  }

  @Test
  void aDotThatUnderflowsKeepsItsSign() {
    // One channel: the dot product is k * h, here -1e-30 * 1e-30 before the norms, whose eps of 1
    // leaves it below the smallest float32.
    GateConfig gate =
        new GateConfig(
            1,
            1,
            false,
            GateConfig.Shape.SIGNED_SQRT,
            GateConfig.ZeroDot.COPY_SIGN,
            GateConfig.NormWeight.AS_STORED,
            1f,
            GateConfig.Rounding.NONE,
            GateConfig.Residual.DELTA);
    RandomLayer r =
        new RandomLayer(
            gate,
            Optional.empty(),
            1,
            new io.engram.LayerWeights(
                GoldenLayer.tensor(new float[] {1, 1}, 2, 1),
                Optional.empty(),
                GoldenLayer.tensor(new float[] {1}, 1, 1),
                GoldenLayer.tensor(new float[] {1}, 1, 1),
                Optional.empty(),
                Optional.empty()));
    Output output =
        layer(r)
            .forward(
                Input.of(
                    streams(new float[] {-1e-30f}, 1, 1, gate),
                    rows(new float[] {1e-30f}, 1, 1, 1)));
    assertEquals((float) (1 / (1 + Math.exp(1e-3))), output.gates().getFloat(0));
  }

  @Test
  void deadTokensAreNotLookedAt() {
    for (GateConfig gate : List.of(Variants.demo(2, 7), Variants.v41(2, 7))) {
      boolean inPlace = gate.residual() == GateConfig.Residual.IN_PLACE;
      RandomGenerator random = Seeds.random("dead");
      RandomLayer r = RandomLayer.of(gate, Optional.empty(), 9, Dtype.F32, random);
      float[] rows = RandomLayer.values(random, 5 * 9);
      float[] streams = RandomLayer.values(random, 5 * r.channels());
      rows[2 * 9 + 4] = Float.NaN;
      rows[3 * 9] = Float.POSITIVE_INFINITY;
      boolean[] live = {true, true, false, false, true};
      Output output =
          layer(r)
              .forward(
                  Input.of(streams(streams, 1, 5, gate), rows(rows, 1, 5, 9))
                      .withLive(live(live, 1)));
      float[] out = floats(output.streams());
      for (int i = 2 * r.channels(); i < 4 * r.channels(); i++) {
        assertEquals(inPlace ? streams[i] : 0f, out[i] + 0f, "element " + i);
      }
      assertArrayEquals(
          new float[4], Arrays.copyOfRange(floats(output.gates()), 4, 8), "gates of dead tokens");
      float[] clean = rows.clone();
      Arrays.fill(clean, 2 * 9, 4 * 9, 1f);
      float[] without = run(layer(r), r, clean, streams, 5);
      assertArrayEquals(
          Arrays.copyOfRange(without, 4 * r.channels(), 5 * r.channels()),
          Arrays.copyOfRange(out, 4 * r.channels(), 5 * r.channels()));
    }
  }

  @Test
  void aDeadTokenIsAZeroToTheConvolution() {
    RandomLayer r = demoLike("dead conv");
    RandomGenerator random = Seeds.random("dead conv values");
    float[] rows = RandomLayer.values(random, 12 * r.rowWidth());
    float[] streams = RandomLayer.values(random, 12 * r.channels());
    boolean[] live = new boolean[12];
    for (int i = 0; i < 12; i++) {
      live[i] = i != 2 && i != 8;
      if (!live[i]) {
        Arrays.fill(streams, i * r.channels(), (i + 1) * r.channels(), Float.NaN);
      }
    }
    Output output =
        layer(r)
            .forward(
                Input.of(streams(streams, 1, 12, r.gate()), rows(rows, 1, 12, r.rowWidth()))
                    .withLive(live(live, 1)));
    assertNear(new ReferenceLayer(r, 1, 12, rows, streams, live), r, false, output, 0);
  }

  // --- decoding -------------------------------------------------------------------------------

  @Test
  void anyCutsWithStateAreTheWholeSequence() {
    RandomGenerator random = Seeds.random("cuts " + engine());
    for (int trial = 0; trial < 12; trial++) {
      ConvConfig conv = new ConvConfig(random.nextInt(1, 6), random.nextInt(1, 5), 1e-5f);
      RandomLayer r =
          RandomLayer.of(
              Variants.demo(random.nextInt(1, 4), random.nextInt(5, 40)),
              Optional.of(conv),
              random.nextInt(1, 50),
              Dtype.F32,
              random);
      EngramLayer layer = layer(r);
      int tokens = random.nextInt(10, 150);
      float[] rows = RandomLayer.values(random, tokens * r.rowWidth());
      float[] streams = RandomLayer.values(random, tokens * r.channels());
      float[] whole = run(layer, r, rows, streams, tokens);
      float[] cut = new float[whole.length];
      float[] stateless = new float[whole.length];
      ConvState state = layer.newState(random.nextInt(0, 4));
      boolean cutAtAll = false;
      for (int from = 0; from < tokens; ) {
        int to = Math.min(tokens, from + pick(random, 0, 1, 2, 5, 70));
        Input input = slice(r, rows, streams, from, to);
        float[] part = floats(layer.forward(input.withStates(List.of(state))).streams());
        System.arraycopy(part, 0, cut, from * r.channels(), part.length);
        part = floats(layer.forward(input).streams());
        System.arraycopy(part, 0, stateless, from * r.channels(), part.length);
        assertEquals(to, state.position());
        from = to;
        cutAtAll |= to > 0 && to < tokens;
      }
      if (sameBitsInAnyChunk()) {
        assertArrayEquals(whole, cut);
      } else {
        assertArrayEquals(whole, cut, 2e-5f);
      }
      if (cutAtAll && conv.history() > 0) {
        // Without the state the cuts must show, or this test would prove nothing.
        assertFalse(near(whole, stateless, 1e-4f), "cuts without state: " + conv);
      }
    }
  }

  @Test
  void rejectedDraftsLeaveNoTrace() {
    RandomLayer r = demoLike("drafts");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("drafts values");
    int tokens = 40;
    float[] rows = RandomLayer.values(random, tokens * r.rowWidth());
    float[] streams = RandomLayer.values(random, tokens * r.channels());
    float[] whole = run(layer, r, rows, streams, tokens);
    ConvState state = layer.newState(5);
    for (int from = 0; from < tokens; ) {
      int drafts = Math.min(random.nextInt(1, 6), tokens - from);
      int accepted = random.nextInt(0, drafts + 1);
      float[] wrongRows = RandomLayer.values(random, drafts * r.rowWidth());
      System.arraycopy(rows, from * r.rowWidth(), wrongRows, 0, accepted * r.rowWidth());
      float[] part =
          Arrays.copyOfRange(streams, from * r.channels(), (from + drafts) * r.channels());
      float[] out =
          floats(
              layer
                  .forward(
                      Input.of(
                              streams(part, 1, drafts, r.gate()),
                              rows(wrongRows, 1, drafts, r.rowWidth()))
                          .withStates(List.of(state)))
                  .streams());
      assertArrayEquals(
          Arrays.copyOfRange(whole, from * r.channels(), (from + accepted) * r.channels()),
          Arrays.copyOf(out, accepted * r.channels()),
          sameBitsInAnyChunk() ? 0f : 2e-5f);
      state.rollBack(drafts - accepted);
      from += accepted;
    }
  }

  @Test
  void everySequenceOfABatchHasItsOwnState() {
    RandomLayer r = demoLike("batch");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("batch values");
    int sequences = 3;
    int tokens = 14;
    float[] rows = RandomLayer.values(random, sequences * tokens * r.rowWidth());
    float[] streams = RandomLayer.values(random, sequences * tokens * r.channels());
    INDArray allRows = rows(rows, sequences, tokens, r.rowWidth());
    INDArray allStreams = streams(streams, sequences, tokens, r.gate());
    float[] whole = floats(layer.forward(allStreams, allRows));
    List<ConvState> states =
        IntStream.range(0, sequences).mapToObj(i -> layer.newState(0)).toList();
    float[] stepped = new float[whole.length];
    for (int t = 0; t < tokens; t++) {
      INDArray step =
          layer
              .forward(
                  Input.of(
                          allStreams.get(NDArrayIndex.all(), NDArrayIndex.interval(t, t + 1)),
                          allRows.get(NDArrayIndex.all(), NDArrayIndex.interval(t, t + 1)))
                      .withStates(states))
              .streams();
      for (int b = 0; b < sequences; b++) {
        float[] one = floats(step.get(NDArrayIndex.interval(b, b + 1)));
        System.arraycopy(one, 0, stepped, (b * tokens + t) * r.channels(), one.length);
      }
    }
    assertArrayEquals(whole, stepped, sameBitsInAnyChunk() ? 0f : 2e-5f);
  }

  // --- the way back ---------------------------------------------------------------------------

  /** Of the demo's module, differentiated by PyTorch in float32; see GateBackwardTest for 2e-5. */
  @ParameterizedTest
  @ValueSource(ints = {1, 15})
  void gradientsAreThoseOfTheDemosModule(int id) {
    try (EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"));
        Arena arena = Arena.ofConfined()) {
      Safetensors expected =
          Safetensors.open(Golden.path("demo_mini").resolve("expected.safetensors"), arena);
      long[] ids =
          expected
              .tensor("L" + id + ".row_ids")
              .data()
              .toArray(ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
      EngramLayer layer = EngramLayer.load(memory, id, engine());
      INDArray streams = tensor(expected, id, "hidden_states");
      Recorded recorded =
          layer.record(Input.of(streams, rows(memory.table(id).gather(ids), 2, 13)));
      // What a caller does to the streams afterwards is not the layer's business.
      streams.addi(recorded.output().streams());
      Nd4jWeights sums = Nd4jWeights.copyOf(memory.weights(id)).zeros();
      Gradients gradients = recorded.backward(tensor(expected, id, "dout"), sums);

      Map<String, INDArray> all = sums.arrays();
      assertGradient(tensor(expected, id, "grad.hidden_states"), gradients.streams());
      assertGradient(
          stacked(expected, id, "key_projs.{i}.weight", "value_proj.weight"),
          all.get("projection"));
      assertGradient(
          stacked(expected, id, "key_projs.{i}.bias", "value_proj.bias"), all.get("bias"));
      assertGradient(stacked(expected, id, "norm1.{i}.weight"), all.get("keyNorm"));
      assertGradient(stacked(expected, id, "norm2.{i}.weight"), all.get("queryNorm"));
      assertGradient(stacked(expected, id, "short_conv.norms.{i}.weight"), all.get("convNorm"));
      assertGradient(stacked(expected, id, "short_conv.conv.weight"), all.get("conv"));
      INDArray table = tensor(expected, id, "grad.multi_head_embedding.embedding.weight");
      int headDim = (int) table.size(1);
      float[] byRow = new float[(int) table.length()];
      float[] rows = floats(gradients.rows());
      for (int i = 0; i < rows.length; i++) {
        byRow[(int) ids[i / headDim] * headDim + i % headDim] += rows[i];
      }
      assertGradient(table, array(byRow, table.shape()));
    }
  }

  private static INDArray tensor(Safetensors file, int layer, String name) {
    Tensor tensor = file.tensor("L" + layer + "." + name);
    return array(tensor.data().toArray(Memory.FLOAT), tensor.shape());
  }

  private static INDArray stacked(Safetensors file, int layer, String... names) {
    List<INDArray> flat = new ArrayList<>();
    for (String name : names) {
      for (int i = 0; i < (name.contains("{i}") ? 3 : 1); i++) {
        flat.add(tensor(file, layer, "grad." + name.replace("{i}", "" + i)).ravel());
      }
    }
    return Nd4j.concat(0, flat.toArray(INDArray[]::new));
  }

  private static void assertGradient(INDArray expected, INDArray actual) {
    double[] theirs = expected.dup('c').data().asDouble();
    double largest = Arrays.stream(theirs).map(Math::abs).max().orElseThrow();
    assertTrue(largest > 0);
    assertArrayEquals(theirs, actual.dup('c').data().asDouble(), 2e-5 * largest);
  }

  static Stream<GateConfig> variants() {
    return GateBackwardTest.variants();
  }

  /** Every number of every input is moved in double precision; some tokens are dead. */
  @ParameterizedTest
  @MethodSource("variants")
  void gradientsAreTheDifferencesOfTheLoss(GateConfig gate) {
    RandomGenerator random = Seeds.random("differences " + engine() + " " + gate);
    RandomLayer r = RandomLayer.of(gate, GateBackwardTest.convOf(gate), 6, Dtype.F32, random);
    boolean[] live = new boolean[2 * 7];
    for (int i = 0; i < live.length; i++) {
      live[i] = random.nextInt(5) > 0;
    }
    float[] rows;
    float[] streams;
    DoubleLayer reference;
    do {
      // Beside a root of zero no difference is a derivative.
      rows = RandomLayer.values(random, live.length * 6);
      streams = RandomLayer.values(random, live.length * r.channels());
      reference = new DoubleLayer(r, 2, 7, rows, streams, live);
    } while (reference.smallestDot < 0.01);
    float[] outGradient = RandomLayer.values(random, streams.length);
    for (int n = 0; n < live.length; n++) {
      if (!live[n]) {
        Arrays.fill(rows, n * 6, (n + 1) * 6, Float.NaN);
        if (gate.residual() == GateConfig.Residual.DELTA) {
          Arrays.fill(streams, n * r.channels(), (n + 1) * r.channels(), Float.NaN);
        }
      }
    }
    Input input =
        Input.of(streams(streams, 2, 7, gate), rows(rows, 2, 7, 6)).withLive(live(live, 2));
    EngramLayer layer = layer(r);
    Recorded recorded = layer.record(input);
    assertEquals(layer.forward(input), recorded.output());
    Nd4jWeights sums = Nd4jWeights.copyOf(r.weights()).zeros();
    Gradients gradients = recorded.backward(streams(outGradient, 2, 7, gate), sums);
    Map<String, INDArray> ours = new LinkedHashMap<>(sums.arrays());
    ours.put("rows", gradients.rows());
    ours.put("streams", gradients.streams());
    assertEquals(reference.inputs.keySet(), ours.keySet());
    for (Map.Entry<String, INDArray> e : ours.entrySet()) {
      double[] expected = new double[(int) e.getValue().length()];
      for (int i = 0; i < expected.length; i++) {
        expected[i] = reference.derivative(e.getKey(), i, 1e-5, outGradient);
      }
      double largest = Arrays.stream(expected).map(Math::abs).max().orElseThrow();
      assertArrayEquals(
          expected,
          e.getValue().dup('c').data().asDouble(),
          2e-5 * Math.max(largest, 1e-3),
          e.getKey() + " of " + gate);
    }
    // Gradients of weights add up, those of what went in do not.
    Gradients again = recorded.backward(streams(outGradient, 2, 7, gate), sums);
    assertEquals(gradients, again);
    Nd4jWeights once = sums.zeros();
    recorded.backward(streams(outGradient, 2, 7, gate), once);
    once.arrays().forEach((name, g) -> assertGradient(g.mul(2), sums.arrays().get(name)));
    sums.clear();
    assertEquals(0, sums.arrays().get("projection").amaxNumber().doubleValue());
  }

  /** A dot product of zero, and one below the least root, move no gate. */
  @Test
  void aGateAtItsLeastRootDoesNotMove() {
    for (GateConfig gate : List.of(Variants.demo(2, 5), Variants.v41(2, 5))) {
      RandomLayer r = RandomLayer.of(gate, Optional.empty(), 6, Dtype.F32, Seeds.random("least"));
      float[] rows = RandomLayer.values(Seeds.random("least rows"), 6);
      Recorded recorded =
          layer(r).record(Input.of(streams(new float[10], 1, 1, gate), rows(rows, 1, 1, 6)));
      INDArray outGradient = streams(RandomLayer.values(Seeds.random("least out"), 10), 1, 1, gate);
      Nd4jWeights sums = Nd4jWeights.copyOf(r.weights()).zeros();
      Gradients gradients = recorded.backward(outGradient, sums);
      boolean inPlace = gate.residual() == GateConfig.Residual.IN_PLACE;
      assertEquals(inPlace ? outGradient : outGradient.mul(0), gradients.streams().mul(1).addi(0));
      assertEquals(0, sums.arrays().get("keyNorm").amaxNumber().doubleValue());
      assertTrue(gradients.rows().amaxNumber().doubleValue() > 0, "the value has its gradient");
    }
  }

  @Test
  void newWeightsAreReadWhenTheLayerIsToldTo() {
    Nd4jWeights weights =
        Nd4jWeights.initial(Variants.demo(2, 5), Optional.of(Variants.DEMO_CONV), 6, 3);
    EngramLayer layer =
        EngramLayer.of(
            Variants.demo(2, 5), Optional.of(Variants.DEMO_CONV), 6, weights.weights(), engine());
    Input input =
        Input.of(Nd4j.rand(DataType.FLOAT, 1, 7, 2, 5), Nd4j.rand(DataType.FLOAT, 1, 7, 6));
    Output before = layer.forward(input);
    Recorded recorded = layer.record(input);
    weights.arrays().forEach((_, array) -> array.addi(Nd4j.rand(DataType.FLOAT, array.shape())));
    assertEquals(before, layer.forward(input));
    layer.refresh();
    EngramLayer other =
        EngramLayer.of(
            Variants.demo(2, 5), Optional.of(Variants.DEMO_CONV), 6, weights.weights(), engine());
    assertEquals(other.forward(input), layer.forward(input));
    assertThrows(
        IllegalStateException.class,
        () -> recorded.backward(recorded.output().streams(), weights.zeros()));
    weights.arrays().get("conv").putScalar(2, Float.NaN);
    assertMessage(assertThrows(IllegalArgumentException.class, layer::refresh), "conv", "NaN");
    assertEquals(other.forward(input), layer.forward(input));
  }

  @Test
  void aWayBackThatDoesNotFitIsRefused() {
    RandomLayer r = demoLike("back");
    EngramLayer layer = layer(r);
    INDArray streams = Nd4j.rand(DataType.FLOAT, 2, 3, 3, 19);
    Input input = Input.of(streams, Nd4j.rand(DataType.FLOAT, 2, 3, 21));
    assertMessage(
        assertThrows(
            IllegalArgumentException.class,
            () -> layer.record(input.withStates(List.of(layer.newState(0), layer.newState(0))))),
        "states");
    Recorded recorded = layer.record(input);
    Nd4jWeights sums = Nd4jWeights.copyOf(r.weights()).zeros();
    refusedBack(recorded, streams.castTo(DataType.DOUBLE), sums, "DOUBLE");
    refusedBack(recorded, streams.reshape(3, 2, 3, 19), sums, "[3, 2, 3, 19]");
    RandomLayer other =
        RandomLayer.of(r.gate(), Optional.empty(), 21, Dtype.F32, Seeds.random("other"));
    refusedBack(recorded, streams, Nd4jWeights.copyOf(other.weights()).zeros(), "convNorm");
    INDArray bad = streams.dup();
    bad.putScalar(new long[] {1, 2, 0, 4}, Float.NEGATIVE_INFINITY);
    refusedBack(recorded, bad, sums, "sequence 1, token 2");
    assertEquals(0, sums.arrays().get("bias").amaxNumber().doubleValue(), "nothing was added");
    Input none =
        Input.of(Nd4j.create(DataType.FLOAT, 2, 0, 3, 19), Nd4j.create(DataType.FLOAT, 2, 0, 21));
    Recorded empty = layer.record(none);
    assertEquals(0, empty.backward(empty.output().streams(), sums).rows().length());
  }

  private static void refusedBack(
      Recorded recorded, INDArray outGradient, Nd4jWeights sums, String part) {
    assertMessage(
        assertThrows(IllegalArgumentException.class, () -> recorded.backward(outGradient, sums)),
        part);
  }

  // --- refusals -------------------------------------------------------------------------------

  @Test
  void whatIsNoNumberIsRefusedAndNamed() {
    RandomLayer r = demoLike("nan");
    EngramLayer layer = layer(r);
    RandomGenerator random = Seeds.random("nan values");
    for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
      float[] rows = RandomLayer.values(random, 2 * 4 * r.rowWidth());
      float[] streams = RandomLayer.values(random, 2 * 4 * r.channels());
      List<ConvState> states = List.of(layer.newState(0), layer.newState(0));
      float[] badRows = rows.clone();
      badRows[(4 + 2) * r.rowWidth() + 3] = bad;
      Input input =
          Input.of(streams(streams, 2, 4, r.gate()), rows(badRows, 2, 4, r.rowWidth()))
              .withStates(states);
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> layer.forward(input)),
          "rows",
          "sequence 1",
          "token 2",
          "element 3");
      float[] badStreams = streams.clone();
      badStreams[3 * r.channels() + r.gate().width() + 2] = bad;
      Input other =
          Input.of(streams(badStreams, 2, 4, r.gate()), rows(rows, 2, 4, r.rowWidth()))
              .withStates(states);
      assertMessage(
          assertThrows(IllegalArgumentException.class, () -> layer.forward(other)),
          "streams",
          "sequence 0",
          "token 3",
          "stream 1");
      assertEquals(0, states.get(0).position(), "a refused call must not move a state");
      assertEquals(0, states.get(1).position(), "a refused call must not move a state");
    }
  }

  @Test
  void largeFiniteNumbersAreNotRefused() {
    RandomLayer r = demoLike("large");
    float[] rows = new float[r.rowWidth()];
    float[] streams = new float[r.channels()];
    Arrays.fill(rows, 1e30f);
    Arrays.fill(streams, Float.MAX_VALUE);
    float[] gates =
        floats(
            layer(r)
                .forward(Input.of(streams(streams, 1, 1, r.gate()), rows(rows, 1, 1, r.rowWidth())))
                .gates());
    for (float gate : gates) {
      assertTrue(gate >= 0 && gate <= 1, "gate " + gate);
    }
  }

  @Test
  void wrongShapesTypesAndStatesAreRefused() {
    RandomLayer r = demoLike("shapes");
    EngramLayer layer = layer(r);
    int width = r.gate().width();
    int count = r.gate().streams();
    INDArray rows = Nd4j.zeros(DataType.FLOAT, 2, 3, r.rowWidth());
    INDArray streams = Nd4j.zeros(DataType.FLOAT, 2, 3, count, width);
    refused(layer, Input.of(streams, Nd4j.zeros(DataType.FLOAT, 2, 3, r.rowWidth() + 1)), "rows");
    refused(layer, Input.of(streams, Nd4j.zeros(DataType.FLOAT, 3, 2, r.rowWidth())), "rows");
    refused(layer, Input.of(streams, rows.castTo(DataType.DOUBLE)), "DOUBLE");
    refused(layer, Input.of(streams.castTo(DataType.FLOAT16), rows), "HALF");
    refused(
        layer, Input.of(Nd4j.zeros(DataType.FLOAT, 2, 3, count, width + 1), rows), "streams are");
    refused(layer, Input.of(streams.reshape(2, 3, r.channels()), rows), "streams are");
    refused(layer, Input.of(streams, rows).withLive(Nd4j.ones(DataType.BOOL, 3, 2)), "live");
    ConvState state = layer.newState(0);
    refused(layer, Input.of(streams, rows).withStates(List.of(state)), "1 states");
    assertThrows(
        IllegalStateException.class,
        () -> layer.forward(Input.of(streams, rows).withStates(List.of(state, state))));
    ConvState other = ConvState.start(r.gate(), new ConvConfig(4, 2, 1e-5f), 0);
    refused(layer, Input.of(streams, rows).withStates(List.of(state, other)), "dilation 2");
    // After all these refusals the state is free and unmoved.
    layer.forward(Input.of(streams, rows).withStates(List.of(state, layer.newState(0))));
    assertEquals(3, state.position());
    RandomLayer plain =
        RandomLayer.of(r.gate(), Optional.empty(), r.rowWidth(), Dtype.F32, Seeds.random("p"));
    refused(layer(plain), Input.of(streams, rows).withStates(List.of(state, state)), "convolution");
    assertThrows(IllegalStateException.class, () -> layer(plain).newState(0));
  }

  private static void refused(EngramLayer layer, Input input, String part) {
    assertMessage(assertThrows(IllegalArgumentException.class, () -> layer.forward(input)), part);
  }

  private static void assertMessage(Exception e, String... parts) {
    for (String part : parts) {
      assertTrue(e.getMessage().contains(part), e.getMessage() + " names " + part);
    }
  }

  // --- helpers --------------------------------------------------------------------------------

  private EngramLayer layer(RandomLayer r) {
    return EngramLayer.of(r.gate(), r.conv(), r.rowWidth(), r.weights(), engine());
  }

  private static RandomLayer demoLike(String name) {
    return RandomLayer.of(
        Variants.demo(3, 19), Optional.of(Variants.DEMO_CONV), 21, Dtype.F32, Seeds.random(name));
  }

  private static float[] run(
      EngramLayer layer, RandomLayer r, float[] rows, float[] streams, int tokens) {
    return floats(
        layer.forward(streams(streams, 1, tokens, r.gate()), rows(rows, 1, tokens, r.rowWidth())));
  }

  private static Input slice(RandomLayer r, float[] rows, float[] streams, int from, int to) {
    return Input.of(
        streams(
            Arrays.copyOfRange(streams, from * r.channels(), to * r.channels()),
            1,
            to - from,
            r.gate()),
        rows(
            Arrays.copyOfRange(rows, from * r.rowWidth(), to * r.rowWidth()),
            1,
            to - from,
            r.rowWidth()));
  }

  private static INDArray rows(float[] values, int sequences, int tokens) {
    return rows(values, sequences, tokens, values.length / sequences / tokens);
  }

  private static INDArray rows(float[] values, int sequences, int tokens, int width) {
    return array(values, sequences, tokens, width);
  }

  private static INDArray streams(float[] values, int sequences, int tokens, GateConfig gate) {
    return array(values, sequences, tokens, gate.streams(), gate.width());
  }

  private static INDArray array(float[] values, long... shape) {
    return values.length == 0
        ? Nd4j.create(DataType.FLOAT, shape)
        : Nd4j.createFromArray(values).reshape(shape);
  }

  private static INDArray live(boolean[] live, int sequences) {
    return live.length == 0
        ? Nd4j.create(DataType.BOOL, sequences, 0)
        : Nd4j.createFromArray(live).reshape(sequences, live.length / sequences);
  }

  private static float[] floats(INDArray array) {
    return array.isEmpty() ? new float[0] : array.castTo(DataType.FLOAT).dup('c').data().asFloat();
  }

  private static int pick(RandomGenerator random, int... values) {
    return values[random.nextInt(values.length)];
  }

  private static boolean near(float[] a, float[] b, float tolerance) {
    List<Integer> apart = new ArrayList<>();
    for (int i = 0; i < a.length; i++) {
      if (!(Math.abs(a[i] - b[i]) <= tolerance)) {
        apart.add(i);
      }
    }
    return apart.isEmpty();
  }
}
