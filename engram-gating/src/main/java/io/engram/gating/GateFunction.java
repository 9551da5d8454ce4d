// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.GateConfig;

/**
 * From the three sums of a token and stream to its gate: the one place that knows the shapes and
 * the rule for zero, for both engines.
 *
 * <p>The sums come in double precision, for near zero the square root magnifies their error five
 * hundredfold. The dot product is rounded to float32 before its sign is asked for, as the reference
 * code holds it in float32.
 */
final class GateFunction {
  static final float SMALLEST = 1e-6f;

  private final GateConfig config;
  private final double rootOfWidth;

  GateFunction(GateConfig config) {
    this.config = config;
    this.rootOfWidth = Math.sqrt(config.width());
  }

  /**
   * The gate.
   *
   * @param keySquares sum of the squares of the key
   * @param querySquares sum of the squares of the stream
   * @param dot sum of key * stream * combined norm weight
   * @return 0 to 1, or NaN where a sum is NaN
   */
  float gate(double keySquares, double querySquares, double dot) {
    return gate((float) (dot * scale(keySquares) * scale(querySquares) / rootOfWidth));
  }

  /** 1 / rms over one stream, eps inside the mean. */
  double scale(double squares) {
    return 1 / Math.sqrt(squares / config.width() + config.normEps());
  }

  /** The gate of a normalised dot product. */
  float gate(float dot) {
    return switch (config.shape()) {
      case PLAIN -> sigmoid(dot);
      case SIGNED_SQRT -> {
        double root = Math.sqrt(Math.max(Math.abs(dot), SMALLEST));
        yield switch (config.zeroDot()) {
          case SIGN_ZERO -> dot == 0 ? 0.5f : sigmoid(Math.copySign(root, dot));
          case COPY_SIGN -> sigmoid(Math.copySign(root, dot));
        };
      }
    };
  }

  /**
   * The derivative of the gate by the normalised dot product, as automatic differentiation has it:
   * where the clamp holds the root it is 0, and so it is at a dot product of zero.
   */
  double slope(float dot) {
    return switch (config.shape()) {
      case PLAIN -> sigmoidSlope(dot);
      case SIGNED_SQRT -> {
        double size = Math.abs(dot);
        double root = Math.sqrt(size);
        yield size < SMALLEST ? 0 : sigmoidSlope(root) / (2 * root);
      }
    };
  }

  /** The same for both signs; without the difference 1 - sigmoid, which loses the small ones. */
  private static double sigmoidSlope(double x) {
    double power = StrictMath.exp(-Math.abs(x));
    return power / ((1 + power) * (1 + power));
  }

  /** The root of the width, by which dot products are divided. */
  double rootOfWidth() {
    return rootOfWidth;
  }

  /** StrictMath, so that every machine has the same gate. */
  private static float sigmoid(double x) {
    return (float) (1 / (1 + StrictMath.exp(-x)));
  }
}
