// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.GateConfig.NormWeight;
import io.engram.GateConfig.Residual;
import io.engram.GateConfig.Rounding;
import io.engram.GateConfig.Shape;
import io.engram.GateConfig.ZeroDot;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.Safetensors;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The way back, against automatic differentiation, differences, and its own promises. */
class GateBackwardTest {
  private static final ConvConfig CONV = Variants.DEMO_CONV;

  /** A backward with all that goes in and comes out, by name. */
  private static final class Step {
    final GateKernel kernel;
    final GateTape tape;
    final GateCall call;
    final float[] outGradient;
    final float[] rowsGradient;
    final float[] streamsGradient;
    final LayerWeights gradients;

    Step(RandomLayer r, GateKernel kernel, GateCall call, float[] outGradient) {
      this.kernel = kernel;
      this.call = call;
      this.outGradient = outGradient;
      tape = kernel.newTape();
      int tokens = call.sequences() * call.tokens();
      rowsGradient = new float[tokens * r.rowWidth()];
      streamsGradient = new float[tokens * r.channels()];
      gradients = LayerWeights.zeros(r.gate(), r.conv(), r.rowWidth(), Arena.ofAuto());
    }

    Step run() {
      kernel.forward(call, tape);
      backward();
      return this;
    }

    void backward() {
      // What was there before does not matter.
      Arrays.fill(rowsGradient, Float.NaN);
      Arrays.fill(streamsGradient, Float.NaN);
      kernel.backward(
          tape,
          MemorySegment.ofArray(outGradient),
          MemorySegment.ofArray(rowsGradient),
          MemorySegment.ofArray(streamsGradient),
          gradients);
    }

    Map<String, float[]> results() {
      Map<String, float[]> results = weights(gradients);
      results.put("rows", rowsGradient);
      results.put("streams", streamsGradient);
      return results;
    }
  }

  private static Map<String, float[]> weights(LayerWeights weights) {
    Map<String, float[]> all = new LinkedHashMap<>();
    all.put("projection", floats(weights.projection()));
    weights.bias().ifPresent(t -> all.put("bias", floats(t)));
    all.put("keyNorm", floats(weights.keyNorm()));
    all.put("queryNorm", floats(weights.queryNorm()));
    weights.convNorm().ifPresent(t -> all.put("convNorm", floats(t)));
    weights.conv().ifPresent(t -> all.put("conv", floats(t)));
    return all;
  }

  private static float[] floats(Tensor tensor) {
    return tensor.data().toArray(Memory.FLOAT);
  }

  private static GateCall call(
      RandomLayer r, int sequences, int tokens, float[] rows, float[] streams) {
    return GateCall.of(
        sequences, tokens, rows, streams, new float[sequences * tokens * r.channels()]);
  }

  private static MemorySegment bytes(boolean[] live) {
    byte[] bytes = new byte[live.length];
    for (int i = 0; i < live.length; i++) {
      bytes[i] = (byte) (live[i] ? 1 : 0);
    }
    return MemorySegment.ofArray(bytes);
  }

  // --- the reference --------------------------------------------------------------------------

