// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import io.engram.hash.kernel.KernelChoice;
import java.lang.invoke.MethodHandles;

/**
 * Row ids of many positions without a division, for the terms it was made with.
 *
 * <p>Rows are position-major: all columns of one position after those of another. Nothing is
 * allocated once a thread has used a kernel.
 *
 * <p>Thread-safe.
 */
interface HashKernel {
  /** Makes the kernels of one twin. */
  @FunctionalInterface
  interface Maker {
    /**
     * The fastest kernel of this twin that is exact for some terms; the scalar one where none is.
     *
     * @param terms multipliers, moduli and offsets
     * @return the kernel
     */
    HashKernel make(HashTerms terms);
  }

  /**
   * The fastest kernel of this JVM that is exact for some terms.
   *
   * @param terms multipliers, moduli and offsets
   * @return the kernel
   */
  static HashKernel of(HashTerms terms) {
    return KernelChoice.make(
            MethodHandles.lookup(), Maker.class, () -> ScalarHashKernel::new, "VectorHashKernels")
        .make(terms);
  }

  /**
   * Row ids of positions whose whole windows lie in the array and may be seen.
   *
   * @param ids ids, none negative, as many before {@code from} as the longest window reaches back
   * @param from index of the first position's id
   * @param positions how many positions
   * @param out where to write the row ids
   * @param outFrom index of the first row id
   */
  void openWindows(int[] ids, int from, int positions, long[] out, int outFrom);

  /**
   * Replaces hashes by row ids in place, {@code offsets[c] + hash % moduli[c]} at column c.
   *
   * @param rows in the first column of each order, the hash that all its heads share, not negative;
   *     row ids in all columns afterwards
   * @param from index of the first position's first column
   * @param positions how many positions
   */
  void reduce(long[] rows, int from, int positions);
}
