// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import java.util.Objects;

/**
 * How fast a disk answers random reads of one {@linkplain RowRun#PAGE page}.
 *
 * <p>The model is a pipeline: a read takes {@code latencySeconds}, and reads that are outstanding
 * together complete at {@code readsPerSecond}. So a batch of n reads, issued at once and kept
 * {@code depth} deep, takes latency + (n - 1) / readsPerSecond, and n reads one after the other
 * take n * latency.
 *
 * @param latencySeconds time of one read while no other is outstanding, in seconds, positive
 * @param depth reads outstanding at which {@code readsPerSecond} holds, at least 1
 * @param readsPerSecond random page reads per second at that depth, at least 1 / latencySeconds
 * @param sequentialBytesPerSecond bytes per second of large reads in order, positive
 * @param origin where the figures are from
 */
public record DiskSpeed(
    double latencySeconds,
    int depth,
    double readsPerSecond,
    double sequentialBytesPerSecond,
    Origin origin) {

  /** Checks the ranges. */
  public DiskSpeed {
    Objects.requireNonNull(origin, "origin");
    Check.positive(latencySeconds, "latencySeconds");
    Check.atLeast(depth, 1, "depth");
    Check.positive(readsPerSecond, "readsPerSecond");
    Check.positive(sequentialBytesPerSecond, "sequentialBytesPerSecond");
    // Rounding of either figure must not make one read at a time look faster than many.
    if (readsPerSecond * latencySeconds < 0.99) {
      throw new IllegalArgumentException(
          "readsPerSecond is "
              + readsPerSecond
              + " with "
              + depth
              + " outstanding, but one at a time a latency of "
              + latencySeconds
              + " s already allows "
              + 1 / latencySeconds);
    }
  }

  /**
   * A local NVMe drive of the middle class: 90 microseconds, 400,000 reads a second, 3 GB/s.
   *
   * @return the assumption
   */
  public static DiskSpeed assumedNvme() {
    return new DiskSpeed(90e-6, 32, 400_000, 3e9, Origin.ASSUMED);
  }

  /**
   * A SATA solid-state drive: 150 microseconds, 80,000 reads a second, 0.5 GB/s.
   *
   * @return the assumption
   */
  public static DiskSpeed assumedSata() {
    return new DiskSpeed(150e-6, 32, 80_000, 0.5e9, Origin.ASSUMED);
  }

  /**
   * A network volume of a cloud with its usual limit: 700 microseconds, 16,000 reads a second, 0.25
   * GB/s.
   *
   * @return the assumption
   */
  public static DiskSpeed assumedNetwork() {
    return new DiskSpeed(700e-6, 32, 16_000, 0.25e9, Origin.ASSUMED);
  }

  /**
   * A rotating disk: 10 milliseconds, 200 reads a second, 0.2 GB/s.
   *
   * @return the assumption
   */
  public static DiskSpeed assumedRotating() {
    return new DiskSpeed(10e-3, 32, 200, 0.2e9, Origin.ASSUMED);
  }

  /**
   * The same disk with another rate of random reads.
   *
   * @param rate random page reads per second, positive; a rate below 1 / latency raises the latency
   *     to 1 / rate
   * @return the disk
   */
  public DiskSpeed withReadsPerSecond(double rate) {
    return new DiskSpeed(
        Math.max(latencySeconds, 1 / rate), depth, rate, sequentialBytesPerSecond, origin);
  }

  /**
   * Reads per second where a read is larger than a page: no more bytes than in order.
   *
   * @param bytesPerRead mean bytes of a read, positive
   * @return reads per second
   */
  public double readsPerSecond(double bytesPerRead) {
    return Math.min(readsPerSecond, sequentialBytesPerSecond / bytesPerRead);
  }

  /**
   * Time of a batch of reads that are issued together.
   *
   * @param reads number of reads, not negative; a mean need not be a whole number
   * @return seconds, 0 for no reads
   */
  public double batchSeconds(double reads) {
    double first = Math.clamp(reads, 0, 1);
    return first * latencySeconds + Math.max(0, reads - 1) / readsPerSecond;
  }

  /**
   * Time of reads of which each waits for the one before.
   *
   * @param reads number of reads, not negative
   * @return seconds
   */
  public double loopSeconds(double reads) {
    return Math.max(0, reads) * latencySeconds;
  }
}
