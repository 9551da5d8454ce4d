// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/**
 * How a model is trained, apart from the learning rate, which its caller schedules.
 *
 * @param beta1 decay of Adam's first moment, 0 to below 1
 * @param beta2 decay of Adam's second moment, 0 to below 1
 * @param epsilon of Adam, positive
 * @param weightDecay decoupled decay of matrices (AdamW), at least 0; tables, norms and other
 *     vectors have none
 * @param clip the largest norm of the gradient of all dense parameters, positive; a larger gradient
 *     is scaled to it, that of the tables by the same factor
 * @param tableRate learning rate of the tables over that of the dense parameters (the paper: 5),
 *     positive
 * @param shards parts of a batch that are computed at the same time, each by one thread; a model
 *     trained with another number has other rounding errors
 */
public record Recipe(
    double beta1,
    double beta2,
    double epsilon,
    double weightDecay,
    double clip,
    double tableRate,
    int shards) {

  /**
   * Adam with 0.9, 0.95 and 1e-8, decay 0.1, norms to 1, tables 5 times as fast, 2 shards: betas
   * and decay as DeepSeek-V4.1 was trained with, the tables' rate as in the paper.
   */
  public static final Recipe DEFAULT = new Recipe(0.9, 0.95, 1e-8, 0.1, 1, 5, 2);

  /** Checks the ranges. */
  public Recipe {
    if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1)) {
      throw new IllegalArgumentException(
          "beta1 " + beta1 + " and beta2 " + beta2 + ", expected 0 to below 1");
    }
    if (!(epsilon > 0 && weightDecay >= 0 && clip > 0 && tableRate > 0)) {
      throw new IllegalArgumentException(
          "epsilon %s, weightDecay %s, clip %s, tableRate %s: expected positive numbers"
              .formatted(epsilon, weightDecay, clip, tableRate));
    }
    if (shards < 1) {
      throw new IllegalArgumentException("shards is " + shards + ", expected at least 1");
    }
  }
}
