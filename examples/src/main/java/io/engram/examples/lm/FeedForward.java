// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.Objects;

/**
 * The feed-forward part of a block: one dense unit, or a mixture of experts of which each token
 * takes a few.
 *
 * <p>The router of a mixture is a softmax over all experts; a token goes to those {@code active}
 * whose probability, plus a balancing bias of the expert, is largest. What they return is weighted
 * by their probabilities, divided by the sum of the chosen ones if there are two or more (a single
 * one keeps its own, or the router would learn nothing). The bias takes no part in the weight and
 * has no gradient: after each step it rises for experts that had fewer tokens than the mean and
 * falls for the others (auxiliary-loss-free balancing, arXiv 2408.15664, which the paper's models
 * use). Shared experts see every token.
 *
 * @param activation the non-linearity
 * @param hidden units of one expert, or of the dense unit; at least 1
 * @param experts routed experts, or 0 for one dense unit
 * @param active routed experts that a token takes: 1 to experts, or 0 for a dense unit
 * @param shared experts that every token takes beside them, at least 0; 0 for a dense unit
 */
public record FeedForward(Activation activation, int hidden, int experts, int active, int shared) {

  /** Non-linearities. */
  public enum Activation {
    /** x * sigmoid(1.5958 (x + 0.044715 x^3)), the usual approximation by tanh; two matrices. */
    GELU(1),
    /** silu(gate) * up (arXiv 2002.05202); three matrices. */
    SWIGLU(2);

    private final int inputs;

    Activation(int inputs) {
      this.inputs = inputs;
    }

    /** Values that go into one unit. */
    int inputs() {
      return inputs;
    }
  }

  /** Checks the ranges. */
  public FeedForward {
    Objects.requireNonNull(activation, "activation");
    if (hidden < 1) {
      throw new IllegalArgumentException("hidden is " + hidden + ", expected at least 1");
    }
    if (experts < 0 || active < Math.min(experts, 1) || active > experts) {
      throw new IllegalArgumentException(
          active + " of " + experts + " experts are active, expected 1 to the number of experts");
    }
    if (shared < 0 || (experts == 0 && shared > 0)) {
      throw new IllegalArgumentException(
          shared + " shared experts beside " + experts + " routed ones");
    }
  }

  /**
   * One dense unit with GELU.
   *
   * @param hidden units, at least 1
   * @return the configuration
   */
  public static FeedForward gelu(int hidden) {
    return new FeedForward(Activation.GELU, hidden, 0, 0, 0);
  }

  /**
   * One dense unit with SwiGLU.
   *
   * @param hidden units, at least 1
   * @return the configuration
   */
  public static FeedForward swiGlu(int hidden) {
    return new FeedForward(Activation.SWIGLU, hidden, 0, 0, 0);
  }

  /**
   * A mixture of SwiGLU experts.
   *
   * @param hidden units of one expert, at least 1
   * @param experts routed experts, at least 1
   * @param active routed experts of one token, 1 to experts
   * @param shared experts of every token, at least 0
   * @return the configuration
   */
  public static FeedForward experts(int hidden, int experts, int active, int shared) {
    if (experts < 1) {
      throw new IllegalArgumentException("experts is " + experts + ", expected at least 1");
    }
    return new FeedForward(Activation.SWIGLU, hidden, experts, active, shared);
  }

  /**
   * Weights of one expert, or of the dense unit.
   *
   * @param width width of the model
   * @return parameters of its matrices
   */
  public long expertParameters(int width) {
    return (activation.inputs() + 1L) * width * hidden;
  }

  /**
   * All weights, the router's and its biases included.
   *
   * @param width width of the model
   * @return parameters
   */
  public long parameters(int width) {
    return experts == 0
        ? expertParameters(width)
        : (experts + (long) shared) * expertParameters(width) + router(width);
  }

  /**
   * The weights that one token meets: those of the experts it takes, and the router.
   *
   * @param width width of the model
   * @return parameters
   */
  public long activeParameters(int width) {
    return experts == 0
        ? expertParameters(width)
        : (active + (long) shared) * expertParameters(width) + router(width);
  }

  private long router(int width) {
    return (width + 1L) * experts;
  }
}
