// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/** A thread that helps reads along, one at a time, and sleeps otherwise. */
final class ShardReader implements Runnable {
  private final AtomicReference<ShardedRead> next = new AtomicReference<>();
  private volatile boolean busy;
  private volatile boolean ended;
  private volatile Thread thread;

  private ShardReader() {}

  static ShardReader start(String name) {
    ShardReader reader = new ShardReader();
    reader.thread = Thread.ofPlatform().daemon().name(name).unstarted(reader);
    reader.thread.start();
    return reader;
  }

  /** Whether the thread will come. A busy one would come too late. */
  boolean offer(ShardedRead read) {
    if (busy || next.get() != null || !next.compareAndSet(null, read)) {
      return false;
    }
    LockSupport.unpark(thread);
    return true;
  }

  void end() {
    ended = true;
    LockSupport.unpark(thread);
  }

  @Override
  public void run() {
    while (!ended) {
      ShardedRead read = next.getAndSet(null);
      if (read == null) {
        LockSupport.park(this);
        continue;
      }
      busy = true;
      try {
        read.run();
      } finally {
        busy = false;
      }
    }
  }
}
