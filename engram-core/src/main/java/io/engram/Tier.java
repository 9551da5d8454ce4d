// SPDX-License-Identifier: Apache-2.0
package io.engram;

/** Where the rows of a table are served from. */
public enum Tier {
  /** Copied into memory outside the heap, in large pages where the system has them. */
  RAM,
  /** Mapped where they lie: shared with other processes, and kept by the system's page cache. */
  MAPPED,
  /** Read where they lie, many rows at a time: for tables that are larger than memory. */
  DIRECT,
  /** From a store that the user opened, such as a cluster. */
  GIVEN
}
