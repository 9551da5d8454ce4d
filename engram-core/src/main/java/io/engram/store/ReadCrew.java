// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.LockSupport;

/**
 * Threads that block in positional reads, so that many are outstanding at once. All callers of one
 * store share them. Every read, a caller's own too, needs a seat, and there are as many seats as
 * reads may be outstanding.
 *
 * <p>A caller first reads alone: what lies in the page cache takes about a microsecond, less than
 * waking anybody. The first read that has waited for the disk makes it share the rest. Threads take
 * turns between the batches that are under way, so that a small one does not wait for a large one.
 *
 * <p>Nothing is allocated once the threads run: hence a monitor and parking instead of locks and
 * queues, which allocate when threads wait.
 */
final class ReadCrew implements AutoCloseable {
  /** A read that took longer has waited for the disk. */
  private static final long SLOW_NANOS = 30_000;

  /** Cached reads that are worth waking another thread for. */
  private static final int CACHED_READS_PER_THREAD = 512;

  private static final int LARGEST_SLICE = 16;

  private final String name;
  private final int depth;
  private final boolean callersRead;
  private final int processors = Runtime.getRuntime().availableProcessors();
  private final Object lock = new Object();
  private final Arena arena = Arena.ofShared();
  private final ReadSeat[] seats;
  private int freeSeats;
  private int madeSeats;
  private final List<Worker> workers = new ArrayList<>();
  private final Worker[] idle;
  private int idleCount;
  private ReadTask[] active = new ReadTask[4];
  private int activeCount;
  private int turn;
  private int users;

  /** Whether recent reads waited for the disk; a guess that costs time only if it is wrong. */
  private volatile boolean cold;

  private volatile boolean closed;

  /**
   * A crew without threads as yet.
   *
   * @param name names the threads
   * @param depth reads that may be outstanding
   * @param callersRead whether callers may read themselves
   * @param cold whether to expect that reads wait for the disk
   */
  ReadCrew(String name, int depth, boolean callersRead, boolean cold) {
    this.name = name;
    this.depth = depth;
    this.callersRead = callersRead;
    this.cold = cold;
    seats = new ReadSeat[depth];
    idle = new Worker[depth];
  }

  boolean isClosed() {
    return closed;
  }

  /** Threads that have been started and have not ended. */
  int liveThreads() {
    synchronized (lock) {
      return (int) workers.stream().filter(Worker::isAlive).count();
    }
  }

  /**
   * Performs all reads of a task, and returns when no thread is at it any more.
   *
   * @return false if the crew was closed before they were done
   * @throws RuntimeException what a read threw first
   */
  boolean run(ReadTask task, int reads) {
    boolean virtual = Thread.currentThread().isVirtual();
    boolean expectCold = cold;
    ReadSeat seat = null;
    synchronized (lock) {
      if (closed) {
        return false;
      }
      task.prepare(reads);
      // A virtual thread that waits for the disk would hold one of few carriers.
      if (callersRead && !(virtual && expectCold)) {
        seat = takeSeat();
      }
      users++;
    }
    try {
      if (seat == null) {
        share(task, expectCold || !callersRead);
      } else {
        try {
          readAsCaller(task, seat, expectCold, virtual);
        } finally {
          giveSeat(seat);
        }
      }
      await(task);
      Throwable failure = task.failure;
      if (failure instanceof RuntimeException e) {
        throw e;
      }
      if (failure instanceof Error e) {
        throw e;
      }
      return !task.abandoned;
    } finally {
      synchronized (lock) {
        users--;
        if (closed && users == 0) {
          lock.notifyAll();
        }
      }
    }
  }

  private void readAsCaller(ReadTask task, ReadSeat seat, boolean expectCold, boolean virtual) {
    int timed = 0;
    int slow = 0;
    int alone = 0;
    int limit = task.limit;
    long before = System.nanoTime();
    if (!expectCold || limit == 1) {
      int most = limit < 2 * CACHED_READS_PER_THREAD || processors == 1 ? limit : 64;
      try {
        while (alone < most && slow == 0 && !closed) {
          task.read(seat, alone++);
          long after = System.nanoTime();
          timed++;
          slow += after - before > SLOW_NANOS ? 1 : 0;
          before = after;
        }
      } catch (RuntimeException | Error e) {
        task.fail(e);
        return;
      }
      task.next = alone;
      if (alone == limit) {
        noteCold(expectCold, slow, timed);
        return;
      }
    }
    share(task, expectCold || slow > 0);
    if (virtual && slow > 0) {
      return;
    }
    int from = 0;
    int to = 0;
    Throwable failure = null;
    while (true) {
      synchronized (lock) {
        if (to > from) {
          finish(task, failure);
        }
        if (task.next >= task.limit) {
          break;
        }
        from = task.next;
        to = from + slice(task);
        task.next = to;
        task.running++;
      }
      before = System.nanoTime();
      try {
        for (int i = from; i < to; i++) {
          task.read(seat, i);
        }
      } catch (Throwable e) {
        failure = e;
      }
      timed++;
      slow += System.nanoTime() - before > SLOW_NANOS * (to - from) ? 1 : 0;
    }
    noteCold(expectCold, slow, timed);
  }

  private void noteCold(boolean expected, int slow, int timed) {
    boolean found = 8 * slow >= timed && timed > 0;
    if (found != expected) {
      cold = found;
    }
  }

