// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.function.Supplier;

/**
 * Buffers of one kind, each used by one thread at a time and then by the next. A thread keeps none,
 * so that a million virtual threads cost no more than the few that run at once.
 *
 * <p>Thread-safe.
 */
final class StagingPool<T> {
  private static final int SLOTS = 64;

  private final Supplier<T> maker;
  private final AtomicReferenceArray<T> free = new AtomicReferenceArray<>(SLOTS);

  StagingPool(Supplier<T> maker) {
    this.maker = maker;
  }

  /** A buffer with arbitrary contents. */
  T take() {
    int home = home();
    for (int i = 0; i < SLOTS; i++) {
      int slot = home + i & SLOTS - 1;
      T buffer = free.get(slot) == null ? null : free.getAndSet(slot, null);
      if (buffer != null) {
        return buffer;
      }
    }
    return maker.get();
  }

  /** Gives a buffer back; where there is no place, the collector frees it. */
  void give(T buffer) {
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
