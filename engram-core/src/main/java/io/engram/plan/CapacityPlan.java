// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.function.ToDoubleFunction;

/**
 * What a memory costs while a model runs: reads, bytes, time, and memory in each tier.
 *
 * <p>The model, with L the latency of one read, X reads per second with many outstanding ({@link
 * DiskSpeed}), and n reads of a layer:
 *
 * <ul>
 *   <li>A batch of n reads takes L + (n - 1) / X; a loop takes n L. A table with scales apart needs
 *       two reads a row, any other one. X is no more than sequential bytes per second over the mean
 *       bytes of a read, whole pages.
 *   <li>n is tokens * columns, for a chunk of a prompt times the {@linkplain Reuse#distinctShare
 *       share of different rows}, at most every row once, times 1 - {@link Reuse#hitShare}. Pages
 *       that two rows share by chance are counted twice.
 *   <li>Layers of the backbone cost the same, so the layer with b layers before it is reached after
 *       b / backboneLayers of the compute time and all waits before it. Without prefetch it then
 *       waits for its whole batch. With prefetch the batches of all layers have been served in
 *       order, at X, from the start of the step on, and the layer waits for what is left.
 *   <li>A prompt is a row of chunks. With prefetch the reads of a chunk are issued when the chunk
 *       before it starts; those of the first when it starts itself. So a prompt takes about the
 *       longer of compute and reads / X.
 *   <li>The disk serves nothing else, and reading costs the compute nothing. The gate's own
 *       arithmetic belongs to the compute.
 * </ul>
 *
 * <p>A value, safe to share. Shares are between 0 and 1.
 *
 * @param tables the tables, at least one, none behind the end of the backbone
 * @param workload the model's work
 * @param disk the disk
 * @param reuse how much need not be read
 */
