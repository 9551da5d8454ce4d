// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/** The non-linearity of a feed-forward unit, over rows of its inputs, with its scratch. */
final class Nonlinearity {
  /** 2 * sqrt(2 / pi), and the cubic term of the approximation. */
  private static final float LINEAR = (float) (2 * Math.sqrt(2 / Math.PI));

  private static final float CUBIC = 0.044715f;

  private final boolean gated;
  private final int hidden;
  private final int inputs;
  private final float[] x;
  private final float[] up;
  private final float[] sigmoid;
  private final float[] out;

  Nonlinearity(FeedForward.Activation activation, int hidden) {
    this.gated = activation == FeedForward.Activation.SWIGLU;
    this.hidden = hidden;
    this.inputs = activation.inputs() * hidden;
    x = new float[hidden];
    up = new float[hidden];
    sigmoid = new float[hidden];
    out = new float[hidden];
  }

  /** Values of a row that goes in. */
  int inputs() {
    return inputs;
  }

  /** From [rows, inputs] to [rows, hidden]. */
  void forward(float[] in, int rows, float[] result) {
    for (int r = 0; r < rows; r++) {
      System.arraycopy(in, r * inputs, x, 0, hidden);
      if (gated) {
        System.arraycopy(in, r * inputs + hidden, up, 0, hidden);
        Loops.sigmoid(x, 1, sigmoid, hidden);
        for (int i = 0; i < hidden; i++) {
          out[i] = x[i] * sigmoid[i] * up[i];
        }
      } else {
        geluSigmoid();
        for (int i = 0; i < hidden; i++) {
          out[i] = x[i] * sigmoid[i];
        }
      }
      System.arraycopy(out, 0, result, r * hidden, hidden);
    }
  }

  /** The gradient of [rows, inputs], in place of the inputs. */
  void backward(float[] in, int rows, float[] dResult) {
    for (int r = 0; r < rows; r++) {
      int at = r * inputs;
      System.arraycopy(in, at, x, 0, hidden);
      System.arraycopy(dResult, r * hidden, out, 0, hidden);
      if (gated) {
        System.arraycopy(in, at + hidden, up, 0, hidden);
        Loops.sigmoid(x, 1, sigmoid, hidden);
        for (int i = 0; i < hidden; i++) {
          float d = out[i] * sigmoid[i];
          out[i] = d * up[i] * (1 + x[i] * (1 - sigmoid[i]));
          up[i] = d * x[i];
        }
        System.arraycopy(up, 0, in, at + hidden, hidden);
      } else {
        geluSigmoid();
        for (int i = 0; i < hidden; i++) {
          float s = sigmoid[i];
          float slope = LINEAR * (1 + 3 * CUBIC * x[i] * x[i]);
          out[i] *= s + x[i] * s * (1 - s) * slope;
        }
      }
      System.arraycopy(out, 0, in, at, hidden);
    }
  }

  private void geluSigmoid() {
    for (int i = 0; i < hidden; i++) {
      up[i] = x[i] + CUBIC * x[i] * x[i] * x[i];
    }
    Loops.sigmoid(up, LINEAR, sigmoid, hidden);
  }
}
