// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Where consecutive rows of a table lie in files: what every tier that reads files is made from.
 *
 * @param values the value bytes of the rows, packed; of whole rows where the file keeps values and
 *     scales together
 * @param scales the scale bytes of the same rows, packed, if they are stored apart
 */
public record RowPart(FileRegion values, Optional<FileRegion> scales) {
  /** Refuses null. */
  public RowPart {
    Objects.requireNonNull(values, "values");
    Objects.requireNonNull(scales, "scales");
  }

  /**
   * The runs of bytes that the part consists of.
   *
   * @return values, then scales if there are any
   */
  public List<FileRegion> regions() {
    return scales.map(s -> List.of(values, s)).orElse(List.of(values));
  }
}
