// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/**
 * How long and how fast a model is trained, and when it is looked at.
 *
 * @param steps of training, at least 1
 * @param batch sequences of a step, at least 1
 * @param learningRate of the dense parameters at its highest, positive
 * @param warmup steps in which the learning rate rises from nothing in a line, 0 to steps
 * @param finalShare what is left of the learning rate at the end of the cosine that follows, 0 to 1
 * @param seed of the order of the data
 * @param evaluateEvery steps between two looks at held-out text, at least 1; the last step is
 *     always followed by one
 * @param evaluationWindows held-out sequences of a look at most, at least 1
 * @param saveEvery steps between two checkpoints, at least 1; the last step is always followed by
 *     one
 */
public record TrainingPlan(
    long steps,
    int batch,
    double learningRate,
    long warmup,
    double finalShare,
    long seed,
    long evaluateEvery,
    int evaluationWindows,
    long saveEvery) {

  /** Checks the ranges. */
  public TrainingPlan {
    if (steps < 1 || batch < 1 || evaluateEvery < 1 || evaluationWindows < 1 || saveEvery < 1) {
      throw new IllegalArgumentException(
          "steps %d, batch %d, evaluateEvery %d, evaluationWindows %d, saveEvery %d: expected at"
                  .formatted(steps, batch, evaluateEvery, evaluationWindows, saveEvery)
              + " least 1");
    }
    if (!(learningRate > 0) || Double.isInfinite(learningRate)) {
      throw new IllegalArgumentException(
          "learningRate is " + learningRate + ", expected a positive number");
    }
    if (warmup < 0 || warmup > steps) {
      throw new IllegalArgumentException("warmup is " + warmup + ", expected 0 to " + steps);
    }
    if (!(finalShare >= 0 && finalShare <= 1)) {
      throw new IllegalArgumentException("finalShare is " + finalShare + ", expected 0 to 1");
    }
  }

  /**
   * A plan of so many steps: a twentieth of them to warm up, down to a tenth of the learning rate,
   * twenty looks at 128 held-out sequences and ten checkpoints on the way, fewer if those would be
   * less than ten steps apart.
   *
   * @param steps of training
   * @param batch sequences of a step
   * @param learningRate at its highest
   * @param seed of the order of the data
   * @return the plan
   */
  public static TrainingPlan of(long steps, int batch, double learningRate, long seed) {
    return new TrainingPlan(
        steps,
        batch,
        learningRate,
        steps / 20,
        0.1,
        seed,
        Math.max(10, steps / 20),
        128,
        Math.max(10, steps / 10));
  }

  /**
   * The learning rate of a step.
   *
   * @param step 0 to steps - 1
   * @return a positive number, or 0 at the very end if finalShare is
   */
  public double learningRate(long step) {
    if (step < warmup) {
      return learningRate * (step + 1) / warmup;
    }
    double way = steps - warmup < 2 ? 0 : (double) (step - warmup) / (steps - warmup - 1);
    double cosine = (1 + Math.cos(Math.PI * Math.min(1, way))) / 2;
    return learningRate * (finalShare + (1 - finalShare) * cosine);
  }
}
