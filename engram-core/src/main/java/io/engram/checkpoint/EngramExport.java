// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.EngramTable;
import io.engram.table.NarrowFloat;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Optional;
import java.util.function.IntFunction;
import java.util.stream.IntStream;

/** The layout of DeepSeek-V4.1-Flash: what {@link EngramKeys} reads. */
final class EngramExport implements ExportLayout {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final int BLOCK = RowFormat.BLOCK;

  @Override
  public List<String> obstacles(EngramConfig config) {
    HashScheme scheme = config.hashing();
    GateConfig gate = config.gate();
    return new Obstacles()
        .expect("boundaryTokenId", config.boundaryTokenId(), WindowRule.NO_BOUNDARY)
        .expect("dead", config.dead(), WindowRule.Dead.BLOCKS)
        .expect(
            "hashing.orders",
            scheme.orders(),
            IntStream.rangeClosed(2, scheme.maxOrder()).boxed().toList())
        .expect(
            "hashing.slotsPerHead, different values",
            scheme.slotsPerHead().stream().distinct().count(),
            1L)
        .expect("hashing.seed", scheme.seed(), 0L)
        .expect("hashing.generator", scheme.generator(), HashScheme.Generator.NUMPY_PCG64)
        .expect(
            "hashing.primeSearch", scheme.primeSearch(), HashScheme.PrimeSearch.RESTART_PER_ORDER)
        .expect("hashing.rowAlignment", scheme.rowAlignment(), 1)
        .expect("gate.bias", gate.bias(), false)
        .expect("gate.shape", gate.shape(), GateConfig.Shape.SIGNED_SQRT)
        .expect("gate.zeroDot", gate.zeroDot(), GateConfig.ZeroDot.COPY_SIGN)
        .expect("gate.normWeight", gate.normWeight(), GateConfig.NormWeight.AS_STORED)
        .expect("gate.rounding", gate.rounding(), GateConfig.Rounding.BF16)
        .expect("gate.residual", gate.residual(), GateConfig.Residual.IN_PLACE)
        .expect("conv", config.conv().isPresent() ? "there" : "absent", "absent")
        .found();
  }

  @Override
  public RowFormat rowFormat(EngramConfig config) {
    return RowFormat.FP8_BLOCK32;
  }

