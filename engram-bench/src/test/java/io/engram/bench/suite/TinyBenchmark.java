// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.suite;

import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.infra.Blackhole;

/** Small enough for a test: real forks of real JVMs. */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
public class TinyBenchmark {
  /** How much there is to do. */
  @Param({"10", "100"})
  public int work;

  /** For JMH. */
  public TinyBenchmark() {}

  /** Does it. */
  @Benchmark
  public void does() {
    Blackhole.consumeCPU(work * 100L);
  }

  /** Has a property that its JVM got on the command line. */
  @Benchmark
  public void reads() {
    if (!"there".equals(System.getProperty("tiny"))) {
      throw new IllegalStateException("the option was not passed on");
    }
    Blackhole.consumeCPU(100);
  }

  /** Always fails. */
  @Benchmark
  public void fails() {
    throw new IllegalStateException("no luck at all");
  }
}
