// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/**
 * The routed experts of a model that has no memory yet: all of its sparse parameters.
 *
 * <p>A value, safe to share. Experts of all layers are taken to be alike, so that "an expert" below
 * stands for one in each layer that has any.
 *
 * @param experts routed experts of a layer, more than {@code activeExperts}
 * @param activeExperts routed experts that a token uses (top-k), at least 1
 * @param sparseParameters parameters that a token does not use, total less active ones, positive:
 *     those of {@code experts - activeExperts} experts in all layers
 */
public record SparseBackbone(int experts, int activeExperts, long sparseParameters) {

  /** Checks the ranges. */
  public SparseBackbone {
    Check.atLeast(activeExperts, 1, "activeExperts");
    if (experts <= activeExperts) {
      throw new IllegalArgumentException(
          "experts is "
              + experts
              + ", expected more than the "
              + activeExperts
              + " that a token uses: without inactive experts there is nothing to share out");
    }
    Check.atLeast(sparseParameters, 1, "sparseParameters");
  }

  /**
   * A backbone of which totals are known.
   *
   * @param totalParameters all parameters
   * @param activeParameters those that a token uses, fewer
   * @param experts routed experts of a layer
   * @param activeExperts routed experts that a token uses
   * @return the backbone
   */
  public static SparseBackbone ofTotals(
      long totalParameters, long activeParameters, int experts, int activeExperts) {
    Check.atLeast(activeParameters, 1, "activeParameters");
    if (totalParameters <= activeParameters) {
      throw new IllegalArgumentException(
          "totalParameters is "
              + totalParameters
              + ", expected more than the "
              + activeParameters
              + " active ones");
    }
    return new SparseBackbone(experts, activeExperts, totalParameters - activeParameters);
  }

  /**
   * A backbone of which shapes are known: gated feed-forward experts of three matrices each.
   *
   * @param expertLayers layers with experts, at least 1
   * @param width size of the hidden state, at least 1
   * @param expertWidth inner size of an expert, at least 1
   * @param experts routed experts of a layer
   * @param activeExperts routed experts that a token uses
   * @return the backbone
   */
  public static SparseBackbone ofShapes(
      int expertLayers, int width, int expertWidth, int experts, int activeExperts) {
    Check.atLeast(expertLayers, 1, "expertLayers");
    Check.atLeast(width, 1, "width");
    Check.atLeast(expertWidth, 1, "expertWidth");
    try {
      long one =
          Math.multiplyExact(
              3L * expertLayers, Math.multiplyExact((long) width, (long) expertWidth));
      long inactive = Math.max(0L, (long) experts - activeExperts);
      return new SparseBackbone(experts, activeExperts, Math.multiplyExact(inactive, one));
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "%d experts of %d by %d in %d layers have more parameters than fit 63 bits"
              .formatted(experts, width, expertWidth, expertLayers),
          e);
    }
  }

  /**
   * Parameters of one expert in all layers.
   *
   * @return sparse parameters over inactive experts, positive
   */
  public double parametersPerExpert() {
    return (double) sparseParameters / (experts - activeExperts);
  }
}
