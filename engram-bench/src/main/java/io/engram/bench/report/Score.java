// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.List;

/**
 * What a benchmark scored in one round.
 *
 * <p>Numbers are kept to five significant digits: no clock here is good for more, and the history
 * is read by people too.
 *
 * @param score the mean of the samples, in the benchmark's unit, positive
 * @param error half the width of the 99.9 % confidence interval of the mean, or null where there
 *     are too few samples for one
 * @param samples the score of each iteration, in the order of measurement
 * @param allocated bytes allocated for each operation, or null where that was not counted
 * @param resident MiB of the process in memory, at most, or null where that is not known
 * @param huge MiB of those in huge pages, at most, or null where that is not known
 */
public record Score(
    double score,
    Double error,
    List<Double> samples,
    Double allocated,
    Double resident,
    Double huge) {
  private static final MathContext DIGITS = new MathContext(5);

  /** Rounds and checks. */
  public Score {
    if (!(score > 0) || Double.isInfinite(score)) {
      throw new IllegalArgumentException("score: " + score + " is no positive number");
    }
    if (samples == null || samples.isEmpty()) {
      throw new IllegalArgumentException("samples: there are none");
    }
    score = rounded(score);
    error = rounded(error);
    samples = samples.stream().map(Score::rounded).toList();
    allocated = rounded(allocated);
    resident = rounded(resident);
    huge = rounded(huge);
  }

  private static Double rounded(Double value) {
    return value == null || !Double.isFinite(value)
        ? null
        : (Double) new BigDecimal(value).round(DIGITS).doubleValue();
  }
}
