// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

/**
 * How far prefetching may go.
 *
 * @param stagingBytes the most memory for rows that were read and not yet asked for, over all
 *     retrievals, at least 0; it is taken as it is needed, in pieces of 1 MiB, and kept. Layers
 *     that find no room are read when they are asked for
 * @param workers threads that read, 0 to 1,024; with 0 every read waits until its rows are asked
 *     for
 * @param sliceRows the most rows of one read, at least 1: after each, a worker turns to what has
 *     become more urgent. A store reads a slice at once, so a small one wastes its depth
 * @param verify whether every staged row is compared with a fresh read when it is asked for. Costs
 *     the reads that prefetching saves: for finding faults
 * @param timeToLayer when rows of a layer will be needed, after the call of {@code prefetch}; 0 for
 *     layers that are not named. Without any, lower layers come before higher ones and, within a
 *     layer, earlier calls before later ones
 */
public record PrefetchOptions(
    long stagingBytes,
    int workers,
    int sliceRows,
    boolean verify,
    Map<Integer, Duration> timeToLayer) {
  private static final int MAX_WORKERS = 1024;

  /** Refuses what is out of range. */
  public PrefetchOptions {
    if (stagingBytes < 0) {
      throw new IllegalArgumentException(
          "stagingBytes is " + stagingBytes + ", expected at least 0");
    }
    if (workers < 0 || workers > MAX_WORKERS) {
      throw new IllegalArgumentException(
          "workers is " + workers + ", expected 0 to " + MAX_WORKERS);
    }
    if (sliceRows < 1) {
      throw new IllegalArgumentException("sliceRows is " + sliceRows + ", expected at least 1");
    }
    timeToLayer = Map.copyOf(timeToLayer);
    timeToLayer.forEach((layer, time) -> {
      if (time.isNegative()) {
        throw new IllegalArgumentException(
            "timeToLayer of layer " + layer + " is " + time + ", expected at least 0");
      }
    });
  }

  /**
   * 64 MiB, one worker for two processors but at most 4, slices of 4,096 rows.
   *
   * @return the defaults
   */
  public static PrefetchOptions defaults() {
    int workers = Math.clamp(Runtime.getRuntime().availableProcessors() / 2, 1, 4);
    return new PrefetchOptions(64L << 20, workers, 4096, false, Map.of());
  }

  /**
   * These options with another bound of memory.
   *
   * @param bytes at least 0
   * @return a changed copy
   */
  public PrefetchOptions withStagingBytes(long bytes) {
    return new PrefetchOptions(bytes, workers, sliceRows, verify, timeToLayer);
  }

  /**
   * These options with another number of threads.
   *
   * @param count 0 to 1,024
   * @return a changed copy
   */
  public PrefetchOptions withWorkers(int count) {
    return new PrefetchOptions(stagingBytes, count, sliceRows, verify, timeToLayer);
  }

  /**
   * These options with reads of another length.
   *
   * @param rows at least 1
   * @return a changed copy
   */
  public PrefetchOptions withSliceRows(int rows) {
    return new PrefetchOptions(stagingBytes, workers, rows, verify, timeToLayer);
  }

  /**
   * These options with or without comparison.
   *
   * @param compare whether staged rows are compared with a fresh read
   * @return a changed copy
   */
  public PrefetchOptions withVerify(boolean compare) {
    return new PrefetchOptions(stagingBytes, workers, sliceRows, compare, timeToLayer);
  }

  /**
   * These options with the time until a layer needs its rows, such as the measured time of the
   * blocks below it.
   *
   * @param layer a layer with a memory
   * @param time time from {@code prefetch} to {@code rows}, at least 0
   * @return a changed copy
   */
  public PrefetchOptions withTimeToLayer(int layer, Duration time) {
    Map<Integer, Duration> times = new HashMap<>(timeToLayer);
    times.put(layer, time);
    return new PrefetchOptions(stagingBytes, workers, sliceRows, verify, times);
  }
}
