// SPDX-License-Identifier: Apache-2.0
package io.engram;

import java.util.Objects;

/**
 * The tier that serves a layer's table, and why.
 *
 * @param layer the layer
 * @param tier its tier
 * @param tableBytes bytes of the table as stored
 * @param reason a sentence for people
 */
public record TierChoice(int layer, Tier tier, long tableBytes, String reason) {
  /** Refuses null. */
  public TierChoice {
    Objects.requireNonNull(tier, "tier");
    Objects.requireNonNull(reason, "reason");
  }

  @Override
  public String toString() {
    return "layer " + layer + ": " + tier + ", " + reason;
  }
}
