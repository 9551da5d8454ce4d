// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.EngramConfig;
import java.util.Objects;
import java.util.Optional;

/**
 * What a model is made of.
 *
 * @param vocabulary token ids are 0 to vocabulary - 1; at least 2
 * @param context the longest sequence, at least 1
 * @param width size of one residual stream
 * @param layers blocks of attention and feed-forward, at least 1
 * @param heads attention heads; width / heads is even
 * @param feedForward the second half of each block
 * @param streams residual streams: 1 is a plain transformer; more are mixed, read and written by
 *     learned weights of each half block, which are the same for every token (the static part of
 *     mHC, arXiv 2512.24880: a doubly stochastic mixing matrix by Sinkhorn iterations)
 * @param memory the memory, whose token ids are the model's; its layer ids count the model's blocks
 *     from 0, and a layer is let in before its block
 */
public record ModelConfig(
    int vocabulary,
    int context,
    int width,
    int layers,
    int heads,
    FeedForward feedForward,
    int streams,
    Optional<EngramConfig> memory) {

  /**
   * Checks ranges, and that memory and model fit.
   *
   * @throws IllegalArgumentException naming what does not fit
   */
  public ModelConfig {
    Objects.requireNonNull(feedForward, "feedForward");
    Objects.requireNonNull(memory, "memory");
    atLeast("vocabulary", vocabulary, 2);
    atLeast("context", context, 1);
    atLeast("width", width, 1);
    atLeast("layers", layers, 1);
    atLeast("heads", heads, 1);
    atLeast("streams", streams, 1);
    if (width % heads != 0 || width / heads % 2 != 0) {
      throw new IllegalArgumentException(
          "width "
              + width
              + " over "
              + heads
              + " heads, expected an even number of values for each head");
    }
    if (memory.isPresent()) {
      check(memory.get(), vocabulary, width, layers, streams);
    }
  }

  private static void atLeast(String name, int value, int least) {
    if (value < least) {
      throw new IllegalArgumentException(name + " is " + value + ", expected at least " + least);
    }
  }

  private static void check(
      EngramConfig memory, int vocabulary, int width, int layers, int streams) {
    if (memory.vocabularySize() != vocabulary) {
      throw new IllegalArgumentException(
          "the memory's vocabulary has "
              + memory.vocabularySize()
              + " ids, the model's "
              + vocabulary);
    }
    if (memory.gate().streams() != streams || memory.gate().width() != width) {
      throw new IllegalArgumentException(
          "the memory writes to %d streams of %d, the model has %d of %d"
              .formatted(memory.gate().streams(), memory.gate().width(), streams, width));
    }
    for (int layer : memory.layerIds()) {
      if (layer < 0 || layer >= layers) {
        throw new IllegalArgumentException(
            "a memory at layer " + layer + ", the model has layers 0 to " + (layers - 1));
      }
    }
  }

  /**
   * Values of one attention head.
   *
   * @return width / heads
   */
  public int headDim() {
    return width / heads;
  }

  /**
   * Values of all residual streams of one token.
   *
   * @return streams * width
   */
  public int channels() {
    return streams * width;
  }
}
