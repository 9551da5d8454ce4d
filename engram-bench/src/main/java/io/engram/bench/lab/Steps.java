// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

/** Is told how far a cell is. */
@FunctionalInterface
public interface Steps {
  /**
   * Part of a cell is done.
   *
   * @param step steps done so far
   * @param of steps of the whole cell, positive
   */
  void done(int step, int of);
}
