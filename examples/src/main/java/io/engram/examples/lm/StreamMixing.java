// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.Arrays;

/**
 * How half a block reads the residual streams and writes to them. With one stream: x = h, and h' =
 * h + y. With more, as in mHC (arXiv 2512.24880) with its static weights alone, so that they are
 * the same for every token:
 *
 * <pre>
 * x = sum_i sigmoid(read_i) h_i        h'_i = sum_j M_ij h_j + 2 sigmoid(write_i) y
 * </pre>
 *
 * where M is made doubly stochastic by Sinkhorn iterations on e^mix: it neither amplifies nor loses
 * what the streams carry. At first each half block reads mostly one stream, another one than the
 * half block before it (streams that are all read alike would stay alike), writes to all, and mixes
 * little.
 */
final class StreamMixing {
  private static final int ITERATIONS = 8;
  private static final float READS = 2;
  private static final float APART = -4;

  /** All empty for one stream. */
  record Weights(Parameter read, Parameter write, Parameter mix) {
    static Weights add(Parameters parameters, String name, int streams, int half) {
      if (streams == 1) {
        return new Weights(null, null, null);
      }
      return new Weights(
          parameters.add(
              Parameter.of(
                  name + ".read",
                  Parameter.Kind.VECTOR,
                  (_, i) -> i == half % streams ? READS : -READS,
                  streams)),
          parameters.add(Parameter.vector(name + ".write", 0, streams)),
          parameters.add(
              Parameter.of(
                  name + ".mix",
                  Parameter.Kind.VECTOR,
                  (_, i) -> i / streams == i % streams ? 0 : APART,
                  streams,
                  streams)));
    }
  }

  private final Weights weights;
  private final float[] values;
  private final float[] gradient;
  private final int streams;
  private final int width;

  private final float[] read;
  private final float[] write;
  private final float[] mix;

  /** The matrix before the first and after each of the 2 * ITERATIONS divisions. */
  private final double[][] stages;

  /** Streams before the half block, their x and what it returned. */
  private float[] input = {};

  private float[] returned = {};

  /** Sums of products, value by value: added up once at the end, in vector code until then. */
  private final float[] readSums;

  private final float[] writeSums;
  private final float[] mixSums;
  private final float[][] from;
  private final float[] to;
  private final float[] y;

  StreamMixing(Weights weights, int streams, int width, float[] values, float[] gradient) {
    this.weights = weights;
    this.values = values;
    this.gradient = gradient;
    this.streams = streams;
    this.width = width;
    read = new float[streams];
    write = new float[streams];
    mix = new float[streams * streams];
    stages = new double[2 * ITERATIONS + 1][streams * streams];
    readSums = new float[width];
    writeSums = new float[width];
    mixSums = new float[width];
    from = new float[streams][width];
    to = new float[width];
    y = new float[width];
  }

  /** Reads the weights, which stay as they are until the backward. */
  private void begin() {
    for (int i = 0; i < streams; i++) {
      read[i] = (float) sigmoid(values[weights.read.offset() + i]);
      write[i] = (float) (2 * sigmoid(values[weights.write.offset() + i]));
    }
    for (int i = 0; i < streams * streams; i++) {
      stages[0][i] = Math.exp(values[weights.mix.offset() + i]);
    }
    for (int k = 0; k < 2 * ITERATIONS; k++) {
      System.arraycopy(stages[k], 0, stages[k + 1], 0, streams * streams);
      for (int line = 0; line < streams; line++) {
        double sum = 0;
        for (int i = 0; i < streams; i++) {
          sum += stages[k][index(k, line, i)];
        }
        for (int i = 0; i < streams; i++) {
          stages[k + 1][index(k, line, i)] /= sum;
        }
      }
    }
    for (int i = 0; i < streams * streams; i++) {
      mix[i] = (float) stages[2 * ITERATIONS][i];
    }
  }

  /** Of an entry of the line that division k divides: a row, then a column. */
  private int index(int k, int line, int i) {
    return k % 2 == 0 ? line * streams + i : i * streams + line;
  }

  private static double sigmoid(double x) {
    return 1 / (1 + Math.exp(-x));
  }

  /** x [tokens, width] of the streams [tokens, streams, width], which are kept. */
  void read(float[] h, int tokens, float[] x) {
    input = h;
    if (streams == 1) {
      System.arraycopy(h, 0, x, 0, tokens * width);
      return;
    }
    begin();
    for (int t = 0; t < tokens; t++) {
      Arrays.fill(to, 0);
      for (int i = 0; i < streams; i++) {
        System.arraycopy(h, (t * streams + i) * width, y, 0, width);
        Loops.addScaled(y, read[i], to, 0, width);
      }
      System.arraycopy(to, 0, x, t * width, width);
    }
  }

