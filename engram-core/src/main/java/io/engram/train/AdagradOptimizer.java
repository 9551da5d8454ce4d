// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.table.EngramTable;

/**
 * Row-wise Adagrad as FBGEMM and TorchRec define it: a row sums up the mean of its squared
 * gradients, and moves by the learning rate over the root of that sum. A row that is not touched
 * misses nothing.
 */
final class AdagradOptimizer extends RowOptimizer {
  private final AdagradOptions options;

  AdagradOptimizer(EngramTable table, AdagradOptions options) {
    super(table, options.learningRate(), options.step(), 1, false);
    this.options = options;
  }

  @Override
  public String name() {
    return "adagrad";
  }

  /** The mean of larger squares may be infinite, and the row would never move again. */
  @Override
  float largestGradient() {
    return 0x1p63f;
  }

  @Override
  void prepare(long step) {}

  @Override
  int update(Scratch scratch, float[] gradient, int gradientAt, long missed, int place) {
    double mean = Rows.squares(gradient, gradientAt, headDim) / headDim;
    float sum = (float) (scratch.state[0] + mean);
    scratch.state[0] = sum;
    float rate = (float) (learningRate() / (Math.sqrt(sum) + options.epsilon()));
    int largest = kernels.descend(scratch.weights, gradient, gradientAt, headDim, rate);
    // Not negative, so that its bits are its magnitude.
    return Math.max(largest, Float.floatToRawIntBits(sum));
  }
}
