// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.MemorySegment;

/**
 * A product with the fixed weights of one layer: out[t, o] = sum over e of x[t, e] * w[o, e], in
 * float32. {@link ProjectionChoice} says which implementation a JVM uses.
 *
 * <p>Thread-safe. What an implementation holds outside the heap is released some time after it has
 * become unreachable.
 */
interface Projection {
  /**
   * Ranges of outputs that different threads may compute at once.
   *
   * @return how many there are, at least 1
   */
  int parts();

  /**
   * Computes the outputs of one part for some tokens. Any number of threads may do so at once, for
   * different parts or for different tokens. Once a part has been computed for that many tokens by
   * as many threads at once, nothing is allocated.
   *
   * @param part 0 to parts - 1
   * @param x native F32 [tokens, rowWidth], at a multiple of 64 bytes
   * @param tokens 0 and more
   * @param out native F32 [tokens, outputs]: the part's columns are written, whatever was there
   *     before, and the others are left alone
   * @throws IndexOutOfBoundsException if there is no such part, or memory is smaller than that
   */
  void multiply(int part, MemorySegment x, int tokens, MemorySegment out);
}
