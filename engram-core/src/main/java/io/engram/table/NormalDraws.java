// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

/**
 * Standard normal numbers by position: number c of a sequence needs none of those before it.
 *
 * <p>Draw c of a sequence is output c of SplitMix64 (Steele, Lea and Flood 2014), whose state only
 * counts, so it can start anywhere. The normal is made by the ziggurat of Marsaglia and Tsang
 * (2000) with 256 layers, from disjoint bits of the draw; the one draw in a hundred that is
 * rejected seeds a sequence of its own. Only the basic operations on doubles and {@link StrictMath}
 * take part, so the numbers are the same on every platform.
 */
final class NormalDraws {
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;
  private static final int LAYERS = 256;

  /** Where the tail begins, for layers of equal area under exp(-x*x/2), and that area. */
  private static final double TAIL = 3.654152885361009;

  private static final double AREA = 0.004928673233974655;

  private static final double TO_UNIT = 0x1p-53;

  /** Widths of the layers, outermost first; the first stands for the area of layer and tail. */
  private static final double[] X = new double[LAYERS + 1];

  private static final double[] F = new double[LAYERS + 1];

  static {
    X[0] = AREA / density(TAIL);
    X[1] = TAIL;
    for (int i = 2; i < LAYERS; i++) {
      X[i] = StrictMath.sqrt(-2 * StrictMath.log(AREA / X[i - 1] + density(X[i - 1])));
    }
    for (int i = 0; i <= LAYERS; i++) {
      F[i] = density(X[i]);
    }
  }

  private final long start;

  /**
   * A sequence.
   *
   * @param seed the user's seed
   * @param stream tells apart sequences of the same seed
   */
  NormalDraws(long seed, long stream) {
    start = mix(mix(seed + GOLDEN) ^ mix(~stream * GOLDEN));
  }

  private static double density(double x) {
    return StrictMath.exp(-0.5 * x * x);
  }

  /** The output function of SplitMix64, a permutation. */
  private static long mix(long state) {
    long z = (state ^ state >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return z ^ z >>> 31;
  }

  /** Number c of the sequence. */
  double at(long c) {
    long bits = mix(start + (c + 1) * GOLDEN);
    int layer = (int) bits & LAYERS - 1;
    double x = (bits >>> 11) * TO_UNIT * X[layer];
    return x < X[layer + 1] ? sign(bits, x) : rare(bits);
  }

  /** Half of all signs would be mispredicted by a branch. */
  private static double sign(long bits, double x) {
    return Double.longBitsToDouble(Double.doubleToRawLongBits(x) | (bits & LAYERS) << 55);
  }

  /** The same for a draw outside the rectangle of its layer. */
  private static double rare(long first) {
    long bits = first;
    long state = mix(first ^ 0xD1B54A32D192ED03L);
    while (true) {
      int layer = (int) bits & LAYERS - 1;
      double x = (bits >>> 11) * TO_UNIT * X[layer];
      if (x < X[layer + 1]) {
        return sign(bits, x);
      }
      if (layer == 0) {
        double beyond;
        double height;
        do {
          state += GOLDEN;
          beyond = -StrictMath.log(unit(mix(state))) / TAIL;
          state += GOLDEN;
          height = -StrictMath.log(unit(mix(state)));
        } while (2 * height < beyond * beyond);
        return sign(bits, TAIL + beyond);
      }
      state += GOLDEN;
      double y = F[layer] + (F[layer + 1] - F[layer]) * unit(mix(state));
      if (y < density(x)) {
        return sign(bits, x);
      }
      state += GOLDEN;
      bits = mix(state);
    }
  }

  /** Greater than 0, less than 1. */
  private static double unit(long bits) {
    return ((bits >>> 12) + 0.5) * 0x1p-52;
  }
}