  /** Lets others take reads of a task. */
  private void share(ReadTask task, boolean expectCold) {
    Worker first;
    Worker second;
    synchronized (lock) {
      int left = task.limit - task.next;
      if (closed) {
        task.next = task.limit;
        task.abandoned = left > 0;
        return;
      }
      if (activeCount == active.length) {
        active = Arrays.copyOf(active, 2 * activeCount);
      }
      active[activeCount++] = task;
      int useful = expectCold ? left : Math.min(processors - 1, left / CACHED_READS_PER_THREAD) + 1;
      task.wanted = Math.clamp(useful, 1, depth);
      first = wake(task);
      second = wake(task);
      if (workers.isEmpty()) {
        task.fail(new EngramException(name + ": the system gives no thread to read with"));
      }
    }
    unpark(first);
    unpark(second);
  }

  private void await(ReadTask task) {
    boolean interrupted = false;
    while (true) {
      synchronized (lock) {
        if (task.isDone()) {
          remove(task);
          break;
        }
        task.waiter = Thread.currentThread();
      }
      LockSupport.park(this);
      // Parking does not wait while a thread is interrupted.
      interrupted |= Thread.interrupted();
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void remove(ReadTask task) {
    for (int i = 0; i < activeCount; i++) {
      if (active[i].equals(task)) {
        active[i] = active[--activeCount];
        active[activeCount] = null;
        return;
      }
    }
  }

  private ReadTask pick() {
    for (int i = 0; i < activeCount; i++) {
      int index = (turn + i) % activeCount;
      if (active[index].next < active[index].limit) {
        turn = index + 1;
        return active[index];
      }
    }
    return null;
  }

  private int slice(ReadTask task) {
    return Math.clamp((task.limit - task.next) / (2 * depth), 1, LARGEST_SLICE);
  }

  /** The thread to be unparked when all is done, or null. */
  private Thread finish(ReadTask task, Throwable failure) {
    task.running--;
    if (failure != null) {
      task.fail(failure);
    }
    return task.isDone() ? task.waiter : null;
  }

  private ReadSeat takeSeat() {
    if (freeSeats > 0) {
      return seats[--freeSeats];
    }
    if (madeSeats < depth) {
      ReadSeat made = new ReadSeat(arena, ReadSeat.BYTES);
      madeSeats++;
      return made;
    }
    return null;
  }

  private void giveSeat(ReadSeat seat) {
    Worker worker = null;
    synchronized (lock) {
      seats[freeSeats++] = seat;
      // Somebody may have been woken in vain, because there was no seat.
      if (activeCount > 0 && pick() != null && idleCount > 0) {
        worker = idle[--idleCount];
        worker.resting = false;
      }
    }
    unpark(worker);
  }

  /** A resting thread to be unparked, or null if a new one was started or none is needed. */
  private Worker wake(ReadTask task) {
    if (task.wanted == 0 || task.next >= task.limit) {
      return null;
    }
    task.wanted--;
    if (idleCount > 0) {
      Worker worker = idle[--idleCount];
      worker.resting = false;
      return worker;
    }
    if (workers.size() < depth) {
      try {
        Worker worker = new Worker(name + " reader " + workers.size());
        worker.start();
        workers.add(worker);
      } catch (OutOfMemoryError e) {
        // No more threads: those that run must do.
        task.wanted = 0;
      }
    }
    return null;
  }

  private static void unpark(Worker worker) {
    if (worker != null) {
      LockSupport.unpark(worker);
    }
  }

  /**
   * Lets the reads that have begun end, ends the threads and frees the buffers. Afterwards no read
   * is under way.
   */
  @Override
  public void close() {
    boolean interrupted = false;
    synchronized (lock) {
      if (closed) {
        return;
      }
      closed = true;
      for (int i = 0; i < activeCount; i++) {
        ReadTask task = active[i];
        task.abandoned |= task.next < task.limit;
        task.next = task.limit;
        if (task.isDone() && task.waiter != null) {
          LockSupport.unpark(task.waiter);
        }
      }
      while (idleCount > 0) {
        Worker worker = idle[--idleCount];
        worker.resting = false;
        LockSupport.unpark(worker);
      }
      while (users > 0) {
        try {
          lock.wait();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    for (Worker worker : workers) {
      while (worker.isAlive()) {
        try {
          worker.join();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    arena.close();
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private final class Worker extends Thread {
    /** Set under the lock, by this thread, and cleared by whoever takes it from the idle ones. */
    private volatile boolean resting;

    Worker(String name) {
      super(null, null, name, 0, false);
      setDaemon(true);
    }

    @Override
    public void run() {
      ReadSeat seat = null;
      ReadTask task = null;
      Throwable failure = null;
      int from = 0;
      int to = 0;
      while (true) {
        Thread waiter = null;
        Worker first = null;
        Worker second = null;
        boolean end = false;
        synchronized (lock) {
          if (task != null) {
            waiter = finish(task, failure);
            failure = null;
          }
          task = pick();
          if (task != null && seat == null) {
            try {
              seat = takeSeat();
            } catch (OutOfMemoryError e) {
              // Without this, whoever waits for the task would wait for ever.
              task.fail(e);
              if (task.isDone()) {
                LockSupport.unpark(task.waiter);
              }
            }
            task = seat == null ? null : task;
          }
          if (task != null) {
            from = task.next;
            to = from + slice(task);
            task.next = to;
            task.running++;
            first = wake(task);
            second = wake(task);
          } else {
            if (seat != null) {
              seats[freeSeats++] = seat;
              seat = null;
            }
            if (closed) {
              end = true;
            } else {
              resting = true;
              idle[idleCount++] = this;
            }
          }
        }
        if (waiter != null) {
          LockSupport.unpark(waiter);
        }
        unpark(first);
        unpark(second);
        if (end) {
          return;
        }
        if (task == null) {
          while (resting) {
            LockSupport.park(ReadCrew.this);
          }
          continue;
        }
        try {
          for (int i = from; i < to; i++) {
            task.read(seat, i);
          }
        } catch (Throwable e) {
          failure = e;
        }
      }
    }
  }
}
