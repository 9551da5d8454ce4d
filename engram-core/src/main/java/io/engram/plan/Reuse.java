// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import java.util.Objects;

/**
 * How much of what is asked for has to be read at all.
 *
 * @param distinctShare different rows of a prompt's chunk, as a share of the rows it asks for, more
 *     than 0 and at most 1: the chunk is hashed at once and reads each row once
 * @param distinctOrigin where that share is from
 * @param hitShare share of the rows that a cache in memory answers, at least 0 and less than 1
 * @param hitOrigin where that share is from
 */
public record Reuse(
    double distinctShare, Origin distinctOrigin, double hitShare, Origin hitOrigin) {
  /** Checks the ranges. */
  public Reuse {
    Objects.requireNonNull(distinctOrigin, "distinctOrigin");
    Objects.requireNonNull(hitOrigin, "hitOrigin");
    if (!(distinctShare > 0 && distinctShare <= 1)) {
      throw new IllegalArgumentException(
          "distinctShare is " + distinctShare + ", expected more than 0 and at most 1");
    }
    if (!(hitShare >= 0 && hitShare < 1)) {
      throw new IllegalArgumentException(
          "hitShare is " + hitShare + ", expected at least 0 and less than 1");
    }
  }

  /**
   * The worst case: no row is asked for twice and none is cached.
   *
   * @return the assumption
   */
  public static Reuse none() {
    return new Reuse(1, Origin.ASSUMED, 0, Origin.ASSUMED);
  }
}
