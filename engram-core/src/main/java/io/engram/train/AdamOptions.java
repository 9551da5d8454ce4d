// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import java.util.Objects;

/**
 * The rates of Adam, which the paper takes for its tables, without weight decay.
 *
 * @param learningRate not negative; the paper takes five times that of the dense weights
 * @param beta1 what remains of the first moment after a step, at least 0 and less than 1
 * @param beta2 what remains of the second moment after a step, at least 0 and less than 1
 * @param epsilon added to the root of the second moment, positive
 * @param step what all optimisers have in common
 */
public record AdamOptions(
    double learningRate, double beta1, double beta2, double epsilon, StepOptions step) {
  /** Five times the paper's base learning rate of 4e-4, betas of 0.9 and 0.999, epsilon 1e-8. */
  public static final AdamOptions DEFAULT =
      new AdamOptions(5 * 4e-4, 0.9, 0.999, 1e-8, StepOptions.DEFAULT);

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if one is out of its range
   */
  public AdamOptions {
    StepOptions.rate(learningRate);
    StepOptions.share("beta1", beta1);
    StepOptions.share("beta2", beta2);
    // Less would be 0 as a float32, and 0 / 0 no update.
    StepOptions.number("epsilon", epsilon, Float.MIN_NORMAL, Double.MAX_VALUE);
    Objects.requireNonNull(step, "step");
  }

  /**
   * With another learning rate.
   *
   * @param other not negative
   * @return new options
   */
  public AdamOptions learningRate(double other) {
    return new AdamOptions(other, beta1, beta2, epsilon, step);
  }

  /**
   * With other common options.
   *
   * @param other what all optimisers have in common
   * @return new options
   */
  public AdamOptions step(StepOptions other) {
    return new AdamOptions(learningRate, beta1, beta2, epsilon, other);
  }
}
