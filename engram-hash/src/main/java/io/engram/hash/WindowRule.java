// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.util.Objects;

/**
 * What an n-gram sees where it would reach past the start of its sequence or segment, or past a
 * position that carries no token.
 *
 * <p>A value, safe to share.
 *
 * @param fill the hashed id that stands for a position that may not be seen, not negative
 * @param boundary the id that ends a segment, or {@link #NO_BOUNDARY}. The boundary token itself
 *     still sees its own segment; positions after it see {@code fill} instead of it and of all that
 *     is older. The one published variant that has a boundary fills with that same id
 * @param dead what an id of {@code Lookback.DEAD} means
 */
public record WindowRule(int fill, int boundary, Dead dead) {

  /** No token ends a segment. */
  public static final int NO_BOUNDARY = -1;

  /** What a position without a token (an image cell, padding) does to its window. */
  public enum Dead {
    /** There are none: {@code Lookback.DEAD} is refused. */
    REFUSED,
    /** Fill stands for it and for all that is older, for it and for all later positions (V4.1). */
    BLOCKS,
    /** It is hashed as if it were the boundary token (Qwen PLE padding). */
    BOUNDARY
  }

  /** Checks the ranges. */
  public WindowRule {
    Objects.requireNonNull(dead, "dead");
    if (fill < 0) {
      throw new IllegalArgumentException("fill is " + fill + ", expected at least 0");
    }
    if (boundary < NO_BOUNDARY) {
      throw new IllegalArgumentException(
          "boundary is " + boundary + ", expected an id or NO_BOUNDARY");
    }
    if (dead == Dead.BOUNDARY && boundary == NO_BOUNDARY) {
      throw new IllegalArgumentException("dead positions act as the boundary, but there is none");
    }
  }

  /**
   * Padding only, no boundary, no dead positions (the paper's demo).
   *
   * @param fill the hashed id of the pad token
   * @return the rule
   */
  public static WindowRule padded(int fill) {
    return new WindowRule(fill, NO_BOUNDARY, Dead.REFUSED);
  }
}
