// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.OptionalLong;
import org.openjdk.jmh.infra.BenchmarkParams;
import org.openjdk.jmh.infra.IterationParams;
import org.openjdk.jmh.profile.InternalProfiler;
import org.openjdk.jmh.results.AggregationPolicy;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.ScalarResult;

/**
 * How much of the process was in memory and how much of that in huge pages, after each iteration:
 * beside every result, since a table that is not resident or not in huge pages is another
 * measurement. From {@code /proc/self/smaps_rollup}; elsewhere it adds nothing.
 */
public final class MemoryProfiler implements InternalProfiler {
  /** For JMH. */
  public MemoryProfiler() {}

  @Override
  public String getDescription() {
    return "Resident memory and huge pages of the process";
  }

  @Override
  public void beforeIteration(BenchmarkParams benchmark, IterationParams iteration) {}

  @Override
  public Collection<? extends Result<?>> afterIteration(
      BenchmarkParams benchmark, IterationParams iteration, IterationResult result) {
    OptionalLong resident = mebibytes("Rss:");
    OptionalLong huge = mebibytes("AnonHugePages:");
    if (resident.isEmpty() || huge.isEmpty()) {
      return List.of();
    }
    return List.of(
        new ScalarResult("memory.resident", resident.getAsLong(), "MiB", AggregationPolicy.MAX),
        new ScalarResult("memory.hugePages", huge.getAsLong(), "MiB", AggregationPolicy.MAX));
  }

  private static OptionalLong mebibytes(String key) {
    try {
      return Files.readAllLines(Path.of("/proc/self/smaps_rollup")).stream()
          .filter(line -> line.startsWith(key))
          .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")) >> 10)
          .findFirst();
    } catch (IOException e) {
      return OptionalLong.empty();
    }
  }
}
