// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.List;

/** The experiments that there are. */
public final class Experiments {
  private Experiments() {}

  /**
   * All of them.
   *
   * @return in the order in which to read about them
   */
  public static List<Experiment> all() {
    return List.of(
        new MarkovExperiment(),
        new OffExperiment(),
        new AllocationExperiment(),
        new SlotsExperiment(),
        new AblationExperiment(),
        new DepthExperiment());
  }
}