public record CapacityPlan(
    List<TableShape> tables, Workload workload, DiskSpeed disk, Reuse reuse) {

  /**
   * Time to copy a row of a few hundred bytes from memory that no cache holds: measured 53 to 227
   * nanoseconds, by machine and page size.
   */
  public static final double ROW_IN_MEMORY_SECONDS = 150e-9;

  /** Chunks whose rows are in memory at a time with prefetch: the one computed and the next. */
  public static final int CHUNKS_STAGED = 2;

  private static final double MOST_READS_PER_SECOND = 1e9;

  /** Checks that tables and backbone fit, and puts the tables into the order of the backbone. */
  public CapacityPlan {
    Objects.requireNonNull(workload, "workload");
    Objects.requireNonNull(disk, "disk");
    Objects.requireNonNull(reuse, "reuse");
    tables = tables.stream().sorted(Comparator.comparingInt(TableShape::layersBefore)).toList();
    if (tables.isEmpty()) {
      throw new IllegalArgumentException("a plan needs at least one table");
    }
    TableShape last = tables.getLast();
    if (last.layersBefore() >= workload.backboneLayers()) {
      throw new IllegalArgumentException(
          "layer "
              + last.layer()
              + " has "
              + last.layersBefore()
              + " layers before it, but the backbone has only "
              + workload.backboneLayers());
    }
  }

  /**
   * The same plan over packed files.
   *
   * @return the plan
   */
  public CapacityPlan packed() {
    return new CapacityPlan(
        tables.stream().map(TableShape::packed).toList(), workload, disk, reuse);
  }

  /**
   * Bytes of all tables.
   *
   * @return their sum
   */
  public long tableBytes() {
    return tables.stream().mapToLong(TableShape::bytes).reduce(0, Math::addExact);
  }

  /**
   * Rows that a token asks for, in all layers.
   *
   * @return at least 1
   */
  public long rowsPerToken() {
    return tables.stream().mapToLong(TableShape::columns).sum();
  }

  /**
   * Bytes of these rows.
   *
   * @return at least 1
   */
  public long bytesPerToken() {
    return tables.stream().mapToLong(t -> (long) t.columns() * t.rowBytes()).sum();
  }

  /**
   * Reads that these rows take, if none is cached.
   *
   * @return at least {@link #rowsPerToken}
   */
  public long readsPerToken() {
    return tables.stream().mapToLong(t -> (long) t.columns() * t.readsPerRow()).sum();
  }

  /**
   * Pages that these reads take off the disk in the mean, if none is cached.
   *
   * @return at least {@link #readsPerToken}
   */
  public double pagesPerToken() {
    return tables.stream().mapToDouble(t -> t.columns() * t.meanPagesPerRow()).sum();
  }

  /**
   * Reads of a whole prompt.
   *
   * @return its reads after removing what repeats or is cached
   */
  public double promptReads() {
    double reads = 0;
    for (int done = 0; done < workload.promptTokens(); done += workload.chunkTokens()) {
      int tokens = Math.min(workload.chunkTokens(), workload.promptTokens() - done);
      for (TableShape table : tables) {
        reads += chunkReads(table, tokens);
      }
    }
    return reads;
  }

  /**
   * Compute time between the start of a decode step and a table's layer: what prefetch can hide
   * behind.
   *
   * @param table one of the tables
   * @return seconds
   */
  public double secondsBefore(TableShape table) {
    return workload.stepSeconds() * table.layersBefore() / workload.backboneLayers();
  }

  /**
   * Predicts a decode step.
   *
   * @param reading when rows are read
   * @return its time
   */
  public Timing decode(Reading reading) {
    return decode(reading, disk);
  }

  private Timing decode(Reading reading, DiskSpeed from) {
    Timeline line = new Timeline(this, from, reading);
    // The ids of a step are known when it starts and no sooner.
    line.chunk(workload.stepSeconds(), this::decodeRows, 0);
    return line.timing();
  }

  /**
   * Predicts a prompt.
   *
   * @param reading when rows are read
   * @return its time
   */
  public Timing prefill(Reading reading) {
    return prefill(reading, disk);
  }

  private Timing prefill(Reading reading, DiskSpeed from) {
    Timeline line = new Timeline(this, from, reading);
    double issued = 0;
    for (int done = 0; done < workload.promptTokens(); done += workload.chunkTokens()) {
      int tokens = Math.min(workload.chunkTokens(), workload.promptTokens() - done);
      double start = line.now();
      line.chunk(tokens / workload.prefillTokensPerSecond(), t -> chunkRows(t, tokens), issued);
      issued = start;
    }
    return line.timing();
  }

  private double decodeRows(TableShape table) {
    return (double) workload.batch() * table.columns() * (1 - reuse.hitShare());
  }

  private double chunkRows(TableShape table, int tokens) {
    double asked = (double) tokens * table.columns() * reuse.distinctShare();
    return Math.min(asked, (double) table.rows()) * (1 - reuse.hitShare());
  }

  private double chunkReads(TableShape table, int tokens) {
    return chunkRows(table, tokens) * table.readsPerRow();
  }

  /**
   * Random reads per second that a disk of the same latency needs so that prefetched decoding loses
   * no more than a share of its time.
   *
   * @param share of the time, more than 0 and less than 1
   * @return reads per second, or empty if no rate is enough because the latency alone is too long
   */
  public OptionalDouble readsPerSecondForDecode(double share) {
    return needed(share, d -> decode(Reading.PREFETCHED, d).waitShare());
  }

  /**
   * Random reads per second that a disk of the same latency needs so that a prefetched prompt loses
   * no more than a share of its time.
   *
   * @param share of the time, more than 0 and less than 1
   * @return reads per second, or empty if no rate is enough because the latency alone is too long
   */
  public OptionalDouble readsPerSecondForPrefill(double share) {
    return needed(share, d -> prefill(Reading.PREFETCHED, d).waitShare());
  }

  private OptionalDouble needed(double share, ToDoubleFunction<DiskSpeed> waitShare) {
    if (!(share > 0 && share < 1)) {
      throw new IllegalArgumentException("share is " + share + ", expected between 0 and 1");
    }
    // A limit in bytes per second would hide how many reads are wanted.
    DiskSpeed wide =
        new DiskSpeed(
            disk.latencySeconds(),
            disk.depth(),
            disk.readsPerSecond(),
            Double.MAX_VALUE,
            disk.origin());
    double low = 1;
    double high = MOST_READS_PER_SECOND;
    if (waitShare.applyAsDouble(wide.withReadsPerSecond(high)) > share) {
      return OptionalDouble.empty();
    }
    while (high > low * 1.001) {
      double middle = Math.sqrt(low * high);
      if (waitShare.applyAsDouble(wide.withReadsPerSecond(middle)) > share) {
        low = middle;
      } else {
        high = middle;
      }
    }
    return OptionalDouble.of(high);
  }

  /**
   * Memory for rows that have been read ahead and are not yet used: those of {@link #CHUNKS_STAGED}
   * chunks of a prompt, or of a step if that is more. Rows that repeat within a chunk are counted
   * each time, as layers take them.
   *
   * @return bytes
   */
  public long stagingBytes() {
    long tokens =
        Math.max(
            workload.batch(),
            Math.min((long) CHUNKS_STAGED * workload.chunkTokens(), workload.promptTokens()));
    return Math.multiplyExact(tokens, bytesPerToken());
  }

  /**
   * Memory of direct reads in flight: one buffer for each, of the most pages that a read can touch.
   *
   * @return bytes
   */
  public long readBufferBytes() {
    int pages = 1;
    for (TableShape table : tables) {
      pages = Math.max(pages, table.values().mostPages());
      pages = Math.max(pages, table.scales().map(RowRun::mostPages).orElse(1));
    }
    return (long) disk.depth() * pages * RowRun.PAGE;
  }

  /**
   * Page cache below which a mapped table is read twice: pages of the rows that are read ahead must
   * stay until they are used.
   *
   * @return bytes
   */
  public long leastPageCacheBytes() {
    int tokens = Math.min(workload.chunkTokens(), workload.promptTokens());
    int chunks = workload.promptTokens() > workload.chunkTokens() ? CHUNKS_STAGED : 1;
    double prompt = 0;
    double step = 0;
    for (TableShape table : tables) {
      double all = Math.ceil((double) table.bytes() / RowRun.PAGE) + table.readsPerRow();
      prompt += Math.min(all, chunks * chunkRows(table, tokens) * table.meanPagesPerRow());
      step += Math.min(all, decodeRows(table) * table.meanPagesPerRow());
    }
    return (long) Math.ceil(Math.max(step, prompt)) * RowRun.PAGE;
  }

  /**
   * Time to load the tables into memory from the disk, in order.
   *
   * @return seconds
   */
  public double loadSeconds() {
    return (double) tableBytes() / disk.sequentialBytesPerSecond();
  }
}
