// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

/**
 * The reads of one batch, which several threads of a {@link ReadCrew} take from a common counter.
 * The fields belong to the crew and are guarded by its lock; a task is used again and again.
 */
abstract class ReadTask {
  /** First read that nobody has taken. */
  int next;

  /** Number of reads. */
  int limit;

  /** Threads that have taken reads and not finished them. */
  int running;

  /** Threads that should still be woken. */
  int wanted;

  /** Whether the crew was closed before all reads were taken. */
  boolean abandoned;

  /** What went wrong first. */
  Throwable failure;

  /** Who waits for the end, once there is somebody. */
  Thread waiter;

  /** Performs one read; called from any thread, once for each number below the limit. */
  abstract void read(ReadSeat seat, int number);

  final void prepare(int reads) {
    next = 0;
    limit = reads;
    running = 0;
    wanted = 0;
    abandoned = false;
    failure = null;
    waiter = null;
  }

  final boolean isDone() {
    return next >= limit && running == 0;
  }

  final void fail(Throwable cause) {
    next = limit;
    if (failure == null) {
      failure = cause;
    }
  }
}
