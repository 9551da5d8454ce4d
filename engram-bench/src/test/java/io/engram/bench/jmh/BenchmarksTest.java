// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import static java.util.Map.entry;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.RivalException;
import io.engram.bench.jmh.rival.Rivals;
import java.lang.foreign.MemorySegment;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/** Every benchmark runs, and every rival that is here computes what the library does. */
@Tag("once")
class BenchmarksTest {
  /** Sizes that take no time, by class. */
  private static final Map<String, Map<String, String[]>> SMALL =
      Map.ofEntries(
          entry("HashBenchmark", Map.of("layout", strings("v41", "paper"))),
          entry("CompressionBenchmark", Map.of()),
          entry("RowsBenchmark", Map.of("tableMiB", strings("3"))),
          entry("Fp8RowsBenchmark", Map.of("rows", strings("5000"))),
          entry("DecodeBenchmark", Map.of()),
          entry(
              "LookupBenchmark",
              Map.of(
                  "rows", strings("20000"),
                  "tier", strings("RAM", "MAPPED", "BUFFERED"),
                  "format", strings("FP8_BLOCK32", "F32"))),
          entry("DiskTableBenchmark", Map.of("rows", strings("5000"))),
          entry(
              "LayerBenchmark", Map.of("tokens", strings("3"), "weights", strings("F32", "BF16"))),
          entry("BackwardBenchmark", Map.of("shape", strings("small"), "tokens", strings("13"))),
          entry("GateBenchmark", Map.of("tokens", strings("3"))),
          entry("TableStepBenchmark", Map.of("rows", strings("40000"), "headDim", strings("8"))),
          entry("DecodeStepBenchmark", Map.of("slotsPerHead", strings("1000"))),
          entry(
              "PrefetchBenchmark",
              Map.of(
                  "slotsPerHead", strings("1000"),
                  "work", strings("1000"),
                  "tier", strings("RAM", "BUFFERED"))));

  private static String[] strings(String... values) {
    return values;
  }

  static Set<String> classes() {
    return new TreeSet<>(SMALL.keySet());
  }

  /** In this process, once each, and a failure is this test's. */
  private static ChainedOptionsBuilder once() {
    return new OptionsBuilder()
        .forks(0)
        .mode(Mode.SingleShotTime)
        .warmupIterations(0)
        .measurementIterations(1)
        .measurementTime(TimeValue.milliseconds(1))
        .shouldFailOnError(true)
        .verbosity(VerboseMode.SILENT);
  }

  @ParameterizedTest
  @MethodSource("classes")
  void runsAndRivalsAgree(String name) throws RunnerException {
    ChainedOptionsBuilder options = once().include("\\." + name + "\\.");
    // A tier that not every file system has, and a compiler that takes its time.
    options.exclude("\\.uncached$").exclude("\\.torchCompiled$");
    SMALL.get(name).forEach(options::param);
    BenchmarksMain.absent()
        .forEach((benchmark, rival) -> {
          options.exclude("^" + Pattern.quote(benchmark) + "$");
          System.out.println(
              "not run: " + benchmark + ", " + rival.rival() + ": " + rival.detail());
        });

    Collection<RunResult> results = new Runner(options.build()).run();

    assertFalse(results.isEmpty());
    for (RunResult result : results) {
      assertTrue(result.getPrimaryResult().getScore() > 0, result.getParams().getBenchmark());
    }
  }

  @Test
  void everyBenchmarkIsRunHere() {
    Set<String> found = new TreeSet<>();
    for (String name : BenchmarksMain.names()) {
      String[] parts = name.split("\\.", -1);
      found.add(parts[parts.length - 2]);
    }
    assertEquals(classes(), found);
  }

  @Test
  void saysWhatABenchmarkNeeds() {
    String hash = HashBenchmark.class.getName();
    assertEquals(Optional.of(Rival.C), Rivals.need(hash + ".c"));
    assertEquals(Optional.empty(), Rivals.need(hash + ".java"));
    assertThrows(IllegalArgumentException.class, () -> Rivals.need(hash + ".nothing"));
    assertThrows(IllegalArgumentException.class, () -> Rivals.need("io.engram.No.java"));
    assertEquals(
        Set.of(Rival.values()),
        new HashSet<>(Rivals.available().stream().map(Rival.Presence::rival).toList()));
  }

  @Test
  void otherWorkIsRefused() {
    MemorySegment ours = MemorySegment.ofArray(new float[] {1, -2, 3});
    MemorySegment near = MemorySegment.ofArray(new float[] {1, -2, 3.0001f});
    Disagreement.check("near", ours, near, 1e-4);
    assertThrows(RivalException.class, () -> Disagreement.check("near", ours, near, 1e-5));
    assertThrows(RivalException.class, () -> Disagreement.check("near", ours, near));
    Disagreement.check("same", ours, MemorySegment.ofArray(new float[] {1, -2, 3}));
    for (float[] other : List.of(new float[] {1, Float.NaN, 3}, new float[] {1, -2})) {
      MemorySegment theirs = MemorySegment.ofArray(other);
      assertThrows(RivalException.class, () -> Disagreement.check("other", ours, theirs, 0.5));
    }
  }
}