  @Override
  public JsonObject config(
      EngramConfig config, List<HashLayout> layouts, Optional<String> tokenMap) {
    HashScheme scheme = config.hashing();
    JsonObject text = new JsonObject();
    text.add("engram_layer_ids", CheckpointExporter.array(scheme.layerIds()));
    text.add(
        "engram_num_embeddings",
        CheckpointExporter.array(layouts.stream().map(HashLayout::rowCount).toList()));
    text.addProperty("engram_max_ngram_size", scheme.maxOrder());
    text.addProperty("engram_vocab_size", scheme.slotsPerHead().getFirst());
    text.addProperty("engram_n_heads", scheme.headsPerOrder());
    text.addProperty("engram_head_dim", config.headDim());
    text.addProperty("engram_pad_token_id", config.fillTokenId());
    text.addProperty("engram_compressed_vocab_size", scheme.vocabularySize());
    tokenMap.ifPresent(name -> text.addProperty(EngramKeys.TOKEN_MAP, name));
    text.addProperty("hidden_size", config.gate().width());
    text.addProperty("hc_mult", config.gate().streams());
    text.addProperty("rms_norm_eps", config.gate().normEps());
    text.addProperty("vocab_size", config.vocabularySize());
    JsonObject quantization = new JsonObject();
    quantization.addProperty("quant_method", "fp8");
    quantization.addProperty("fmt", "e4m3");
    quantization.addProperty("scale_fmt", "ue8m0");
    JsonArray block = new JsonArray();
    block.add(LayerWeights.SCALE_BLOCK);
    block.add(LayerWeights.SCALE_BLOCK);
    quantization.add("weight_block_size", block);
    JsonObject json = new JsonObject();
    json.addProperty("model_type", "engram");
    json.add("text_config", text);
    json.add("quantization_config", quantization);
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
    int headDim = config.headDim();
    int blocks = rowFormat(config).scaleBytes(headDim);
    long rows = table.rowCount();
    // Quantised when its bytes are asked for, and once.
    Tensor[] made = new Tensor[2];
    IntFunction<Tensor> wkv =
        which -> {
          if (made[0] == null) {
            System.arraycopy(projection(prefix + "wkv.weight", weights, arena), 0, made, 0, 2);
          }
          return made[which];
        };
    List<Long> shape = List.of((long) config.gate().projectionRows(), (long) config.rowWidth());
    return List.of(
        new Out(
            prefix + "embed.weight",
            Dtype.F8_E4M3,
            List.of(rows, (long) headDim),
            new TableStream(rows, headDim, part(table, 0, headDim))),
        new Out(
            prefix + "embed.scale",
            Dtype.F8_E8M0,
            List.of(rows, (long) blocks),
            new TableStream(rows, blocks, part(table, headDim, blocks))),
        new Out(
            prefix + "wkv.weight",
            Dtype.F8_E4M3,
            shape,
            (at, to) -> CheckpointExporter.copy(wkv.apply(0).data(), at, to)),
        new Out(
            prefix + "wkv.scale",
            Dtype.F8_E8M0,
            shape.stream().map(size -> Math.ceilDiv(size, BLOCK)).map(Long::valueOf).toList(),
            (at, to) -> CheckpointExporter.copy(wkv.apply(1).data(), at, to)),
        CheckpointExporter.out(
            prefix + "q_weight", bf16(prefix + "q_weight", weights.queryNorm(), arena)),
        CheckpointExporter.out(
            prefix + "k_weight", bf16(prefix + "k_weight", weights.keyNorm(), arena)));
  }

  /** Some bytes of each row in FP8: its values, or its scales. */
  private static TableStream.Rows part(EngramTable table, int at, int bytes) {
    int headDim = table.headDim();
    int rowBytes = RowFormat.FP8_BLOCK32.rowBytes(headDim);
    if (table.format() == RowFormat.FP8_BLOCK32) {
      return (first, count, out) -> {
        try (Arena scratch = Arena.ofConfined()) {
          MemorySegment stored = scratch.allocate((long) count * rowBytes, 64);
          table.store().read(CheckpointExporter.ids(first, count), 0, count, stored, 0);
          for (int r = 0; r < count; r++) {
            MemorySegment.copy(stored, (long) r * rowBytes + at, out, (long) r * bytes, bytes);
          }
        }
      };
    }
    return (first, count, out) -> {
      float[] values = new float[Math.multiplyExact(count, headDim)];
      table.gather(CheckpointExporter.ids(first, count), 0, count, values, 0);
      byte[] row = new byte[rowBytes];
      for (int r = 0; r < count; r++) {
        quantizeRow(table.name(), first + r, values, r * headDim, headDim, row);
        MemorySegment.copy(row, at, out, ValueLayout.JAVA_BYTE, (long) r * bytes, bytes);
      }
    };
  }

  private static void quantizeRow(
      String table, long id, float[] values, int from, int headDim, byte[] row) {
    for (int block = 0; block * BLOCK < headDim; block++) {
      int start = from + block * BLOCK;
      int end = Math.min(start + BLOCK, from + headDim);
      float amax = Fp8Quantizer.largest(values, start, end, 0);
      if (!Float.isFinite(amax)) {
        throw notFinite(table + " row " + id, values, start, end, from);
      }
      int exponent = Fp8Quantizer.exponent(amax);
      Fp8Quantizer.quantize(values, start, end, exponent, row, block * BLOCK);
      row[headDim + block] = Fp8Quantizer.scaleCode(exponent);
    }
  }

