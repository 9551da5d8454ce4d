// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Function;

/**
 * From the weights of a golden JSON file to the canonical form: the reference's names as data.
 * {@code {i}} in a name stands for one tensor for each stream.
 *
 * @param projection what is stacked to the projection: keys of all streams, then the value
 * @param bias what is stacked to the bias, or empty
 * @param keyNorm the norm of the keys
 * @param queryNorm the norm of the streams
 * @param convNorm the norm before the convolution, or empty
 * @param conv the convolution, or empty
 */
record LayerNames(
    List<String> projection,
    List<String> bias,
    String keyNorm,
    String queryNorm,
    Optional<String> convNorm,
    Optional<String> conv) {

  /** The paper's demo: one biased key matrix for each stream. */
  static final LayerNames DEMO =
      new LayerNames(
          List.of("key_projs.{i}.weight", "value_proj.weight"),
          List.of("key_projs.{i}.bias", "value_proj.bias"),
          "norm1.{i}.weight",
          "norm2.{i}.weight",
          Optional.of("short_conv.norms.{i}.weight"),
          Optional.of("short_conv.conv.weight"));

  /** DeepSeek-V4.1: keys and value in one FP8 matrix with a scale for each block. */
  static final LayerNames DEEPSEEK_V41 =
      new LayerNames(
          List.of("wkv.weight"),
          List.of(),
          "k_weight",
          "q_weight",
          Optional.empty(),
          Optional.empty());

  /** Qwen's PLE: the keys of all streams in one matrix. */
  static final LayerNames QWEN =
      new LayerNames(
          List.of("key_proj.weight", "value_proj.weight"),
          List.of(),
          "norm_key.weight",
          "norm_query.weight",
          Optional.of("norm_conv.weight"),
          Optional.of("conv1d.weight"));

  /** Rows and columns that share a scale. */
  private static final int BLOCK = 32;

  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /**
   * Reads a layer.
   *
   * @param source the tensor of a name, or null where the file has none
   * @param gate the gate
   * @param conv the convolution, where the variant has one
   * @param rowWidth values that one token retrieves
   * @return the weights in memory of their own; the projection BF16 where that holds it exactly
   * @throws IllegalArgumentException naming the tensor that is missing, of another shape or dtype,
   *     or not a number
   */
  LayerWeights read(
      Function<String, Tensor> source, GateConfig gate, Optional<ConvConfig> conv, int rowWidth) {
    Reader reader = new Reader(source, gate.streams());
    long outputs = gate.projectionRows();
    long streams = gate.streams();
    long width = gate.width();
    float[] matrix = reader.stack(projection, outputs * rowWidth, rowWidth);
    Optional<Tensor> biases =
        bias.isEmpty()
            ? Optional.empty()
            : Optional.of(f32(reader.stack(bias, outputs, 1), outputs));
    Optional<Tensor> convNorms =
        convNorm.map(n -> f32(reader.stack(List.of(n), streams * width, width), streams, width));
    Optional<Tensor> taps =
        this.conv.map(n -> {
          long kernelSize = conv.orElseThrow().kernelSize();
          long channels = streams * width;
          float[] values = reader.stack(List.of(n), channels * kernelSize, kernelSize);
          return f32(values, channels, kernelSize);
        });
    return new LayerWeights(
        bf16IfExact(matrix, outputs, rowWidth),
        biases,
        f32(reader.stack(List.of(keyNorm), streams * width, width), streams, width),
        f32(reader.stack(List.of(queryNorm), streams * width, width), streams, width),
        convNorms,
        taps);
  }

  /** Finds tensors by the names of one layer. */
  private record Reader(Function<String, Tensor> source, int streams) {

    /** All tensors of some names, one after the other. */
    float[] stack(List<String> templates, long count, long rowLength) {
      List<String> names = new ArrayList<>();
      for (String template : templates) {
        int copies = template.contains("{i}") ? streams : 1;
        for (int i = 0; i < copies; i++) {
          names.add(template.replace("{i}", Integer.toString(i)));
        }
      }
      float[] all = new float[Math.toIntExact(count)];
      int at = 0;
      for (String name : names) {
        Tensor tensor = find(name);
        long size = tensor.count();
        if (size % rowLength != 0 || at + size > count) {
          throw new IllegalArgumentException(
              name + " is " + tensor + ", which does not fit " + describe(count, rowLength, names));
        }
        float[] part = floats(name, tensor);
        System.arraycopy(part, 0, all, at, part.length);
        at += part.length;
      }
      if (at != count) {
        throw new IllegalArgumentException(
            names + " hold " + at + " values, expected " + describe(count, rowLength, names));
      }
      return all;
    }

    private static String describe(long count, long rowLength, List<String> names) {
      return count / rowLength + " rows of " + rowLength + " values from " + names;
    }

    private Tensor find(String name) {
      Tensor tensor = source.apply(name);
      if (tensor == null) {
        throw new IllegalArgumentException(name + " is missing");
      }
      return tensor;
    }

    private float[] floats(String name, Tensor tensor) {
      float[] values = new float[Math.toIntExact(tensor.count())];
      MemorySegment data = tensor.data();
      switch (tensor.dtype()) {
        case F32 -> MemorySegment.copy(data, FLOAT, 0, values, 0, values.length);
        case BF16 -> {
          for (int i = 0; i < values.length; i++) {
            values[i] = Bfloat16.toFloat(data.get(SHORT, 2L * i));
          }
        }
        case F8_E4M3 -> decodeBlocks(name, tensor, values);
        default ->
            throw new IllegalArgumentException(
                name + " is " + tensor + ", expected F32, BF16 or F8_E4M3");
      }
      return values;
    }

    /** FP8 with one power of two for each block of rows and columns. */
    private void decodeBlocks(String name, Tensor tensor, float[] values) {
      if (!name.endsWith(".weight")) {
        throw new IllegalArgumentException(name + " is " + tensor + ", but no matrix");
      }
      String scaleName = name.substring(0, name.length() - "weight".length()) + "scale";
      Tensor scale = find(scaleName);
      long[] shape = tensor.shape();
      long[] blocks = scale.shape();
      if (scale.dtype() != Dtype.F8_E8M0
          || shape.length != 2
          || blocks.length != 2
          || blocks[0] != (shape[0] + BLOCK - 1) / BLOCK
          || blocks[1] != (shape[1] + BLOCK - 1) / BLOCK) {
        throw new IllegalArgumentException(
            scaleName + " is " + scale + ", expected a scale for each 32 x 32 block of " + tensor);
      }
      for (int i = 0; i < values.length; i++) {
        long row = i / shape[1];
        long column = i % shape[1];
        long block = row / BLOCK * blocks[1] + column / BLOCK;
        int exponent = Byte.toUnsignedInt(scale.data().get(ValueLayout.JAVA_BYTE, block));
        if (exponent == 0xFF) {
          throw new IllegalArgumentException(scaleName + " is NaN at block " + block);
        }
        float code = e4m3(tensor.data().get(ValueLayout.JAVA_BYTE, i));
        if (Float.isNaN(code)) {
          throw new IllegalArgumentException(name + " is NaN at element " + i);
        }
        values[i] = Math.scalb(code, exponent - 127);
      }
    }
  }

  static float e4m3(byte bits) {
    int exponent = (bits >> 3) & 0xF;
    int mantissa = bits & 0x7;
    if (exponent == 0xF && mantissa == 0x7) {
      return Float.NaN;
    }
    float size =
        exponent == 0 ? Math.scalb(mantissa, -9) : Math.scalb(8 + mantissa, exponent - 7 - 3);
    return bits < 0 ? -size : size;
  }

  private static Tensor f32(float[] values, long... shape) {
    MemorySegment data = Arena.ofAuto().allocate(4L * values.length, 64);
    MemorySegment.copy(values, 0, data, FLOAT, 0, values.length);
    return new Tensor(Dtype.F32, shape, data);
  }

  private static Tensor bf16IfExact(float[] values, long... shape) {
    for (float v : values) {
      if (Float.floatToRawIntBits(Bfloat16.toFloat(Bfloat16.toBits(v)))
          != Float.floatToRawIntBits(v)) {
        return f32(values, shape);
      }
    }
    MemorySegment data = Arena.ofAuto().allocate(2L * values.length, 64);
    for (int i = 0; i < values.length; i++) {
      data.set(SHORT, 2L * i, Bfloat16.toBits(values[i]));
    }
    return new Tensor(Dtype.BF16, shape, data);
  }
}
