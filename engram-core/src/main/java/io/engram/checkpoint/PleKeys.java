// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.vocab.TokenMap;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * Keys {@code ple_*} and {@code ngram_*}, tables split into parts, multipliers and moduli stored as
 * buffers: the layout of Qwen3.8-Flash-Next. Layers are counted from 1 in the configuration and
 * from 0 in tensor names.
 */
final class PleKeys implements Dialect {
  private final CheckpointTensors tensors;
  private final EngramConfig config;
  private final int parts;
  private final String prefix;

  PleKeys(ConfigJson root, CheckpointTensors tensors) {
    ConfigJson text = root.object("text_config").orElse(root);
    this.tensors = tensors;
    List<Integer> layers = text.integers("ple_layer_ids").stream().distinct().sorted().toList();
    if (layers.isEmpty() || layers.getFirst() < 1) {
      throw text.problem("ple_layer_ids", "is " + layers + ", expected layers counted from 1");
    }
    this.prefix = prefix(text, layers.getFirst());
    int order = text.integer("ngram_size", 3);
    int heads = text.integer("heads_per_ngram", 8);
    int width = text.integer("hidden_size");
    int embedding = text.integer("ple_embed_dim", width);
    List<Integer> orders = Dialect.orders(text, "ngram_size", order);
    int columns = Math.multiplyExact(orders.size(), heads);
    if (columns < 1 || embedding % columns != 0) {
      throw text.problem(
          "ple_embed_dim", "is " + embedding + ", which " + columns + " heads do not divide");
    }
    this.parts = text.integer("split_ngram_parts", 512);
    if (parts < 1) {
      throw text.problem("split_ngram_parts", "is " + parts + ", expected at least 1");
    }
    ConfigJson withEos = text.has("eos_token_id") ? text : root;
    int eos = withEos.integerOrIntegers("eos_token_id").getFirst();
    float eps = text.real("rms_norm_eps", 1e-6f);
    int vocabulary = text.integer("vocab_size");
    this.config =
        new EngramConfig(
            vocabulary,
            false,
            eos,
            eos,
            WindowRule.Dead.BOUNDARY,
            new HashScheme(
                vocabulary,
                orders,
                heads,
                Collections.nCopies(
                    orders.size(), text.integer64("ngram_vocab_size_base", 20_000_000)),
                layers,
                text.integer64("seed", 1234),
                HashScheme.Generator.SPLITMIX64,
                HashScheme.PrimeSearch.ONE_RUN,
                text.integer("make_ngram_vocab_size_divisible_by", 128)),
            Dialect.rowFormat(
                tensors, name(layers.getFirst(), "ple_embedding.ngram_embedding.shard_0.weight")),
            embedding / columns,
            new GateConfig(
                text.integer("hc_count", 4),
                width,
                false,
                GateConfig.Shape.SIGNED_SQRT,
                GateConfig.ZeroDot.SIGN_ZERO,
                GateConfig.NormWeight.ONE_PLUS,
                eps,
                GateConfig.Rounding.NONE,
                GateConfig.Residual.DELTA),
            Optional.of(new ConvConfig(text.integer("ple_conv_kernel_size", 4), order, eps)));
  }

  /** Editions differ in what stands before {@code layers.}, so the key projection shows it. */
  private String prefix(ConfigJson text, int firstLayer) {
    String ending = "layers." + (firstLayer - 1) + ".ple.key_proj.weight";
    List<String> found =
        tensors.names().stream().filter(n -> n.equals(ending) || n.endsWith("." + ending)).toList();
    if (found.size() != 1) {
      throw text.problem(
          "ple_layer_ids",
          "names layer "
              + firstLayer
              + ", but "
              + found.size()
              + " tensors of the checkpoint end in "
              + ending);
    }
    return found.getFirst().substring(0, found.getFirst().length() - ending.length());
  }

  @Override
  public EngramConfig config() {
    return config;
  }

  @Override
  public int layersBefore(int layer) {
    return layer - 1;
  }

