// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
        Workers.forEach(
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
                  Workers.forEach(
                      workers,
                      100,
                      (worker, item) -> {
                        if (item == 7) {
                          throw failure;
                        }
                      })));
    }
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
      Workers.forEach(4, 50, (worker, item) -> done.incrementAndGet());
      assertEquals(50, done.get());
    } finally {
      release.countDown();
    }
  }

  @Test
  void anInterruptIsKeptAndBreaksNothing() {
    AtomicInteger done = new AtomicInteger();
    Thread.currentThread().interrupt();
    Workers.forEach(
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
