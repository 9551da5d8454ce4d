// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.GateConfig.Residual;
import io.engram.GateConfig.Rounding;
import io.engram.checkpoint.Safetensors;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** An Engram as part of a SameDiff graph. */
@Tag("once")
class EngramGraphTest {
  /** A graph that is one layer, with the loss sum(output * outGradient). */
  private record Layer(SameDiff graph, EngramGraph engram, GateConfig gate) {
    static Layer of(RandomLayer r, DataType type, boolean masked) {
      SameDiff graph = SameDiff.create();
      int count = r.gate().streams();
      int width = r.gate().width();
      SDVariable streams = graph.placeHolder("streams", type, -1, -1, count, width);
      SDVariable rows = graph.placeHolder("rows", type, -1, -1, r.rowWidth());
      SDVariable out = graph.placeHolder("outGradient", type, -1, -1, count, width);
      Optional<SDVariable> live =
          masked ? Optional.of(graph.placeHolder("live", type, -1, -1)) : Optional.empty();
      EngramGraph engram =
          EngramGraph.add(
              graph, "e", r.gate(), r.conv(), r.rowWidth(), r.weights(), streams, rows, live);
      engram.output().mul(out).sum().rename("loss");
      graph.setLossVariables("loss");
      return new Layer(graph, engram, r.gate());
    }

    INDArray output(Map<String, INDArray> inputs) {
      return graph.output(inputs, "e/output").get("e/output");
    }

    Map<String, INDArray> gradients(Map<String, INDArray> inputs, String... names) {
      graph.createGradFunction(names);
      return graph.calculateGradients(inputs, names);
    }
  }

  private static Map<String, INDArray> inputs(
      GateConfig gate, int sequences, float[] rows, float[] streams, float[] outGradient) {
    int count = gate.streams();
    int width = gate.width();
    int tokens = streams.length / sequences / count / width;
    Map<String, INDArray> inputs = new HashMap<>();
    inputs.put("rows", Nd4j.createFromArray(rows).reshape(sequences, tokens, -1));
    inputs.put("streams", Nd4j.createFromArray(streams).reshape(sequences, tokens, count, width));
    inputs.put(
        "outGradient", Nd4j.createFromArray(outGradient).reshape(sequences, tokens, count, width));
    return inputs;
  }

  private static GateConfig unrounded(GateConfig g) {
    return new GateConfig(
        g.streams(),
        g.width(),
        g.bias(),
        g.shape(),
        g.zeroDot(),
        g.normWeight(),
        g.normEps(),
        Rounding.NONE,
        g.residual());
  }

  static Stream<GateConfig> variants() {
    return GateBackwardTest.variants().map(EngramGraphTest::unrounded).distinct();
  }

  @ParameterizedTest
  @MethodSource("variants")
  void theGraphComputesWhatTheKernelComputes(GateConfig gate) {
    RandomGenerator random = Seeds.random("graph forward " + gate);
    for (Optional<ConvConfig> conv :
        List.of(
            Optional.<ConvConfig>empty(),
            Optional.of(Variants.DEMO_CONV),
            Optional.of(new ConvConfig(1, 2, 1e-5f)))) {
      RandomLayer r = RandomLayer.of(gate, conv, 6, Dtype.F32, random);
      float[] rows = RandomLayer.values(random, 2 * 15 * 6);
      float[] streams = RandomLayer.values(random, 2 * 15 * r.channels());
      float[] expected = new float[streams.length];
      float[] gates = new float[2 * 15 * gate.streams()];
      r.kernel()
          .forward(
              GateCall.of(2, 15, rows, streams, expected).withGates(MemorySegment.ofArray(gates)));
      Layer layer = Layer.of(r, DataType.FLOAT, false);
      Map<String, INDArray> inputs = inputs(gate, 2, rows, streams, streams);
      assertArrayEquals(expected, floats(layer.output(inputs)), 2e-5f);
      assertArrayEquals(
          gates, floats(layer.graph().output(inputs, "e/gates").get("e/gates")), 1e-5f);
      // The variables can be computed with elsewhere.
      GateKernel other = GateKernel.of(gate, conv, 6, layer.engram().weights().weights());
      assertArrayEquals(
          r.kernel()
              .forward(Arrays.copyOf(rows, 15 * 6), Arrays.copyOf(streams, 15 * r.channels())),
          other.forward(Arrays.copyOf(rows, 15 * 6), Arrays.copyOf(streams, 15 * r.channels())));
    }
  }

