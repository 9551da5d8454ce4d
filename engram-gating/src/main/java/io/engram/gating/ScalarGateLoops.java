// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

/** The gate's loops in plain Java. */
final class ScalarGateLoops implements GateLoops {
  @Override
  public boolean finite(float[] x, int from, int count) {
    // Zero for a finite number, NaN for the others: one test for all instead of one for each.
    float sum = 0;
    for (int i = from; i < from + count; i++) {
      sum += x[i] * 0f;
    }
    return sum == 0f;
  }

  @Override
  public void widen(short[] x, float[] out, int count) {
    for (int i = 0; i < count; i++) {
      out[i] = Bfloat16.toFloat(x[i]);
    }
  }

  @Override
  public void narrow(float[] x, short[] out, int count) {
    for (int i = 0; i < count; i++) {
      out[i] = Bfloat16.toBits(x[i]);
    }
  }

  @Override
  public void multiply(
      float[] panel, int rows, float[] x, int tokens, int width, double[] out, float[] lanes) {
    for (int t = 0; t < tokens; t++) {
      for (int r = 0; r < rows; r++) {
        out[t * rows + r] = dot(panel, r * width, x, t * width, width);
      }
    }
  }

  private static double dot(float[] a, int i, float[] b, int j, int count) {
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
    float s4 = 0;
    float s5 = 0;
    float s6 = 0;
    float s7 = 0;
    int e = 0;
    for (; e <= count - 8; e += 8) {
      s0 += a[i + e] * b[j + e];
      s1 += a[i + e + 1] * b[j + e + 1];
      s2 += a[i + e + 2] * b[j + e + 2];
      s3 += a[i + e + 3] * b[j + e + 3];
      s4 += a[i + e + 4] * b[j + e + 4];
      s5 += a[i + e + 5] * b[j + e + 5];
      s6 += a[i + e + 6] * b[j + e + 6];
      s7 += a[i + e + 7] * b[j + e + 7];
    }
    float tail = 0;
    for (; e < count; e++) {
      tail += a[i + e] * b[j + e];
    }
    return (((double) s0 + s4) + ((double) s2 + s6))
        + (((double) s1 + s5) + ((double) s3 + s7))
        + tail;
  }

  @Override
  public void multiply(
      double[] panel, int rows, double[] x, int tokens, int width, double[] out, double[] lanes) {
    for (int t = 0; t < tokens; t++) {
      for (int r = 0; r < rows; r++) {
        out[t * rows + r] = dot(panel, r * width, x, t * width, width);
      }
    }
  }

  private static double dot(double[] a, int i, double[] b, int j, int count) {
    double s0 = 0;
    double s1 = 0;
    double s2 = 0;
    double s3 = 0;
    int e = 0;
    for (; e <= count - 4; e += 4) {
      s0 += a[i + e] * b[j + e];
      s1 += a[i + e + 1] * b[j + e + 1];
      s2 += a[i + e + 2] * b[j + e + 2];
      s3 += a[i + e + 3] * b[j + e + 3];
    }
    double tail = 0;
    for (; e < count; e++) {
      tail += a[i + e] * b[j + e];
    }
    return (s0 + s2) + (s1 + s3) + tail;
  }

  @Override
  public void gateSums(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] w,
      int wFrom,
      int count,
      double[] sums,
      double[] lanes) {
    double xx = 0;
    double yy = 0;
    double xyw = 0;
    for (int i = 0; i < count; i++) {
      double a = x[xFrom + i];
      double b = y[yFrom + i];
      xx += a * a;
      yy += b * b;
      xyw += a * (b * w[wFrom + i]);
    }
    sums[0] = xx;
    sums[1] = yy;
    sums[2] = xyw;
  }

  @Override
  public double sumOfSquares(float[] x, int from, int count, double[] lanes) {
    double s0 = 0;
    double s1 = 0;
    int i = from;
    for (; i <= from + count - 2; i += 2) {
      s0 += (double) x[i] * x[i];
      s1 += (double) x[i + 1] * x[i + 1];
    }
    if (i < from + count) {
      s0 += (double) x[i] * x[i];
    }
    return s0 + s1;
  }

  @Override
  public void scale(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] out,
      int outFrom,
      int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] = x[xFrom + i] * factor * w[wFrom + i];
    }
  }

  @Override
  public void addProduct(
      float[] x, int xFrom, float[] w, int wFrom, float[] out, int outFrom, int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * w[wFrom + i];
    }
  }

  @Override
  public void addScaled(float[] x, int xFrom, float factor, float[] out, int outFrom, int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor;
    }
  }

  @Override
  public void silu(float[] x, int from, int count) {
    for (int i = from; i < from + count; i++) {
      x[i] = Silu.of(x[i]);
    }
  }
}
