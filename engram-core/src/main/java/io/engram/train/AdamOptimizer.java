// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.table.EngramTable;

/**
 * Adam (Kingma and Ba, 2015) as PyTorch computes it, on rows that are touched now and then.
 *
 * <p>A row's state is its first moments, its second moments and the step of its last touch, one
 * after the other: one place in memory for each row beside the row itself. Bias is corrected by the
 * steps that were taken, whether they touched the row or not, as if it had had gradients of zero.
 */
final class AdamOptimizer extends RowOptimizer {
  private final AdamOptions options;
  private final Powers powers1;
  private final Powers powers2;
  private final float take1;
  private final float take2;
  private float rate;
  private float spread;

  AdamOptimizer(EngramTable table, AdamOptions options) {
    super(
        table,
        options.learningRate(),
        options.step(),
        Math.multiplyExact(2, table.headDim()),
        true);
    this.options = options;
    powers1 = new Powers(options.beta1());
    powers2 = new Powers(options.beta2());
    take1 = (float) (1 - options.beta1());
    take2 = (float) (1 - options.beta2());
  }

  @Override
  public String name() {
    return "adam";
  }

  /** A larger second moment would be infinite, and the row would never move again. */
  @Override
  float largestGradient() {
    return 0x1p63f;
  }

  @Override
  void prepare(long step) {
    rate = (float) (learningRate() / (1 - powers1.of(step)));
    spread = (float) (1 / Math.sqrt(1 - powers2.of(step)));
  }

  @Override
  int update(Scratch scratch, float[] gradient, int gradientAt, long missed, int place) {
    return kernels.adam(
        scratch.weights,
        scratch.state,
        gradient,
        gradientAt,
        headDim,
        (float) powers1.of(missed + 1),
        take1,
        (float) powers2.of(missed + 1),
        take2,
        rate,
        spread,
        (float) options.epsilon());
  }
}
