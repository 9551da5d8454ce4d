// SPDX-License-Identifier: Apache-2.0
package io.engram;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Objects;

/**
 * A dense, row-major array over memory that somebody else owns.
 *
 * <p>Immutable apart from the memory itself; as thread-safe as that memory.
 */
public final class Tensor {
  private final Dtype dtype;
  private final long[] shape;
  private final MemorySegment data;

  /**
   * A view of memory.
   *
   * @param dtype element type
   * @param shape sizes, none negative; empty for a scalar
   * @param data exactly the bytes of the elements, in row-major order
   * @throws IllegalArgumentException if a size is negative, or the memory is not exactly as large
   *     as dtype and shape say
   */
  public Tensor(Dtype dtype, long[] shape, MemorySegment data) {
    this.dtype = Objects.requireNonNull(dtype, "dtype");
    this.shape = shape.clone();
    this.data = Objects.requireNonNull(data, "data");
    long bytes = byteSize(dtype, shape);
    if (data.byteSize() != bytes) {
      throw new IllegalArgumentException(
          dtype
              + Arrays.toString(shape)
              + " takes "
              + bytes
              + " bytes, the memory has "
              + data.byteSize());
    }
  }

  /**
   * Bytes of a tensor.
   *
   * @param dtype element type
   * @param shape sizes
   * @return bytes of all elements
   * @throws IllegalArgumentException if a size is negative or the product overflows a long
   */
  public static long byteSize(Dtype dtype, long... shape) {
    long bytes = dtype.bytes();
    boolean empty = false;
    for (long size : shape) {
      if (size < 0) {
        throw new IllegalArgumentException("negative size in shape " + Arrays.toString(shape));
      }
      empty |= size == 0;
    }
    if (empty) {
      return 0;
    }
    try {
      for (long size : shape) {
        bytes = Math.multiplyExact(bytes, size);
      }
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "shape " + Arrays.toString(shape) + " of " + dtype + " overflows 64 bits", e);
    }
    return bytes;
  }

  /**
   * Element type.
   *
   * @return the element type
   */
  public Dtype dtype() {
    return dtype;
  }

  /**
   * Sizes of all dimensions.
   *
   * @return a copy
   */
  public long[] shape() {
    return shape.clone();
  }

  /**
   * Number of elements.
   *
   * @return the product of the sizes
   */
  public long count() {
    return data.byteSize() / dtype.bytes();
  }

  /**
   * The elements.
   *
   * @return the memory itself, not a copy
   */
  public MemorySegment data() {
    return data;
  }

  /**
   * Whether the shape is the given one.
   *
   * @param sizes sizes to compare with
   * @return true if they are equal
   */
  public boolean hasShape(long... sizes) {
    return Arrays.equals(shape, sizes);
  }

  @Override
  public String toString() {
    return dtype + Arrays.toString(shape);
  }
}
