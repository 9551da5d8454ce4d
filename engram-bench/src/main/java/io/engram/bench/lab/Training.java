// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.examples.lm.LanguageModel;
import java.util.ArrayList;
import java.util.List;
import java.util.function.LongFunction;

/**
 * How all models of an experiment are trained: the same number of steps on the same batches in the
 * same order, by a rate that rises over the first twentieth and then falls to a tenth by a cosine.
 *
 * @param steps number of steps
 * @param rate the highest rate of dense parameters; tables have five times as much
 * @param evaluations how often the held-out loss is taken, spread evenly, the last time at the end
 */
record Training(int steps, double rate, int evaluations) {
  private static final double WARM_UP = 0.05;
  private static final double LAST = 0.1;

  /** Mean loss that is taken as the curve of a training. */
  @FunctionalInterface
  interface Evaluation {
    double loss(LanguageModel model);
  }

  /**
   * Trains.
   *
   * @param model the model
   * @param batches the batch of each step
   * @param evaluation of the curve
   * @param progress is told of each step
   * @return steps and held-out losses
   */
  List<double[]> run(
      LanguageModel model, LongFunction<int[][]> batches, Evaluation evaluation, Steps progress) {
    List<double[]> curve = new ArrayList<>();
    for (int step = 0; step < steps; step++) {
      if ((long) step * evaluations % steps < evaluations) {
        curve.add(new double[] {step, evaluation.loss(model)});
      }
      model.train(batches.apply(step), rateAt(step));
      progress.done(step + 1, steps);
    }
    curve.add(new double[] {steps, evaluation.loss(model)});
    return curve;
  }

  double rateAt(int step) {
    double warm = Math.max(1, WARM_UP * steps);
    if (step < warm) {
      return rate * (step + 1) / (warm + 1);
    }
    double share = (step - warm) / Math.max(1, steps - warm);
    return rate * (LAST + (1 - LAST) * (1 + Math.cos(Math.PI * share)) / 2);
  }
}
