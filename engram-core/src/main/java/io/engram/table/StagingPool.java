// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * Anonymous buffers of one size, each used by one thread at a time and then by the next. A thread
 * keeps none, so that a million virtual threads cost no more than the few that run at once.
 *
 * <p>Thread-safe.
 */
final class StagingPool {
  private static final int SLOTS = 64;

  private final long bytes;
  private final AtomicReferenceArray<MemorySegment> free = new AtomicReferenceArray<>(SLOTS);

  StagingPool(long bytes) {
    this.bytes = bytes;
  }

  /** A buffer with arbitrary contents. */
  MemorySegment take() {
    int home = home();
    for (int i = 0; i < SLOTS; i++) {
      int slot = home + i & SLOTS - 1;
      MemorySegment buffer = free.get(slot) == null ? null : free.getAndSet(slot, null);
      if (buffer != null) {
        return buffer;
      }
    }
    return Arena.ofAuto().allocate(bytes, 64);
  }

  /** Gives a buffer back; where there is no place, the collector frees it. */
  void give(MemorySegment buffer) {
    int home = home();
    for (int i = 0; i < SLOTS; i++) {
      int slot = home + i & SLOTS - 1;
      if (free.get(slot) == null && free.compareAndSet(slot, null, buffer)) {
        return;
      }
    }
  }

  private static int home() {
    return (int) Thread.currentThread().threadId();
  }
}
