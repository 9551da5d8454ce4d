// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * The dense weights of one layer, or their gradients, as ND4J arrays that ND4J's updaters can train
 * and as {@link LayerWeights} over the very same memory.
 *
 * <p>The arrays are FLOAT, in 'c' order, in no workspace, and have the names and shapes of {@link
 * LayerWeights}: {@code projection} [(S+1)*W, E], {@code bias} [(S+1)*W], {@code keyNorm} and
 * {@code queryNorm} [S, W], {@code convNorm} [S, W] and {@code conv} [S*W, K]; those that the
 * variant lacks are absent. Change what they hold, not the arrays themselves.
 *
 * <p>Not thread-safe.
 */
public final class Nd4jWeights {
  static final String PROJECTION = "projection";
  static final String BIAS = "bias";
  static final String KEY_NORM = "keyNorm";
  static final String QUERY_NORM = "queryNorm";
  static final String CONV_NORM = "convNorm";
  static final String CONV = "conv";

  private final Map<String, INDArray> arrays;
  private final LayerWeights weights;

  Nd4jWeights(Map<String, INDArray> arrays) {
    this.arrays = Collections.unmodifiableMap(arrays);
    this.weights =
        new LayerWeights(
            tensor(PROJECTION).orElseThrow(),
            tensor(BIAS),
            tensor(KEY_NORM).orElseThrow(),
            tensor(QUERY_NORM).orElseThrow(),
            tensor(CONV_NORM),
            tensor(CONV));
  }

  /**
   * Weights of a new layer, as {@link LayerWeights#initial} makes them.
   *
   * @param gate the gate
   * @param conv the convolution, where the variant has one
   * @param rowWidth E: values that one token retrieves, columns * head dim
   * @param seed seed of the projections; the same seed gives the same weights everywhere
   * @return the weights
   */
  public static Nd4jWeights initial(
      GateConfig gate, Optional<ConvConfig> conv, int rowWidth, long seed) {
    try (Arena arena = Arena.ofConfined()) {
      return copyOf(LayerWeights.initial(gate, conv, rowWidth, seed, arena));
    }
  }

  /**
   * A copy of weights, for example of those of an opened memory; a narrower projection is widened
   * to FLOAT, which loses nothing.
   *
   * @param weights the weights
   * @return the copy
   * @throws IllegalArgumentException if an F8_E4M3 projection holds what is no number
   */
  public static Nd4jWeights copyOf(LayerWeights weights) {
    Map<String, INDArray> arrays = new LinkedHashMap<>();
    try (Arena arena = Arena.ofConfined()) {
      tensors(weights, arena).forEach((name, tensor) -> arrays.put(name, copy(name, tensor)));
    }
    return new Nd4jWeights(arrays);
  }

  private static Map<String, Tensor> tensors(LayerWeights weights, Arena arena) {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    tensors.put(PROJECTION, weights.widenedProjection(arena));
    weights.bias().ifPresent(t -> tensors.put(BIAS, t));
    tensors.put(KEY_NORM, weights.keyNorm());
    tensors.put(QUERY_NORM, weights.queryNorm());
    weights.convNorm().ifPresent(t -> tensors.put(CONV_NORM, t));
    weights.conv().ifPresent(t -> tensors.put(CONV, t));
    return tensors;
  }

  private static INDArray copy(String name, Tensor tensor) {
    if (tensor.dtype() != Dtype.F32 && tensor.dtype() != Dtype.BF16) {
      throw new IllegalArgumentException(name + " is " + tensor + ", expected F32 or BF16");
    }
    INDArray array = zeros(tensor.shape());
    MemorySegment memory = HostMemory.of(array);
    // In parts, since a projection may have more elements than an array.
    float[] part = new float[(int) Math.min(tensor.count(), 1 << 20)];
    short[] shorts = new short[part.length];
    for (long from = 0; from < tensor.count(); from += part.length) {
      int count = (int) Math.min(part.length, tensor.count() - from);
      Memory.read(GateLoops.CHOSEN, tensor.data(), tensor.dtype(), from, shorts, part, count);
      MemorySegment.copy(part, 0, memory, Memory.FLOAT, from * Float.BYTES, count);
    }
    HostMemory.written(array);
    return array;
  }

  private static INDArray zeros(long[] shape) {
    try (MemoryWorkspace _ = Nd4j.getWorkspaceManager().scopeOutOfWorkspaces()) {
      return Nd4j.zeros(DataType.FLOAT, shape);
    }
  }

  private Optional<Tensor> tensor(String name) {
    return Optional.ofNullable(arrays.get(name)).map(HostMemory::tensor);
  }

  /**
   * Zeros in the shape of these weights: what {@link EngramLayer.Recorded#backward} adds gradients
   * up in.
   *
   * @return zeros
   */
  public Nd4jWeights zeros() {
    Map<String, INDArray> zeros = new LinkedHashMap<>();
    arrays.forEach((name, array) -> zeros.put(name, zeros(array.shape())));
    return new Nd4jWeights(zeros);
  }

  /**
   * Puts the values into other weights: those of a memory, before it is saved.
   *
   * @param target weights of the same shapes, all F32, in memory that can be written
   * @throws IllegalArgumentException naming the tensor that is missing, or of another shape or type
   */
  public void copyTo(LayerWeights target) {
    Map<String, Tensor> from = tensors(weights(), Arena.ofAuto());
    Map<String, Tensor> to = tensors(target, Arena.ofAuto());
    if (!from.keySet().equals(to.keySet())) {
      throw new IllegalArgumentException(
          "the target has " + to.keySet() + ", expected " + from.keySet());
    }
    from.forEach((name, tensor) -> {
      if (to.get(name).dtype() != Dtype.F32 || !to.get(name).hasShape(tensor.shape())) {
        throw new IllegalArgumentException(
            name + " is " + to.get(name) + " in the target, expected " + tensor);
      }
    });
    from.forEach((name, tensor) -> to.get(name).data().copyFrom(tensor.data()));
  }

  /** Sets all values to zero, for the next batch of gradients. */
  public void clear() {
    arrays.values().forEach(array -> array.assign(0));
  }

  /**
   * The arrays by name, in the order of {@link LayerWeights}.
   *
   * @return the arrays themselves, in an unmodifiable map
   */
  public Map<String, INDArray> arrays() {
    return arrays;
  }

  /**
   * The same memory for those who take {@link LayerWeights}: {@link GateKernel}, {@link
   * EngramLayer}, a checkpoint. On a backend with device memory, ask again after the arrays were
   * changed: asking is what brings the values to the host.
   *
   * @return a view, all F32; it keeps the memory
   */
  public LayerWeights weights() {
    arrays.values().forEach(HostMemory::of);
    return weights;
  }
}
