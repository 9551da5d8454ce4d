// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramFormatException;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** This project's own layout: see {@link MemoryDescriptor}. Saves of training runs have it. */
final class DescriptorKeys implements Dialect {
  private final CheckpointTensors tensors;
  private final EngramConfig config;

  DescriptorKeys(ConfigJson root, CheckpointTensors tensors) {
    this.tensors = tensors;
    this.config = MemoryDescriptor.read(root);
    if (config.rowFormat() == RowFormat.FP8_BLOCK32 || config.rowFormat() == RowFormat.FP8_TENSOR) {
      throw root.problem(
          MemoryDescriptor.KEY + ".row_format",
          "is " + config.rowFormat() + ": tables of this layout are read as F32, BF16 or F16");
    }
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
    return List.of(new TablePart(MemoryDescriptor.table(layer), Optional.empty()));
  }

  @Override
  public List<Expected> expectedTensors(int layer, long tableRows) {
    GateConfig gate = config.gate();
    long width = gate.width();
    long outputs = gate.projectionRows();
    List<Long> perStream = List.of((long) gate.streams(), width);
    List<String> f32 = List.of("F32");
    List<Expected> expected = new ArrayList<>();
    expected.add(
        new Expected(
            MemoryDescriptor.table(layer),
            List.of(config.rowFormat().name()),
            List.of(tableRows, (long) config.headDim())));
    expected.add(
        new Expected(
            MemoryDescriptor.name(layer, "projection"),
            List.of("F32", "BF16"),
            List.of(outputs, (long) config.rowWidth())));
    if (gate.bias()) {
      expected.add(new Expected(MemoryDescriptor.name(layer, "bias"), f32, List.of(outputs)));
    }
    expected.add(new Expected(MemoryDescriptor.name(layer, "key_norm"), f32, perStream));
    expected.add(new Expected(MemoryDescriptor.name(layer, "query_norm"), f32, perStream));
    config
        .conv()
        .ifPresent(c -> {
          expected.add(new Expected(MemoryDescriptor.name(layer, "conv_norm"), f32, perStream));
          expected.add(
              new Expected(
                  MemoryDescriptor.name(layer, "conv"),
                  f32,
                  List.of(gate.streams() * width, (long) c.kernelSize())));
        });
    return expected;
  }

  @Override
  public Optional<HashLayout> storedLayout(int layer) {
    return Optional.empty();
  }

  @Override
  public TokenMap tokenMap(Path directory) {
    TensorInfo info = tensors.info(MemoryDescriptor.TOKEN_MAP);
    if (!info.dtype().equals(Dtype.I32.name())
        || !info.shape().equals(List.of((long) config.vocabularySize()))) {
      throw new EngramFormatException(
          tensors.file(MemoryDescriptor.TOKEN_MAP),
          "token_map is "
              + info.dtype()
              + info.shape()
              + ", expected I32["
              + config.vocabularySize()
              + "]");
    }
    try (Arena scratch = Arena.ofConfined()) {
      int[] values =
          tensors
              .load(MemoryDescriptor.TOKEN_MAP, scratch)
              .data()
              .toArray(ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN));
      return TokenMap.of(values);
    } catch (IllegalArgumentException e) {
      throw new EngramFormatException(
          tensors.file(MemoryDescriptor.TOKEN_MAP), "token_map: " + e.getMessage(), e);
    }
  }

  @Override
  public LayerWeights weights(int layer, Arena arena) {
    Tensor projection = load(layer, "projection", arena);
    boolean conv = config.conv().isPresent();
    return new LayerWeights(
        projection,
        config.gate().bias() ? Optional.of(load(layer, "bias", arena)) : Optional.empty(),
        load(layer, "key_norm", arena),
        load(layer, "query_norm", arena),
        conv ? Optional.of(load(layer, "conv_norm", arena)) : Optional.empty(),
        conv ? Optional.of(load(layer, "conv", arena)) : Optional.empty());
  }

  private Tensor load(int layer, String tensor, Arena arena) {
    return tensors.load(MemoryDescriptor.name(layer, tensor), arena);
  }

  @Override
  public String description() {
    return "this project's own layout: a descriptor of every field, as training runs save it";
  }
}
