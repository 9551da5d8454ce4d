// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.JsonObject;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/** The demo's keys and state-dict names: what {@link ModuleKeys} reads. */
final class ModuleExport implements ExportLayout {
  @Override
  public List<String> obstacles(EngramConfig config) {
    HashScheme scheme = config.hashing();
    GateConfig gate = config.gate();
    int highest = scheme.maxOrder();
    Obstacles obstacles =
        new Obstacles()
            .expect("boundaryTokenId", config.boundaryTokenId(), WindowRule.NO_BOUNDARY)
            .expect("dead", config.dead(), WindowRule.Dead.REFUSED)
            .expect(
                "hashing.orders",
                scheme.orders(),
                IntStream.rangeClosed(2, highest).boxed().toList())
            .expect("hashing.generator", scheme.generator(), HashScheme.Generator.NUMPY_PCG64)
            .expect(
                "hashing.primeSearch",
                scheme.primeSearch(),
                HashScheme.PrimeSearch.RESTART_PER_ORDER)
            .expect("hashing.rowAlignment", scheme.rowAlignment(), 1)
            .expect("gate.bias", gate.bias(), true)
            .expect("gate.shape", gate.shape(), GateConfig.Shape.SIGNED_SQRT)
            .expect("gate.zeroDot", gate.zeroDot(), GateConfig.ZeroDot.SIGN_ZERO)
            .expect("gate.normWeight", gate.normWeight(), GateConfig.NormWeight.AS_STORED)
            .expect("gate.rounding", gate.rounding(), GateConfig.Rounding.NONE)
            .expect("gate.residual", gate.residual(), GateConfig.Residual.DELTA)
            .expect("conv", config.conv().isPresent() ? "there" : "absent", "there");
    config.conv().ifPresent(c -> obstacles.expect("conv.dilation", c.dilation(), highest));
    return obstacles.found();
  }

  @Override
  public RowFormat rowFormat(EngramConfig config) {
    return switch (config.rowFormat()) {
      case F32, FP8_TENSOR -> RowFormat.F32;
      case BF16, FP8_BLOCK32 -> RowFormat.BF16;
      case F16 -> RowFormat.F16;
    };
  }

  @Override
  public JsonObject config(
      EngramConfig config, List<HashLayout> layouts, Optional<String> tokenMap) {
    HashScheme scheme = config.hashing();
    JsonObject json = new JsonObject();
    json.addProperty("model_type", "engram");
    json.add("engram_vocab_size", CheckpointExporter.array(scheme.slotsPerHead()));
    json.addProperty("max_ngram_size", scheme.maxOrder());
    json.addProperty("n_embed_per_ngram", scheme.headsPerOrder() * config.headDim());
    json.addProperty("n_head_per_ngram", scheme.headsPerOrder());
    json.add("layer_ids", CheckpointExporter.array(scheme.layerIds()));
    json.addProperty("pad_id", config.fillTokenId());
    json.addProperty("seed", scheme.seed());
    json.addProperty("kernel_size", config.conv().orElseThrow().kernelSize());
    json.addProperty("vocab_size", config.vocabularySize());
    json.addProperty("compressed_vocab_size", scheme.vocabularySize());
    json.addProperty("hidden_size", config.gate().width());
    json.addProperty("hc_mult", config.gate().streams());
    json.addProperty("gate_norm_eps", config.gate().normEps());
    json.addProperty("conv_norm_eps", config.conv().orElseThrow().normEps());
    tokenMap.ifPresent(name -> json.addProperty("token_map", name));
    return json;
  }

  @Override
  public List<Out> tensors(
      EngramConfig config,
      HashLayout layout,
      EngramTable table,
      LayerWeights weights,
      Arena arena) {
    String prefix = "layers." + layout.layerId() + ".engram.";
    long width = config.gate().width();
    int streams = config.gate().streams();
    long inputs = config.rowWidth();
    List<Out> out = new ArrayList<>();
    out.add(table(prefix + "multi_head_embedding.embedding.weight", config, table));
    out.add(
        CheckpointExporter.out(
            prefix + "multi_head_embedding.offsets",
            Dtype.I64,
            List.of((long) layout.columns()),
            MemorySegment.ofArray(layout.offsets())));
    Tensor projection = weights.widenedProjection(arena);
    Tensor bias = weights.bias().orElseThrow();
    long matrixBytes = width * inputs * projection.dtype().bytes();
    for (int i = 0; i <= streams; i++) {
      String name = prefix + (i < streams ? "key_projs." + i : "value_proj");
      out.add(
          CheckpointExporter.out(
              name + ".weight",
              projection.dtype(),
              List.of(width, inputs),
              projection.data().asSlice(i * matrixBytes, matrixBytes)));
      out.add(vector(name + ".bias", bias, i, width));
    }
    for (int i = 0; i < streams; i++) {
      out.add(vector(prefix + "norm1." + i + ".weight", weights.keyNorm(), i, width));
      out.add(vector(prefix + "norm2." + i + ".weight", weights.queryNorm(), i, width));
      out.add(
          vector(
              prefix + "short_conv.norms." + i + ".weight",
              weights.convNorm().orElseThrow(),
              i,
              width));
    }
    out.add(
        CheckpointExporter.out(
            prefix + "short_conv.conv.weight",
            Dtype.F32,
            List.of(streams * width, 1L, (long) config.conv().orElseThrow().kernelSize()),
            weights.conv().orElseThrow().data()));
    return out;
  }

  private static Out vector(String name, Tensor all, int index, long width) {
    return CheckpointExporter.out(
        name,
        Dtype.F32,
        List.of(width),
        all.data().asSlice(index * width * Float.BYTES, width * Float.BYTES));
  }

  private Out table(String name, EngramConfig config, EngramTable table) {
    RowFormat format = rowFormat(config);
    Dtype dtype = Dtype.valueOf(format.name());
    int rowBytes = format.rowBytes(table.headDim());
    TableStream.Rows rows =
        format == table.format()
            ? (first, count, to) ->
                table.store().read(CheckpointExporter.ids(first, count), 0, count, to, 0)
            : (first, count, to) ->
                table.gather(CheckpointExporter.ids(first, count), 0, count, to, 0, dtype);
    return new Out(
        name,
        dtype,
        List.of(table.rowCount(), (long) table.headDim()),
        new TableStream(table.rowCount(), rowBytes, rows));
  }
}
