// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;

/**
 * Keys {@code engram_*}, one fused FP8 projection {@code wkv}, FP8 tables with block scales: the
 * layout of DeepSeek-V4.1-Flash.
 */
final class EngramKeys implements Dialect {
  /**
   * Names a raw int32 token map in the same directory: for memories whose vocabulary has no
   * tokenizer.json. Released checkpoints have none.
   */
  static final String TOKEN_MAP = "engram_token_map";

  private static final int WEIGHT_BLOCK = LayerWeights.SCALE_BLOCK;

  private final ConfigJson text;
  private final CheckpointTensors tensors;
  private final EngramConfig config;
  private final List<Long> stated;

  EngramKeys(ConfigJson root, CheckpointTensors tensors) {
    this.text = root.object("text_config").orElse(root);
    this.tensors = tensors;
    checkQuantization(root);
    List<Integer> orders =
        Dialect.orders(text, "engram_max_ngram_size", text.integer("engram_max_ngram_size"));
    List<Integer> layers = text.integers("engram_layer_ids");
    this.stated =
        text.has("engram_num_embeddings") ? text.integers64("engram_num_embeddings") : List.of();
    if (!stated.isEmpty() && stated.size() != layers.size()) {
      throw text.problem(
          "engram_num_embeddings",
          "has " + stated.size() + " values for the " + layers.size() + " engram_layer_ids");
    }
    this.config =
        new EngramConfig(
            text.integer("vocab_size"),
            true,
            text.integer(text.has("engram_pad_token_id") ? "engram_pad_token_id" : "engram_pad_id"),
            WindowRule.NO_BOUNDARY,
            WindowRule.Dead.BLOCKS,
            new HashScheme(
                text.integer("engram_compressed_vocab_size"),
                orders,
                text.integer("engram_n_heads"),
                Collections.nCopies(orders.size(), text.integer64("engram_vocab_size")),
                layers,
                0,
                HashScheme.Generator.NUMPY_PCG64,
                HashScheme.PrimeSearch.RESTART_PER_ORDER,
                1),
            RowFormat.FP8_BLOCK32,
            text.integer("engram_head_dim"),
            new GateConfig(
                text.integer("hc_mult"),
                text.integer(text.has("hidden_size") ? "hidden_size" : "dim"),
                false,
                GateConfig.Shape.SIGNED_SQRT,
                GateConfig.ZeroDot.COPY_SIGN,
                GateConfig.NormWeight.AS_STORED,
                text.real(text.has("rms_norm_eps") ? "rms_norm_eps" : "norm_eps"),
                GateConfig.Rounding.BF16,
                GateConfig.Residual.IN_PLACE),
            Optional.<ConvConfig>empty());
  }

  private static void checkQuantization(ConfigJson root) {
    root.object("quantization_config")
        .ifPresent(q -> {
          if (q.has("fmt") && !q.string("fmt").equals("e4m3")) {
            throw q.problem("fmt", "is " + q.string("fmt") + ", expected e4m3");
          }
          if (q.has("scale_fmt") && !q.string("scale_fmt").equals("ue8m0")) {
            throw q.problem("scale_fmt", "is " + q.string("scale_fmt") + ", expected ue8m0");
          }
          List<Integer> block = List.of(WEIGHT_BLOCK, WEIGHT_BLOCK);
          if (q.has("weight_block_size") && !q.integers("weight_block_size").equals(block)) {
            throw q.problem(
                "weight_block_size",
                "is " + q.integers("weight_block_size") + ", expected " + block);
          }
        });
  }

  @Override
  public EngramConfig config() {
    return config;
  }

  @Override
  public Optional<Long> statedRows(int layer) {
    return stated.isEmpty()
        ? Optional.empty()
        : Optional.of(stated.get(config.layerIds().indexOf(layer)));
  }

  @Override
  public List<TablePart> tableParts(int layer) {
    return List.of(
        new TablePart(name(layer, "embed.weight"), Optional.of(name(layer, "embed.scale"))));
  }

  @Override
  public List<Expected> expectedTensors(int layer, long tableRows) {
    GateConfig gate = config.gate();
    long outputs = gate.projectionRows();
    long inputs = config.rowWidth();
    List<Expected> expected = new ArrayList<>();
    expected.add(
        new Expected(
            name(layer, "embed.weight"),
            List.of("F8_E4M3"),
            List.of(tableRows, (long) config.headDim())));
    expected.add(
        new Expected(
            name(layer, "embed.scale"),
            List.of("F8_E8M0"),
            List.of(tableRows, (long) config.rowFormat().scaleBytes(config.headDim()))));
    expected.add(
        new Expected(name(layer, "wkv.weight"), List.of("F8_E4M3"), List.of(outputs, inputs)));
    expected.add(
        new Expected(
            name(layer, "wkv.scale"),
            List.of("F8_E8M0"),
            List.of(Math.ceilDiv(outputs, WEIGHT_BLOCK), Math.ceilDiv(inputs, WEIGHT_BLOCK))));
    List<Long> perStream = List.of((long) gate.streams(), (long) gate.width());
    List<String> floating = List.of("BF16", "F32", "F16");
    expected.add(new Expected(name(layer, "q_weight"), floating, perStream));
    expected.add(new Expected(name(layer, "k_weight"), floating, perStream));
    return expected;
  }

  @Override
  public Optional<HashLayout> storedLayout(int layer) {
    return Optional.empty();
  }

  @Override
  public TokenMap tokenMap(Path directory) throws IOException {
    return Dialect.tokenMap(text, TOKEN_MAP, directory);
  }

  @Override
  public LayerWeights weights(int layer, Arena arena) {
    GateConfig gate = config.gate();
    long[] perStream = {gate.streams(), gate.width()};
    DenseTensors dense = new DenseTensors(tensors);
    Tensor scales = dense.fp8Scales(arena, name(layer, "wkv.scale"));
    return new LayerWeights(
        dense.fp8Matrix(arena, name(layer, "wkv.weight"), scales, WEIGHT_BLOCK),
        Optional.of(scales),
        Optional.empty(),
        dense.f32(arena, perStream, name(layer, "k_weight")),
        dense.f32(arena, perStream, name(layer, "q_weight")),
        Optional.empty(),
        Optional.empty());
  }

  @Override
  public String description() {
    return "engram_* keys, fused FP8 projection, FP8 rows with block scales";
  }

  private static String name(int layer, String tensor) {
    return "layers." + layer + ".engram." + tensor;
  }
}
