// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

/**
 * How {@link DirectRowStore} reads files.
 *
 * @param pageCache true to read through the system's page cache, which keeps what was read; false
 *     to bypass it with O_DIRECT, so that the rows of a huge table displace nothing
 * @param depth positional reads that one store has outstanding at most, over all of its callers, 1
 *     to {@link #MAX_DEPTH}
 */
public record DirectReads(boolean pageCache, int depth) {
  /** Outstanding reads where none are chosen: near there, disks give the most rows a second. */
  public static final int DEFAULT_DEPTH = 32;

  /** Most outstanding reads, each of which needs a thread. */
  public static final int MAX_DEPTH = 256;

  /** Checks the depth. */
  public DirectReads {
    if (depth < 1 || depth > MAX_DEPTH) {
      throw new IllegalArgumentException(
          "direct reads: depth is " + depth + ", expected 1 to " + MAX_DEPTH);
    }
  }

  /**
   * Reads through the page cache.
   *
   * @return options with the default depth
   */
  public static DirectReads buffered() {
    return new DirectReads(true, DEFAULT_DEPTH);
  }

  /**
   * Reads that bypass the page cache, by O_DIRECT.
   *
   * @return options with the default depth
   */
  public static DirectReads uncached() {
    return new DirectReads(false, DEFAULT_DEPTH);
  }

  /**
   * The same with another depth.
   *
   * @param reads outstanding reads at most, 1 to {@link #MAX_DEPTH}
   * @return the options
   * @throws IllegalArgumentException if it is out of range
   */
  public DirectReads withDepth(int reads) {
    return new DirectReads(pageCache, reads);
  }
}
