// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import java.util.Arrays;

/** One figure of a process, measured again and again: does it grow? */
final class Series {
  private final String name;
  private final double bound;
  private double[] seconds = new double[64];
  private double[] values = new double[64];
  private int size;

  /**
   * An empty series.
   *
   * @param name what is measured
   * @param bound how much it may grow over the whole time
   */
  Series(String name, double bound) {
    this.name = name;
    this.bound = bound;
  }

  void add(double second, double value) {
    if (size == seconds.length) {
      seconds = Arrays.copyOf(seconds, 2 * size);
      values = Arrays.copyOf(values, 2 * size);
    }
    seconds[size] = second;
    values[size++] = value;
  }

  /**
   * Growth a second: the median of the slopes between all pairs of samples after the warm-up, which
   * single peaks do not move.
   */
  double slope(double warmUp) {
    int from = 0;
    while (from < size && seconds[from] < warmUp) {
      from++;
    }
    int n = size - from;
    double[] slopes = new double[n * (n - 1) / 2];
    int at = 0;
    for (int i = from; i < size; i++) {
      for (int j = i + 1; j < size; j++) {
        slopes[at++] = (values[j] - values[i]) / (seconds[j] - seconds[i]);
      }
    }
    if (at == 0) {
      throw new IllegalStateException(name + ": " + n + " samples after the warm-up");
    }
    Arrays.sort(slopes);
    return slopes[at / 2];
  }

  /** What it would have grown by over all the time after the warm-up. */
  double growth(double warmUp) {
    return slope(warmUp) * (seconds[size - 1] - warmUp);
  }

  boolean flat(double warmUp) {
    return growth(warmUp) <= bound;
  }

  double first() {
    return values[0];
  }

  double last() {
    return values[size - 1];
  }

  String report(double warmUp) {
    return "%s: %.1f at first, %.1f at last, grows by %.2f after the warm-up, allowed %.1f"
        .formatted(name, first(), last(), growth(warmUp), bound);
  }

  @Override
  public String toString() {
    return size == 0 ? "no samples" : String.valueOf(last());
  }
}