  @Override
  public Optional<Long> statedRows(int layer) {
    return Optional.empty();
  }

  @Override
  public List<TablePart> tableParts(int layer) {
    return IntStream.range(0, parts)
        .mapToObj(i ->
            new TablePart(
                name(layer, "ple_embedding.ngram_embedding.shard_" + i + ".weight"),
                Optional.empty()))
        .toList();
  }

  @Override
  public List<Expected> expectedTensors(int layer, long tableRows) {
    GateConfig gate = config.gate();
    long width = gate.width();
    long channels = gate.streams() * width;
    long inputs = config.rowWidth();
    List<String> floating = List.of("F32", "BF16", "F16");
    List<Expected> expected = new ArrayList<>();
    // A table that its parts do not divide has its rounding in the last part.
    long perPart = Math.ceilDiv(tableRows, parts);
    for (int i = 0; i < parts; i++) {
      long rows = Math.max(0, Math.min(perPart, tableRows - i * perPart));
      expected.add(
          new Expected(
              tableParts(layer).get(i).values(),
              List.of(config.rowFormat().name()),
              List.of(rows, (long) config.headDim())));
    }
    expected.add(new Expected(name(layer, "key_proj.weight"), floating, List.of(channels, inputs)));
    expected.add(new Expected(name(layer, "value_proj.weight"), floating, List.of(width, inputs)));
    for (String norm : List.of("norm_key", "norm_query", "norm_conv")) {
      expected.add(new Expected(name(layer, norm + ".weight"), floating, List.of(channels)));
    }
    expected.add(
        new Expected(
            name(layer, "conv1d.weight"),
            floating,
            List.of(channels, 1L, (long) config.conv().orElseThrow().kernelSize())));
    long columns = config.hashing().columns();
    expected.add(
        new Expected(
            name(layer, "ple_embedding.layer_multipliers"),
            List.of("I64"),
            List.of((long) config.hashing().maxOrder())));
    for (String buffer : List.of("ngram_heads_vocab_sizes", "ngram_heads_offsets")) {
      expected.add(
          new Expected(name(layer, "ple_embedding." + buffer), List.of("I64"), List.of(columns)));
    }
    return expected;
  }

  @Override
  public Optional<HashLayout> storedLayout(int layer) {
    DenseTensors dense = new DenseTensors(tensors);
    return Optional.of(
        HashLayout.stored(
            config.hashing(),
            layer,
            dense.int64(name(layer, "ple_embedding.layer_multipliers")),
            dense.int64(name(layer, "ple_embedding.ngram_heads_vocab_sizes")),
            dense.int64(name(layer, "ple_embedding.ngram_heads_offsets"))));
  }

  @Override
  public TokenMap tokenMap(Path directory) {
    return TokenMap.identity(config.vocabularySize());
  }

  @Override
  public LayerWeights weights(int layer, Arena arena) {
    GateConfig gate = config.gate();
    long[] perStream = {gate.streams(), gate.width()};
    long[] taps = {(long) gate.streams() * gate.width(), config.conv().orElseThrow().kernelSize()};
    DenseTensors dense = new DenseTensors(tensors);
    return new LayerWeights(
        dense.matrix(
            arena,
            gate.projectionRows(),
            config.rowWidth(),
            name(layer, "key_proj.weight"),
            name(layer, "value_proj.weight")),
        Optional.empty(),
        dense.f32(arena, perStream, name(layer, "norm_key.weight")),
        dense.f32(arena, perStream, name(layer, "norm_query.weight")),
        Optional.of(dense.f32(arena, perStream, name(layer, "norm_conv.weight"))),
        Optional.of(dense.f32(arena, taps, name(layer, "conv1d.weight"))));
  }

  @Override
  public String description() {
    return "ple_* keys, raw token ids, split tables, stored multipliers";
  }

  private String name(int layer, String tensor) {
    return prefix + "layers." + layersBefore(layer) + ".ple." + tensor;
  }
}
