// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/**
 * What a model does beside its memory. The layers of the backbone are taken to cost the same.
 *
 * @param backboneLayers layers of the backbone, at least 1
 * @param stepSeconds time of a decode step without any wait for rows, in seconds, positive
 * @param batch sequences that decode in one step, each by one token, at least 1
 * @param promptTokens tokens of a prompt, at least 1
 * @param prefillTokensPerSecond speed of the prompt without any wait for rows, positive
 * @param chunkTokens tokens of a prompt that are computed together, at least 1
 */
public record Workload(
    int backboneLayers,
    double stepSeconds,
    int batch,
    int promptTokens,
    double prefillTokensPerSecond,
    int chunkTokens) {

  /** Checks the ranges. */
  public Workload {
    Check.atLeast(backboneLayers, 1, "backboneLayers");
    Check.positive(stepSeconds, "stepSeconds");
    Check.atLeast(batch, 1, "batch");
    Check.atLeast(promptTokens, 1, "promptTokens");
    Check.positive(prefillTokensPerSecond, "prefillTokensPerSecond");
    Check.atLeast(chunkTokens, 1, "chunkTokens");
  }
}