  @ParameterizedTest
  @MethodSource("variants")
  void gradientsAreTheDifferencesOfTheLoss(GateConfig gate) {
    RandomGenerator random = Seeds.random("graph differences " + gate);
    RandomLayer r = RandomLayer.of(gate, GateBackwardTest.convOf(gate), 6, Dtype.F32, random);
    boolean[] live = new boolean[2 * 7];
    double[] mask = new double[live.length];
    for (int i = 0; i < live.length; i++) {
      live[i] = random.nextInt(5) > 0;
      mask[i] = live[i] ? 1 : 0;
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
    Map<String, INDArray> inputs = inputs(gate, 2, rows, streams, outGradient);
    inputs.replaceAll((_, array) -> array.castTo(DataType.DOUBLE));
    inputs.put("live", Nd4j.createFromArray(mask).reshape(2, 7));
    String[] names =
        reference.inputs.keySet().stream().map(EngramGraphTest::inGraph).toArray(String[]::new);
    Map<String, INDArray> ours = Layer.of(r, DataType.DOUBLE, true).gradients(inputs, names);
    for (String name : reference.inputs.keySet()) {
      double[] gradient = ours.get(inGraph(name)).dup('c').data().asDouble();
      double[] expected = new double[gradient.length];
      for (int i = 0; i < expected.length; i++) {
        expected[i] = reference.derivative(name, i, 1e-5, outGradient);
      }
      assertEquals(reference.inputs.get(name).length, gradient.length);
      double largest = Arrays.stream(expected).map(Math::abs).max().orElseThrow();
      assertArrayEquals(expected, gradient, 1e-6 * Math.max(largest, 1e-3), name + " of " + gate);
    }
  }

  private static String inGraph(String name) {
    return name.equals("rows") || name.equals("streams") ? name : "e/" + name;
  }

  /** Of the demo's module, differentiated by PyTorch in float32; see GateBackwardTest for 2e-5. */
  @ParameterizedTest
  @ValueSource(ints = {1, 15})
  void gradientsAreThoseOfTheDemosModule(int id) {
    try (EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"));
        Arena arena = Arena.ofConfined()) {
      Safetensors expected =
          Safetensors.open(Golden.path("demo_mini").resolve("expected.safetensors"), arena);
      EngramConfig config = memory.config();
      long[] ids =
          expected
              .tensor("L" + id + ".row_ids")
              .data()
              .toArray(ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
      RandomLayer r =
          new RandomLayer(config.gate(), config.conv(), config.rowWidth(), memory.weights(id));
      Map<String, INDArray> ours =
          Layer.of(r, DataType.FLOAT, false)
              .gradients(
                  inputs(
                      r.gate(),
                      2,
                      memory.table(id).gather(ids),
                      golden(expected, id, "hidden_states"),
                      golden(expected, id, "dout")),
                  "streams",
                  "rows",
                  "e/projection",
                  "e/conv");
      assertGradient(golden(expected, id, "grad.hidden_states"), floats(ours.get("streams")));
      assertGradient(
          golden(expected, id, "grad.short_conv.conv.weight"), floats(ours.get("e/conv")));
      List<INDArray> keys = new ArrayList<>();
      for (String name : List.of("key_projs.0", "key_projs.1", "key_projs.2", "value_proj")) {
        keys.add(Nd4j.createFromArray(golden(expected, id, "grad." + name + ".weight")));
      }
      assertGradient(
          floats(Nd4j.concat(0, keys.toArray(INDArray[]::new))), floats(ours.get("e/projection")));
      float[] table = golden(expected, id, "grad.multi_head_embedding.embedding.weight");
      float[] byRow = new float[table.length];
      float[] rows = floats(ours.get("rows"));
      int headDim = rows.length / ids.length;
      for (int i = 0; i < rows.length; i++) {
        byRow[(int) ids[i / headDim] * headDim + i % headDim] += rows[i];
      }
      assertGradient(table, byRow);
    }
  }

  private static float[] golden(Safetensors file, int layer, String name) {
    return file.tensor("L" + layer + "." + name).data().toArray(Memory.FLOAT);
  }

  private static void assertGradient(float[] expected, float[] actual) {
    float largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertTrue(largest > 0);
    assertArrayEquals(expected, actual, 2e-5f * largest);
  }

  /** Where the root is held, the gate has the kernel's value and does not move. */
  @Test
  void aGateAtItsLeastRootDoesNotMove() {
    for (GateConfig gate : List.of(Variants.demo(2, 5), unrounded(Variants.v41(2, 5)))) {
      RandomLayer r = RandomLayer.of(gate, Optional.empty(), 6, Dtype.F32, Seeds.random("least"));
      float[] rows = RandomLayer.values(Seeds.random("least rows"), 6);
      float[] out = RandomLayer.values(Seeds.random("least out"), 10);
      Layer layer = Layer.of(r, DataType.FLOAT, false);
      Map<String, INDArray> inputs = inputs(gate, 1, rows, new float[10], out);
      assertArrayEquals(
          r.kernel().forward(rows, new float[10]), floats(layer.output(inputs)), 1e-6f);
      Map<String, INDArray> gradients = layer.gradients(inputs, "streams", "rows", "e/keyNorm");
      assertArrayEquals(
          gate.residual() == Residual.IN_PLACE ? out : new float[10],
          floats(gradients.get("streams")),
          0f);
      assertEquals(0, gradients.get("e/keyNorm").amaxNumber().doubleValue());
      assertTrue(gradients.get("rows").amaxNumber().doubleValue() > 0);
    }
  }

  @Test
  void whatAGraphCannotDoIsRefused() {
    GateConfig v41 = Variants.v41(2, 5);
    RandomLayer rounding =
        RandomLayer.of(v41, Optional.empty(), 6, Dtype.F32, Seeds.random("refused"));
    refused(() -> Layer.of(rounding, DataType.FLOAT, false), "Rounding.NONE");
    RandomLayer r =
        RandomLayer.of(unrounded(v41), Optional.empty(), 6, Dtype.F32, Seeds.random("refused"));
    refused(() -> Layer.of(r, DataType.BFLOAT16, false), "BFLOAT16");
    SameDiff graph = SameDiff.create();
    SDVariable streams = graph.placeHolder("streams", DataType.FLOAT, 2, -1, 2, 5);
    SDVariable wide = graph.placeHolder("wide", DataType.FLOAT, 2, -1, 7);
    refused(
        () -> EngramGraph.add(graph, "e", r.gate(), r.conv(), 6, r.weights(), streams, wide),
        "[-1, -1, 6]");
    SDVariable twice = graph.placeHolder("twice", DataType.DOUBLE, 2, -1, 6);
    refused(
        () -> EngramGraph.add(graph, "e", r.gate(), r.conv(), 6, r.weights(), streams, twice),
        "DOUBLE");
  }

  private static void refused(Executable call, String part) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call);
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  private static float[] floats(INDArray array) {
    return array.castTo(DataType.FLOAT).dup('c').data().asFloat();
  }
}
