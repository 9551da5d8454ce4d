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
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/**
 * The keys and state-dict names of the paper's demo, behind {@code layers.{L}.engram.}: this
 * project's own descriptor for the paper's variant. The token map is a raw int32 file beside it, or
 * else made from {@code tokenizer.json}.
 */
final class ModuleKeys implements Dialect {
  private static final List<String> FLOATING = List.of("F32", "BF16", "F16");

  private final ConfigJson json;
  private final CheckpointTensors tensors;
  private final EngramConfig config;

  ModuleKeys(ConfigJson json, CheckpointTensors tensors) {
    this.json = json;
    this.tensors = tensors;
    int maxOrder = json.integer("max_ngram_size");
    int heads = json.integer("n_head_per_ngram");
    int perOrder = json.integer("n_embed_per_ngram");
    if (heads < 1 || perOrder % heads != 0) {
      throw json.problem(
          "n_embed_per_ngram", "is " + perOrder + ", which " + heads + " heads do not divide");
    }
    List<Integer> layers = json.integers("layer_ids");
    if (layers.isEmpty()) {
      throw json.problem("layer_ids", "is empty, expected at least one layer");
    }
    this.config =
        new EngramConfig(
            json.integer("vocab_size"),
            true,
            json.integer("pad_id"),
            WindowRule.NO_BOUNDARY,
            WindowRule.Dead.REFUSED,
            new HashScheme(
                json.integer("compressed_vocab_size"),
                Dialect.orders(json, "max_ngram_size", maxOrder),
                heads,
                json.integers64("engram_vocab_size"),
                layers,
                json.integer64("seed", 0),
                HashScheme.Generator.NUMPY_PCG64,
                HashScheme.PrimeSearch.RESTART_PER_ORDER,
                1),
            Dialect.rowFormat(
                tensors, name(layers.getFirst(), "multi_head_embedding.embedding.weight")),
            perOrder / heads,
            new GateConfig(
                json.integer("hc_mult"),
                json.integer("hidden_size"),
                true,
                GateConfig.Shape.SIGNED_SQRT,
                GateConfig.ZeroDot.SIGN_ZERO,
                GateConfig.NormWeight.AS_STORED,
                json.real("gate_norm_eps", 0x1p-23f),
                GateConfig.Rounding.NONE,
                GateConfig.Residual.DELTA),
            Optional.of(
                new ConvConfig(
                    json.integer("kernel_size"), maxOrder, json.real("conv_norm_eps", 1e-5f))));
  }

  @Override
  public EngramConfig config() {
    return config;
  }

  @Override
  public Optional<Long> statedRows(int layer) {
    return Optional.empty();
  }

  @Override
  public List<TablePart> tableParts(int layer) {
    return List.of(
        new TablePart(name(layer, "multi_head_embedding.embedding.weight"), Optional.empty()));
  }

  @Override
  public List<Expected> expectedTensors(int layer, long tableRows) {
    GateConfig gate = config.gate();
    long width = gate.width();
    long inputs = config.rowWidth();
    List<Expected> expected = new ArrayList<>();
    expected.add(
        new Expected(
            name(layer, "multi_head_embedding.embedding.weight"),
            List.of(config.rowFormat().name()),
            List.of(tableRows, (long) config.headDim())));
    projections(layer)
        .forEach(p -> {
          expected.add(new Expected(p + ".weight", FLOATING, List.of(width, inputs)));
          expected.add(new Expected(p + ".bias", FLOATING, List.of(width)));
        });
    for (String norm : List.of("norm1", "norm2", "short_conv.norms")) {
      for (String weight : perStream(layer, norm)) {
        expected.add(new Expected(weight, FLOATING, List.of(width)));
      }
    }
    expected.add(
        new Expected(
            name(layer, "short_conv.conv.weight"),
            FLOATING,
            List.of(gate.streams() * width, 1L, (long) config.conv().orElseThrow().kernelSize())));
    return expected;
  }

  @Override
  public Optional<HashLayout> storedLayout(int layer) {
    // The module stores its offsets only, so they are held against the derived rest.
    String offsets = name(layer, "multi_head_embedding.offsets");
    if (!tensors.contains(offsets)) {
      return Optional.empty();
    }
    HashLayout derived = HashLayout.derive(config.hashing()).get(config.layerIds().indexOf(layer));
    return Optional.of(
        HashLayout.stored(
            config.hashing(),
            layer,
            derived.multipliers(),
            derived.moduli(),
            new DenseTensors(tensors).int64(offsets)));
  }

  @Override
  public TokenMap tokenMap(Path directory) throws IOException {
    return Dialect.tokenMap(json, "token_map", directory);
  }

  @Override
  public LayerWeights weights(int layer, Arena arena) {
    GateConfig gate = config.gate();
    long[] perStream = {gate.streams(), gate.width()};
    long[] taps = {(long) gate.streams() * gate.width(), config.conv().orElseThrow().kernelSize()};
    long outputs = gate.projectionRows();
    DenseTensors dense = new DenseTensors(tensors);
    return new LayerWeights(
        dense.matrix(
            arena,
            outputs,
            config.rowWidth(),
            projections(layer).map(p -> p + ".weight").toArray(String[]::new)),
        Optional.of(
            dense.f32(
                arena,
                new long[] {outputs},
                projections(layer).map(p -> p + ".bias").toArray(String[]::new))),
        dense.f32(arena, perStream, perStream(layer, "norm1")),
        dense.f32(arena, perStream, perStream(layer, "norm2")),
        Optional.of(dense.f32(arena, perStream, perStream(layer, "short_conv.norms"))),
        Optional.of(dense.f32(arena, taps, name(layer, "short_conv.conv.weight"))));
  }

  @Override
  public String description() {
    return "the paper's demo: its keys and state-dict names";
  }

  private Stream<String> projections(int layer) {
    return Stream.concat(
        IntStream.range(0, config.gate().streams()).mapToObj(i -> name(layer, "key_projs." + i)),
        Stream.of(name(layer, "value_proj")));
  }

  private String[] perStream(int layer, String norm) {
    return IntStream.range(0, config.gate().streams())
        .mapToObj(i -> name(layer, norm + "." + i + ".weight"))
        .toArray(String[]::new);
  }

  private static String name(int layer, String tensor) {
    return "layers." + layer + ".engram." + tensor;
  }
}
