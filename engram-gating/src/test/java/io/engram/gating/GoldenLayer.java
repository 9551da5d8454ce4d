// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.Safetensors;
import io.engram.testkit.Golden;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * A layer of the golden files with its weights, inputs and what the reference computed: see {@code
 * golden/README.md} for where each comes from.
 *
 * @param name file and layer
 * @param gate the gate
 * @param conv the convolution
 * @param rowWidth E
 * @param weights the weights
 * @param sequences B
 * @param tokens T
 * @param dtype what the reference kept streams and outputs in
 * @param rows [B, T, E]
 * @param streams [B, T, S, W]
 * @param live [B, T], or null
 * @param keysAndValue [B, T, (S + 1) * W], or null where the reference does not give them
 * @param gates [B, T, S], or null
 * @param output the result with the mask
 * @param unmasked the result without it
 */
@SuppressWarnings("ArrayRecordComponent") // Data of one test, never compared.
record GoldenLayer(
    String name,
    GateConfig gate,
    Optional<ConvConfig> conv,
    int rowWidth,
    LayerWeights weights,
    int sequences,
    int tokens,
    Dtype dtype,
    float[] rows,
    float[] streams,
    boolean[] live,
    float[] keysAndValue,
    float[] gates,
    float[] output,
    float[] unmasked) {

  @Override
  public String toString() {
    return name;
  }

  static Stream<GoldenLayer> all() {
    List<GoldenLayer> all = new ArrayList<>();
    all.addAll(demoForward());
    all.addAll(demoMini());
    all.addAll(v41Forward());
    all.addAll(v41Mini());
    all.addAll(qwenForward());
    all.addAll(qwenMini());
    return all.stream();
  }

  private static List<GoldenLayer> demoForward() {
    List<GoldenLayer> layers = new ArrayList<>();
    JsonObject json = Golden.json("demo_engram_forward_small_f32.json");
    float[] hidden = Golden.floats(json.get("hidden_states"));
    for (Map.Entry<String, JsonElement> e : json.getAsJsonObject("layers").entrySet()) {
      JsonObject layer = e.getValue().getAsJsonObject();
      GateConfig gate = Variants.demo(3, 24);
      Optional<ConvConfig> conv = Optional.of(Variants.DEMO_CONV);
      float[] output = Golden.floats(layer.get("output"));
      layers.add(
          new GoldenLayer(
              "demo_engram_forward_small layer " + e.getKey(),
              gate,
              conv,
              64,
              LayerNames.DEMO.read(params(layer)::get, gate, conv, 64),
              2,
              11,
              Dtype.F32,
              Golden.floats(layer.get("embeddings")),
              hidden,
              null,
              null,
              Golden.floats(layer.get("gates_[B][L][hc]")),
              output,
              output));
    }
    return layers;
  }

  private static List<GoldenLayer> demoMini() {
    List<GoldenLayer> layers = new ArrayList<>();
    EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"));
    Safetensors expected = expected("demo_mini");
    for (int id : memory.config().layerIds()) {
      float[] rows = memory.table(id).gather(longs(expected.tensor("L" + id + ".row_ids")));
      float[] output = floats(expected.tensor("L" + id + ".output"));
      layers.add(
          of(
              "demo_mini layer " + id,
              memory,
              id,
              13,
              Dtype.F32,
              rows,
              floats(expected.tensor("L" + id + ".hidden_states")),
              null,
              null,
              null,
              output,
              output));
    }
    return layers;
  }

  private static List<GoldenLayer> v41Forward() {
    List<GoldenLayer> layers = new ArrayList<>();
    JsonObject json = Golden.json("v41_engram_forward_small.json");
    boolean[] live = Golden.booleans(json.get("mask"));
    float[] streams = Golden.floats(json.get("x_bf16_as_f32"));
    for (Map.Entry<String, JsonElement> e : json.getAsJsonObject("layers").entrySet()) {
      JsonObject layer = e.getValue().getAsJsonObject();
      GateConfig gate = Variants.v41(4, 96);
      Map<String, Tensor> tensors = new HashMap<>();
      tensors.put("wkv.weight", hex(layer, "wkv.weight", Dtype.F8_E4M3));
      tensors.put("wkv.scale", hex(layer, "wkv.scale", Dtype.F8_E8M0));
      tensors.put("q_weight", tensor(Golden.floats(layer.get("q_weight")), 4, 96));
      tensors.put("k_weight", tensor(Golden.floats(layer.get("k_weight")), 4, 96));
      layers.add(
          new GoldenLayer(
              "v41_engram_forward_small layer " + e.getKey(),
              gate,
              Optional.empty(),
              384,
              LayerNames.DEEPSEEK_V41.read(tensors::get, gate, Optional.empty(), 384),
              2,
              9,
              Dtype.BF16,
              Golden.floats(layer.get("rows_bf16")),
              streams,
              live,
              Golden.floats(layer.get("kv_bf16")),
              Golden.floats(layer.get("gate_f32")),
              Golden.floats(layer.get("out_masked_bf16")),
              Golden.floats(layer.get("out_unmasked_bf16"))));
    }
    return layers;
  }

  private static List<GoldenLayer> v41Mini() {
    List<GoldenLayer> layers = new ArrayList<>();
    EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"));
    Safetensors expected = expected("v41_mini");
    float[] mask = floats(expected.tensor("mask"));
    boolean[] live = new boolean[mask.length];
    for (int i = 0; i < mask.length; i++) {
      live[i] = mask[i] != 0;
    }
    for (int id : memory.config().layerIds()) {
      layers.add(
          of(
              "v41_mini layer " + id,
              memory,
              id,
              24,
              Dtype.BF16,
              floats(expected.tensor("L" + id + ".rows")),
              floats(expected.tensor("streams")),
              live,
              floats(expected.tensor("L" + id + ".kv")),
              floats(expected.tensor("L" + id + ".gate")),
              floats(expected.tensor("L" + id + ".out_masked")),
              floats(expected.tensor("L" + id + ".out_unmasked"))));
    }
    return layers;
  }

  private static List<GoldenLayer> qwenForward() {
    List<GoldenLayer> layers = new ArrayList<>();
    JsonObject json = Golden.json("qwen4exp_ple_small_f32.json");
    float[] hidden = Golden.floats(json.get("hidden_states"));
    for (Map.Entry<String, JsonElement> e : json.getAsJsonObject("layers").entrySet()) {
      JsonObject layer = e.getValue().getAsJsonObject();
      Map<String, Tensor> params = params(layer);
      float[] table = floats(params.get("ple_embedding.ngram_embedding.weight"));
      layers.add(
          qwen(
              "qwen4exp_ple_small layer " + e.getKey(),
              params,
              gather(table, 8, Golden.longs(layer.get("row_ids"))),
              hidden,
              Golden.floats(layer.get("output_delta"))));
    }
    return layers;
  }

  private static List<GoldenLayer> qwenMini() {
    List<GoldenLayer> layers = new ArrayList<>();
    EngramMemory memory = EngramMemory.open(Golden.path("qwen_mini"));
    Safetensors expected = expected("qwen_mini");
    for (int id : memory.config().layerIds()) {
      float[] rows = memory.table(id).gather(longs(expected.tensor("L" + id + ".row_ids")));
      float[] output = floats(expected.tensor("L" + id + ".output_delta"));
      layers.add(
          of(
              "qwen_mini layer " + id,
              memory,
              id,
              13,
              Dtype.F32,
              rows,
              floats(expected.tensor("hidden_states")),
              null,
              null,
              null,
              output,
              output));
    }
    return layers;
  }

  /**
   * A layer of a checkpoint, with two sequences; the memory stays open for as long as the tests
   * run.
   */
  private static GoldenLayer of(
      String name,
      EngramMemory memory,
      int layer,
      int tokens,
      Dtype dtype,
      float[] rows,
      float[] streams,
      boolean[] live,
      float[] keysAndValue,
      float[] gates,
      float[] output,
      float[] unmasked) {
    EngramConfig config = memory.config();
    return new GoldenLayer(
        name,
        config.gate(),
        config.conv(),
        config.rowWidth(),
        memory.weights(layer),
        2,
        tokens,
        dtype,
        rows,
        streams,
        live,
        keysAndValue,
        gates,
        output,
        unmasked);
  }

  private static Safetensors expected(String checkpoint) {
    return Safetensors.open(
        Golden.path(checkpoint).resolve("expected.safetensors"), Arena.global());
  }

  private static GoldenLayer qwen(
      String name, Map<String, Tensor> tensors, float[] rows, float[] hidden, float[] output) {
    GateConfig gate = Variants.qwen(4, 32);
    Optional<ConvConfig> conv = Optional.of(Variants.QWEN_CONV);
    return new GoldenLayer(
        name,
        gate,
        conv,
        48,
        LayerNames.QWEN.read(tensors::get, gate, conv, 48),
        2,
        13,
        Dtype.F32,
        rows,
        hidden,
        null,
        null,
        null,
        output,
        output);
  }

  private static Map<String, Tensor> params(JsonObject layer) {
    Map<String, Tensor> params = new HashMap<>();
    for (Map.Entry<String, JsonElement> e : layer.getAsJsonObject("params").entrySet()) {
      long[] shape = Golden.longs(e.getValue().getAsJsonObject().get("shape"));
      params.put(e.getKey(), tensor(Golden.floats(e.getValue()), shape));
    }
    return params;
  }

  private static Tensor hex(JsonObject layer, String name, Dtype dtype) {
    byte[] bytes = HexFormat.of().parseHex(layer.get(name + "_hex").getAsString());
    long[] shape = Golden.longs(layer.get(name + "_shape"));
    return new Tensor(dtype, shape, MemorySegment.ofArray(bytes));
  }

  static Tensor tensor(float[] values, long... shape) {
    MemorySegment data = MemorySegment.ofArray(new byte[4 * values.length]);
    MemorySegment.copy(values, 0, data, Memory.FLOAT, 0, values.length);
    return new Tensor(Dtype.F32, shape, data);
  }

  private static float[] gather(float[] table, int headDim, long[] ids) {
    float[] rows = new float[ids.length * headDim];
    for (int i = 0; i < ids.length; i++) {
      System.arraycopy(table, Math.toIntExact(ids[i]) * headDim, rows, i * headDim, headDim);
    }
    return rows;
  }

  private static long[] longs(Tensor tensor) {
    return tensor
        .data()
        .toArray(ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
  }

  private static float[] floats(Tensor tensor) {
    float[] values = new float[Math.toIntExact(tensor.count())];
    for (int i = 0; i < values.length; i++) {
      values[i] =
          switch (tensor.dtype()) {
            case F32 -> tensor.data().get(Memory.FLOAT, 4L * i);
            case BF16 -> Bfloat16.toFloat(tensor.data().get(Memory.SHORT, 2L * i));
            case U8 -> tensor.data().get(ValueLayout.JAVA_BYTE, i);
            default -> throw new IllegalArgumentException(tensor.toString());
          };
    }
    return values;
  }
}
