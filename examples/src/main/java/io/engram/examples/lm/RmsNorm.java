// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/** y = weight * x / sqrt(mean(x^2) + 1e-6) for each token (arXiv 1910.07467). */
final class RmsNorm {
  private static final float EPS = 1e-6f;

  private final Parameter parameter;
  private final float[] values;
  private final float[] gradient;
  private final int width;
  private final float[] weight;
  private final float[] weightGradient;
  private final float[] row;
  private final float[] other;
  private float[] factors = {};
  private float[] input = {};

  RmsNorm(Parameter parameter, float[] values, float[] gradient) {
    this.parameter = parameter;
    this.values = values;
    this.gradient = gradient;
    width = parameter.size();
    weight = new float[width];
    weightGradient = new float[width];
    row = new float[width];
    other = new float[width];
  }

  static Parameter parameter(String name, int width) {
    return Parameter.vector(name, 1, width);
  }

  /** Keeps {@code x}, which must stay as it is until the backward. */
  void forward(float[] x, int tokens, float[] y) {
    input = x;
    factors = Loops.atLeast(factors, tokens, 1);
    System.arraycopy(values, parameter.offset(), weight, 0, width);
    for (int t = 0; t < tokens; t++) {
      int at = t * width;
      float square = Loops.dot(x, at, x, at, width);
      float factor = (float) (1 / Math.sqrt(square / width + EPS));
      factors[t] = factor;
      System.arraycopy(x, at, row, 0, width);
      for (int i = 0; i < width; i++) {
        row[i] = row[i] * factor * weight[i];
      }
      System.arraycopy(row, 0, y, at, width);
    }
  }

  /** The gradient of x, in place of that of y. */
  void backward(float[] dy, int tokens) {
    System.arraycopy(gradient, parameter.offset(), weightGradient, 0, width);
    for (int t = 0; t < tokens; t++) {
      int at = t * width;
      float factor = factors[t];
      System.arraycopy(input, at, row, 0, width);
      System.arraycopy(dy, at, other, 0, width);
      for (int i = 0; i < width; i++) {
        weightGradient[i] += other[i] * row[i] * factor;
        other[i] *= weight[i];
      }
      float along = Loops.dot(other, 0, row, 0, width) * factor * factor / width;
      for (int i = 0; i < width; i++) {
        other[i] = (other[i] - row[i] * along) * factor;
      }
      System.arraycopy(other, 0, dy, at, width);
    }
    System.arraycopy(weightGradient, 0, gradient, parameter.offset(), width);
  }
}
