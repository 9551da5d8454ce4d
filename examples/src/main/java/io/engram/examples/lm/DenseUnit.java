// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.examples.lm.Blas.Matrix;

/** A dense feed-forward unit: one for all tokens. */
final class DenseUnit implements FeedForwardPart {
  /** Into and out of the hidden units. */
  record Weights(Parameter in, Parameter out) {
    static Weights add(
        Parameters parameters, String name, ModelConfig config, int hidden, long experts) {
      int width = config.width();
      long inputs = (long) config.feedForward().activation().inputs() * hidden;
      long[] in = experts == 0 ? new long[] {width, inputs} : new long[] {experts, width, inputs};
      long[] out = experts == 0 ? new long[] {hidden, width} : new long[] {experts, hidden, width};
      double back = 1 / Math.sqrt(2.0 * config.layers() * hidden);
      return new Weights(
          parameters.add(Parameter.matrix(name + ".in", 1 / Math.sqrt(width), in)),
          parameters.add(Parameter.matrix(name + ".out", back, out)));
    }
  }

  private final Weights weights;
  private final float[] values;
  private final float[] gradient;
  private final int width;
  private final int hidden;
  private final Nonlinearity nonlinearity;
  private float[] input = {};
  private float[] in = {};
  private float[] units = {};

  DenseUnit(ModelConfig config, int hidden, Weights weights, float[] values, float[] gradient) {
    this.weights = weights;
    this.values = values;
    this.gradient = gradient;
    this.width = config.width();
    this.hidden = hidden;
    this.nonlinearity = new Nonlinearity(config.feedForward().activation(), hidden);
  }

  @Override
  public void forward(float[] x, int tokens, float[] y) {
    input = x;
    int inputs = nonlinearity.inputs();
    in = Loops.atLeast(in, tokens, inputs);
    units = Loops.atLeast(units, tokens, hidden);
    Blas.product(
        tokens,
        inputs,
        width,
        new Matrix(x, 0, width),
        weights.in.in(values),
        0,
        new Matrix(in, 0, inputs));
    nonlinearity.forward(in, tokens, units);
    Blas.product(
        tokens,
        width,
        hidden,
        new Matrix(units, 0, hidden),
        weights.out.in(values),
        0,
        new Matrix(y, 0, width));
  }

  @Override
  public void backward(float[] dy, int tokens, float[] dx) {
    int inputs = nonlinearity.inputs();
    Matrix dyRows = new Matrix(dy, 0, width);
    Matrix unitRows = new Matrix(units, 0, hidden);
    Blas.transposedBy(hidden, width, tokens, 1, unitRows, dyRows, 1, weights.out.in(gradient));
    // The units are not needed any more: their gradient takes their place.
    Blas.byTransposed(tokens, hidden, width, 1, dyRows, weights.out.in(values), unitRows);
    nonlinearity.backward(in, tokens, units);
    Matrix dIn = new Matrix(in, 0, inputs);
    Blas.transposedBy(
        width, inputs, tokens, 1, new Matrix(input, 0, width), dIn, 1, weights.in.in(gradient));
    Blas.byTransposed(
        tokens, width, inputs, 1, dIn, weights.in.in(values), new Matrix(dx, 0, width));
  }
}
