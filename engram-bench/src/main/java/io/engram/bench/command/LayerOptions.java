// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.nio.file.Path;
import picocli.CommandLine.Option;

/** Which layer of which checkpoint. */
final class LayerOptions {
  @Option(
      names = "--checkpoint",
      required = true,
      paramLabel = "DIR",
      description = "A checkpoint directory: config.json, safetensors, tokenizer or token map.")
  Path checkpoint;

  @Option(
      names = "--layer",
      required = true,
      paramLabel = "L",
      description = "A layer with a memory, counted as the checkpoint's config.json counts.")
  int layer;
}
