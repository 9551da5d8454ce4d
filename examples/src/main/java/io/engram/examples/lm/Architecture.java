// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.ArrayList;
import java.util.List;

/** The tensors of a model, by the parts that use them. */
record Architecture(
    Parameter embedding,
    List<HalfBlock.Weights> attention,
    List<HalfBlock.Weights> feedForward,
    List<MemoryLayer.Weights> memory,
    Parameter norm) {

  private static final double EMBEDDING_DEVIATION = 0.02;

  static Architecture add(Parameters parameters, ModelConfig config) {
    Parameter embedding =
        parameters.add(
            Parameter.matrix(
                "embedding", EMBEDDING_DEVIATION, config.vocabulary(), config.width()));
    List<HalfBlock.Weights> attention = new ArrayList<>();
    List<HalfBlock.Weights> feedForward = new ArrayList<>();
    for (int layer = 0; layer < config.layers(); layer++) {
      attention.add(HalfBlock.Weights.attention(parameters, config, layer));
      feedForward.add(HalfBlock.Weights.feedForward(parameters, config, layer));
    }
    List<MemoryLayer.Weights> memory =
        config.memory().stream()
            .flatMap(m ->
                m.layerIds().stream().map(layer -> MemoryLayer.Weights.add(parameters, m, layer)))
            .toList();
    Parameter norm = parameters.add(RmsNorm.parameter("norm", config.width()));
    return new Architecture(embedding, attention, feedForward, memory, norm);
  }
}
