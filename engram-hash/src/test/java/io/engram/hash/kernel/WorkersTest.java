// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Tag("once")
@Timeout(20)
class WorkersTest {
  @Test
  void everyItemIsDoneOnceAndNoTwoAtOnceShareAWorker() {
    for (int workers : new int[] {1, 2, 5}) {
      for (int items : new int[] {0, 1, 2, 3, 1000}) {
        AtomicIntegerArray done = new AtomicIntegerArray(items);
        AtomicIntegerArray busy = new AtomicIntegerArray(workers);
        AtomicInteger shared = new AtomicInteger();
        new Workers(workers)
            .forEach(
                workers,
                items,
                (worker, item) -> {
                  shared.addAndGet(busy.incrementAndGet(worker) - 1);
                  done.incrementAndGet(item);
                  Thread.onSpinWait();
                  busy.decrementAndGet(worker);
                });
        for (int item = 0; item < items; item++) {
          assertEquals(1, done.get(item), "item " + item);
        }
        assertEquals(0, shared.get(), "items that shared a worker at the same time");
      }
    }
  }

  @Test
  void aFailureEndsTheLoopAndIsThrown() {
    IllegalStateException failure = new IllegalStateException("item 7");
    for (int workers : new int[] {1, 3}) {
      assertSame(
          failure,
          assertThrows(
              IllegalStateException.class,
              () ->
                  new Workers(workers)
                      .forEach(
                          workers,
                          100,
                          (worker, item) -> {
                            if (item == 7) {
                              throw failure;
                            }
                          })));
    }
  }

  /**
   * Helpers that are late, or still waiting for more, must not take one loop's items for another's.
   */
  @Test
  void loopsOfChangingSizesFollowEachOther() {
    Workers workers = new Workers(3);
    AtomicIntegerArray done = new AtomicIntegerArray(64);
    for (int round = 0; round < 20_000; round++) {
      int items = 1 + round * 31 % 64;
      int least = round;
      if (round % 97 == 0) {
        workers.end();
      } else {
        workers.begin();
      }
      workers.forEach(
          1 + round % 3,
          items,
          (worker, item) -> {
            assertTrue(item < items, "item of another loop");
            assertEquals(least, done.get(item) >>> 8, "of another round");
            done.incrementAndGet(item);
          });
      for (int item = 0; item < 64; item++) {
        assertEquals((round << 8) + (item < items ? 1 : 0), done.get(item));
        done.set(item, (round + 1) << 8);
      }
    }
    workers.end();
  }

  @Test
  void aFailureIsNotThrownAgain() {
    Workers workers = new Workers(2);
    for (int round = 0; round < 100; round++) {
      assertThrows(
          IllegalStateException.class,
          () ->
              workers.forEach(
                  2,
                  10,
                  (worker, item) -> {
                    throw new IllegalStateException("item " + item);
                  }));
      AtomicInteger done = new AtomicInteger();
      workers.forEach(2, 10, (worker, item) -> done.incrementAndGet());
      assertEquals(10, done.get());
    }
  }

  @Test
  void aWarmLoopAllocatesNothing() {
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    Workers workers = new Workers(2);
    AtomicInteger done = new AtomicInteger();
    Workers.Body body = (worker, item) -> done.incrementAndGet();
    long least = Long.MAX_VALUE;
    for (int round = 0; round < 50 && least > 0; round++) {
      long before = threads.getTotalThreadAllocatedBytes();
      for (int i = 0; i < 200; i++) {
        workers.begin();
        workers.forEach(2, 20, body);
        workers.end();
      }
      least = Math.min(least, threads.getTotalThreadAllocatedBytes() - before);
    }
    assertEquals(0, least, "bytes allocated by 200 loops in all threads");
  }

  @Test
  void aBusyPoolDelaysNothing() throws InterruptedException {
    CountDownLatch release = new CountDownLatch(1);
    int parallelism = ForkJoinPool.getCommonPoolParallelism();
    CountDownLatch occupied = new CountDownLatch(parallelism);
    for (int i = 0; i < parallelism; i++) {
      ForkJoinPool.commonPool()
          .execute(() -> {
            occupied.countDown();
            try {
              release.await();
            } catch (InterruptedException e) {
              Thread.currentThread().interrupt();
            }
          });
    }
    try {
      occupied.await();
      AtomicInteger done = new AtomicInteger();
      new Workers(4).forEach(4, 50, (worker, item) -> done.incrementAndGet());
      assertEquals(50, done.get());
    } finally {
      release.countDown();
    }
  }

  @Test
  void anInterruptIsKeptAndBreaksNothing() {
    AtomicInteger done = new AtomicInteger();
    Thread.currentThread().interrupt();
    new Workers(3)
        .forEach(
            3,
            200,
            (worker, item) -> {
              for (int i = 0; i < 1000; i++) {
                Thread.onSpinWait();
              }
              done.incrementAndGet();
            });
    assertEquals(200, done.get());
    assertTrue(Thread.interrupted(), "the interrupt is lost");
  }
}
