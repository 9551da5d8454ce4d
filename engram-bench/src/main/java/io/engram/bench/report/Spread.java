// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.Arrays;
import java.util.List;

/**
 * The same quantity from every round.
 *
 * @param rounds its values, round by round: at least one, all positive
 */
public record Spread(List<Double> rounds) {
  /** Checks. */
  public Spread {
    rounds = Checks.list("rounds", rounds);
    if (rounds.isEmpty()) {
      throw new IllegalArgumentException("rounds: there are none");
    }
    for (double value : rounds) {
      if (!(value >= 0) || Double.isInfinite(value)) {
        throw new IllegalArgumentException("rounds: " + value + " is no number from 0 up");
      }
    }
  }

  /**
   * The median.
   *
   * @return the middle value, or the mean of the middle two
   */
  public double median() {
    double[] sorted = sorted();
    int middle = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  /**
   * The lowest.
   *
   * @return the smallest value
   */
  public double lowest() {
    return sorted()[0];
  }

  /**
   * The highest.
   *
   * @return the largest value
   */
  public double highest() {
    return sorted()[rounds.size() - 1];
  }

  private double[] sorted() {
    double[] sorted = rounds.stream().mapToDouble(Double::doubleValue).toArray();
    Arrays.sort(sorted);
    return sorted;
  }

  /**
   * The spread of the reciprocals.
   *
   * @return what was a time becomes a speed
   */
  public Spread inverse() {
    return new Spread(rounds.stream().map(value -> 1 / value).toList());
  }
}
