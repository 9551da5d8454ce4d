// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.hash.kernel.Workers;
import java.util.Objects;

/**
 * What all optimisers of tables have in common.
 *
 * @param badGradient what to do about a gradient that is not finite
 * @param seed seed of stochastic rounding; without effect on F32 tables
 * @param threads at most this many threads work, the caller's included; at least 1
 */
public record StepOptions(BadGradient badGradient, long seed, int threads) {
  /** What becomes of a step in which a gradient is NaN, infinite or too large to be squared. */
  public enum BadGradient {
    /** The step throws an exception that names the gradient. */
    REFUSE,
    /** The step is left out, and counted by {@link TableOptimizer#skipped}. */
    SKIP
  }

  /** Refuses bad gradients, seed 0, all processors. */
  public static final StepOptions DEFAULT =
      new StepOptions(BadGradient.REFUSE, 0, Workers.AVAILABLE);

  /**
   * Checks the values.
   *
   * @throws IllegalArgumentException if the number of threads is less than 1
   */
  public StepOptions {
    Objects.requireNonNull(badGradient, "badGradient");
    if (threads < 1) {
      throw new IllegalArgumentException("threads is " + threads + ", expected at least 1");
    }
  }

  /**
   * With another treatment of bad gradients.
   *
   * @param other what to do about them
   * @return new options
   */
  public StepOptions badGradient(BadGradient other) {
    return new StepOptions(other, seed, threads);
  }

  /**
   * With another seed.
   *
   * @param other any number
   * @return new options
   */
  public StepOptions seed(long other) {
    return new StepOptions(badGradient, other, threads);
  }

  /**
   * With another number of threads.
   *
   * @param other at least 1
   * @return new options
   */
  public StepOptions threads(int other) {
    return new StepOptions(badGradient, seed, other);
  }

  /** A learning rate is a number that is not negative. */
  static double rate(double value) {
    return number("learningRate", value, 0, Double.MAX_VALUE);
  }

  /** Checks that a number lies between two, and is one. */
  static double number(String name, double value, double least, double most) {
    if (!(value >= least && value <= most)) {
      throw new IllegalArgumentException(
          name
              + " is "
              + value
              + (most == Double.MAX_VALUE
                  ? ", expected a finite number of at least " + least
                  : ", expected " + least + " to " + most));
    }
    return value;
  }

  /** Checks that a share of what was is kept: at least nothing, less than all. */
  static double share(String name, double value) {
    if (!(value >= 0 && value < 1)) {
      throw new IllegalArgumentException(
          name + " is " + value + ", expected at least 0 and less than 1");
    }
    return value;
  }
}
