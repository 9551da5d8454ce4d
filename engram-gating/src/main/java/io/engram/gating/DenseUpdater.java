// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.EngramException;
import io.engram.Tensor;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.learning.GradientUpdater;
import org.nd4j.linalg.learning.config.IUpdater;

/**
 * Trains ND4J arrays in place by one of ND4J's own rules, such as {@code Adam}: the dense weights
 * beside a table, whoever computed their gradients.
 *
 * <p>Not thread-safe.
 */
public final class DenseUpdater {
  private final IUpdater rule;
  private final Map<String, Trained> trained = new LinkedHashMap<>();
  private int steps;

  /**
   * A weight with what the rule remembers of it.
   *
   * @param array the weight itself
   * @param updater the rule
   * @param state [1, n], or null if it remembers nothing
   */
  private record Trained(INDArray array, GradientUpdater<?> updater, INDArray state) {}

  /**
   * An updater of some weights, which has taken no step yet.
   *
   * @param rule the rule with its rates; copied
   * @param weights FLOAT or DOUBLE arrays by name, in 'c' order and in no workspace; they are
   *     changed in place
   * @throws IllegalArgumentException naming an array that is of another type or order
   */
  public DenseUpdater(IUpdater rule, Map<String, INDArray> weights) {
    this.rule = rule.clone();
    weights.forEach((name, array) -> trained.put(name, trained(name, array)));
  }

  private Trained trained(String name, INDArray array) {
    DataType type = array.dataType();
    if (type != DataType.FLOAT && type != DataType.DOUBLE) {
      throw new IllegalArgumentException(name + " is " + type + ", expected FLOAT or DOUBLE");
    }
    if (array.isAttached() || !HostMemory.isContiguous(array)) {
      throw new IllegalArgumentException(
          name + " lies in a workspace or is not contiguous in 'c' order: give a copy");
    }
    long size = rule.stateSize(array.length());
    if (size == 0) {
      return new Trained(array, rule.instantiate((INDArray) null, false), null);
    }
    try (MemoryWorkspace _ = Nd4j.getWorkspaceManager().scopeOutOfWorkspaces()) {
      INDArray state = Nd4j.zeros(type, 1, size);
      return new Trained(array, rule.instantiate(state, true), state);
    }
  }

  /**
   * Takes a step. A gradient that is not finite is refused before anything has changed.
   *
   * @param gradients of the loss, at least one for each weight, by name; left as they are
   * @throws IllegalArgumentException if a gradient is missing, or of another shape than its weight
   * @throws EngramException naming weight and element, if a gradient holds a NaN or an infinity
   */
  public void step(Map<String, INDArray> gradients) {
    check(gradients);
    try (MemoryWorkspace _ = Nd4jForward.workspace()) {
      trained.forEach((name, weight) -> {
        INDArray array = weight.array();
        INDArray update = Nd4j.createUninitialized(array.dataType(), array.shape(), 'c');
        update.assign(gradients.get(name));
        weight.updater().applyUpdater(update.reshape('c', 1, update.length()), steps, 0);
        array.subi(update);
      });
    }
    steps++;
  }

  /** Refuses gradients that no step can be taken with. */
  void check(Map<String, INDArray> gradients) {
    trained.forEach((name, weight) -> {
      INDArray gradient = gradients.get(name);
      if (gradient == null) {
        throw new IllegalArgumentException("there is no gradient of " + name);
      }
      if (!gradient.equalShapes(weight.array())) {
        throw new IllegalArgumentException(
            "the gradient of %s is %s, expected %s"
                .formatted(
                    name,
                    Arrays.toString(gradient.shape()),
                    Arrays.toString(weight.array().shape())));
      }
      checkFinite(name, gradient);
    });
  }

  static void checkFinite(String name, INDArray gradient) {
    if (Double.isFinite(gradient.sumNumber().doubleValue())) {
      return;
    }
    // Finite numbers may have a sum that is not.
    double[] values = gradient.dup('c').data().asDouble();
    for (int i = 0; i < values.length; i++) {
      if (!Double.isFinite(values[i])) {
        throw new EngramException(
            "the gradient of %s holds %s at element %d of %s: nothing was changed"
                .formatted(name, values[i], i, Arrays.toString(gradient.shape())));
      }
    }
  }

  /**
   * The learning rate of the next step.
   *
   * @return NaN if the rule has none
   */
  public double learningRate() {
    return rule.hasLearningRate() ? rule.getLearningRate(steps, 0) : Double.NaN;
  }

  /**
   * Sets the learning rate of the steps that follow, in place of any schedule of the rule.
   *
   * @param rate not negative, finite
   * @throws IllegalArgumentException if it is not
   * @throws IllegalStateException if the rule has no learning rate
   */
  public void learningRate(double rate) {
    if (!(rate >= 0) || Double.isInfinite(rate)) {
      throw new IllegalArgumentException("learning rate is " + rate + ", expected 0 or more");
    }
    if (!rule.hasLearningRate()) {
      throw new IllegalStateException(rule + " has no learning rate");
    }
    rule.setLrAndSchedule(rate, null);
    trained.values().forEach(t -> t.updater().getConfig().setLrAndSchedule(rate, null));
  }

  /**
   * Steps that were taken.
   *
   * @return those since it was made, and those before it was saved
   */
  public long steps() {
    return steps;
  }

  /**
   * The weights and what the rule remembers of them, in their own memory: what a checkpoint saves,
   * and fills again. The state of a weight is called as the weight with {@code .updater} behind.
   *
   * @return F32 tensors by name
   * @throws IllegalStateException if a weight is DOUBLE, which a checkpoint has no type for
   */
  public Map<String, Tensor> tensors() {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    trained.forEach((name, weight) -> {
      if (weight.array().dataType() != DataType.FLOAT) {
        throw new IllegalStateException(name + " is DOUBLE: only FLOAT can be saved");
      }
      tensors.put(name, HostMemory.tensor(weight.array()));
      if (weight.state() != null) {
        tensors.put(name + ".updater", HostMemory.tensor(weight.state()));
      }
    });
    return tensors;
  }

  /**
   * Continues a run, after the {@link #tensors} were filled with what was saved.
   *
   * @param taken how many steps had been taken
   * @throws IllegalArgumentException if the number is not 0 to 2^31 - 1
   */
  public void restore(long taken) {
    if (taken < 0 || taken > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(taken + " steps, expected 0 to 2^31 - 1");
    }
    steps = (int) taken;
    trained
        .values()
        .forEach(t -> {
          HostMemory.written(t.array());
          if (t.state() != null) {
            HostMemory.written(t.state());
          }
        });
  }
}
