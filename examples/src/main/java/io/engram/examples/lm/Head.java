// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.examples.lm.Blas.Matrix;

/**
 * From hidden states to the loss, by the embedding turned round. Tokens are worked off in chunks:
 * logits, softmax, loss and their gradient are one pass over a chunk's logits, which are never
 * there for all tokens at once.
 */
final class Head {
  private static final int CHUNK = 128;

  private final Parameter embedding;
  private final float[] values;
  private final float[] gradient;
  private final int vocabulary;
  private final int width;
  private float[] logits = {};

  Head(ModelConfig config, Parameter embedding, float[] values, float[] gradient) {
    this.embedding = embedding;
    this.values = values;
    this.gradient = gradient;
    vocabulary = config.vocabulary();
    width = config.width();
  }

  /**
   * The losses of all tokens, and the gradient of their sum times {@code scale}.
   *
   * @param x [tokens, width]; receives its gradient
   */
  void train(float[] x, int tokens, int[] targets, float scale, double[] losses) {
    for (int first = 0; first < tokens; first += CHUNK) {
      int count = Math.min(CHUNK, tokens - first);
      multiply(x, first, count);
      for (int t = 0; t < count; t++) {
        int from = t * vocabulary;
        float target = logits[from + targets[first + t]];
        float largest = Loops.largest(logits, from, from + vocabulary);
        Loops.exp(logits, from, from + vocabulary, largest);
        float sum = Loops.sum(logits, from, from + vocabulary);
        losses[first + t] = largest + Math.log(sum) - target;
        Loops.scale(logits, from, from + vocabulary, scale / sum);
        logits[from + targets[first + t]] -= scale;
      }
      Matrix d = new Matrix(logits, 0, vocabulary);
      Matrix rows = new Matrix(x, first * width, width);
      Blas.transposedBy(vocabulary, width, count, 1, d, rows, 1, embedding.in(gradient));
      Blas.product(count, width, vocabulary, d, embedding.in(values), 0, rows);
    }
  }

  /** The losses of all tokens. */
  void losses(float[] x, int tokens, int[] targets, double[] losses) {
    for (int first = 0; first < tokens; first += CHUNK) {
      int count = Math.min(CHUNK, tokens - first);
      multiply(x, first, count);
      for (int t = 0; t < count; t++) {
        int from = t * vocabulary;
        float target = logits[from + targets[first + t]];
        losses[first + t] = logSum(from) - target;
      }
    }
  }

  /** The logits of one token. */
  float[] logits(float[] x, int token) {
    multiply(x, token, 1);
    float[] out = new float[vocabulary];
    System.arraycopy(logits, 0, out, 0, vocabulary);
    return out;
  }

  /** Logarithms of the probabilities of each next token. */
  float[][] logProbabilities(float[] x, int tokens) {
    float[][] out = new float[tokens][vocabulary];
    for (int first = 0; first < tokens; first += CHUNK) {
      int count = Math.min(CHUNK, tokens - first);
      multiply(x, first, count);
      for (int t = 0; t < count; t++) {
        float[] row = out[first + t];
        System.arraycopy(logits, t * vocabulary, row, 0, vocabulary);
        float logSum = (float) logSum(t * vocabulary);
        for (int i = 0; i < vocabulary; i++) {
          row[i] -= logSum;
        }
      }
    }
    return out;
  }

  private void multiply(float[] x, int first, int count) {
    logits = Loops.atLeast(logits, Math.max(count, CHUNK), vocabulary);
    Blas.byTransposed(
        count,
        vocabulary,
        width,
        1,
        new Matrix(x, first * width, width),
        embedding.in(values),
        new Matrix(logits, 0, vocabulary));
  }

  /** Overwrites a row of logits. */
  private double logSum(int from) {
    float largest = Loops.largest(logits, from, from + vocabulary);
    Loops.exp(logits, from, from + vocabulary, largest);
    return largest + Math.log(Loops.sum(logits, from, from + vocabulary));
  }
}
