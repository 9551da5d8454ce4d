// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

/**
 * How a budget of memory is divided. The cache and its shadow compute it in the same way.
 *
 * @param sets number of sets, at least 1
 * @param readers how many reads at once can have rows on their way from the store below
 * @param missesPerRead rows of such a read, a power of two
 * @param bytes memory of all of it
 */
record CacheGeometry(long sets, int readers, int missesPerRead, long bytes) {
  private static final int FEWEST_READERS = 4;
  private static final int MOST_READERS = 16;
  private static final int FEWEST_MISSES = 16;
  private static final int MOST_MISSES = 4096;
  private static final int WANTED_MISSES = 1024;

  /** One part in 16 of the memory is for rows on their way. */
  private static final int TRANSIT_SHARE = 16;

  static CacheGeometry of(String name, int rowBytes, long budget) {
    long least = minimum(rowBytes);
    if (budget < least) {
      throw new IllegalArgumentException(
          name
              + ": a cache of "
              + budget
              + " bytes is too small for rows of "
              + rowBytes
              + " bytes, expected at least "
              + least
              + "; without a cache, leave it out");
    }
    long missBytes = missBytes(rowBytes);
    long transit = budget / TRANSIT_SHARE / missBytes;
    int readers = Math.clamp(transit / WANTED_MISSES, FEWEST_READERS, MOST_READERS);
    int misses =
        (int) Long.highestOneBit(Math.clamp(transit / readers, FEWEST_MISSES, MOST_MISSES));
    long transitBytes = readers * missBytes * misses;
    long sets = (budget - transitBytes) / setBytes(rowBytes);
    return new CacheGeometry(sets, readers, misses, transitBytes + sets * setBytes(rowBytes));
  }

  /** One set, and the fewest rows on their way. */
  static long minimum(int rowBytes) {
    return setBytes(rowBytes) + FEWEST_READERS * missBytes(rowBytes) * FEWEST_MISSES;
  }

  long capacityRows() {
    return sets * CacheSets.WAYS;
  }

  /** A set with its rows. */
  static long setBytes(int rowBytes) {
    return CacheSets.SET_BYTES + (long) CacheSets.WAYS * rowBytes;
  }

  private static long missBytes(int rowBytes) {
    return Misses.HEAP_BYTES + (long) rowBytes;
  }
}
