// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * While it is open, Ctrl-C (or a termination) asks work to stop and lets the JVM end only when this
 * is closed: what was being saved is whole.
 */
final class StopOnInterrupt implements AutoCloseable {
  /** Exit code of a program that was interrupted: 128 and the number of the signal. */
  static final int EXIT_CODE = 130;

  private static final long PATIENCE_SECONDS = 60;

  private final CountDownLatch closed = new CountDownLatch(1);
  private final Thread hook;

  StopOnInterrupt(Runnable stop) {
    this.hook =
        new Thread(() -> {
          stop.run();
          try {
            // The JVM ends with the hook, whatever its other threads do.
            boolean done = closed.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (!done) {
              System.err.println("engram: gave up waiting; the last complete checkpoint stays");
            }
          } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
          }
        });
    Runtime.getRuntime().addShutdownHook(hook);
  }

  @Override
  public void close() {
    closed.countDown();
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      // The JVM is ending, which is what the hook waits for.
      Thread.onSpinWait();
    }
  }
}
