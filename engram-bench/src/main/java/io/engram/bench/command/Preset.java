// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramConfig;
import io.engram.vocab.TokenMap;

/** The published variants, with the sizes of their backbones, for commands that need no tables. */
enum Preset {
  /** The paper's demo. */
  PAPER("the paper's demo", 30),
  /** DeepSeek-V4.1-Flash. */
  V41("DeepSeek-V4.1-Flash", 40),
  /** Qwen3.8-Flash-Next. */
  QWEN("Qwen3.8-Flash-Next", 48);

  private final String title;
  private final int backboneLayers;

  Preset(String title, int backboneLayers) {
    this.title = title;
    this.backboneLayers = backboneLayers;
  }

  /** Name for people. */
  String title() {
    return title;
  }

  int backboneLayers() {
    return backboneLayers;
  }

  EngramConfig.Builder config() {
    return switch (this) {
      case PAPER -> EngramConfig.paper();
      case V41 -> EngramConfig.v41Flash();
      case QWEN -> EngramConfig.qwenPle();
    };
  }

  /** The shape with the vocabulary of another tokenizer. */
  EngramConfig config(TokenMap map) {
    return this == QWEN
        ? config().rawVocabulary(map.size()).boundary(map.size() - 1).build()
        : config().vocabulary(map.size(), map.compressedSize()).build();
  }

  /** Layers before one that has a memory: Qwen's configuration counts from 1. */
  int layersBefore(int layer) {
    return this == QWEN ? layer - 1 : layer;
  }
}
