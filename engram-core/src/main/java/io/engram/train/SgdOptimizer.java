// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.table.EngramTable;

/**
 * Gradient descent with momentum as PyTorch computes it (no dampening), on rows that are touched
 * now and then. A row's state is its momentum and the step of its last touch; without momentum it
 * has none.
 */
final class SgdOptimizer extends RowOptimizer {
  private final SgdOptions options;
  private final Powers powers;
  private float rate;

  SgdOptimizer(EngramTable table, SgdOptions options) {
    super(
        table,
        options.learningRate(),
        options.step(),
        options.momentum() == 0 ? 0 : table.headDim(),
        options.momentum() != 0);
    this.options = options;
    powers = new Powers(options.momentum());
  }

  @Override
  public String name() {
    return "sgd";
  }

  @Override
  float largestGradient() {
    return Float.MAX_VALUE;
  }

  @Override
  void prepare(long step) {
    rate = (float) learningRate();
  }

  @Override
  int update(Scratch scratch, float[] gradient, int gradientAt, long missed, int place) {
    return options.momentum() == 0
        ? kernels.descend(scratch.weights, gradient, gradientAt, headDim, rate)
        : kernels.momentum(
            scratch.weights,
            scratch.state,
            gradient,
            gradientAt,
            headDim,
            (float) powers.of(missed + 1),
            rate,
            options.nesterov() ? (float) options.momentum() : 0);
  }
}
