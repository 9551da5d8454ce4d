// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.examples.lm.Blas.Matrix;
import java.util.Arrays;

/**
 * Causal self-attention with several heads and rotary positions (arXiv 2104.09864): value i and
 * value i + half of a head turn together, by position * 10000^(-i / half).
 */
final class Attention {
  /** Query, key and value of all heads side by side, and what brings the heads together. */
  record Weights(Parameter in, Parameter out) {
    static Weights add(Parameters parameters, String name, ModelConfig config) {
      int width = config.width();
      double deviation = 1 / Math.sqrt(width);
      return new Weights(
          parameters.add(Parameter.matrix(name + ".in", deviation, width, 3L * width)),
          parameters.add(
              Parameter.matrix(
                  name + ".out", deviation / Math.sqrt(2.0 * config.layers()), width, width)));
    }
  }

  private final Weights weights;
  private final float[] values;
  private final float[] gradient;
  private final int width;
  private final int heads;
  private final int headDim;
  private final float scale;
  private final Rotary rotary;
  private int sequences;
  private int length;
  private float[] input = {};
  private float[] projected = {};
  private float[] chances = {};
  private float[] mixed = {};
  private float[] dProjected = {};
  private float[] dMixed = {};
  private float[] dScores = {};
  private float[] row = {};
  private float[] dRow = {};

  Attention(ModelConfig config, Weights weights, Rotary rotary, float[] values, float[] gradient) {
    this.weights = weights;
    this.values = values;
    this.gradient = gradient;
    this.rotary = rotary;
    width = config.width();
    heads = config.heads();
    headDim = config.headDim();
    scale = (float) (1 / Math.sqrt(headDim));
  }

  /** Sines and cosines of all positions. */
  static final class Rotary {
    private final int half;
    private final float[] cosines;
    private final float[] sines;

    Rotary(int context, int headDim) {
      half = headDim / 2;
      cosines = new float[context * half];
      sines = new float[context * half];
      for (int t = 0; t < context; t++) {
        for (int i = 0; i < half; i++) {
          double angle = t * Math.pow(10_000, -(double) i / half);
          cosines[t * half + i] = (float) Math.cos(angle);
          sines[t * half + i] = (float) Math.sin(angle);
        }
      }
    }

    /** Turns one head of one position, forth (1) or back (-1). */
    void turn(float[] vector, int at, int position, float direction) {
      int table = position * half;
      for (int i = 0; i < half; i++) {
        float cos = cosines[table + i];
        float sin = direction * sines[table + i];
        float a = vector[at + i];
        float b = vector[at + half + i];
        vector[at + i] = a * cos - b * sin;
        vector[at + half + i] = a * sin + b * cos;
      }
    }
  }

  /** Keeps {@code x}, which must stay as it is until the backward. */
  void forward(float[] x, int sequenceCount, int sequenceLength, float[] y) {
    input = x;
    sequences = sequenceCount;
    length = sequenceLength;
    int tokens = sequences * length;
    projected = Loops.atLeast(projected, tokens, 3 * width);
    mixed = Loops.atLeast(mixed, tokens, width);
    chances = Loops.atLeast(chances, sequences * heads * length, length);
    Blas.product(
        tokens,
        3 * width,
        width,
        new Matrix(x, 0, width),
        weights.in.in(values),
        0,
        new Matrix(projected, 0, 3 * width));
    turnAll(projected, 1);
    for (int s = 0; s < sequences; s++) {
      for (int h = 0; h < heads; h++) {
        Matrix p = new Matrix(chances, (s * heads + h) * length * length, length);
        Blas.byTransposed(
            length, length, headDim, scale, part(projected, s, h, 0), part(projected, s, h, 1), p);
        for (int t = 0; t < length; t++) {
          softmax(p.at() + t * length, t + 1);
        }
        Blas.product(length, headDim, length, p, part(projected, s, h, 2), 0, headOf(mixed, s, h));
      }
    }
    Blas.product(
        tokens,
        width,
        width,
        new Matrix(mixed, 0, width),
        weights.out.in(values),
        0,
        new Matrix(y, 0, width));
  }

