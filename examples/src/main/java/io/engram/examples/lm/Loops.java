// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/**
 * The loops between matrix products.
 *
 * <p>They are written for C2, which makes vector code of a loop over arrays only where it sees that
 * a store cannot reach a later load: all arrays of a loop share one index. Sums of floats it leaves
 * in order, so they run in eight lanes by hand.
 */
final class Loops {
  /** Below this distance from the largest, e^x counts as e^this. */
  private static final float SMALLEST = -20.8f;

  private static final float LARGEST = 20.8f;

  private Loops() {}

  /**
   * a = e^(a - largest), for a no larger than that: to 1e-5 relative down to e^-20, and about 1e-9
   * below. The power is taken of a 32nd part and squared five times, since neither the bits of a
   * float nor a table can be had in vector code from here.
   */
  static void exp(float[] a, int from, int to, float largest) {
    for (int i = from; i < to; i++) {
      float x = Math.max(a[i] - largest, SMALLEST) * (1 / 32f);
      float p =
          1f
              + x
                  * (1f
                      + x
                          * (1 / 2f
                              + x * (1 / 6f + x * (1 / 24f + x * (1 / 120f + x * (1 / 720f))))));
      p *= p;
      p *= p;
      p *= p;
      p *= p;
      p *= p;
      a[i] = p;
    }
  }

  /** out = 1 / (1 + e^(-factor x)), by the same power. */
  static void sigmoid(float[] x, float factor, float[] out, int count) {
    for (int i = 0; i < count; i++) {
      float y = Math.max(Math.min(-factor * x[i], LARGEST), SMALLEST) * (1 / 32f);
      float p =
          1f
              + y
                  * (1f
                      + y
                          * (1 / 2f
                              + y * (1 / 6f + y * (1 / 24f + y * (1 / 120f + y * (1 / 720f))))));
      p *= p;
      p *= p;
      p *= p;
      p *= p;
      p *= p;
      out[i] = 1f / (1f + p);
    }
  }

  static float largest(float[] a, int from, int to) {
    float m0 = Float.NEGATIVE_INFINITY;
    float m1 = m0;
    float m2 = m0;
    float m3 = m0;
    int i = from;
    for (; i + 4 <= to; i += 4) {
      m0 = Math.max(m0, a[i]);
      m1 = Math.max(m1, a[i + 1]);
      m2 = Math.max(m2, a[i + 2]);
      m3 = Math.max(m3, a[i + 3]);
    }
    for (; i < to; i++) {
      m0 = Math.max(m0, a[i]);
    }
    return Math.max(Math.max(m0, m1), Math.max(m2, m3));
  }

  static float sum(float[] a, int from, int to) {
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
    float s4 = 0;
    float s5 = 0;
    float s6 = 0;
    float s7 = 0;
    int i = from;
    for (; i + 8 <= to; i += 8) {
      s0 += a[i];
      s1 += a[i + 1];
      s2 += a[i + 2];
      s3 += a[i + 3];
      s4 += a[i + 4];
      s5 += a[i + 5];
      s6 += a[i + 6];
      s7 += a[i + 7];
    }
    for (; i < to; i++) {
      s0 += a[i];
    }
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  }

  static float dot(float[] a, int aFrom, float[] b, int bFrom, int count) {
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
    float s4 = 0;
    float s5 = 0;
    float s6 = 0;
    float s7 = 0;
    int i = 0;
    for (; i + 8 <= count; i += 8) {
      s0 += a[aFrom + i] * b[bFrom + i];
      s1 += a[aFrom + i + 1] * b[bFrom + i + 1];
      s2 += a[aFrom + i + 2] * b[bFrom + i + 2];
      s3 += a[aFrom + i + 3] * b[bFrom + i + 3];
      s4 += a[aFrom + i + 4] * b[bFrom + i + 4];
      s5 += a[aFrom + i + 5] * b[bFrom + i + 5];
      s6 += a[aFrom + i + 6] * b[bFrom + i + 6];
      s7 += a[aFrom + i + 7] * b[bFrom + i + 7];
    }
    for (; i < count; i++) {
      s0 += a[aFrom + i] * b[bFrom + i];
    }
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  }

  /** a = factor * a. */
  static void scale(float[] a, int from, int to, float factor) {
    for (int i = from; i < to; i++) {
      a[i] *= factor;
    }
  }

  /** y = y + x at the same indices. */
  static void add(float[] x, float[] y, int from, int to) {
    for (int i = from; i < to; i++) {
      y[i] += x[i];
    }
  }

  /** y = y + factor * x at the same indices. */
  static void addScaled(float[] x, float factor, float[] y, int from, int to) {
    for (int i = from; i < to; i++) {
      y[i] += factor * x[i];
    }
  }

  /** sums = sums + a * b at the same indices. */
  static void addProduct(float[] a, float[] b, float[] sums, int from, int to) {
    for (int i = from; i < to; i++) {
      sums[i] += a[i] * b[i];
    }
  }

  /** An array of at least so many values: the same one, if it is. */
  static float[] atLeast(float[] array, int vectors, int width) {
    int size = Math.multiplyExact(vectors, width);
    return array.length >= size ? array : new float[size];
  }
}
