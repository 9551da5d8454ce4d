// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/**
 * What row ids are computed from, as a kernel reads it: arrays that nobody changes.
 *
 * @param multipliers one for each id of the longest window, the latest id's first; no product with
 *     an id exceeds 63 bits
 * @param slots for each multiplier, the first column of the lowest order whose window reaches as
 *     far, ascending
 * @param heads how many columns share a hash; divides the number of columns
 * @param moduli one for each column, order-major, at least 1
 * @param offsets one for each column
 */
@SuppressWarnings("ArrayRecordComponent")
record HashTerms(long[] multipliers, int[] slots, int heads, long[] moduli, long[] offsets) {
  /** Positions that are hashed before any is reduced: few enough to stay in the nearest cache. */
  private static final int BLOCK = 64;

  int columns() {
    return moduli.length;
  }

  /** Whether the first column of an order is where the hash up to a shift belongs for good. */
  boolean completes(int shift) {
    return shift == multipliers.length - 1 || slots[shift + 1] != slots[shift];
  }

  boolean allModuliWithin(long smallest, long largest) {
    for (long modulus : moduli) {
      if (modulus < smallest || modulus > largest) {
        return false;
      }
    }
    return true;
  }

  /** Does {@link HashKernel#openWindows} with plain loops and a kernel's {@code reduce}. */
  void openWindows(HashKernel kernel, int[] ids, int from, int positions, long[] out, int outFrom) {
    for (int done = 0; done < positions; done += BLOCK) {
      int count = Math.min(BLOCK, positions - done);
      int outAt = outFrom + done * moduli.length;
      openHashes(ids, from + done, count, out, outAt);
      kernel.reduce(out, outAt, count);
    }
  }

  /** Leaves hashes where {@link HashKernel#reduce} wants them. */
  private void openHashes(int[] ids, int from, int positions, long[] out, int outFrom) {
    int columns = moduli.length;
    long multiplier = multipliers[0];
    for (int p = 0, i = outFrom; p < positions; p++, i += columns) {
      out[i] = ids[from + p] * multiplier;
    }
    for (int shift = 1; shift < multipliers.length; shift++) {
      multiplier = multipliers[shift];
      int slot = slots[shift];
      int slotBefore = slots[shift - 1];
      for (int p = 0, i = outFrom; p < positions; p++, i += columns) {
        out[i + slot] = out[i + slotBefore] ^ (ids[from + p - shift] * multiplier);
      }
    }
  }
}
