// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Objects;

/**
 * A run of bytes of a file, and the same bytes in a mapping of it.
 *
 * <p>Reading the mapping is subject to what happens to the file: see {@link MappedRowStore}.
 *
 * @param file the file, for messages and for tiers that read it themselves
 * @param offset position of the first byte in the file, not negative
 * @param bytes the bytes, mapped; valid as long as the arena of the mapping is open
 */
public record FileRegion(Path file, long offset, MemorySegment bytes) {
  /** Checks the offset. */
  public FileRegion {
    Objects.requireNonNull(file, "file");
    Objects.requireNonNull(bytes, "bytes");
    if (offset < 0 || offset > Long.MAX_VALUE - bytes.byteSize()) {
      throw new IllegalArgumentException(
          file + ": no region of " + bytes.byteSize() + " bytes starts at " + offset);
    }
  }

  /**
   * Position after the last byte.
   *
   * @return the offset plus the number of bytes
   */
  public long end() {
    return offset + bytes.byteSize();
  }

  /**
   * Copies the whole region, for instance into anonymous memory, which vector kernels need.
   *
   * @param out receives the bytes
   * @param outOffset where in it, in bytes
   * @throws IllegalArgumentException if they do not fit
   * @throws IllegalStateException if the mapping or the output is closed
   * @throws io.engram.EngramException if the file ends before the region does
   */
  public void copyTo(MemorySegment out, long outOffset) {
    if (outOffset < 0 || bytes.byteSize() > out.byteSize() - outOffset) {
      throw new IllegalArgumentException(
          file
              + ": "
              + bytes.byteSize()
              + " bytes do not fit an output of "
              + out.byteSize()
              + " at "
              + outOffset);
    }
    try {
      MemorySegment.copy(bytes, 0, out, outOffset, bytes.byteSize());
      MappedFaults.raisePending();
    } catch (InternalError e) {
      throw MappedFaults.translate(file, "bytes " + offset + " to " + end(), end(), e);
    }
    // The rest of the page in which a truncated file ends reads as zeros, without a fault.
    MappedFaults.checkSize(file, "bytes " + offset + " to " + end(), end());
  }
}
