// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.plan.SparseBackbone;
import java.nio.file.Path;
import java.util.List;

/**
 * The experts of a model, from its {@code config.json}: keys as models of the DeepSeek, Qwen and
 * Mixtral families write them, at the top or in {@code text_config}.
 */
public final class ExpertKeys {
  private static final List<String> EXPERTS =
      List.of("n_routed_experts", "num_experts", "num_local_experts");
  private static final List<String> ACTIVE = List.of("num_experts_per_tok");
  private static final List<String> EXPERT_WIDTH =
      List.of("moe_intermediate_size", "intermediate_size");

  private ExpertKeys() {}

  /**
   * Reads a configuration. Layers with experts are all layers, less {@code first_k_dense_replace}
   * at the beginning and those in {@code mlp_only_layers}, and of the rest every {@code
   * decoder_sparse_step}-th or {@code moe_layer_freq}-th.
   *
   * @param file a {@code config.json}
   * @return the experts
   * @throws io.engram.EngramFormatException naming file and key, if a key is missing, of the wrong
   *     type or out of range
   */
  public static SparseBackbone read(Path file) {
    ConfigJson root = ConfigJson.read(file);
    ConfigJson json = root.object("text_config").orElse(root);
    int experts = first(json, EXPERTS);
    int active = first(json, ACTIVE);
    int layers = positive(json, "num_hidden_layers");
    int dense = json.integer("first_k_dense_replace", 0);
    int step = json.integer("decoder_sparse_step", json.integer("moe_layer_freq", 1));
    if (dense < 0 || dense >= layers) {
      throw json.problem(
          "first_k_dense_replace", "is " + dense + ", expected 0 to " + (layers - 1));
    }
    if (step < 1) {
      throw json.problem(
          json.has("decoder_sparse_step") ? "decoder_sparse_step" : "moe_layer_freq",
          "is " + step + ", expected at least 1");
    }
    List<Integer> never =
        json.has("mlp_only_layers") ? json.integers("mlp_only_layers") : List.of();
    boolean qwen = json.has("decoder_sparse_step");
    int expertLayers = 0;
    for (int layer = dense; layer < layers; layer++) {
      // The one counts layers from 1, the other from 0.
      int number = qwen ? layer + 1 : layer;
      if (number % step == 0 && !never.contains(layer)) {
        expertLayers++;
      }
    }
    if (expertLayers == 0) {
      throw json.problem("num_hidden_layers", "leaves no layer with experts");
    }
    if (experts <= active) {
      throw json.problem(
          ACTIVE.getFirst(), "is " + active + ", expected fewer than the " + experts + " experts");
    }
    return SparseBackbone.ofShapes(
        expertLayers, positive(json, "hidden_size"), first(json, EXPERT_WIDTH), experts, active);
  }

  private static int first(ConfigJson json, List<String> keys) {
    for (String key : keys) {
      if (json.has(key)) {
        return positive(json, key);
      }
    }
    throw json.problem(
        String.join(" or ", keys),
        "is missing: the configuration describes no mixture of experts that is known here");
  }

  private static int positive(ConfigJson json, String key) {
    int value = json.integer(key);
    if (value < 1) {
      throw json.problem(key, "is " + value + ", expected at least 1");
    }
    return value;
  }
}
