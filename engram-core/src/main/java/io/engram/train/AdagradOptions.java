// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import java.util.Objects;

/**
 * The rates of row-wise Adagrad, which remembers one number a row.
 *
 * @param learningRate not negative
 * @param epsilon added to the root of what a row has summed up, positive
 * @param step what all optimisers have in common
 */
public record AdagradOptions(double learningRate, double epsilon, StepOptions step) {
  /** A learning rate of 0.01 and an epsilon of 1e-8, the defaults of FBGEMM. */
  public static final AdagradOptions DEFAULT = new AdagradOptions(0.01, 1e-8, StepOptions.DEFAULT);

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if one is out of its range
   */
  public AdagradOptions {
    StepOptions.rate(learningRate);
    StepOptions.number("epsilon", epsilon, Float.MIN_NORMAL, Double.MAX_VALUE);
    Objects.requireNonNull(step, "step");
  }

  /**
   * With another learning rate.
   *
   * @param other not negative
   * @return new options
   */
  public AdagradOptions learningRate(double other) {
    return new AdagradOptions(other, epsilon, step);
  }

  /**
   * With other common options.
   *
   * @param other what all optimisers have in common
   * @return new options
   */
  public AdagradOptions step(StepOptions other) {
    return new AdagradOptions(learningRate, epsilon, other);
  }
}
