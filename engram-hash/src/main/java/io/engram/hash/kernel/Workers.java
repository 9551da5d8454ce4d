// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.ForkJoinTask;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * Loops whose items are independent, one after the other, spread over the common pool and the
 * calling thread. Which worker takes which item is left to chance, so an item's result must not
 * depend on its worker.
 *
 * <p>Between {@link #begin} and {@link #end} a helper that has run out of items waits a little for
 * those of the next loop: waking a thread costs more than a short loop. The caller waits for items,
 * not for threads, so that a busy pool delays nothing. Nothing is allocated.
 *
 * <p>For one caller at a time.
 */
public final class Workers {
  /** The threads that can work at once: the common pool's and the caller's. */
  public static final int AVAILABLE = ForkJoinPool.getCommonPoolParallelism() + 1;

  private static final long PATIENCE_NANOS = 50_000;
  private static final int SPINS_BETWEEN_LOOKS = 32;

  /** One item of a loop. */
  @FunctionalInterface
  public interface Body {
    /**
     * Does one item.
     *
     * @param worker below the most that any loop so far had, no two at the same time: which scratch
     *     to use
     * @param item 0 to items - 1
     */
    void run(int worker, int item);
  }

  private final Helper[] helpers;

  /**
   * The items of the loop above, the next one below. In one number, so that a helper that is late
   * cannot take an item of one loop by the count of another.
   */
  private final AtomicLong tickets = new AtomicLong();

  private final AtomicInteger finished = new AtomicInteger();
  private final AtomicReference<Throwable> failure = new AtomicReference<>();
  private volatile boolean active;

  /** Written before the tickets are, and read only by who holds one. */
  private Body body;

  private int items;
  private Thread caller;

  /**
   * Workers for loops of one caller.
   *
   * @param workers at most this many threads, the caller's included
   */
  public Workers(int workers) {
    helpers = new Helper[workers - 1];
    for (int i = 0; i < helpers.length; i++) {
      helpers[i] = new Helper(this, i + 1);
    }
  }

  /** Loops will follow soon after each other. */
  public void begin() {
    active = true;
  }

  /** No loop follows for now. */
  public void end() {
    active = false;
  }

  /**
   * Runs a loop.
   *
   * @param workers at most this many threads are asked to work; one that waits since a loop before
   *     may join under its own number
   * @param count number of items
   * @param body what to do; the first exception ends the loop and is thrown here
   */
  public void forEach(int workers, int count, Body body) {
    int wanted = Math.min(Math.min(workers - 1, helpers.length), count - 1);
    if (wanted <= 0) {
      for (int item = 0; item < count; item++) {
        body.run(0, item);
      }
      return;
    }
    this.body = body;
    items = count;
    caller = Thread.currentThread();
    finished.set(0);
    tickets.set((long) count << Integer.SIZE);
    for (int i = 0; i < wanted; i++) {
      helpers[i].call();
    }
    work(0);
    await();
    this.body = null;
    caller = null;
    rethrow(failure.getAndSet(null));
  }

  private boolean hasItems() {
    long ticket = tickets.get();
    return (int) ticket < (int) (ticket >>> Integer.SIZE);
  }

  private void work(int worker) {
    while (hasItems()) {
      long ticket = tickets.getAndIncrement();
      int item = (int) ticket;
      int count = (int) (ticket >>> Integer.SIZE);
      if (item >= count) {
        return;
      }
      // A loop does not end before its last item: from here to the next count nothing changes.
      Thread waiting = caller;
      if (failure.get() == null) {
        try {
          body.run(worker, item);
        } catch (RuntimeException | Error e) {
          failure.compareAndSet(null, e);
        }
      }
      if (finished.incrementAndGet() == count && worker != 0) {
        LockSupport.unpark(waiting);
      }
    }
  }

  private void await() {
    long start = System.nanoTime();
    while (finished.get() < items && System.nanoTime() - start < PATIENCE_NANOS) {
      spin();
    }
    boolean interrupted = false;
    while (finished.get() < items) {
      LockSupport.park(this);
      // Parking returns at once on an interrupted thread: wait first, tell afterwards.
      interrupted |= Thread.interrupted();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private static void spin() {
    for (int i = 0; i < SPINS_BETWEEN_LOOKS; i++) {
      Thread.onSpinWait();
    }
  }

  private static void rethrow(Throwable failure) {
    switch (failure) {
      case null -> {}
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      default -> throw new AssertionError(failure);
    }
  }

  /** Submitted again and again: it never completes, so the pool takes it each time. */
  private static final class Helper extends ForkJoinTask<Void> {
    private static final long serialVersionUID = 1;

    private final transient Workers workers;
    private final transient AtomicBoolean called = new AtomicBoolean();
    private final int worker;

    Helper(Workers workers, int worker) {
      this.workers = workers;
      this.worker = worker;
    }

    /** One that was called before and is still about finds the new items by itself. */
    void call() {
      if (called.compareAndSet(false, true)) {
        ForkJoinPool.commonPool().execute(this);
      }
    }

    @Override
    protected boolean exec() {
      try {
        do {
          workers.work(worker);
        } while (moreComes());
      } finally {
        called.set(false);
      }
      return false;
    }

    private boolean moreComes() {
      long start = System.nanoTime();
      while (workers.active && System.nanoTime() - start < PATIENCE_NANOS) {
        if (workers.hasItems()) {
          return true;
        }
        spin();
      }
      return false;
    }

    @Override
    public Void getRawResult() {
      return null;
    }

    @Override
    protected void setRawResult(Void value) {}
  }
}