  /** The gradient of x from that of y; they are different arrays. */
  void backward(float[] dy, float[] dx) {
    int tokens = sequences * length;
    dProjected = Loops.atLeast(dProjected, tokens, 3 * width);
    dMixed = Loops.atLeast(dMixed, tokens, width);
    dScores = Loops.atLeast(dScores, length, length);
    row = Loops.atLeast(row, length, 1);
    dRow = Loops.atLeast(dRow, length, 1);
    Matrix dyRows = new Matrix(dy, 0, width);
    Blas.transposedBy(
        width, width, tokens, 1, new Matrix(mixed, 0, width), dyRows, 1, weights.out.in(gradient));
    Blas.byTransposed(
        tokens, width, width, 1, dyRows, weights.out.in(values), new Matrix(dMixed, 0, width));
    Matrix ds = new Matrix(dScores, 0, length);
    for (int s = 0; s < sequences; s++) {
      for (int h = 0; h < heads; h++) {
        Matrix p = new Matrix(chances, (s * heads + h) * length * length, length);
        Matrix dOut = headOf(dMixed, s, h);
        Blas.byTransposed(length, length, headDim, 1, dOut, part(projected, s, h, 2), ds);
        Blas.transposedBy(length, headDim, length, 1, p, dOut, 0, part(dProjected, s, h, 2));
        for (int t = 0; t < length; t++) {
          softmaxBackward(p.at() + t * length, t * length, t + 1);
        }
        Blas.scaled(
            length,
            headDim,
            length,
            scale,
            ds,
            part(projected, s, h, 1),
            part(dProjected, s, h, 0));
        Blas.transposedBy(
            length,
            headDim,
            length,
            scale,
            ds,
            part(projected, s, h, 0),
            0,
            part(dProjected, s, h, 1));
      }
    }
    turnAll(dProjected, -1);
    Matrix dIn = new Matrix(dProjected, 0, 3 * width);
    Blas.transposedBy(
        width, 3 * width, tokens, 1, new Matrix(input, 0, width), dIn, 1, weights.in.in(gradient));
    Blas.byTransposed(
        tokens, width, 3 * width, 1, dIn, weights.in.in(values), new Matrix(dx, 0, width));
  }

  private void turnAll(float[] queriesAndKeys, float direction) {
    int tokens = sequences * length;
    for (int t = 0; t < tokens; t++) {
      for (int h = 0; h < 2 * heads; h++) {
        rotary.turn(queriesAndKeys, t * 3 * width + h * headDim, t % length, direction);
      }
    }
  }

  /** The first values of a row become their softmax, the others 0. */
  private void softmax(int at, int seen) {
    float largest = Loops.largest(chances, at, at + seen);
    Loops.exp(chances, at, at + seen, largest);
    Loops.scale(chances, at, at + seen, 1 / Loops.sum(chances, at, at + seen));
    Arrays.fill(chances, at + seen, at + length, 0);
  }

  private void softmaxBackward(int at, int dAt, int seen) {
    System.arraycopy(chances, at, row, 0, seen);
    System.arraycopy(dScores, dAt, dRow, 0, seen);
    float mean = Loops.dot(row, 0, dRow, 0, seen);
    for (int i = 0; i < seen; i++) {
      dRow[i] = (dRow[i] - mean) * row[i];
    }
    System.arraycopy(dRow, 0, dScores, dAt, seen);
    Arrays.fill(dScores, dAt + seen, dAt + length, 0);
  }

  /** Query (0), key (1) or value (2) of a head, [length, headDim]. */
  private Matrix part(float[] array, int sequence, int head, int which) {
    return new Matrix(
        array, sequence * length * 3 * width + which * width + head * headDim, 3 * width);
  }

  private Matrix headOf(float[] array, int sequence, int head) {
    return new Matrix(array, sequence * length * width + head * headDim, width);
  }
}
