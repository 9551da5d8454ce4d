// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/** When rows are read, and how many at a time. */
public enum Reading {
  /** Inside the layer that wants them, each after the one before. */
  LOOP,
  /** Inside the layer that wants them, all of its batch outstanding together. */
  BATCHED,
  /**
   * As early as the ids are known, all layers in their order, all outstanding together: at the
   * start of a decode step; for a prompt, while the chunk before is computed.
   */
  PREFETCHED,
  /** Inside the layer, copied from memory: the RAM tier, or a mapping that is resident. */
  IN_MEMORY
}
