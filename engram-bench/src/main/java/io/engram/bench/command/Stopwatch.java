// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

/** Wall-clock time of a stage, for showing it: no benchmark. */
final class Stopwatch {
  private static final int LEAST_RUNS = 5;
  private static final long WINDOW_NANOS = 1_000_000_000;

  private final long started;
  private long nanos;

  private Stopwatch(long started) {
    this.started = started;
  }

  static Stopwatch start() {
    return new Stopwatch(System.nanoTime());
  }

  /** The fastest of the runs that fit into a second, at least five: the first warm it up. */
  static Stopwatch best(Runnable stage) {
    Stopwatch all = start();
    Stopwatch best = null;
    for (int runs = 0; runs < LEAST_RUNS || all.running() < WINDOW_NANOS; runs++) {
      Stopwatch watch = start();
      stage.run();
      watch.stop();
      best = best == null || watch.nanos < best.nanos ? watch : best;
    }
    return best;
  }

  private long running() {
    return System.nanoTime() - started;
  }

  void stop() {
    nanos = Math.max(1, running());
  }

  double seconds() {
    return nanos / 1e9;
  }

  double nanosPer(long units) {
    return (double) nanos / units;
  }

  double perSecond(long units) {
    return units / seconds();
  }
}
