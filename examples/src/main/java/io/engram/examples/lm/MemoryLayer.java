// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.gating.GateKernel;
import io.engram.stats.MeteredRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.table.TableInitializer;
import io.engram.train.AdamOptions;
import io.engram.train.TableGradients;
import io.engram.train.TableOptimizer;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * One layer's memory as a model has it: dense weights that are among the model's parameters, the
 * kernel that reads them, and the table with its gradients and its optimiser.
 */
final class MemoryLayer implements AutoCloseable {
  /**
   * Deviation of new table rows, that of the token embedding. Rows of the demo's deviation, 1,
   * would drown the streams before they have learned anything.
   */
  private static final double ROW_DEVIATION = 0.02;

  /** Where a layer's dense weights are among the parameters. */
  record Weights(
      int layer,
      Parameter projection,
      Optional<Parameter> bias,
      Parameter keyNorm,
      Parameter queryNorm,
      Optional<Parameter> convNorm,
      Optional<Parameter> conv) {

    static Weights add(Parameters parameters, EngramConfig config, int layer) {
      String name = "layer" + layer + ".memory";
      GateConfig gate = config.gate();
      long outputs = gate.projectionRows();
      long[] perStream = {gate.streams(), gate.width()};
      long channels = (long) gate.streams() * gate.width();
      // Where they start is taken from the memory itself: see MemoryLayer.
      return new Weights(
          layer,
          parameters.add(Parameter.matrix(name + ".projection", 0, outputs, config.rowWidth())),
          gate.bias()
              ? Optional.of(parameters.add(Parameter.vector(name + ".bias", 0, outputs)))
              : Optional.empty(),
          parameters.add(Parameter.vector(name + ".keyNorm", 0, perStream)),
          parameters.add(Parameter.vector(name + ".queryNorm", 0, perStream)),
          config
              .conv()
              .map(_ -> parameters.add(Parameter.vector(name + ".convNorm", 0, perStream))),
          config
              .conv()
              .map(c ->
                  parameters.add(Parameter.vector(name + ".conv", 0, channels, c.kernelSize()))));
    }

    /** The tensors of a layer of the library, each beside the parameter that it is. */
    private List<Pair> pairs(LayerWeights tensors) {
      List<Pair> pairs = new ArrayList<>();
      pairs.add(new Pair(projection, tensors.projection()));
      bias.ifPresent(p -> pairs.add(new Pair(p, tensors.bias().orElseThrow())));
      pairs.add(new Pair(keyNorm, tensors.keyNorm()));
      pairs.add(new Pair(queryNorm, tensors.queryNorm()));
      convNorm.ifPresent(p -> pairs.add(new Pair(p, tensors.convNorm().orElseThrow())));
      conv.ifPresent(p -> pairs.add(new Pair(p, tensors.conv().orElseThrow())));
      return pairs;
    }

    /** Views of an array of all gradients. */
    LayerWeights in(float[] all) {
      MemorySegment memory = MemorySegment.ofArray(all);
      return new LayerWeights(
          view(memory, projection),
          bias.map(p -> view(memory, p)),
          view(memory, keyNorm),
          view(memory, queryNorm),
          convNorm.map(p -> view(memory, p)),
          conv.map(p -> view(memory, p)));
    }

    private static Tensor view(MemorySegment memory, Parameter parameter) {
      return new Tensor(
          Dtype.F32,
          parameter.shape(),
          memory.asSlice(
              (long) parameter.offset() * Float.BYTES, (long) parameter.size() * Float.BYTES));
    }
  }

  private record Pair(Parameter parameter, Tensor tensor) {}

  private final EngramMemory memory;
  private final Weights weights;
  private final List<Pair> pairs;
  private final GateKernel kernel;
  private final TableGradients gradients;
  private final TableOptimizer optimizer;

  /** Begins with the weights that the memory begins with, and with rows of its own. */
  MemoryLayer(EngramMemory memory, Weights weights, Parameters parameters, long seed) {
    this.memory = memory;
    this.weights = weights;
    int layer = weights.layer;
    EngramConfig config = memory.config();
    TableInitializer.normal(seed, layer, ROW_DEVIATION)
        .fill(rows(), config.rowFormat(), config.headDim());
    pairs = weights.pairs(memory.weights(layer));
    for (Pair pair : pairs) {
      parameters.memory(pair.parameter).copyFrom(pair.tensor.data());
    }
    kernel = GateKernel.load(memory, layer);
    gradients = new TableGradients(memory.table(layer));
    optimizer = TableOptimizer.adam(memory.table(layer), AdamOptions.DEFAULT);
  }

  int layer() {
    return weights.layer;
  }

  EngramMemory memory() {
    return memory;
  }

  Weights weights() {
    return weights;
  }

  GateKernel kernel() {
    return kernel;
  }

  TableGradients gradients() {
    return gradients;
  }

  TableOptimizer optimizer() {
    return optimizer;
  }

  /** The rows themselves: a memory that was made, and not opened, has them in RAM. */
  RamRowStore rows() {
    RowStore store = memory.table(weights.layer).store();
    while (store instanceof MeteredRowStore metered) {
      store = metered.store();
    }
    return (RamRowStore) store;
  }

  /**
   * Takes over what the parameters are now: the memory always holds what the model computes with.
   */
  void changed(Parameters parameters) {
    for (Pair pair : pairs) {
      pair.tensor.data().copyFrom(parameters.memory(pair.parameter));
    }
    kernel.refresh();
  }

  /** Values of the table. */
  long tableParameters() {
    return memory.layout(weights.layer).rowCount() * memory.config().headDim();
  }

  @Override
  public void close() {
    optimizer.close();
  }
}