  /** The streams after the half block; what it returned is kept. */
  void write(float[] result, int tokens, float[] next) {
    returned = result;
    if (streams == 1) {
      System.arraycopy(input, 0, next, 0, tokens * width);
      Loops.add(result, next, 0, tokens * width);
      return;
    }
    for (int t = 0; t < tokens; t++) {
      load(input, t);
      System.arraycopy(result, t * width, y, 0, width);
      for (int i = 0; i < streams; i++) {
        Arrays.fill(to, 0);
        Loops.addScaled(y, write[i], to, 0, width);
        for (int j = 0; j < streams; j++) {
          Loops.addScaled(from[j], mix[i * streams + j], to, 0, width);
        }
        System.arraycopy(to, 0, next, (t * streams + i) * width, width);
      }
    }
  }

  private void load(float[] h, int token) {
    for (int j = 0; j < streams; j++) {
      System.arraycopy(h, (token * streams + j) * width, from[j], 0, width);
    }
  }

  /** The gradients of result and, by the mixing, of the streams; each array is written. */
  void writeBackward(float[] dNext, int tokens, float[] dResult, float[] dStreams) {
    if (streams == 1) {
      System.arraycopy(dNext, 0, dResult, 0, tokens * width);
      System.arraycopy(dNext, 0, dStreams, 0, tokens * width);
      return;
    }
    double[] dMix = new double[streams * streams];
    for (int i = 0; i < streams; i++) {
      // One stream of all tokens after the other: the sums of products stay in the first cache.
      Arrays.fill(writeSums, 0);
      for (int t = 0; t < tokens; t++) {
        System.arraycopy(dNext, (t * streams + i) * width, to, 0, width);
        System.arraycopy(returned, t * width, y, 0, width);
        Loops.addProduct(to, y, writeSums, 0, width);
      }
      double slope = write[i] * (1 - write[i] / 2);
      gradient[weights.write.offset() + i] += (float) (Loops.sum(writeSums, 0, width) * slope);
      for (int j = 0; j < streams; j++) {
        Arrays.fill(mixSums, 0);
        for (int t = 0; t < tokens; t++) {
          System.arraycopy(dNext, (t * streams + i) * width, to, 0, width);
          System.arraycopy(input, (t * streams + j) * width, y, 0, width);
          Loops.addProduct(to, y, mixSums, 0, width);
        }
        dMix[i * streams + j] = Loops.sum(mixSums, 0, width);
      }
    }
    sinkhornBackward(dMix);
    for (int t = 0; t < tokens; t++) {
      load(dNext, t);
      Arrays.fill(y, 0);
      for (int i = 0; i < streams; i++) {
        Loops.addScaled(from[i], write[i], y, 0, width);
      }
      System.arraycopy(y, 0, dResult, t * width, width);
      for (int j = 0; j < streams; j++) {
        Arrays.fill(to, 0);
        for (int i = 0; i < streams; i++) {
          Loops.addScaled(from[i], mix[i * streams + j], to, 0, width);
        }
        System.arraycopy(to, 0, dStreams, (t * streams + j) * width, width);
      }
    }
  }

  /** From the matrix back to its exponents: the gradient d of what is left after each division. */
  private void sinkhornBackward(double[] d) {
    for (int k = 2 * ITERATIONS - 1; k >= 0; k--) {
      for (int line = 0; line < streams; line++) {
        double sum = 0;
        double along = 0;
        for (int i = 0; i < streams; i++) {
          int at = index(k, line, i);
          sum += stages[k][at];
          along += d[at] * stages[k + 1][at];
        }
        for (int i = 0; i < streams; i++) {
          int at = index(k, line, i);
          d[at] = (d[at] - along) / sum;
        }
      }
    }
    for (int i = 0; i < streams * streams; i++) {
      gradient[weights.mix.offset() + i] += (float) (d[i] * stages[0][i]);
    }
  }

  /** Adds to the gradient of the streams what comes by x. */
  void readBackward(float[] dx, int tokens, float[] dStreams) {
    if (streams == 1) {
      Loops.add(dx, dStreams, 0, tokens * width);
      return;
    }
    for (int i = 0; i < streams; i++) {
      Arrays.fill(readSums, 0);
      for (int t = 0; t < tokens; t++) {
        int at = (t * streams + i) * width;
        System.arraycopy(dx, t * width, y, 0, width);
        System.arraycopy(input, at, to, 0, width);
        Loops.addProduct(to, y, readSums, 0, width);
        System.arraycopy(dStreams, at, to, 0, width);
        Loops.addScaled(y, read[i], to, 0, width);
        System.arraycopy(to, 0, dStreams, at, width);
      }
      double slope = read[i] * (1 - read[i]);
      gradient[weights.read.offset() + i] += (float) (Loops.sum(readSums, 0, width) * slope);
    }
  }
}
