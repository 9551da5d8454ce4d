// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.MemoryDescriptor;
import io.engram.table.EngramTable;
import io.engram.vocab.TokenMap;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * What a training run consists of: a view of the objects that hold it, to be saved from and to be
 * restored into. It copies nothing but the bytes that the caller names.
 *
 * <p>Not thread-safe; the objects must not change while they are saved.
 */
public final class TrainingState {
  /** The memory's dense weights and its token map. */
  static final String MEMORY = "memory.safetensors";

  /** The caller's tensors. */
  static final String TENSORS = "tensors.safetensors";

  /** The caller's bytes, which may have another length in each save. */
  static final String BYTES = "bytes.safetensors";

  private final long step;
  private final Optional<EngramMemory> memory;
  private final Map<String, List<Section>> files;
  private final Map<Integer, TableOptimizer> optimizers;
  private final Map<String, byte[]> bytes;

  /** A tensor of a save, and the memory that it is written from and read into. */
  record Section(String name, Dtype dtype, List<Long> shape, List<MemorySegment> parts) {
    static Section of(String name, Tensor tensor) {
      return new Section(
          name,
          tensor.dtype(),
          Arrays.stream(tensor.shape()).boxed().toList(),
          List.of(tensor.data()));
    }

    long byteSize() {
      return Tensor.byteSize(dtype, sizes());
    }

    long[] sizes() {
      return shape.stream().mapToLong(Long::longValue).toArray();
    }

    @Override
    public String toString() {
      return dtype + shape.toString();
    }
  }

  private TrainingState(Builder builder) {
    step = builder.step;
    memory = Optional.ofNullable(builder.memory);
    optimizers = new LinkedHashMap<>(builder.optimizers);
    bytes = new LinkedHashMap<>(builder.bytes);
    files = new LinkedHashMap<>();
    memory.ifPresent(this::addMemory);
    optimizers.forEach((layer, optimizer) -> {
      List<Section> state = new ArrayList<>();
      optimizer
          .state()
          .forEach((name, rows) ->
              state.add(
                  new Section(
                      name,
                      Dtype.U8,
                      List.of(rows.rowCount(), (long) rows.rowBytes()),
                      rows.shards())));
      if (!state.isEmpty()) {
        files.put("optimizer-" + layer + ".safetensors", state);
      }
    });
    if (!builder.tensors.isEmpty()) {
      List<Section> tensors = new ArrayList<>();
      builder.tensors.forEach((name, tensor) -> tensors.add(Section.of(name, tensor)));
      files.put(TENSORS, tensors);
    }
  }

  private void addMemory(EngramMemory of) {
    EngramConfig config = of.config();
    List<Section> dense = new ArrayList<>();
    dense.add(tokenMap(of.tokenMap()));
    for (int layer : config.layerIds()) {
      LayerWeights weights = of.weights(layer);
      MemoryDescriptor.weights(layer, weights)
          .forEach((name, tensor) -> dense.add(Section.of(name, tensor)));
    }
    files.put(MEMORY, dense);
    for (int layer : config.layerIds()) {
      EngramTable table = of.table(layer);
      files.put(
          "table-" + layer + ".safetensors",
          List.of(
              new Section(
                  MemoryDescriptor.table(layer),
                  Dtype.valueOf(table.format().name()),
                  List.of(table.rowCount(), (long) table.headDim()),
                  Rows.of(table).shards())));
    }
  }

  private static Section tokenMap(TokenMap map) {
    int[] values = new int[map.size()];
    for (int id = 0; id < values.length; id++) {
      values[id] = map.get(id);
    }
    return new Section(
        MemoryDescriptor.TOKEN_MAP,
        Dtype.I32,
        List.of((long) values.length),
        List.of(MemorySegment.ofArray(values).asReadOnly()));
  }

  /**
   * A state of nothing so far.
   *
   * @return a builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * The step of the run.
   *
   * @return as given
   */
  public long step() {
    return step;
  }

