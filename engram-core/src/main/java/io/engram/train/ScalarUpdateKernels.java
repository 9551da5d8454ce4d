// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

/** The loops in plain Java. */
final class ScalarUpdateKernels implements UpdateKernels {
  /** Apart from the sign. */
  private static final int MAGNITUDE = 0x7FFFFFFF;

  /** What of a float is a bfloat16. */
  private static final int HIGH = 0xFFFF0000;

  ScalarUpdateKernels() {}

  private static int magnitude(float x) {
    return Float.floatToRawIntBits(x) & MAGNITUDE;
  }

  @Override
  public int largest(float[] x, int at, int count) {
    return largest(x, at, count, 0);
  }

  static int largest(float[] x, int at, int count, int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      largest = Math.max(largest, magnitude(x[at + i]));
    }
    return largest;
  }

  @Override
  public int add(float[] x, int xAt, float[] sums, int at, int count) {
    return add(x, xAt, sums, at, count, 0);
  }

  static int add(float[] x, int xAt, float[] sums, int at, int count, int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      float sum = sums[at + i] + x[xAt + i];
      sums[at + i] = sum;
      largest = Math.max(largest, magnitude(sum));
    }
    return largest;
  }

  @Override
  public int scale(float[] x, int at, int count, float factor) {
    return scale(x, at, count, factor, 0);
  }

  static int scale(float[] x, int at, int count, float factor, int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      float scaled = x[at + i] * factor;
      x[at + i] = scaled;
      largest = Math.max(largest, magnitude(scaled));
    }
    return largest;
  }

  @Override
  public void widen(short[] x, float[] out, int count) {
    for (int i = 0; i < count; i++) {
      out[i] = Float.intBitsToFloat(x[i] << 16);
    }
  }

  @Override
  public int roundByChance(float[] x, short[] out, int count, long key) {
    return roundByChance(x, out, count, key, 0);
  }

  static int roundByChance(float[] x, short[] out, int count, long key, int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      // A carry into the exponent is the next number, too.
      int rounded = Float.floatToRawIntBits(x[i]) + (Chance.bits(key, i) >>> 16);
      out[i] = (short) (rounded >>> 16);
      largest = Math.max(largest, rounded & MAGNITUDE & HIGH);
    }
    return largest;
  }

  @Override
  public int adam(
      float[] w,
      float[] moments,
      float[] g,
      int gAt,
      int count,
      float keep1,
      float take1,
      float keep2,
      float take2,
      float rate,
      float spread,
      float epsilon) {
    return adam(w, moments, g, gAt, count, keep1, take1, keep2, take2, rate, spread, epsilon, 0);
  }

  static int adam(
      float[] w,
      float[] moments,
      float[] g,
      int gAt,
      int count,
      float keep1,
      float take1,
      float keep2,
      float take2,
      float rate,
      float spread,
      float epsilon,
      int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      float gradient = g[gAt + i];
      float m = keep1 * moments[i] + take1 * gradient;
      float v = keep2 * moments[count + i] + take2 * gradient * gradient;
      // Of a second moment the root is no NaN: it is not negative.
      float weight = w[i] - rate * m / ((float) Math.sqrt(v) * spread + epsilon);
      moments[i] = m;
      moments[count + i] = v;
      w[i] = weight;
      largest =
          Math.max(largest, Math.max(magnitude(weight), Math.max(magnitude(m), magnitude(v))));
    }
    return largest;
  }

  @Override
  public int momentum(
      float[] w, float[] m, float[] g, int gAt, int count, float keep, float rate, float ahead) {
    return momentum(w, m, g, gAt, count, keep, rate, ahead, 0);
  }

  static int momentum(
      float[] w,
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float rate,
      float ahead,
      int from) {
    int largest = 0;
    boolean plain = ahead == 0;
    for (int i = from; i < count; i++) {
      float gradient = g[gAt + i];
      float moving = keep * m[i] + gradient;
      float weight = w[i] - rate * (plain ? moving : gradient + ahead * moving);
      m[i] = moving;
      w[i] = weight;
      largest = Math.max(largest, Math.max(magnitude(weight), magnitude(moving)));
    }
    return largest;
  }

  @Override
  public int descend(float[] w, float[] g, int gAt, int count, float rate) {
    return descend(w, g, gAt, count, rate, 0);
  }

  static int descend(float[] w, float[] g, int gAt, int count, float rate, int from) {
    int largest = 0;
    for (int i = from; i < count; i++) {
      float weight = w[i] - rate * g[gAt + i];
      w[i] = weight;
      largest = Math.max(largest, magnitude(weight));
    }
    return largest;
  }

  @Override
  public void nesterov(
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float take,
      float ahead,
      float[] out,
      int outAt) {
    for (int i = 0; i < count; i++) {
      float fresh = take * g[gAt + i];
      float moving = keep * m[i] + fresh;
      m[i] = moving;
      out[outAt + i] = ahead * moving + fresh;
    }
  }

  @Override
  public double squares(float[] x, int at, int count, double[] factors) {
    double a = 0;
    double b = 0;
    double c = 0;
    double d = 0;
    int i = 0;
    for (; i <= count - 4; i += 4) {
      double e = x[at + i] * factors[i];
      double f = x[at + i + 1] * factors[i + 1];
      double g = x[at + i + 2] * factors[i + 2];
      double h = x[at + i + 3] * factors[i + 3];
      a += e * e;
      b += f * f;
      c += g * g;
      d += h * h;
    }
    for (; i < count; i++) {
      double e = x[at + i] * factors[i];
      a += e * e;
    }
    return a + b + (c + d);
  }

  @Override
  public void addSquares(float[] x, int at, int count, double factor, double[] sums) {
    for (int i = 0; i < count; i++) {
      double scaled = x[at + i] * factor;
      sums[i] += scaled * scaled;
    }
  }

  @Override
  public int balanced(
      float[] w,
      float[] m,
      float[] g,
      int gAt,
      int count,
      float keep,
      float take,
      float[] u,
      int uAt,
      double rate,
      double[] factors) {
    int largest = 0;
    for (int i = 0; i < count; i++) {
      float moving = keep * m[i] + take * g[gAt + i];
      float weight = w[i] - (float) (rate * factors[i] * u[uAt + i]);
      m[i] = moving;
      w[i] = weight;
      largest = Math.max(largest, Math.max(magnitude(weight), magnitude(moving)));
    }
    return largest;
  }
}