  /** Of the demo's module, differentiated by PyTorch in float32. */
  @ParameterizedTest
  @ValueSource(ints = {1, 15})
  void gradientsAreThoseOfTheDemosModule(int id) {
    try (EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"));
        Arena arena = Arena.ofConfined()) {
      Safetensors expected =
          Safetensors.open(Golden.path("demo_mini").resolve("expected.safetensors"), arena);
      String layer = "L" + id + ".";
      String grad = layer + "grad.";
      EngramConfig config = memory.config();
      long[] rowIds =
          expected
              .tensor(layer + "row_ids")
              .data()
              .toArray(ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
      RandomLayer r =
          new RandomLayer(config.gate(), config.conv(), config.rowWidth(), memory.weights(id));
      GateCall call =
          call(
              r,
              2,
              13,
              memory.table(id).gather(rowIds),
              floats(expected.tensor(layer + "hidden_states")));
      Step step =
          new Step(r, GateKernel.load(memory, id), call, floats(expected.tensor(layer + "dout")))
              .run();

      Map<String, float[]> ours = step.results();
      compare(id, "hidden_states", expected.tensor(grad + "hidden_states"), ours.get("streams"));
      int size = config.gate().width() * config.rowWidth();
      int width = config.gate().width();
      for (int s = 0; s <= config.gate().streams(); s++) {
        String name = s < config.gate().streams() ? "key_projs." + s : "value_proj";
        compare(
            id,
            name + ".weight",
            expected.tensor(grad + name + ".weight"),
            Arrays.copyOfRange(ours.get("projection"), s * size, (s + 1) * size));
        compare(
            id,
            name + ".bias",
            expected.tensor(grad + name + ".bias"),
            Arrays.copyOfRange(ours.get("bias"), s * width, (s + 1) * width));
      }
      Map<String, String> norms =
          Map.of("norm1", "keyNorm", "norm2", "queryNorm", "short_conv.norms", "convNorm");
      for (int s = 0; s < config.gate().streams(); s++) {
        for (Map.Entry<String, String> norm : norms.entrySet()) {
          String name = norm.getKey() + "." + s + ".weight";
          float[] all = ours.get(norm.getValue());
          compare(
              id,
              name,
              expected.tensor(grad + name),
              Arrays.copyOfRange(all, s * width, (s + 1) * width));
        }
      }
      compare(
          id,
          "short_conv.conv.weight",
          expected.tensor(grad + "short_conv.conv.weight"),
          ours.get("conv"));
      Tensor table = expected.tensor(grad + "multi_head_embedding.embedding.weight");
      float[] scattered = new float[Math.toIntExact(table.count())];
      int headDim = Math.toIntExact(table.shape()[1]);
      for (int i = 0; i < rowIds.length; i++) {
        for (int d = 0; d < headDim; d++) {
          scattered[Math.toIntExact(rowIds[i]) * headDim + d] += ours.get("rows")[i * headDim + d];
        }
      }
      compare(id, "table rows", table, scattered);
    }
  }

  /**
   * Both sides sum in float32, some 1e-7 of the largest summand. The slope of the root, 1 / (2 *
   * sqrt(s)), makes of an error in a small dot product s half as much relative to s: the smallest
   * of these inputs is 0.0065, so that an element may be off by some 1e-5 of the largest one.
   */
  private static void compare(int layer, String name, Tensor expected, float[] ours) {
    float[] theirs = floats(expected);
    assertEquals(theirs.length, ours.length, name);
    double largest = 0;
    double error = 0;
    for (int i = 0; i < theirs.length; i++) {
      largest = Math.max(largest, Math.abs(theirs[i]));
      error = Math.max(error, Math.abs((double) theirs[i] - ours[i]));
    }
    System.out.printf(
        "demo_mini layer %d, %s: largest %.3g, largest error %.2g, relative %.2g%n",
        layer, name, largest, error, error / largest);
    assertTrue(largest > 0, name);
    assertTrue(error <= 2e-5 * largest, name + ": error " + error + " of " + largest);
  }

  // --- differences ----------------------------------------------------------------------------

  static Stream<GateConfig> variants() {
    List<GateConfig> all = new ArrayList<>();
    all.add(Variants.demo(3, 10));
    all.add(Variants.demo(1, 13));
    all.add(Variants.v41(2, 9));
    all.add(with(Variants.v41(4, 8), Rounding.NONE));
    all.add(Variants.qwen(2, 11));
    all.add(Variants.paper(2, 7));
    // What no published variant is: a convolution behind streams that are written in place.
    all.add(
        new GateConfig(
            2,
            5,
            true,
            Shape.PLAIN,
            ZeroDot.COPY_SIGN,
            NormWeight.ONE_PLUS,
            1e-3f,
            Rounding.BF16,
            Residual.IN_PLACE));
    return all.stream();
  }

  private static GateConfig with(GateConfig g, Rounding rounding) {
    return new GateConfig(
        g.streams(),
        g.width(),
        g.bias(),
        g.shape(),
        g.zeroDot(),
        g.normWeight(),
        g.normEps(),
        rounding,
        g.residual());
  }

  static Optional<ConvConfig> convOf(GateConfig gate) {
    return gate.shape() == Shape.SIGNED_SQRT && gate.residual() == Residual.IN_PLACE
        ? Optional.empty()
        : Optional.of(new ConvConfig(3, 2, 1e-2f));
  }

  /** Every number of every input is moved. */
  @ParameterizedTest
  @MethodSource("variants")
  void gradientsAreTheDifferencesOfTheLoss(GateConfig gate) {
    RandomGenerator random = Seeds.random("differences " + gate);
    RandomLayer r = RandomLayer.of(gate, convOf(gate), 6, Dtype.F32, random);
    int sequences = 3;
    int tokens = 7;
    boolean[] live = new boolean[sequences * tokens];
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
      reference = new DoubleLayer(r, sequences, tokens, rows, streams, live);
    } while (reference.smallestDot < 0.01);
    float[] outGradient = RandomLayer.values(random, streams.length);
    GateCall call = call(r, sequences, tokens, rows, streams).withLive(bytes(live));
    Map<String, float[]> ours = new Step(r, r.kernel(), call, outGradient).run().results();

    assertEquals(reference.inputs.keySet(), ours.keySet());
    double worst = 0;
    for (Map.Entry<String, float[]> e : ours.entrySet()) {
      float[] gradient = e.getValue();
      assertEquals(reference.inputs.get(e.getKey()).length, gradient.length, e.getKey());
      double[] expected = new double[gradient.length];
      double largest = 0;
      for (int i = 0; i < gradient.length; i++) {
        expected[i] = reference.derivative(e.getKey(), i, 1e-5, outGradient);
        largest = Math.max(largest, Math.abs(expected[i]));
      }
      for (int i = 0; i < gradient.length; i++) {
        double error = Math.abs(expected[i] - gradient[i]) / Math.max(largest, 1e-3);
        worst = Math.max(worst, error);
        assertTrue(
            error < 2e-5, e.getKey() + " " + i + ": " + gradient[i] + ", expected " + expected[i]);
      }
    }
    System.out.printf("differences, %s: largest error %.2g of the largest%n", gate, worst);
  }

