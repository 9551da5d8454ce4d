// SPDX-License-Identifier: Apache-2.0
package io.engram;

import java.util.Objects;

/**
 * How the rows of a position are let into its hidden state: everything in which the gates of the
 * published variants differ.
 *
 * <p>For each residual stream i, with rows e, projections K_i and V, stream h_i and norms over the
 * width of one stream: s = (norm(K_i e) . norm(h_i)) / sqrt(width); gate = sigmoid(s) or
 * sigmoid(sign(s) sqrt(max(|s|, 1e-6))); memory = gate * V e.
 *
 * @param streams residual streams, at least 1
 * @param width size of one stream (the hidden size), at least 1
 * @param bias whether the projections have biases
 * @param shape the function between the dot product and the sigmoid
 * @param zeroDot what a dot product of zero gives under {@link Shape#SIGNED_SQRT}
 * @param normWeight how norm weights are stored, here and in the convolution
 * @param normEps epsilon of the key and query norms, positive
 * @param rounding what the output of the projections is rounded to before it is used
 * @param residual what the layer returns
 */
public record GateConfig(
    int streams,
    int width,
    boolean bias,
    Shape shape,
    ZeroDot zeroDot,
    NormWeight normWeight,
    float normEps,
    Rounding rounding,
    Residual residual) {

  /** The function between the dot product and the sigmoid. */
  public enum Shape {
    /** None (paper, equation 4). */
    PLAIN,
    /** sign(s) * sqrt(max(|s|, 1e-6)): what all released code does. */
    SIGNED_SQRT
  }

  /** The sign that a dot product of zero has. */
  public enum ZeroDot {
    /** sign(0) is 0, so the gate is exactly 0.5 (demo, Qwen PLE). */
    SIGN_ZERO,
    /** The sign bit of the dot product, so the gate is sigmoid(+-0.001) (V4.1). */
    COPY_SIGN
  }

  /** How norm weights are stored. */
  public enum NormWeight {
    /** The factor itself. */
    AS_STORED,
    /** Zero-centred: the factor is 1 + the stored value (Qwen PLE). */
    ONE_PLUS
  }

  /** What the output of the projections is rounded to. */
  public enum Rounding {
    /** Float32, as computed. */
    NONE,
    /**
     * bfloat16, to nearest even, of a sum in double precision: the result does not depend on the
     * order of summation (V4.1).
     */
    BF16
  }

  /** What the layer returns. */
  public enum Residual {
    /** What the caller adds to the streams. */
    DELTA,
    /** The new streams, each sum rounded once to the dtype of the streams (V4.1). */
    IN_PLACE
  }

  /** Checks the ranges. */
  public GateConfig {
    Objects.requireNonNull(shape, "shape");
    Objects.requireNonNull(zeroDot, "zeroDot");
    Objects.requireNonNull(normWeight, "normWeight");
    Objects.requireNonNull(rounding, "rounding");
    Objects.requireNonNull(residual, "residual");
    if (streams < 1 || width < 1) {
      throw new IllegalArgumentException(
          "streams " + streams + " and width " + width + " must be at least 1");
    }
    if (!(normEps > 0) || Float.isInfinite(normEps)) {
      throw new IllegalArgumentException("normEps is " + normEps + ", expected a positive number");
    }
  }

  /**
   * Outputs of the fused projection: the keys of all streams, then the value.
   *
   * @return (streams + 1) * width
   */
  public int projectionRows() {
    return Math.multiplyExact(streams + 1, width);
  }
}
