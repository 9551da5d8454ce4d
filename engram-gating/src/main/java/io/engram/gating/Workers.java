// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * A loop whose items are independent, spread over the common pool. Which worker takes which item is
 * left to chance, so an item's result must not depend on its worker.
 */
final class Workers {
  /** The threads that can work at once: the common pool's and the caller's. */
  static final int AVAILABLE = ForkJoinPool.getCommonPoolParallelism() + 1;

  private static final int SPINS = 200;

  /** One item of a loop. */
  @FunctionalInterface
  interface Body {
    /**
     * Does one item.
     *
     * @param worker 0 to workers - 1, no two at the same time: which scratch to use
     * @param item 0 to items - 1
     */
    void run(int worker, int item);
  }

  private Workers() {}

  /**
   * Runs a loop. The caller works too and waits for items, not for threads: a busy pool delays
   * nothing. With one worker nothing is allocated.
   *
   * @param workers at most this many threads
   * @param items number of items
   * @param body what to do; the first exception ends the loop and is thrown here
   */
  static void forEach(int workers, int items, Body body) {
    int helpers = Math.min(workers, items) - 1;
    if (helpers <= 0) {
      for (int item = 0; item < items; item++) {
        body.run(0, item);
      }
      return;
    }
    Loop loop = new Loop(items, body, Thread.currentThread());
    for (int worker = 1; worker <= helpers; worker++) {
      int slot = worker;
      ForkJoinPool.commonPool().execute(() -> loop.work(slot));
    }
    loop.work(0);
    loop.await();
  }

  /** A helper that starts after the last item was taken finds none and touches nothing. */
  private static final class Loop {
    private final int items;
    private final Body body;
    private final Thread caller;
    private final AtomicInteger next = new AtomicInteger();
    private final AtomicInteger finished = new AtomicInteger();
    private final AtomicReference<Throwable> failure = new AtomicReference<>();

    Loop(int items, Body body, Thread caller) {
      this.items = items;
      this.body = body;
      this.caller = caller;
    }

    void work(int worker) {
      for (int item = next.getAndIncrement(); item < items; item = next.getAndIncrement()) {
        if (failure.get() == null) {
          try {
            body.run(worker, item);
          } catch (RuntimeException | Error e) {
            failure.compareAndSet(null, e);
          }
        }
        if (finished.incrementAndGet() == items && worker != 0) {
          LockSupport.unpark(caller);
        }
      }
    }

    void await() {
      for (int i = 0; i < SPINS && finished.get() < items; i++) {
        Thread.onSpinWait();
      }
      boolean interrupted = false;
      while (finished.get() < items) {
        LockSupport.park(this);
        // Parking returns at once on an interrupted thread: wait first, tell afterwards.
        interrupted |= Thread.interrupted();
      }
      if (interrupted) {
        caller.interrupt();
      }
      switch (failure.get()) {
        case null -> {}
        case RuntimeException e -> throw e;
        case Error e -> throw e;
        default -> throw new AssertionError(failure.get());
      }
    }
  }
}
