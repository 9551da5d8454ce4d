// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/** One call of {@code prefetch}: its duration is that of planning, reads go on after it. */
@Name("engram.Prefetch")
@Label("Prefetch")
@Category("Engram")
@Description("A chunk was hashed and its rows are being read")
@StackTrace(false)
final class PrefetchEvent extends Event {
  @Label("Sequences")
  int sequences;

  @Label("Tokens")
  int tokens;

  @Label("Rows")
  @Description("Rows of all layers that are staged")
  long rows;

  @Label("Distinct Rows")
  long distinctRows;

  @Label("Distinct Pages")
  long distinctPages;

  @Label("Bytes")
  @DataAmount
  long bytes;

  @Label("Unstaged Layers")
  @Description("Layers for which there was no room: they are read when they are asked for")
  int unstaged;

  @Label("Staging In Use")
  @DataAmount
  long stagingInUse;
}
