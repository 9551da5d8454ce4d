// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import jdk.jfr.Threshold;

/** One batch of rows read from a tier. Batches from memory are too short to pass the threshold. */
@Name("engram.RowRead")
@Label("Rows read")
@Category("Engram")
@Description("A batch of rows that a tier was asked for")
@Threshold("1 ms")
@StackTrace(false)
final class RowReadEvent extends Event {
  @Label("Table")
  String table;

  @Label("Tier")
  String tier;

  @Label("Rows")
  int rows;

  @Label("Bytes")
  @DataAmount
  long bytes;

  @Label("Failed")
  boolean failed;
}
