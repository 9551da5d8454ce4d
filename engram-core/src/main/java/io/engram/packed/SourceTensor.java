// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import java.util.Objects;
import java.util.Optional;

/**
 * What consecutive rows of a table were called in the checkpoint that they came from, so that they
 * can go back.
 *
 * @param rows number of rows, at least 0
 * @param values the name of the tensor of their values
 * @param scales the name of the tensor of their scales, if the format has them
 */
public record SourceTensor(long rows, String values, Optional<String> scales) {
  /** Refuses null, negative numbers and empty names. */
  public SourceTensor {
    Objects.requireNonNull(values, "values");
    Objects.requireNonNull(scales, "scales");
    if (rows < 0 || values.isEmpty() || scales.map(String::isEmpty).orElse(false)) {
      throw new IllegalArgumentException(
          rows + " rows of values '" + values + "' and scales " + scales);
    }
  }
}
