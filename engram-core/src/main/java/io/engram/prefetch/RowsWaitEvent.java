// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import jdk.jfr.Category;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** A layer asked for rows that were not there yet: the duration is what it lost. */
@Name("engram.RowsWait")
@Label("Rows Wait")
@Category("Engram")
@Description("A layer asked for rows that were not there yet")
@StackTrace(false)
final class RowsWaitEvent extends Event {
  @Label("Layer")
  int layer;

  @Label("Tokens")
  int tokens;

  @Label("Slices Read")
  @Description("Slices that the asking thread read itself")
  int slicesRead;

  @Label("Synchronous")
  @Description("Whether the rows were read outside of staging")
  boolean synchronous;
}
