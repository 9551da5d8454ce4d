// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import java.util.Objects;

/**
 * The rates of gradient descent with momentum.
 *
 * @param learningRate not negative
 * @param momentum what remains of the momentum after a step, at least 0 and less than 1; 0 has none
 *     and needs no memory for it
 * @param nesterov whether a row moves by where its momentum will be rather than by where it is
 * @param step what all optimisers have in common
 */
public record SgdOptions(double learningRate, double momentum, boolean nesterov, StepOptions step) {
  /** A learning rate of 0.01 and a momentum of 0.9, without Nesterov's look ahead. */
  public static final SgdOptions DEFAULT = new SgdOptions(0.01, 0.9, false, StepOptions.DEFAULT);

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if one is out of its range, or there is no momentum to look
   *     ahead by
   */
  public SgdOptions {
    StepOptions.rate(learningRate);
    StepOptions.share("momentum", momentum);
    if (nesterov && momentum == 0) {
      throw new IllegalArgumentException("momentum is 0, expected more for nesterov to look ahead");
    }
    Objects.requireNonNull(step, "step");
  }

  /**
   * With another learning rate.
   *
   * @param other not negative
   * @return new options
   */
  public SgdOptions learningRate(double other) {
    return new SgdOptions(other, momentum, nesterov, step);
  }

  /**
   * With other common options.
   *
   * @param other what all optimisers have in common
   * @return new options
   */
  public SgdOptions step(StepOptions other) {
    return new SgdOptions(learningRate, momentum, nesterov, other);
  }
}
