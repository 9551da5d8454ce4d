// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.Dtype;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * What the header of a safetensors file says of one tensor.
 *
 * @param name the tensor's name
 * @param dtype its element type as the file spells it, whether this library reads that type or not
 * @param shape its sizes, outermost first; empty for a scalar
 * @param begin position of its first byte in the file
 * @param end position after its last byte in the file
 */
public record TensorInfo(String name, String dtype, List<Long> shape, long begin, long end) {
  /** Copies the shape. */
  public TensorInfo {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(dtype, "dtype");
    shape = List.copyOf(shape);
  }

  /**
   * Size of the tensor.
   *
   * @return bytes
   */
  public long byteSize() {
    return end - begin;
  }

  /**
   * The element type, if this library reads it.
   *
   * @return the type, or empty
   */
  public Optional<Dtype> knownDtype() {
    return Arrays.stream(Dtype.values()).filter(d -> d.name().equals(dtype)).findFirst();
  }

  @Override
  public String toString() {
    return Names.quote(name) + " " + dtype + shape;
  }
}
