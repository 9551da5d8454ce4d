// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/** The second half of a block. */
interface FeedForwardPart {
  /** Keeps {@code x} [tokens, width], which must stay as it is until the backward. */
  void forward(float[] x, int tokens, float[] y);

  /** The gradient of x from that of y; they are different arrays. */
  void backward(float[] dy, int tokens, float[] dx);
}
