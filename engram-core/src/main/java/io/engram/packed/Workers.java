// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import java.io.IOException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Supplier;

/**
 * Works through numbered tasks in a few threads and hands each result to the caller's thread.
 *
 * <p>Threads are asked to stop, never interrupted: an interrupt would close the files they read.
 */
final class Workers {
  private Workers() {}

  /** What one thread does, with buffers of its own. */
  interface Worker<T> extends AutoCloseable {
    T run(int task) throws IOException;

    @Override
    void close();
  }

  /** What the caller does with a result, on its own thread. */
  @FunctionalInterface
  interface Sink<T> {
    void accept(int task, T result) throws IOException;
  }

  private record Outcome<T>(int task, T result, Throwable failure) {}

  /**
   * Runs all tasks, in any order, and returns when no thread is left.
   *
   * @throws IOException what the first task that failed threw, or the sink
   */
  static <T> void run(
      String name, int threads, int[] tasks, Supplier<Worker<T>> factory, Sink<T> sink)
      throws IOException {
    AtomicInteger next = new AtomicInteger();
    BlockingQueue<Outcome<T>> outcomes = new LinkedBlockingQueue<>();
    int count = Math.min(threads, tasks.length);
    Thread[] pool = new Thread[count];
    for (int t = 0; t < count; t++) {
      pool[t] =
          Thread.ofPlatform()
              .name(name + "-" + t)
              .daemon()
              .start(() -> work(tasks, next, factory, outcomes));
    }
    try {
      for (int done = 0; done < tasks.length; done++) {
        Outcome<T> outcome = outcomes.take();
        rethrow(outcome.failure());
        sink.accept(tasks[outcome.task()], outcome.result());
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new EngramException(name + " was interrupted", e);
    } finally {
      next.set(tasks.length);
      join(pool);
    }
  }

  private static void rethrow(Throwable failure) throws IOException {
    switch (failure) {
      case null -> {}
      case IOException e -> throw e;
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      default -> throw new AssertionError("a worker throws no other", failure);
    }
  }

  private static <T> void work(
      int[] tasks,
      AtomicInteger next,
      Supplier<Worker<T>> factory,
      BlockingQueue<Outcome<T>> outcomes) {
    int task = tasks.length;
    try (Worker<T> worker = factory.get()) {
      while (true) {
        // Not beyond the end: the counter would wrap around if it were asked for long enough.
        task = next.getAndUpdate(n -> Math.min(n + 1, tasks.length));
        if (task >= tasks.length) {
          return;
        }
        outcomes.add(new Outcome<>(task, worker.run(tasks[task]), null));
      }
    } catch (Throwable e) {
      outcomes.add(new Outcome<>(task, null, e));
    }
  }

  private static void join(Thread[] pool) {
    boolean interrupted = false;
    for (Thread thread : pool) {
      while (thread.isAlive()) {
        try {
          thread.join();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
