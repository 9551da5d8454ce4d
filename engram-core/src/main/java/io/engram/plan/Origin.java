// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

/** Where a number that a plan starts from is from. */
public enum Origin {
  /** Observed on the machine or the text in question. */
  MEASURED,
  /** Stated by whoever asks. */
  GIVEN,
  /** A default: typical, and perhaps wrong here. */
  ASSUMED
}
