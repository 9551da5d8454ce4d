// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/** Ranges of the planner's inputs, in sentences. */
final class Check {
  private Check() {}

  static void positive(double value, String name) {
    if (!(value > 0) || Double.isInfinite(value)) {
      throw new IllegalArgumentException(name + " is " + value + ", expected more than 0");
    }
  }

  static void atLeast(long value, long floor, String name) {
    if (value < floor) {
      throw new IllegalArgumentException(name + " is " + value + ", expected at least " + floor);
    }
  }
}