  /** Sizes beyond one chunk, part and block: all numbers of an input are moved together. */
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2})
  void largeGradientsAreTheDifferencesOfTheLossInAnyDirection(int which) {
    GateConfig gate =
        List.of(Variants.demo(2, 261), Variants.v41(3, 66), Variants.qwen(1, 130)).get(which);
    int sequences = List.of(3, 1, 2).get(which);
    int tokens = List.of(181, 130, 300).get(which);
    Optional<ConvConfig> conv = which == 1 ? Optional.empty() : Optional.of(CONV);
    RandomGenerator random = Seeds.random("directions " + gate);
    RandomLayer r = RandomLayer.of(gate, conv, 70, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, sequences * tokens * 70);
    float[] streams = RandomLayer.values(random, sequences * tokens * r.channels());
    float[] outGradient = RandomLayer.values(random, streams.length);
    boolean[] live = new boolean[sequences * tokens];
    Arrays.fill(live, true);
    Map<String, float[]> ours =
        new Step(r, r.kernel(), call(r, sequences, tokens, rows, streams), outGradient)
            .run()
            .results();

    DoubleLayer reference = new DoubleLayer(r, sequences, tokens, rows, streams, live);
    double worst = 0;
    for (Map.Entry<String, float[]> e : ours.entrySet()) {
      float[] gradient = e.getValue();
      double[] direction = new double[gradient.length];
      double actual = 0;
      double size = 0;
      Arrays.setAll(direction, i -> random.nextGaussian());
      double expected = reference.derivative(e.getKey(), direction, 1e-7, outGradient);
      for (int i = 0; i < gradient.length; i++) {
        actual += direction[i] * gradient[i];
        size += (double) gradient[i] * gradient[i];
      }
      double error = Math.abs(expected - actual) / Math.sqrt(size);
      worst = Math.max(worst, error);
      assertTrue(error < 1e-3, e.getKey() + ": " + actual + ", expected " + expected);
    }
    System.out.printf("directions, %s: largest error %.2g of the norm%n", gate, worst);
  }

  // --- where nothing flows --------------------------------------------------------------------

  /** A stream of zeros has a dot product of zero; one of next to nothing is held by the clamp. */
  @ParameterizedTest
  @MethodSource("variants")
  void aDotProductThatTheClampHoldsGetsNoGradient(GateConfig gate) {
    RandomGenerator random = Seeds.random("clamp " + gate);
    RandomLayer r = RandomLayer.of(gate, Optional.empty(), 6, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 12);
    float[] streams = new float[2 * r.channels()];
    Arrays.fill(streams, r.channels(), streams.length, (float) (1e-9 * Math.sqrt(gate.normEps())));
    float[] outGradient = RandomLayer.values(random, streams.length);
    Step step = new Step(r, r.kernel(), call(r, 1, 2, rows, streams), outGradient).run();

    boolean held = gate.shape() == Shape.SIGNED_SQRT;
    float[] throughGate = step.streamsGradient.clone();
    for (int i = 0; gate.residual() == Residual.IN_PLACE && i < throughGate.length; i++) {
      throughGate[i] -= outGradient[i];
    }
    assertEquals(held, isZero(throughGate), "gradient of the streams");
    assertEquals(held, isZero(floats(step.gradients.keyNorm())), "gradient of the key's norm");
    assertFalse(isZero(step.rowsGradient), "the value's gradient is left");
  }

  private static boolean isZero(float[] values) {
    for (float value : values) {
      if (value != 0) {
        return false;
      }
    }
    return true;
  }

  @ParameterizedTest
  @MethodSource("variants")
  void positionsWithoutATokenGetNothingAndAreNotLookedAt(GateConfig gate) {
    RandomGenerator random = Seeds.random("dead " + gate);
    RandomLayer r = RandomLayer.of(gate, convOf(gate), 6, Dtype.F32, random);
    int tokens = 9;
    boolean[] live = new boolean[2 * tokens];
    for (int i = 0; i < live.length; i++) {
      live[i] = i % 4 != 1;
    }
    float[] rows = RandomLayer.values(random, live.length * 6);
    float[] streams = RandomLayer.values(random, live.length * r.channels());
    float[] outGradient = RandomLayer.values(random, streams.length);
    GateKernel kernel = r.kernel();
    GateCall call = call(r, 2, tokens, rows, streams).withLive(bytes(live));
    Map<String, float[]> expected = new Step(r, kernel, call, outGradient).run().results();
    // The same tape first remembers a call of nothing but tokens, and large ones.
    Step step = new Step(r, kernel, call, outGradient);
    float[] large = RandomLayer.values(random, rows.length);
    for (int i = 0; i < large.length; i++) {
      large[i] *= 1e18f;
    }
    kernel.forward(call(r, 2, tokens, large, streams), step.tape);
    for (int n = 0; n < live.length; n++) {
      if (!live[n]) {
        Arrays.fill(rows, n * 6, (n + 1) * 6, Float.NaN);
        Arrays.fill(streams, n * r.channels(), (n + 1) * r.channels(), Float.NaN);
      }
    }
    Map<String, float[]> ours = step.run().results();

    for (Map.Entry<String, float[]> e : ours.entrySet()) {
      assertArrayEquals(expected.get(e.getKey()), e.getValue(), e.getKey());
    }
    for (int n = 0; n < live.length; n++) {
      for (int i = 0; i < r.channels() && !live[n]; i++) {
        int at = n * r.channels() + i;
        float path = gate.residual() == Residual.IN_PLACE ? outGradient[at] : 0;
        assertEquals(path, step.streamsGradient[at]);
        assertEquals(0, step.rowsGradient[n * 6 + i % 6]);
      }
    }
  }

  // --- the same bits --------------------------------------------------------------------------

  private static void assertSame(Map<String, float[]> expected, Step step, String message) {
    for (Map.Entry<String, float[]> e : step.results().entrySet()) {
      assertArrayEquals(expected.get(e.getKey()), e.getValue(), message + ", " + e.getKey());
    }
  }

  @Test
  void threadsChangeNoBit() {
    for (GateConfig gate : List.of(Variants.demo(3, 300), Variants.v41(2, 77))) {
      RandomGenerator random = Seeds.random("threads " + gate);
      Optional<ConvConfig> conv = gate.bias() ? Optional.of(CONV) : Optional.empty();
      RandomLayer r = RandomLayer.of(gate, conv, 150, Dtype.F32, random);
      int tokens = GateBackward.BLOCK / 2 + 39;
      float[] rows = RandomLayer.values(random, 2 * tokens * 150);
      float[] streams = RandomLayer.values(random, 2 * tokens * r.channels());
      float[] outGradient = RandomLayer.values(random, streams.length);
      Map<String, float[]> expected = null;
      for (int workers : new int[] {1, 2, 3, 8}) {
        GateKernel kernel = GateKernel.of(gate, conv, 150, r.weights(), GateLoops.CHOSEN, workers);
        Step step = new Step(r, kernel, call(r, 2, tokens, rows, streams), outGradient).run();
        expected = expected == null ? step.results() : expected;
        assertSame(expected, step, workers + " workers");
      }
    }
  }

  /** Each sequence alone, where it falls to other parts, and all of them; a repeated backward. */
  @Test
  void aTokenHasTheSameBitsInAnyBatchAndWeightsSumUp() {
    RandomGenerator random = Seeds.random("batches");
    RandomLayer r =
        RandomLayer.of(
            Variants.demo(3, 37), Optional.of(new ConvConfig(3, 40, 1e-5f)), 45, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    int sequences = 9;
    int tokens = 101;
    float[] rows = RandomLayer.values(random, sequences * tokens * 45);
    float[] streams = RandomLayer.values(random, sequences * tokens * r.channels());
    float[] outGradient = RandomLayer.values(random, streams.length);
    Step all = new Step(r, kernel, call(r, sequences, tokens, rows, streams), outGradient).run();
    Map<String, float[]> once = all.results();
    Step one = null;
    LayerWeights sums = LayerWeights.zeros(r.gate(), r.conv(), 45, Arena.ofAuto());
    for (int b = 0; b < sequences; b++) {
      float[] rowsOf = Arrays.copyOfRange(rows, b * tokens * 45, (b + 1) * tokens * 45);
      int from = b * tokens * r.channels();
      int to = from + tokens * r.channels();
      one =
          new Step(
              r,
              kernel,
              call(r, 1, tokens, rowsOf, Arrays.copyOfRange(streams, from, to)),
              Arrays.copyOfRange(outGradient, from, to));
      kernel.forward(one.call, one.tape);
      kernel.backward(
          one.tape,
          MemorySegment.ofArray(one.outGradient),
          MemorySegment.ofArray(one.rowsGradient),
          MemorySegment.ofArray(one.streamsGradient),
          sums);
      assertArrayEquals(
          Arrays.copyOfRange(all.rowsGradient, b * tokens * 45, (b + 1) * tokens * 45),
          one.rowsGradient,
          "rows of sequence " + b);
      assertArrayEquals(
          Arrays.copyOfRange(all.streamsGradient, from, to),
          one.streamsGradient,
          "streams of sequence " + b);
    }
    for (Map.Entry<String, float[]> e : weights(sums).entrySet()) {
      assertNear(once.get(e.getKey()), e.getValue(), 1, e.getKey());
    }
    all.backward();
    for (Map.Entry<String, float[]> e : weights(all.gradients).entrySet()) {
      assertNear(once.get(e.getKey()), e.getValue(), 2, e.getKey());
    }
    assertArrayEquals(once.get("rows"), all.rowsGradient, "rows are written, not added to");
    assertArrayEquals(once.get("streams"), all.streamsGradient);
  }

  private static void assertNear(float[] expected, float[] actual, int times, String message) {
    double largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    for (int i = 0; i < expected.length; i++) {
      assertEquals(times * expected[i], actual[i], 1e-5 * largest, message + " " + i);
    }
  }

  @Test
  void aForwardOnATapeHasTheBitsOfOneWithout() {
    for (GateConfig gate : List.of(Variants.demo(3, 70), Variants.v41(2, 33))) {
      RandomGenerator random = Seeds.random("forward " + gate);
      Optional<ConvConfig> conv = gate.bias() ? Optional.of(CONV) : Optional.empty();
      RandomLayer r = RandomLayer.of(gate, conv, 45, Dtype.F32, random);
      float[] rows = RandomLayer.values(random, 300 * 45);
      float[] streams = RandomLayer.values(random, 300 * r.channels());
      GateKernel kernel = r.kernel();
      float[] out = new float[streams.length];
      kernel.forward(GateCall.of(2, 150, rows, streams, out), kernel.newTape());
      float[] without = new float[streams.length];
      kernel.forward(GateCall.of(2, 150, rows, streams, without));
      assertArrayEquals(without, out);
    }
  }

  /** Streams in place, and in bfloat16: the tape has copies. */
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void theCallersMemoryIsFreeOnceTheForwardHasReturned(boolean narrow) {
    RandomGenerator random = Seeds.random("copies");
    RandomLayer r = RandomLayer.of(Variants.v41(2, 33), Optional.empty(), 20, Dtype.BF16, random);
    float[] rows = RandomLayer.rounded(RandomLayer.values(random, 50 * 20));
    float[] streams = RandomLayer.rounded(RandomLayer.values(random, 50 * r.channels()));
    float[] outGradient = RandomLayer.values(random, streams.length);
    GateKernel kernel = r.kernel();
    Map<String, float[]> expected =
        new Step(r, kernel, call(r, 1, 50, rows, streams), outGradient).run().results();
    MemorySegment memory = MemorySegment.ofArray(streams.clone());
    if (narrow) {
      memory = MemorySegment.ofArray(new short[streams.length]);
      for (int i = 0; i < streams.length; i++) {
        memory.set(Memory.SHORT, 2L * i, Bfloat16.toBits(streams[i]));
      }
    }
    MemorySegment rowMemory = MemorySegment.ofArray(rows);
    GateCall call = GateCall.of(1, 50, narrow ? Dtype.BF16 : Dtype.F32, rowMemory, memory, memory);
    Step step = new Step(r, kernel, call, outGradient);
    kernel.forward(call, step.tape);
    rowMemory.fill((byte) 0);
    memory.fill((byte) 0);
    step.backward();
    assertSame(expected, step, "after the memory was overwritten");
  }

  /** Pool threads may not touch a confined arena, and nothing may rest on alignment. */
  @Test
  void memoryOfAnyKindIsTaken() {
    RandomGenerator random = Seeds.random("memory");
    RandomLayer r = RandomLayer.of(Variants.demo(4, 64), Optional.of(CONV), 64, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 100 * 64);
    float[] streams = RandomLayer.values(random, 100 * 256);
    float[] outGradient = RandomLayer.values(random, streams.length);
    GateKernel kernel = GateKernel.of(r.gate(), r.conv(), 64, r.weights(), GateLoops.CHOSEN, 4);
    Step step = new Step(r, kernel, call(r, 1, 100, rows, streams), outGradient).run();
    try (Arena confined = Arena.ofConfined();
        Arena shared = Arena.ofShared()) {
      for (Arena arena : List.of(confined, shared)) {
        MemorySegment out = odd(arena, streams.length);
        MemorySegment ofRows = odd(arena, rows.length);
        MemorySegment ofStreams = odd(arena, streams.length);
        MemorySegment.copy(outGradient, 0, out, Memory.FLOAT, 0, outGradient.length);
        LayerWeights gradients = LayerWeights.zeros(r.gate(), r.conv(), 64, arena);
        kernel.backward(step.tape, out, ofRows, ofStreams, gradients);
        assertArrayEquals(step.rowsGradient, ofRows.toArray(Memory.FLOAT));
        assertArrayEquals(step.streamsGradient, ofStreams.toArray(Memory.FLOAT));
        assertArrayEquals(floats(step.gradients.projection()), floats(gradients.projection()));
      }
    }
  }

  private static MemorySegment odd(Arena arena, int floats) {
    return arena.allocate(4L * floats + 1, 1).asSlice(1);
  }

  // --- new weights ----------------------------------------------------------------------------

  @Test
  void weightsThatHaveChangedAreReadAgain() {
    for (Dtype dtype : new Dtype[] {Dtype.F32, Dtype.BF16}) {
      for (GateConfig gate : List.of(Variants.demo(3, 37), Variants.v41(2, 66))) {
        RandomGenerator random = Seeds.random("refresh " + dtype + " " + gate);
        Optional<ConvConfig> conv = gate.bias() ? Optional.of(CONV) : Optional.empty();
        RandomLayer r = RandomLayer.of(gate, conv, 45, dtype, random);
        RandomLayer other = RandomLayer.of(gate, conv, 45, dtype, random);
        float[] rows = RandomLayer.values(random, 30 * 45);
        float[] streams = RandomLayer.values(random, 30 * r.channels());
        GateKernel kernel = r.kernel();
        float[] before = kernel.forward(rows, streams);
        copy(other.weights(), r.weights());
        assertArrayEquals(before, kernel.forward(rows, streams), "not before it is told");
        kernel.refresh();
        assertArrayEquals(other.kernel().forward(rows, streams), kernel.forward(rows, streams));
        Step step = new Step(r, kernel, call(r, 1, 30, rows, streams), streams).run();
        assertSame(
            new Step(other, other.kernel(), call(r, 1, 30, rows, streams), streams).run().results(),
            step,
            "after a refresh");
        kernel.refresh();
        IllegalStateException e = assertThrows(IllegalStateException.class, step::backward);
        assertTrue(e.getMessage().contains("read again"), e.getMessage());
      }
    }
  }

  private static void copy(LayerWeights from, LayerWeights to) {
    to.projection().data().copyFrom(from.projection().data());
    to.bias().ifPresent(t -> t.data().copyFrom(from.bias().orElseThrow().data()));
    to.keyNorm().data().copyFrom(from.keyNorm().data());
    to.queryNorm().data().copyFrom(from.queryNorm().data());
    to.convNorm().ifPresent(t -> t.data().copyFrom(from.convNorm().orElseThrow().data()));
    to.conv().ifPresent(t -> t.data().copyFrom(from.conv().orElseThrow().data()));
  }

  @ParameterizedTest
  @EnumSource
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void whoeverMultipliesReadsThemAgain(ProjectionChoice choice) {
    RandomGenerator random = Seeds.random("refresh " + choice);
    GateConfig gate = Variants.demo(2, 40);
    RandomLayer r = RandomLayer.of(gate, Optional.of(CONV), 48, Dtype.F32, random);
    RandomLayer other = RandomLayer.of(gate, Optional.of(CONV), 48, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 9 * 48);
    float[] streams = RandomLayer.values(random, 9 * r.channels());
    GateKernel kernel = GateKernel.of(gate, r.conv(), 48, r.weights(), choice);
    kernel.forward(rows, streams);
    copy(other.weights(), r.weights());
    kernel.refresh();
    assertNear(other.kernel().forward(rows, streams), kernel.forward(rows, streams), 1, "outputs");
  }

  @Test
  void weightsThatAreNoNumbersAreRefusedAndTheOldOnesKept() {
    RandomGenerator random = Seeds.random("refresh refused");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, random);
    RandomLayer other =
        RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 15);
    float[] streams = RandomLayer.values(random, 36);
    GateKernel kernel = r.kernel();
    Step step = new Step(r, kernel, call(r, 1, 3, rows, streams), streams).run();
    float[] expected = kernel.forward(rows, streams);
    copy(other.weights(), r.weights());
    LayerWeights w = r.weights();
    for (Tensor tensor :
        List.of(w.projection(), w.bias().orElseThrow(), w.keyNorm(), w.conv().orElseThrow())) {
      float good = tensor.data().get(Memory.FLOAT, 4 * 7);
      tensor.data().set(Memory.FLOAT, 4 * 7, Float.NaN);
      IllegalArgumentException e = assertThrows(IllegalArgumentException.class, kernel::refresh);
      assertTrue(e.getMessage().contains("NaN"), e.getMessage());
      assertArrayEquals(expected, kernel.forward(rows, streams));
      tensor.data().set(Memory.FLOAT, 4 * 7, good);
    }
    step.backward();
  }

  // --- refusals -------------------------------------------------------------------------------

  @Test
  void tapesOfOthersAndEmptyOnesAreRefused() {
    RandomGenerator random = Seeds.random("tapes");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 15);
    float[] streams = RandomLayer.values(random, 36);
    GateKernel kernel = r.kernel();
    Step step = new Step(r, kernel, call(r, 1, 3, rows, streams), streams);
    assertTrue(
        assertThrows(IllegalStateException.class, step::backward).getMessage().contains("empty"));
    GateTape foreign = r.kernel().newTape();
    assertThrows(IllegalArgumentException.class, () -> kernel.forward(step.call, foreign));
    step.run();
    assertTrue(step.tape.isRecorded());
    assertEquals(1, step.tape.sequences());
    assertEquals(3, step.tape.tokens());
    Step otherKernel = new Step(r, r.kernel(), step.call, streams).run();
    assertThrows(
        IllegalArgumentException.class,
        () ->
            kernel.backward(
                otherKernel.tape,
                MemorySegment.ofArray(streams),
                MemorySegment.ofArray(step.rowsGradient),
                MemorySegment.ofArray(step.streamsGradient),
                step.gradients));
    GateCall withStates = step.call.withStates(List.of(kernel.newState(0)));
    assertThrows(IllegalArgumentException.class, () -> kernel.forward(withStates, step.tape));
    assertFalse(step.tape.isRecorded(), "a refused forward leaves an old one behind");
    kernel.forward(step.call, step.tape);
    float[] bad = rows.clone();
    bad[7] = Float.NaN;
    assertThrows(
        IllegalArgumentException.class,
        () -> kernel.forward(call(r, 1, 3, bad, streams), step.tape));
    assertThrows(IllegalStateException.class, step::backward);
    assertEquals(0, step.tape.tokens());
  }

  @Test
  void memoryThatDoesNotFitIsRefused() {
    RandomGenerator random = Seeds.random("refused");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 12, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    GateTape tape = kernel.newTape();
    kernel.forward(
        call(r, 1, 3, RandomLayer.values(random, 36), RandomLayer.values(random, 36)), tape);
    LayerWeights good = LayerWeights.zeros(r.gate(), r.conv(), 12, Arena.ofAuto());
    MemorySegment a = MemorySegment.ofArray(new float[36]);
    MemorySegment b = MemorySegment.ofArray(new float[36]);
    MemorySegment c = MemorySegment.ofArray(new float[36]);
    MemorySegment wrong = MemorySegment.ofArray(new float[72]);
    refused(kernel, tape, wrong, b, c, good, "outGradient has 288");
    refused(kernel, tape, a, wrong, c, good, "rowsGradient has 288");
    refused(kernel, tape, a, b, wrong, good, "streamsGradient has 288");
    refused(kernel, tape, a, b.asReadOnly(), c, good, "rowsGradient is read-only");
    refused(kernel, tape, a, b, c.asReadOnly(), good, "streamsGradient is read-only");
    refused(kernel, tape, a, a, c, good, "rowsGradient overlaps that of outGradient");
    refused(kernel, tape, a, b, a, good, "streamsGradient overlaps that of outGradient");
    refused(kernel, tape, a, b, b, good, "rowsGradient overlaps that of streamsGradient");
    MemorySegment shared = good.projection().data().asSlice(4, 4 * 36);
    refused(kernel, tape, a, shared, c, good, "the projection's gradient overlaps that of rows");
    refused(kernel, tape, shared, b, c, good, "the projection's gradient overlaps that of out");
    LayerWeights twice =
        new LayerWeights(
            good.projection(),
            good.bias(),
            good.keyNorm(),
            good.keyNorm(),
            good.convNorm(),
            good.conv());
    refused(kernel, tape, a, b, c, twice, "the query norm's gradient overlaps that of the key");
    refused(
        kernel,
        tape,
        a,
        b,
        c,
        RandomLayer.of(r.gate(), r.conv(), 12, Dtype.BF16, random).weights(),
        "expected F32");
    refused(
        kernel,
        tape,
        a,
        b,
        c,
        LayerWeights.zeros(r.gate(), Optional.empty(), 12, Arena.ofAuto()),
        "gradients: convNorm is missing");
    kernel.backward(tape, a, b, c, good);
    MemorySegment closed;
    LayerWeights late;
    try (Arena arena = Arena.ofConfined()) {
      closed = arena.allocate(4 * 36, 4);
      late = LayerWeights.zeros(r.gate(), r.conv(), 12, arena);
      kernel.backward(tape, a, b, c, late);
    }
    assertThrows(IllegalStateException.class, () -> kernel.backward(tape, closed, b, c, good));
    assertThrows(IllegalStateException.class, () -> kernel.backward(tape, a, b, c, late));
  }

  private static void refused(
      GateKernel kernel,
      GateTape tape,
      MemorySegment out,
      MemorySegment rows,
      MemorySegment streams,
      LayerWeights gradients,
      String part) {
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class,
            () -> kernel.backward(tape, out, rows, streams, gradients));
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  @Test
  void aGradientThatIsNoNumberIsNamedByWhereItIs() {
    RandomGenerator random = Seeds.random("no number");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, random);
    float[] rows = RandomLayer.values(random, 30);
    float[] streams = RandomLayer.values(random, 72);
    for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
      float[] outGradient = RandomLayer.values(random, 72);
      outGradient[(3 + 1) * 12 + 6 + 2] = bad;
      Step step = new Step(r, r.kernel(), call(r, 2, 3, rows, streams), outGradient);
      IllegalArgumentException e = assertThrows(IllegalArgumentException.class, step::run);
      assertEquals(
          "outGradient holds " + bad + " at sequence 1, token 1, stream 1, element 2",
          e.getMessage());
      assertTrue(Float.isNaN(step.rowsGradient[0]), "a refused call wrote");
      assertTrue(isZero(floats(step.gradients.projection())), "a refused call added");
    }
  }

  // --- memory ---------------------------------------------------------------------------------

  @Test
  void aWarmStepAllocatesNothing() {
    RandomGenerator random = Seeds.random("allocation");
    RandomLayer r = RandomLayer.of(Variants.demo(2, 32), Optional.of(CONV), 32, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    GateTape tape = kernel.newTape();
    GateCall call =
        call(r, 2, 5, RandomLayer.values(random, 10 * 32), RandomLayer.values(random, 10 * 64));
    MemorySegment outGradient = MemorySegment.ofArray(RandomLayer.values(random, 10 * 64));
    MemorySegment rowsGradient = MemorySegment.ofArray(new float[10 * 32]);
    MemorySegment streamsGradient = MemorySegment.ofArray(new float[10 * 64]);
    LayerWeights gradients = LayerWeights.zeros(r.gate(), r.conv(), 32, Arena.ofAuto());
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    long least = Long.MAX_VALUE;
    // What the interpreter makes of the Vector API ends once the loops are compiled.
    long end = System.nanoTime() + 20_000_000_000L;
    while (least > 0 && System.nanoTime() < end) {
      long before = threads.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 20; i++) {
        kernel.forward(call, tape);
        kernel.backward(tape, outGradient, rowsGradient, streamsGradient, gradients);
        kernel.refresh();
      }
      least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
    }
    assertEquals(0, least, "bytes allocated by 20 steps");
  }

  @Test
  void anEmptyCallTouchesNothing() {
    RandomLayer r =
        RandomLayer.of(Variants.demo(2, 6), Optional.of(CONV), 5, Dtype.F32, Seeds.random("empty"));
    float[] none = {};
    Step step = new Step(r, r.kernel(), call(r, 3, 0, none, none), none).run();
    for (float[] gradient : step.results().values()) {
      assertTrue(isZero(gradient));
    }
    assertNotEquals(0, floats(step.gradients.projection()).length);
  }
}