  /**
   * How much a save of it holds, and the unit of its progress.
   *
   * @return bytes of all tensors, tables and optimiser states
   */
  public long byteSize() {
    long sum = 0;
    for (List<Section> sections : files.values()) {
      for (Section section : sections) {
        sum += section.byteSize();
      }
    }
    for (byte[] each : bytes.values()) {
      sum += each.length;
    }
    return sum;
  }

  Optional<EngramMemory> memory() {
    return memory;
  }

  /** All but the caller's bytes: file names, and what each holds. */
  Map<String, List<Section>> files() {
    return files;
  }

  Map<Integer, TableOptimizer> optimizers() {
    return optimizers;
  }

  Map<String, byte[]> bytes() {
    return bytes;
  }

  /** Collects what a run consists of. Not thread-safe. */
  public static final class Builder {
    private long step;
    private EngramMemory memory;
    private final Map<Integer, TableOptimizer> optimizers = new LinkedHashMap<>();
    private final Map<String, Tensor> tensors = new LinkedHashMap<>();
    private final Map<String, byte[]> bytes = new LinkedHashMap<>();

    private Builder() {}

    /**
     * The step of the run, as its owner counts.
     *
     * @param number not negative
     * @return this
     * @throws IllegalArgumentException if it is negative
     */
    public Builder step(long number) {
      if (number < 0) {
        throw new IllegalArgumentException("step is " + number + ", expected at least 0");
      }
      step = number;
      return this;
    }

    /**
     * The memory: its configuration, token map, tables and dense weights. A run without one, such
     * as a baseline, leaves it out.
     *
     * @param trained a memory whose tables are in RAM, in F32 or BF16
     * @return this
     * @throws IllegalStateException if there is a memory already
     */
    public Builder memory(EngramMemory trained) {
      if (memory != null) {
        throw new IllegalStateException("there is a memory already");
      }
      memory = Objects.requireNonNull(trained, "trained");
      return this;
    }

    /**
     * A tensor of the caller's: a dense weight of the model, the state of its optimiser.
     *
     * @param name its name, not used before
     * @param tensor the tensor; restoring writes to its memory
     * @return this
     * @throws IllegalArgumentException if the name was used before
     */
    public Builder tensor(String name, Tensor tensor) {
      Objects.requireNonNull(name, "name");
      if (tensors.putIfAbsent(name, Objects.requireNonNull(tensor, "tensor")) != null) {
        throw new IllegalArgumentException("the tensor " + name + " is added twice");
      }
      return this;
    }

    /**
     * Bytes of the caller's, whose number may differ from save to save: a random generator's state,
     * a place in the data. Restoring returns them.
     *
     * @param name their name, not used before
     * @param value the bytes; copied
     * @return this
     * @throws IllegalArgumentException if the name was used before
     */
    public Builder bytes(String name, byte[] value) {
      Objects.requireNonNull(name, "name");
      if (bytes.putIfAbsent(name, value.clone()) != null) {
        throw new IllegalArgumentException("the bytes " + name + " are added twice");
      }
      return this;
    }

    /**
     * The optimiser of a table: its state, its steps and its learning rate. Its other options are
     * the caller's to give again when it is made for a restored run.
     *
     * @param layer the layer whose table it trains
     * @param optimizer the optimiser
     * @return this
     * @throws IllegalArgumentException if the layer has an optimiser already
     */
    public Builder optimizer(int layer, TableOptimizer optimizer) {
      if (optimizers.putIfAbsent(layer, optimizer) != null) {
        throw new IllegalArgumentException("layer " + layer + " has two optimisers");
      }
      return this;
    }

    /**
     * Builds the state.
     *
     * @return the state
     * @throws IllegalArgumentException if a table of the memory cannot be trained, or an optimiser
     *     trains another one
     */
    public TrainingState build() {
      optimizers.forEach((layer, optimizer) -> {
        if (memory == null || memory.table(layer) != optimizer.table()) {
          throw new IllegalArgumentException(
              "the optimiser of layer "
                  + layer
                  + " trains "
                  + optimizer.table().name()
                  + ", expected the table of that layer of the memory");
        }
      });
      return new TrainingState(this);
    }
  }
}
