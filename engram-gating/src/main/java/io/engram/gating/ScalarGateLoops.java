// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** The gate's loops in plain Java. */
final class ScalarGateLoops implements GateLoops {
  /** Outputs of a panel: as many chains of additions as hide the latency of one. */
  private static final int PANEL = 8;

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
  public int panelWidth() {
    return PANEL;
  }

  @Override
  public int doublePanelWidth() {
    return PANEL;
  }

  @Override
  public void tile(
      float[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      float[] out,
      int outFrom,
      int stride,
      boolean add) {
    for (int t = 0; t < TOKENS; t++) {
      chains(x, xFrom + t, TOKENS, panel, at, depth, out, outFrom + t * stride, add);
    }
  }

  @Override
  public void row(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add) {
    for (int p = 0; p < PANELS; p++) {
      chains(x, xFrom, 1, panels, at + p * panelBytes, depth, out, outFrom + p * PANEL, add);
    }
  }

  /** One token and one panel: as many sums at once as outputs. */
  private static void chains(
      float[] x,
      int xFrom,
      int step,
      MemorySegment panel,
      long at,
      int depth,
      float[] out,
      int outFrom,
      boolean add) {
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
    float s4 = 0;
    float s5 = 0;
    float s6 = 0;
    float s7 = 0;
    for (int k = 0; k < depth; k++) {
      float value = x[xFrom + k * step];
      long w = at + (long) k * (PANEL * Float.BYTES);
      s0 += value * panel.get(ValueLayout.JAVA_FLOAT, w);
      s1 += value * panel.get(ValueLayout.JAVA_FLOAT, w + Float.BYTES);
      s2 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 2 * Float.BYTES);
      s3 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 3 * Float.BYTES);
      s4 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 4 * Float.BYTES);
      s5 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 5 * Float.BYTES);
      s6 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 6 * Float.BYTES);
      s7 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 7 * Float.BYTES);
    }
    out[outFrom] = add ? out[outFrom] + s0 : s0;
    out[outFrom + 1] = add ? out[outFrom + 1] + s1 : s1;
    out[outFrom + 2] = add ? out[outFrom + 2] + s2 : s2;
    out[outFrom + 3] = add ? out[outFrom + 3] + s3 : s3;
    out[outFrom + 4] = add ? out[outFrom + 4] + s4 : s4;
    out[outFrom + 5] = add ? out[outFrom + 5] + s5 : s5;
    out[outFrom + 6] = add ? out[outFrom + 6] + s6 : s6;
    out[outFrom + 7] = add ? out[outFrom + 7] + s7 : s7;
  }

  @Override
  public void tile(
      double[] x,
      int xFrom,
      MemorySegment panel,
      long at,
      int depth,
      double[] out,
      int outFrom,
      int stride,
      boolean add) {
    for (int t = 0; t < TOKENS; t++) {
      chains(x, xFrom + t, TOKENS, panel, at, depth, out, outFrom + t * stride, add);
    }
  }

  @Override
  public void row(
      double[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      double[] out,
      int outFrom,
      boolean add) {
    for (int p = 0; p < PANELS; p++) {
      chains(x, xFrom, 1, panels, at + p * panelBytes, depth, out, outFrom + p * PANEL, add);
    }
  }

  /** One token and one panel: as many sums at once as outputs. */
  private static void chains(
      double[] x,
      int xFrom,
      int step,
      MemorySegment panel,
      long at,
      int depth,
      double[] out,
      int outFrom,
      boolean add) {
    double s0 = 0;
    double s1 = 0;
    double s2 = 0;
    double s3 = 0;
    double s4 = 0;
    double s5 = 0;
    double s6 = 0;
    double s7 = 0;
    for (int k = 0; k < depth; k++) {
      double value = x[xFrom + k * step];
      long w = at + (long) k * (PANEL * Float.BYTES);
      s0 += value * panel.get(ValueLayout.JAVA_FLOAT, w);
      s1 += value * panel.get(ValueLayout.JAVA_FLOAT, w + Float.BYTES);
      s2 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 2 * Float.BYTES);
      s3 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 3 * Float.BYTES);
      s4 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 4 * Float.BYTES);
      s5 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 5 * Float.BYTES);
      s6 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 6 * Float.BYTES);
      s7 += value * panel.get(ValueLayout.JAVA_FLOAT, w + 7 * Float.BYTES);
    }
    out[outFrom] = add ? out[outFrom] + s0 : s0;
    out[outFrom + 1] = add ? out[outFrom + 1] + s1 : s1;
    out[outFrom + 2] = add ? out[outFrom + 2] + s2 : s2;
    out[outFrom + 3] = add ? out[outFrom + 3] + s3 : s3;
    out[outFrom + 4] = add ? out[outFrom + 4] + s4 : s4;
    out[outFrom + 5] = add ? out[outFrom + 5] + s5 : s5;
    out[outFrom + 6] = add ? out[outFrom + 6] + s6 : s6;
    out[outFrom + 7] = add ? out[outFrom + 7] + s7 : s7;
  }

  @Override
  public int pairLanes() {
    return PANEL / 2;
  }

  @Override
  public void rowOfPairs(
      float[] x,
      int xFrom,
      MemorySegment panels,
      long at,
      long panelBytes,
      int depth,
      float[] out,
      int outFrom,
      boolean add) {
    int lanes = PANEL / 2;
    for (int p = 0; p < PANELS; p++) {
      for (int lane = 0; lane < lanes; lane++) {
        float low = 0;
        float high = 0;
        long pair = at + p * panelBytes + (long) lane * Integer.BYTES;
        for (int k = 0; k < depth; k++, pair += PANEL * Short.BYTES) {
          int bits = panels.get(ValueLayout.JAVA_INT, pair);
          float value = x[xFrom + k];
          low += value * lowOf(bits);
          high += value * highOf(bits);
        }
        int to = outFrom + p * PANEL + lane;
        out[to] = add ? out[to] + low : low;
        out[to + lanes] = add ? out[to + lanes] + high : high;
      }
    }
  }

  private static float lowOf(int pair) {
    return Float.intBitsToFloat(pair << 16);
  }

  private static float highOf(int pair) {
    return Float.intBitsToFloat(pair & 0xFFFF0000);
  }

  @Override
  public void pairsToF32(MemorySegment in, long inAt, MemorySegment out, long outAt, int count) {
    int lanes = PANEL / 2;
    for (int i = 0; i < count; i += PANEL) {
      for (int lane = 0; lane < lanes; lane++) {
        int bits = in.get(ValueLayout.JAVA_INT, inAt + i * 2L + lane * 4L);
        out.set(ValueLayout.JAVA_FLOAT, outAt + (i + lane) * 4L, lowOf(bits));
        out.set(ValueLayout.JAVA_FLOAT, outAt + (i + lanes + lane) * 4L, highOf(bits));
      }
    }
  }

  @Override
  public void quadsToF32(
      MemorySegment in,
      long inAt,
      MemorySegment factors,
      long factorsAt,
      int vectors,
      MemorySegment out,
      long outAt,
      int count) {
    int all = vectors * pairLanes();
    for (int i = 0; i < count; i++) {
      float factor = factors.get(ValueLayout.JAVA_FLOAT, factorsAt + (long) i % all * Float.BYTES);
      out.set(ValueLayout.JAVA_FLOAT, outAt + (long) i * Float.BYTES, quad(in, inAt, i) * factor);
    }
  }

  /** E4M3 number i with its exponent as it is: smaller than it is meant by 2^120. */
  private float quad(MemorySegment in, long inAt, int i) {
    int block = 4 * pairLanes();
    int inBlock = i % block;
    long at = inAt + (i - inBlock) + (long) inBlock % pairLanes() * Integer.BYTES;
    int top = in.get(ValueLayout.JAVA_INT, at) << (24 - Byte.SIZE * (inBlock / pairLanes()));
    return Float.intBitsToFloat((top & 0x80000000) | ((top & 0x7F000000) >>> 4));
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
  public void addTap(
      float[] x,
      int xFrom,
      float factor,
      float[] w,
      int wFrom,
      float[] tap,
      int tapFrom,
      float[] out,
      int outFrom,
      int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor * w[wFrom + i] * tap[tapFrom + i];
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

  @Override
  public void siluGradient(
      float[] x, int xFrom, float[] g, int gFrom, float[] out, int outFrom, int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] = g[gFrom + i] * Silu.slope(x[xFrom + i]);
    }
  }

  @Override
  public void addScaledProduct(
      float[] x,
      int xFrom,
      float factor,
      float[] y,
      int yFrom,
      float[] out,
      int outFrom,
      int count) {
    for (int i = 0; i < count; i++) {
      out[outFrom + i] += x[xFrom + i] * factor * y[yFrom + i];
    }
  }

  @Override
  public void twoDots(
      float[] x,
      int xFrom,
      float[] y,
      int yFrom,
      float[] z,
      int zFrom,
      int count,
      double[] sums,
      double[] lanes) {
    double xz = 0;
    double yz = 0;
    for (int i = 0; i < count; i++) {
      double c = z[zFrom + i];
      xz += x[xFrom + i] * c;
      yz += y[yFrom + i] * c;
    }
    sums[0] = xz;
    sums[1] = yz;
  }

  @Override
  public void gateGradients(
      float[] x,
      float[] y,
      int from,
      float[] w,
      int wFrom,
      float f,
      float xFactor,
      float yFactor,
      float[] xOut,
      int xOutFrom,
      float[] yOut,
      float[] products,
      int productsFrom,
      int count) {
    for (int i = 0; i < count; i++) {
      float a = x[from + i];
      float b = y[from + i];
      float c = w[wFrom + i];
      xOut[xOutFrom + i] = b * c * f + a * xFactor;
      yOut[i] = a * c * f + b * yFactor;
      products[productsFrom + i] += a * b * f;
    }
  }
}
