// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.NDArrayIndex;
import org.nd4j.linalg.learning.AdamUpdater;
import org.nd4j.linalg.learning.config.Adam;

/** ND4J's Adam over all dense parameters at once, with decoupled weight decay of the matrices. */
final class DenseOptimizer {
  private final Parameters parameters;
  private final Recipe recipe;
  private final Adam adam;
  private final AdamUpdater updater;
  private final INDArray moments;
  private final INDArray update;
  private final INDArray matrices;

  DenseOptimizer(Parameters parameters, Recipe recipe) {
    this.parameters = parameters;
    this.recipe = recipe;
    adam =
        Adam.builder()
            .learningRate(1)
            .beta1(recipe.beta1())
            .beta2(recipe.beta2())
            .epsilon(recipe.epsilon())
            .build();
    updater = new AdamUpdater(adam);
    int size = parameters.size();
    moments = Nd4j.create(DataType.FLOAT, 1, 2L * size);
    updater.setStateViewArray(moments, new long[] {1, size}, 'c', true);
    update = Nd4j.create(DataType.FLOAT, 1, size);
    matrices =
        parameters
            .array()
            .get(NDArrayIndex.all(), NDArrayIndex.interval(0, parameters.matrixSize()));
  }

  /** The memory of both moments, [2, size]. */
  MemorySegment moments() {
    return Parameters.memoryOf(moments);
  }

  /** Applies a gradient, which has been looked at, as the step after {@code steps} others. */
  void step(float[] gradient, double learningRate, long steps) {
    MemorySegment.copy(
        gradient, 0, Parameters.memoryOf(update), ValueLayout.JAVA_FLOAT, 0, gradient.length);
    adam.setLearningRate(learningRate);
    updater.applyUpdater(update, Math.toIntExact(steps), 0);
    if (recipe.weightDecay() > 0) {
      matrices.muli(1 - learningRate * recipe.weightDecay());
    }
    parameters.array().subi(update);
    parameters.changed();
  }
}
