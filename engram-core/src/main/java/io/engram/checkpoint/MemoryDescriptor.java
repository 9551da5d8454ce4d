// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.RowFormat;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * This project's own layout, which holds a memory of any configuration: every field of {@link
 * EngramConfig} under {@link #KEY} in {@code config.json}, and the names of its tensors.
 *
 * <p>Numbers that may exceed 2^53, the seed and the slots, are decimal strings, since some readers
 * of JSON take numbers for doubles.
 */
public final class MemoryDescriptor {
  /** The key of the descriptor in {@code config.json}. */
  public static final String KEY = "engram_memory";

  /** The name of the tensor that maps raw ids to compressed ones: I32 [vocabulary size]. */
  public static final String TOKEN_MAP = "token_map";

  private static final int VERSION = 1;

  private MemoryDescriptor() {}

  /**
   * The {@code config.json} of a memory.
   *
   * @param config its configuration
   * @return a JSON object with the descriptor
   */
  public static String json(EngramConfig config) {
    JsonObject root = new JsonObject();
    root.add(KEY, tree(config));
    return new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create().toJson(root) + "\n";
  }

  private static JsonObject tree(EngramConfig config) {
    JsonObject memory = new JsonObject();
    memory.addProperty("version", VERSION);
    memory.addProperty("vocabulary_size", config.vocabularySize());
    memory.addProperty("compressed", config.compressed());
    memory.addProperty("fill_token_id", config.fillTokenId());
    memory.addProperty("boundary_token_id", config.boundaryTokenId());
    memory.addProperty("dead", config.dead().name());
    HashScheme scheme = config.hashing();
    JsonObject hashing = new JsonObject();
    hashing.addProperty("vocabulary_size", scheme.vocabularySize());
    hashing.add("orders", integers(scheme.orders()));
    hashing.addProperty("heads_per_order", scheme.headsPerOrder());
    JsonArray slots = new JsonArray();
    scheme.slotsPerHead().forEach(s -> slots.add(Long.toString(s)));
    hashing.add("slots_per_head", slots);
    hashing.add("layer_ids", integers(scheme.layerIds()));
    hashing.addProperty("seed", Long.toString(scheme.seed()));
    hashing.addProperty("generator", scheme.generator().name());
    hashing.addProperty("prime_search", scheme.primeSearch().name());
    hashing.addProperty("row_alignment", scheme.rowAlignment());
    memory.add("hashing", hashing);
    memory.addProperty("row_format", config.rowFormat().name());
    memory.addProperty("head_dim", config.headDim());
    GateConfig gate = config.gate();
    JsonObject gating = new JsonObject();
    gating.addProperty("streams", gate.streams());
    gating.addProperty("width", gate.width());
    gating.addProperty("bias", gate.bias());
    gating.addProperty("shape", gate.shape().name());
    gating.addProperty("zero_dot", gate.zeroDot().name());
    gating.addProperty("norm_weight", gate.normWeight().name());
    gating.addProperty("norm_eps", gate.normEps());
    gating.addProperty("rounding", gate.rounding().name());
    gating.addProperty("residual", gate.residual().name());
    memory.add("gate", gating);
    config
        .conv()
        .ifPresent(c -> {
          JsonObject conv = new JsonObject();
          conv.addProperty("kernel_size", c.kernelSize());
          conv.addProperty("dilation", c.dilation());
          conv.addProperty("norm_eps", c.normEps());
          memory.add("conv", conv);
        });
    return memory;
  }

  private static JsonArray integers(List<Integer> values) {
    JsonArray array = new JsonArray();
    values.forEach(array::add);
    return array;
  }

  /**
   * Reads the {@code config.json} of a memory.
   *
   * @param file the file
   * @return the configuration
   * @throws EngramFormatException naming the key that is missing, unknown or out of range
   * @throws EngramException if it cannot be read
   */
  public static EngramConfig read(Path file) {
    try {
      return read(ConfigJson.read(file));
    } catch (IllegalArgumentException | ArithmeticException e) {
      throw new EngramFormatException(file, e.getMessage(), e);
    }
  }

  static EngramConfig read(ConfigJson root) {
    ConfigJson memory = object(root, KEY);
    int version = memory.integer("version");
    if (version != VERSION) {
      throw memory.problem(
          "version", "is " + version + ", expected " + VERSION + ": written by another release");
    }
    ConfigJson hashing = object(memory, "hashing");
    ConfigJson gate = object(memory, "gate");
    return new EngramConfig(
        memory.integer("vocabulary_size"),
        memory.bool("compressed"),
        memory.integer("fill_token_id"),
        memory.integer("boundary_token_id"),
        memory.constant("dead", WindowRule.Dead.class),
        new HashScheme(
            hashing.integer("vocabulary_size"),
            hashing.integers("orders"),
            hashing.integer("heads_per_order"),
            hashing.decimals64("slots_per_head"),
            hashing.integers("layer_ids"),
            hashing.decimal64("seed"),
            hashing.constant("generator", HashScheme.Generator.class),
            hashing.constant("prime_search", HashScheme.PrimeSearch.class),
            hashing.integer("row_alignment")),
        memory.constant("row_format", RowFormat.class),
        memory.integer("head_dim"),
        new GateConfig(
            gate.integer("streams"),
            gate.integer("width"),
            gate.bool("bias"),
            gate.constant("shape", GateConfig.Shape.class),
            gate.constant("zero_dot", GateConfig.ZeroDot.class),
            gate.constant("norm_weight", GateConfig.NormWeight.class),
            gate.real("norm_eps"),
            gate.constant("rounding", GateConfig.Rounding.class),
            gate.constant("residual", GateConfig.Residual.class)),
        memory
            .object("conv")
            .map(c ->
                new ConvConfig(
                    c.integer("kernel_size"), c.integer("dilation"), c.real("norm_eps"))));
  }

  /**
   * Every field in which two configurations differ.
   *
   * @param expected one of them
   * @param found the other
   * @return such as {@code hashing.seed is "1", expected "0"}; empty if they are equal
   */
  public static List<String> differences(EngramConfig expected, EngramConfig found) {
    Map<String, String> wanted = new TreeMap<>();
    Map<String, String> had = new TreeMap<>();
    flatten("", tree(expected), wanted);
    flatten("", tree(found), had);
    Set<String> keys = new TreeSet<>(wanted.keySet());
    keys.addAll(had.keySet());
    List<String> differences = new ArrayList<>();
    for (String key : keys) {
      String want = wanted.getOrDefault(key, "absent");
      String have = had.getOrDefault(key, "absent");
      if (!want.equals(have)) {
        differences.add(key + " is " + have + ", expected " + want);
      }
    }
    return differences;
  }

  private static void flatten(String prefix, JsonObject object, Map<String, String> out) {
    for (Map.Entry<String, JsonElement> entry : object.entrySet()) {
      if (entry.getValue().isJsonObject()) {
        flatten(prefix + entry.getKey() + ".", entry.getValue().getAsJsonObject(), out);
      } else {
        out.put(prefix + entry.getKey(), entry.getValue().toString());
      }
    }
  }

  private static ConfigJson object(ConfigJson json, String key) {
    Optional<ConfigJson> object = json.object(key);
    return object.orElseThrow(() -> json.problem(key, "is missing"));
  }

  /**
   * The name of a layer's table: [rows, head dim] in the row format.
   *
   * @param layer the layer
   * @return the tensor's name
   */
  public static String table(int layer) {
    return name(layer, "table");
  }

  /**
   * The dense weights of a layer under their names in this layout: those of the components of
   * {@link LayerWeights}, in their shapes.
   *
   * @param layer the layer
   * @param weights its weights
   * @return those that are there, by name, in the order of the record
   */
  public static Map<String, Tensor> weights(int layer, LayerWeights weights) {
    Map<String, Tensor> named = new LinkedHashMap<>();
    named.put(name(layer, "projection"), weights.projection());
    weights.projectionScales().ifPresent(t -> named.put(name(layer, "projection_scales"), t));
    weights.bias().ifPresent(t -> named.put(name(layer, "bias"), t));
    named.put(name(layer, "key_norm"), weights.keyNorm());
    named.put(name(layer, "query_norm"), weights.queryNorm());
    weights.convNorm().ifPresent(t -> named.put(name(layer, "conv_norm"), t));
    weights.conv().ifPresent(t -> named.put(name(layer, "conv"), t));
    return named;
  }

  static String name(int layer, String tensor) {
    return "layers." + layer + ".engram." + tensor;
  }
}
