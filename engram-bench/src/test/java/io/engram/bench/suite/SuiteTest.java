// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.suite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.bench.report.Aim;
import io.engram.bench.report.Measured;
import io.engram.bench.report.Pick;
import io.engram.bench.report.Score;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

@Tag("once")
class SuiteTest {
  private static Suite.Options brief(int rounds, Map<String, List<String>> params) {
    return new Suite.Options(rounds, 1, 2, 0.02, 0, List.of("-Dtiny=there", "-Xmx256m"), params);
  }

  @Test
  void everyBenchmarkIsInASet() {
    List<String> stray =
        Suite.of(List.of(Suite.ALL), brief(1, Map.of())).cases().stream()
            .filter(one -> !one.name().startsWith("TinyBenchmark."))
            .filter(one -> BenchmarkSet.named(one.set()).isEmpty())
            .map(Suite.Case::toString)
            .toList();
    assertEquals(List.of(), stray);
  }

  @ParameterizedTest
  @EnumSource(BenchmarkSet.class)
  void everySetHasBenchmarks(BenchmarkSet set) {
    assertFalse(Suite.of(List.of(set.word()), brief(1, Map.of())).cases().isEmpty());
  }

  @Test
  void everyAimFindsItsBenchmarks() {
    List<Suite.Case> all = Suite.of(List.of(Suite.ALL), brief(1, Map.of())).cases();
    assertFalse(Aims.all().isEmpty());
    assertEquals(
        Aims.all().size(), Aims.all().stream().map(Aim::id).distinct().count(), "ids are distinct");
    for (Aim aim : Aims.all()) {
      assertEquals(
          1,
          all.stream().filter(one -> aim.ours().fits(one.name(), one.params())).count(),
          () -> aim.id() + ": " + aim.ours());
      for (Pick rival : aim.rivals()) {
        assertTrue(
            all.stream().anyMatch(one -> rival.fits(one.name(), one.params())),
            () -> aim.id() + ": " + rival);
      }
    }
    List<Suite.Case> chosen = Suite.of(List.of(Suite.QUICK), brief(1, Map.of())).cases();
    assertEquals(chosen, Suite.of(List.of(Suite.AIMS), brief(1, Map.of())).cases());
    assertTrue(chosen.size() < all.size());
  }

  @Test
  void roundsAlternateAndFailuresAreNamed() {
    Suite suite = Suite.of(List.of("TinyBenchmark"), brief(2, Map.of("work", List.of("10"))));
    List<String> order = new ArrayList<>();
    suite.run((run, runs, round, done, result) -> {
      assertEquals(order.size() + 1, run);
      assertTrue(run <= runs);
      order.add(round + " " + done.name().substring(done.name().indexOf('.') + 1));
      assertEquals(done.name().endsWith("fails"), result.startsWith("failed: "), result);
    });
    assertEquals(
        List.of("1 does", "1 fails", "1 reads", "1 does", "2 does", "2 reads", "2 does"), order);
    Map<String, Measured> found = new java.util.TreeMap<>();
    suite.measured().forEach(one -> found.put(one.benchmark(), one));
    assertEquals(3, found.size());
    Measured fails = found.get("TinyBenchmark.fails");
    assertTrue(fails.failed().contains("no luck at all"), fails.failed());
    assertTrue(fails.rounds().isEmpty());
    Measured does = found.get("TinyBenchmark.does");
    assertNull(does.failed());
    assertEquals("us/op", does.unit());
    assertEquals(1, does.threads());
    assertEquals(Map.of("work", "10"), does.params());
    assertEquals(2, does.rounds().size());
    for (Score score : does.rounds()) {
      assertEquals(2, score.samples().size());
      double mean = score.samples().stream().mapToDouble(sample -> sample).average().orElseThrow();
      assertEquals(mean, score.score(), mean * 1e-3);
      assertNotNull(score.allocated());
    }
    assertNull(found.get("TinyBenchmark.reads").failed());
    assertEquals("TinyBenchmark.does work=10", suite.noise().benchmark());
    assertEquals(2, suite.noise().ratios().size());
  }

  @Test
  void namesThatMeanNothingAreRefused() {
    assertTrue(
        assertThrows(
                IllegalArgumentException.class,
                () -> Suite.of(List.of("TinyBenchmark", "hush"), brief(1, Map.of())))
            .getMessage()
            .contains("\"hush\" is no set"));
    assertTrue(
        assertThrows(
                IllegalArgumentException.class,
                () -> Suite.of(List.of("TinyBenchmark"), brief(1, Map.of("size", List.of("1")))))
            .getMessage()
            .contains("\"size\""));
    assertThrows(IllegalArgumentException.class, () -> brief(0, Map.of()));
  }

  @Test
  void whatJmhPrintsOfAnExceptionIsFound() {
    String log =
        Stream.of(
                "# Warmup Iteration   1: <failure>",
                "",
                "java.lang.IllegalStateException: no gcc",
                "\tat somewhere")
            .reduce("", (a, b) -> a + b + "\n");
    assertEquals("java.lang.IllegalStateException: no gcc", Suite.complaint(log));
    assertEquals(
        "java.lang.OutOfMemoryError: heap",
        Suite.complaint("# Fork: 1 of 1\njava.lang.OutOfMemoryError: heap\n<forked VM failed>\n"));
    assertEquals("no message", Suite.complaint(""));
  }
}
