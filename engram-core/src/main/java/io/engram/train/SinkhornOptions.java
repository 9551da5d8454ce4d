// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import java.util.Objects;

/**
 * The rates of Nesterov momentum with Sinkhorn balancing, with which DeepSeek-V4.1 trains its
 * tables.
 *
 * @param learningRate not negative; that model takes five times its base rate
 * @param beta what remains of the momentum after a step, at least 0 and less than 1
 * @param gamma factor of an update whose elements have a root mean square of 1, positive
 * @param iterations normalisations, of rows and columns in turn; odd, so that the last is of rows
 * @param tau rows whose norm is at most this share of the mean do not move; at least 0
 * @param epsilon added to every norm, positive
 * @param step what all optimisers have in common
 */
public record SinkhornOptions(
    double learningRate,
    double beta,
    double gamma,
    int iterations,
    double tau,
    double epsilon,
    StepOptions step) {
  /**
   * The model's: five times its base learning rate of 2.6e-4, beta 0.95, gamma 0.18, 11
   * normalisations, tau 1e-3, epsilon 1e-20.
   */
  public static final SinkhornOptions DEFAULT =
      new SinkhornOptions(5 * 2.6e-4, 0.95, 0.18, 11, 1e-3, 1e-20, StepOptions.DEFAULT);

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if one is out of its range
   */
  public SinkhornOptions {
    StepOptions.rate(learningRate);
    StepOptions.share("beta", beta);
    StepOptions.number("gamma", gamma, Double.MIN_NORMAL, Double.MAX_VALUE);
    StepOptions.number("tau", tau, 0, Double.MAX_VALUE);
    StepOptions.number("epsilon", epsilon, Double.MIN_NORMAL, Double.MAX_VALUE);
    if (iterations < 1 || iterations % 2 == 0) {
      throw new IllegalArgumentException(
          "iterations is " + iterations + ", expected an odd number, so that the last is of rows");
    }
    Objects.requireNonNull(step, "step");
  }

  /**
   * With another learning rate.
   *
   * @param other not negative
   * @return new options
   */
  public SinkhornOptions learningRate(double other) {
    return new SinkhornOptions(other, beta, gamma, iterations, tau, epsilon, step);
  }

  /**
   * With other common options.
   *
   * @param other what all optimisers have in common
   * @return new options
   */
  public SinkhornOptions step(StepOptions other) {
    return new SinkhornOptions(learningRate, beta, gamma, iterations, tau, epsilon, other);
  }
}
