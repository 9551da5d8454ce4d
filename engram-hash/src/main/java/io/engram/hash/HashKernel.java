// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import io.engram.hash.kernel.KernelChoice;
import java.lang.invoke.MethodHandles;

/**
 * Turns hashes into row ids: the remainders by many moduli, without division.
 *
 * <p>Works in place, on an array that holds all columns of one position after those of another,
 * order-major. At the first column of each order it finds the hash that all heads of the order
 * share, and leaves the row ids of those heads. Nothing is allocated.
 */
interface HashKernel {
  /**
   * The kernel for some moduli: the one that this JVM chose, or the scalar one where the chosen one
   * is not exact.
   *
   * @param moduli the moduli
   * @return a kernel that is exact for all of them
   */
  static HashKernel of(long[] moduli) {
    HashKernel chosen =
        KernelChoice.make(
            MethodHandles.lookup(), HashKernel.class, ScalarHashKernel::new, "VectorHashKernel");
    for (long modulus : moduli) {
      if (modulus < chosen.smallestModulus()) {
        return new ScalarHashKernel();
      }
    }
    return chosen;
  }

  /**
   * The smallest modulus for which the kernel is exact.
   *
   * @return a bound, at least 1
   */
  long smallestModulus();

  /**
   * Computes once what {@link #reduce} needs besides the moduli.
   *
   * @param moduli the moduli, none below {@link #smallestModulus}
   * @return one value for each modulus; its meaning is the kernel's own
   */
  long[] reciprocals(long[] moduli);

  /**
   * Replaces hashes by row ids, {@code offsets[c] + hash % moduli[c]} at column c.
   *
   * @param moduli the moduli of all columns
   * @param reciprocals what {@link #reciprocals} made of them
   * @param offsets the offsets of all columns
   * @param heads how many columns share a hash; divides the number of columns
   * @param rows hashes in, none negative, and row ids out
   * @param from index of the first position's first column
   * @param positions how many positions
   */
  void reduce(
      long[] moduli,
      long[] reciprocals,
      long[] offsets,
      int heads,
      long[] rows,
      int from,
      int positions);
}