  private static EngramException notFinite(
      String where, float[] values, int start, int end, int from) {
    int i = start;
    while (i < end - 1 && Float.isFinite(values[i])) {
      i++;
    }
    return new EngramException(
        where + " column " + (i - from) + " is " + values[i] + ", which FP8 cannot hold");
  }

  /** The fused projection and its scales, each for a square of weights. */
  private static Tensor[] projection(String name, LayerWeights weights, Arena arena) {
    Tensor projection = weights.projection();
    if (projection.dtype() == Dtype.F8_E4M3) {
      return new Tensor[] {projection, weights.projectionScales().orElseThrow()};
    }
    int outputs = Math.toIntExact(projection.shape()[0]);
    int inputs = Math.toIntExact(projection.shape()[1]);
    long[] scaleShape = {Math.ceilDiv(outputs, BLOCK), Math.ceilDiv(inputs, BLOCK)};
    MemorySegment codes = arena.allocate((long) outputs * inputs, 64);
    MemorySegment scales = arena.allocate(scaleShape[0] * scaleShape[1], 64);
    float[] band = new float[Math.multiplyExact(BLOCK, inputs)];
    byte[] row = new byte[inputs];
    for (int top = 0; top < outputs; top += BLOCK) {
      int height = Math.min(BLOCK, outputs - top);
      widen(projection, (long) top * inputs, height * inputs, band);
      int[] exponents = new int[(int) scaleShape[1]];
      for (int block = 0; block < exponents.length; block++) {
        int left = block * BLOCK;
        int right = Math.min(left + BLOCK, inputs);
        float amax = 0;
        for (int r = 0; r < height; r++) {
          amax = Fp8Quantizer.largest(band, r * inputs + left, r * inputs + right, amax);
          if (!Float.isFinite(amax)) {
            throw notFinite(
                name + " row " + (top + r),
                band,
                r * inputs + left,
                r * inputs + right,
                r * inputs);
          }
        }
        exponents[block] = Fp8Quantizer.exponent(amax);
        scales.set(
            ValueLayout.JAVA_BYTE,
            top / BLOCK * scaleShape[1] + block,
            Fp8Quantizer.scaleCode(exponents[block]));
      }
      for (int r = 0; r < height; r++) {
        for (int block = 0; block < exponents.length; block++) {
          int left = block * BLOCK;
          int right = Math.min(left + BLOCK, inputs);
          Fp8Quantizer.quantize(
              band, r * inputs + left, r * inputs + right, exponents[block], row, left);
        }
        MemorySegment.copy(row, 0, codes, ValueLayout.JAVA_BYTE, (long) (top + r) * inputs, inputs);
      }
    }
    return new Tensor[] {
      new Tensor(Dtype.F8_E4M3, projection.shape(), codes),
      new Tensor(Dtype.F8_E8M0, scaleShape, scales)
    };
  }

  private static void widen(Tensor from, long first, int count, float[] out) {
    if (from.dtype() == Dtype.F32) {
      MemorySegment.copy(from.data(), FLOAT, first * Float.BYTES, out, 0, count);
      return;
    }
    for (int i = 0; i < count; i++) {
      out[i] = NarrowFloat.bf16(from.data().get(SHORT, (first + i) * Short.BYTES));
    }
  }

  private static Tensor bf16(String name, Tensor f32, Arena arena) {
    MemorySegment data = arena.allocate(f32.count() * Short.BYTES, 64);
    for (long i = 0; i < f32.count(); i++) {
      float value = f32.data().get(FLOAT, i * Float.BYTES);
      short bits = NarrowFloat.toBf16(value);
      if (!Float.isFinite(NarrowFloat.bf16(bits))) {
        throw new EngramException(
            name + " index " + i + " is " + value + ", which bfloat16 cannot hold");
      }
      data.set(SHORT, i * Short.BYTES, bits);
    }
    return new Tensor(Dtype.BF16, f32.shape(), data);
  }
}
