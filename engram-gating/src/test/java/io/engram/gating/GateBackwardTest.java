// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
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

  private static Optional<ConvConfig> convOf(GateConfig gate) {
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
}
