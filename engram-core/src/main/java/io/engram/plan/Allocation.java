// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import io.engram.hash.HashLayout;
import io.engram.table.RowFormat;
import java.util.List;

/**
 * One way to share out the sparse parameters of a model, with tables as they would be built.
 *
 * <p>A value, safe to share.
 *
 * @param ratio share of the sparse parameters that routed experts keep (the paper's rho), from 0 to
 *     1, with a whole number of experts
 * @param experts routed experts of a layer that are left
 * @param freedParameters parameters of the experts that are gone
 * @param slotsPerHead where the search for moduli starts; 0 if there is no memory
 * @param headDim values of a row
 * @param layouts the tables, one for each layer with a memory; none if there is no memory
 */
public record Allocation(
    double ratio,
    int experts,
    long freedParameters,
    long slotsPerHead,
    int headDim,
    List<HashLayout> layouts) {

  /** Copies the layouts. */
  public Allocation {
    layouts = List.copyOf(layouts);
  }

  /**
   * Rows of all tables.
   *
   * @return the sum of the moduli, padded as the scheme pads; 0 without a memory
   */
  public long rows() {
    return layouts.stream().mapToLong(HashLayout::rowCount).reduce(0, Math::addExact);
  }

  /**
   * Parameters in tables: at most {@link #freedParameters}, where the plan chose the slots.
   *
   * @return rows * headDim
   */
  public long tableParameters() {
    return Math.multiplyExact(rows(), (long) headDim);
  }

  /**
   * Bytes of all tables.
   *
   * @param format how rows are stored
   * @return rows times bytes of a row, scales included
   */
  public long bytes(RowFormat format) {
    return Math.multiplyExact(rows(), (long) format.rowBytes(headDim));
  }
}
