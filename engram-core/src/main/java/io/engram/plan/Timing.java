// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/**
 * Predicted time of a decode step or a prompt.
 *
 * @param computeSeconds time without any wait for rows
 * @param waitSeconds time for which layers wait for their rows
 */
public record Timing(double computeSeconds, double waitSeconds) {
  /**
   * The whole.
   *
   * @return seconds
   */
  public double seconds() {
    return computeSeconds + waitSeconds;
  }

  /**
   * The overhead: the share of the time, and so of the throughput, that waiting takes.
   *
   * @return 0 to 1
   */
  public double waitShare() {
    return waitSeconds / seconds();
  }
}
