// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Optional;

/**
 * How much of some file regions is in the page cache: what decides whether a read of them waits for
 * the disk, and what a measurement must state before it may be called cold or warm.
 *
 * <p>A look at the moment; the next read or another process changes it. Linux answers truthfully
 * only about files that this process owns or may write, and says of all others that they are wholly
 * resident.
 *
 * @param residentPages pages, of those looked at, that are in memory
 * @param pages pages looked at
 */
public record Residency(long residentPages, long pages) {
  private static final int PAGES_PER_CALL = 1 << 16;

  /** Checks the ranges. */
  public Residency {
    if (residentPages < 0 || pages < residentPages) {
      throw new IllegalArgumentException(residentPages + " resident pages of " + pages);
    }
  }

  /**
   * Looks at every page of some regions.
   *
   * @param regions mapped regions of files, for instance {@link RowPart#regions}
   * @return what was found, or nothing where the platform does not say, or a region is not mapped
   * @throws IllegalStateException if a mapping is closed
   */
  public static Optional<Residency> of(List<FileRegion> regions) {
    return look(regions, Long.MAX_VALUE);
  }

  /**
   * Looks at some pages of some regions, evenly spread: enough for a share, and quick for a table
   * of any size.
   *
   * @param regions mapped regions of files
   * @param pages pages to look at, at least 1; in small regions all
   * @return what was found, or nothing where the platform does not say, or a region is not mapped
   * @throws IllegalArgumentException if pages is less than 1
   * @throws IllegalStateException if a mapping is closed
   */
  public static Optional<Residency> sampled(List<FileRegion> regions, int pages) {
    if (pages < 1) {
      throw new IllegalArgumentException("pages is " + pages + ", expected at least 1");
    }
    return look(regions, pages);
  }

  /**
   * The share of resident pages.
   *
   * @return 0 to 1; 1 if there are no pages
   */
  public double share() {
    return pages == 0 ? 1 : (double) residentPages / pages;
  }

  private static Optional<Residency> look(List<FileRegion> regions, long wanted) {
    Optional<NativeMemory> found = NativeMemory.get();
    long bytes = 0;
    for (FileRegion region : regions) {
      if (!region.bytes().scope().isAlive()) {
        throw new IllegalStateException(region.file() + ": the mapping is closed");
      }
      if (!region.bytes().isMapped()) {
        return Optional.empty();
      }
      bytes += region.bytes().byteSize();
    }
    if (found.isEmpty()) {
      return Optional.empty();
    }
    NativeMemory os = found.get();
    int page = os.pageSize();
    boolean all = bytes / page <= wanted;
    long step = all ? (long) PAGES_PER_CALL * page : Math.ceilDiv(bytes, wanted * page) * page;
    long length = all ? step : page;
    long resident = 0;
    long looked = 0;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment flags = arena.allocate(all ? PAGES_PER_CALL : 1);
      for (FileRegion region : regions) {
        long begin = region.bytes().address() & -page;
        long end = region.bytes().address() + region.bytes().byteSize();
        for (long at = begin; at < end && region.bytes().byteSize() > 0; at += step) {
          long to = Math.min(end, at + length);
          long count = os.residentPages(at, to, flags);
          if (count < 0) {
            return Optional.empty();
          }
          resident += count;
          looked += Math.ceilDiv(to - at, page);
        }
      }
    }
    return Optional.of(new Residency(resident, looked));
  }
}
