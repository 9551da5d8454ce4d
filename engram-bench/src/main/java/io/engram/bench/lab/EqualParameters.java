// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.ModelConfig;
import io.engram.vocab.TokenMap;
import java.util.Optional;

/**
 * The model to compare one that has a memory with: no memory, and what the memory has as further
 * units of the feed-forward parts. It computes more for each token than the model with a memory,
 * which favours it.
 */
final class EqualParameters {
  private EqualParameters() {}

  /**
   * Widens dense feed-forward parts.
   *
   * @param config a model without a memory and with one dense unit a block
   * @param parameters how many it is to have
   * @return the widest model of at most so many parameters, but no narrower than it was
   */
  static ModelConfig of(ModelConfig config, long parameters) {
    long now;
    try (LanguageModel model =
        LanguageModel.create(config, TokenMap.identity(config.vocabulary()), 0)) {
      now = model.parameters();
    }
    FeedForward part = config.feedForward();
    long unit = config.layers() * (part.expertParameters(config.width()) / part.hidden());
    int units = part.hidden() + (int) Math.max(0, (parameters - now) / unit);
    return new ModelConfig(
        config.vocabulary(),
        config.context(),
        config.width(),
        config.layers(),
        config.heads(),
        new FeedForward(part.activation(), units, 0, 0, 0),
        config.streams(),
        Optional.empty());
  }
}
