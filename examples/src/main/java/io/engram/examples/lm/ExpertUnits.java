// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.examples.lm.Blas.Matrix;
import java.util.Arrays;

/**
 * A mixture of experts: a router, the units it chooses from, and one unit that stands for all
 * shared experts, whose sum it is. Rows of tokens are brought together by expert, so that each
 * expert is two products, whatever the number of its tokens.
 */
final class ExpertUnits implements FeedForwardPart {
  /** The router, what balances it, the stacked experts, and the shared unit or null. */
  record Weights(
      Parameter router, Parameter balance, DenseUnit.Weights experts, DenseUnit.Weights shared) {
    static Weights add(Parameters parameters, String name, ModelConfig config) {
      FeedForward mixture = config.feedForward();
      int width = config.width();
      int shared = mixture.shared() * mixture.hidden();
      return new Weights(
          parameters.add(
              Parameter.matrix(name + ".router", 1 / Math.sqrt(width), width, mixture.experts())),
          parameters.add(
              Parameter.of(
                  name + ".balance", Parameter.Kind.BALANCE, (_, _) -> 0f, mixture.experts())),
          DenseUnit.Weights.add(
              parameters, name + ".experts", config, mixture.hidden(), mixture.experts()),
          shared == 0
              ? null
              : DenseUnit.Weights.add(parameters, name + ".shared", config, shared, 0));
    }
  }

  private final Weights weights;
  private final float[] values;
  private final float[] gradient;
  private final int width;
  private final int hidden;
  private final int experts;
  private final int active;
  private final Nonlinearity nonlinearity;
  private final DenseUnit shared;

  /** Tokens of each expert, and where its rows start. */
  private final int[] counts;

  private final int[] starts;

  /** Tokens of each expert since they were last taken. */
  private final long[] loads;

  private float[] input = {};

  /** [tokens, experts]: what the router says of each expert, as probabilities. */
  private float[] chances = {};

  /** [tokens, active]: the experts of a token, their weights, and where their rows are. */
  private int[] chosen = {};

  private float[] share = {};
  private int[] places = {};

  /** [tokens * active, ...] by expert. */
  private float[] rows = {};

  private float[] in = {};
  private float[] units = {};
  private float[] results = {};
  private float[] sharedResult = {};
  private float[] dChances = {};
  private final float[] row;
  private final float[] other;

  ExpertUnits(ModelConfig config, Weights weights, float[] values, float[] gradient) {
    FeedForward mixture = config.feedForward();
    this.weights = weights;
    this.values = values;
    this.gradient = gradient;
    width = config.width();
    hidden = mixture.hidden();
    experts = mixture.experts();
    active = mixture.active();
    nonlinearity = new Nonlinearity(mixture.activation(), hidden);
    shared =
        weights.shared == null
            ? null
            : new DenseUnit(config, mixture.shared() * hidden, weights.shared, values, gradient);
    counts = new int[experts];
    starts = new int[experts];
    loads = new long[experts];
    row = new float[width];
    other = new float[width];
  }

  /** Adds the tokens of each expert since the last call, and forgets them. */
  void takeLoads(long[] sums) {
    for (int e = 0; e < experts; e++) {
      sums[e] += loads[e];
      loads[e] = 0;
    }
  }

  @Override
  public void forward(float[] x, int tokens, float[] y) {
    input = x;
    route(tokens);
    int inputs = nonlinearity.inputs();
    int all = tokens * active;
    rows = Loops.atLeast(rows, all, width);
    in = Loops.atLeast(in, all, inputs);
    units = Loops.atLeast(units, all, hidden);
    results = Loops.atLeast(results, all, width);
    for (int i = 0; i < all; i++) {
      System.arraycopy(x, i / active * width, rows, places[i] * width, width);
    }
    for (int e = 0; e < experts; e++) {
      Blas.product(
          counts[e],
          inputs,
          width,
          rowsOf(rows, e, width),
          inOf(values, e),
          0,
          rowsOf(in, e, inputs));
    }
    nonlinearity.forward(in, all, units);
    for (int e = 0; e < experts; e++) {
      Blas.product(
          counts[e],
          width,
          hidden,
          rowsOf(units, e, hidden),
          outOf(values, e),
          0,
          rowsOf(results, e, width));
    }
    if (shared != null) {
      shared.forward(x, tokens, y);
    } else {
      Arrays.fill(y, 0, tokens * width, 0);
    }
    for (int t = 0; t < tokens; t++) {
      System.arraycopy(y, t * width, row, 0, width);
      for (int k = t * active; k < (t + 1) * active; k++) {
        System.arraycopy(results, places[k] * width, other, 0, width);
        Loops.addScaled(other, share[k], row, 0, width);
      }
      System.arraycopy(row, 0, y, t * width, width);
    }
  }

