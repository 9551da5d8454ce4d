// SPDX-License-Identifier: Apache-2.0
package io.engram;

/**
 * The short convolution behind the gate: depthwise over all channels of all residual streams,
 * causal, dilated, on RMS-normalised input, followed by SiLU and added to its own input (paper,
 * section 2.3; {@code ShortConv} of the demo). V4.1 has none.
 *
 * @param kernelSize taps, at least 1
 * @param dilation positions between taps, at least 1; the published variants use the highest n-gram
 *     order
 * @param normEps epsilon of the norm before it, positive
 */
public record ConvConfig(int kernelSize, int dilation, float normEps) {

  /** Checks the ranges. */
  public ConvConfig {
    if (kernelSize < 1 || dilation < 1) {
      throw new IllegalArgumentException(
          "kernelSize " + kernelSize + " and dilation " + dilation + " must be at least 1");
    }
    if (!(normEps > 0) || Float.isInfinite(normEps)) {
      throw new IllegalArgumentException("normEps is " + normEps + ", expected a positive number");
    }
  }

  /**
   * How many earlier positions the output of one position depends on: the length of the state that
   * decoding carries.
   *
   * @return (kernelSize - 1) times dilation
   */
  public int history() {
    return Math.multiplyExact(kernelSize - 1, dilation);
  }
}