  /** Probabilities, the experts of each token, and where the rows of each expert lie. */
  private void route(int tokens) {
    chances = Loops.atLeast(chances, tokens, experts);
    share = Loops.atLeast(share, tokens, active);
    if (chosen.length < tokens * active) {
      chosen = new int[tokens * active];
      places = new int[tokens * active];
    }
    Blas.product(
        tokens,
        experts,
        width,
        new Matrix(input, 0, width),
        weights.router.in(values),
        0,
        new Matrix(chances, 0, experts));
    Arrays.fill(counts, 0);
    for (int t = 0; t < tokens; t++) {
      int at = t * experts;
      Loops.exp(chances, at, at + experts, Loops.largest(chances, at, at + experts));
      Loops.scale(chances, at, at + experts, 1 / Loops.sum(chances, at, at + experts));
      float sum = 0;
      for (int k = 0; k < active; k++) {
        int best = choose(at, t * active, k);
        chosen[t * active + k] = best;
        counts[best]++;
        share[t * active + k] = chances[at + best];
        sum += chances[at + best];
      }
      if (active > 1) {
        Loops.scale(share, t * active, (t + 1) * active, 1 / sum);
      }
    }
    int start = 0;
    for (int e = 0; e < experts; e++) {
      starts[e] = start;
      start += counts[e];
      loads[e] += counts[e];
      counts[e] = 0;
    }
    for (int i = 0; i < tokens * active; i++) {
      int e = chosen[i];
      places[i] = starts[e] + counts[e]++;
    }
  }

  /** The best expert that is not among the first k of this token. */
  private int choose(int at, int chosenAt, int k) {
    int bias = weights.balance.offset();
    int best = -1;
    float bestScore = 0;
    for (int e = 0; e < experts; e++) {
      float score = chances[at + e] + values[bias + e];
      if ((best < 0 || score > bestScore) && !isChosen(chosenAt, k, e)) {
        best = e;
        bestScore = score;
      }
    }
    return best;
  }

  private boolean isChosen(int from, int count, int expert) {
    for (int i = from; i < from + count; i++) {
      if (chosen[i] == expert) {
        return true;
      }
    }
    return false;
  }

  @Override
  public void backward(float[] dy, int tokens, float[] dx) {
    dChances = Loops.atLeast(dChances, tokens, experts);
    routeBackward(dy, tokens);
    int inputs = nonlinearity.inputs();
    int all = tokens * active;
    // What an expert returned is not needed any more: its gradient takes its place.
    for (int i = 0; i < all; i++) {
      System.arraycopy(dy, i / active * width, row, 0, width);
      Loops.scale(row, 0, width, share[i]);
      System.arraycopy(row, 0, results, places[i] * width, width);
    }
    for (int e = 0; e < experts; e++) {
      Matrix d = rowsOf(results, e, width);
      Matrix u = rowsOf(units, e, hidden);
      Blas.transposedBy(hidden, width, counts[e], 1, u, d, 1, outOf(gradient, e));
      Blas.byTransposed(counts[e], hidden, width, 1, d, outOf(values, e), u);
    }
    nonlinearity.backward(in, all, units);
    for (int e = 0; e < experts; e++) {
      Matrix d = rowsOf(in, e, inputs);
      Matrix r = rowsOf(rows, e, width);
      Blas.transposedBy(width, inputs, counts[e], 1, r, d, 1, inOf(gradient, e));
      Blas.byTransposed(counts[e], width, inputs, 1, d, inOf(values, e), r);
    }
    Matrix dScores = new Matrix(dChances, 0, experts);
    Matrix x = new Matrix(input, 0, width);
    Blas.transposedBy(width, experts, tokens, 1, x, dScores, 1, weights.router.in(gradient));
    Matrix dInput = new Matrix(dx, 0, width);
    Blas.byTransposed(tokens, width, experts, 1, dScores, weights.router.in(values), dInput);
    if (shared != null) {
      sharedResult = Loops.atLeast(sharedResult, tokens, width);
      shared.backward(dy, tokens, sharedResult);
      Loops.add(sharedResult, dx, 0, tokens * width);
    }
    for (int t = 0; t < tokens; t++) {
      System.arraycopy(dx, t * width, row, 0, width);
      for (int k = t * active; k < (t + 1) * active; k++) {
        System.arraycopy(rows, places[k] * width, other, 0, width);
        Loops.add(other, row, 0, width);
      }
      System.arraycopy(row, 0, dx, t * width, width);
    }
  }

  /** Through weights and softmax to the router's scores: {@link #dChances}. */
  private void routeBackward(float[] dy, int tokens) {
    for (int t = 0; t < tokens; t++) {
      int at = t * experts;
      Arrays.fill(dChances, at, at + experts, 0);
      float chosenSum = 0;
      float mean = 0;
      for (int k = t * active; k < (t + 1) * active; k++) {
        float d = Loops.dot(dy, t * width, results, places[k] * width, width);
        dChances[at + chosen[k]] = d;
        chosenSum += chances[at + chosen[k]];
        mean += share[k] * d;
      }
      for (int k = t * active; active > 1 && k < (t + 1) * active; k++) {
        int e = at + chosen[k];
        dChances[e] = (dChances[e] - mean) / chosenSum;
      }
      float all = Loops.dot(chances, at, dChances, at, experts);
      for (int e = at; e < at + experts; e++) {
        dChances[e] = (dChances[e] - all) * chances[e];
      }
    }
  }

  private Matrix rowsOf(float[] array, int expert, int size) {
    return new Matrix(array, starts[expert] * size, size);
  }

  private Matrix inOf(float[] all, int expert) {
    int inputs = nonlinearity.inputs();
    return new Matrix(all, weights.experts.in().offset() + expert * width * inputs, inputs);
  }

  private Matrix outOf(float[] all, int expert) {
    return new Matrix(all, weights.experts.out().offset() + expert * hidden * width, width);
  }
}
