// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@Tag("once")
class AimTest {
  @Test
  void aSpreadHasTheMiddleAndBothEnds() {
    Spread odd = new Spread(List.of(3.0, 1.0, 2.0));
    assertEquals(2, odd.median());
    assertEquals(1, odd.lowest());
    assertEquals(3, odd.highest());
    assertEquals(2.5, new Spread(List.of(4.0, 1.0, 2.0, 3.0)).median());
    assertEquals(0.5, odd.inverse().median());
    assertEquals(List.of(3.0, 1.0, 2.0), odd.rounds(), "rounds keep their order");
    assertThrows(IllegalArgumentException.class, () -> new Spread(List.of()));
    assertThrows(IllegalArgumentException.class, () -> new Spread(List.of(1.0, Double.NaN)));
    assertThrows(IllegalArgumentException.class, () -> new Spread(List.of(-1.0)));
  }

  @Test
  void ratiosAreTakenWithinARound() {
    // The medians, 11 and 120, would give 10.9.
    Finding finding =
        Runs.FASTER.find(
            List.of(
                Runs.measured("java", null, 10, 20, 11),
                Runs.measured("numpy", "N", 120, 260, 99)));
    assertEquals(List.of(12.0, 13.0, 9.0), finding.ratios());
    assertEquals(12, finding.ratio().median());
    assertTrue(finding.met());
    assertEquals("met, not in every round", finding.verdict());
    assertEquals("HashBenchmark.numpy layout=v41", finding.rival());
  }

  @ParameterizedTest
  @CsvSource({
    // ours, rival, met, verdict
    "10, 120, true, met",
    "10, 121, true, met",
    "10, 119, false, missed by 0.8 %",
    "10, 60, false, missed by 50 %"
  })
  void moreIsBetterForSpeeds(double ours, double rival, boolean met, String verdict) {
    Finding finding =
        Runs.FASTER.find(
            List.of(Runs.measured("java", null, ours), Runs.measured("numpy", "NUMPY", rival)));
    assertEquals(met, finding.met());
    assertEquals(verdict, finding.verdict());
    assertEquals(rival / ours, finding.speed().median(), 1e-9);
    assertEquals(12, finding.speedAimed());
    assertEquals("≥ 12 ×", finding.aim());
  }

  @ParameterizedTest
  @CsvSource({
    "12, 10, true, met",
    "5, 10, true, met",
    "13.2, 10, false, missed by 10 %",
    "12.06, 10, false, missed by 0.5 %"
  })
  void lessIsBetterForTimes(double ours, double rival, boolean met, String verdict) {
    Finding finding =
        Runs.CLOSE.find(List.of(Runs.measured("java", null, ours), Runs.measured("c", "C", rival)));
    assertEquals(met, finding.met());
    assertEquals(verdict, finding.verdict());
    assertEquals(ours / rival, finding.ratio().median(), 1e-3);
    assertEquals(rival / ours, finding.speed().median(), 2e-3);
    assertEquals(1 / 1.2, finding.speedAimed(), 1e-12);
    assertEquals("≤ 1.2 of the time", finding.aim());
  }

  @Test
  void theFastestRivalOfEachRoundCounts() {
    Aim aim =
        new Aim(
            "best",
            "beside the best",
            Pick.of("HashBenchmark.java"),
            List.of(Pick.of("HashBenchmark.numpy"), Pick.of("HashBenchmark.c")),
            Aim.Direction.TIMES_AS_FAST,
            1);
    Finding finding =
        aim.find(
            List.of(
                Runs.measured("java", null, 10, 10, 10),
                Runs.measured("numpy", "NUMPY", 20, 50, 60),
                Runs.measured("c", "C", 30, 30, 30)));
    assertEquals(List.of(2.0, 3.0, 3.0), finding.ratios());
    assertEquals("HashBenchmark.c layout=v41", finding.rival());
  }

  @Test
  void unitsAreConverted() {
    Measured rate =
        new Measured(
            "hash",
            "HashBenchmark.numpy",
            Map.of("layout", "v41"),
            "NUMPY",
            1,
            "ops/us",
            List.of(new Score(10, null, List.of(10.0), null, null, null)),
            null,
            null);
    assertEquals(100e-9, rate.seconds(0), 1e-15);
    assertEquals(
        10,
        Runs.FASTER.find(List.of(Runs.measured("java", null, 10), rate)).ratio().median(),
        1e-9);
    assertThrows(IllegalArgumentException.class, () -> Unit.of("#"));
    assertEquals("1.50 ms", Unit.time(0.0015));
    assertEquals("999 ns", Unit.time(999.4e-9));
    assertEquals("1.00 µs", Unit.time(999.6e-9));
    assertEquals("0.0040", Unit.digits(0.004));
  }

  @Test
  void anAbsentRivalIsNamed() {
    Measured absent = Runs.absent("c", "C", "no gcc on the PATH");
    Finding finding = Runs.CLOSE.find(List.of(Runs.measured("java", null, 10), absent));
    assertNull(finding.ratio());
    assertFalse(finding.met());
    assertEquals(
        "no comparison: HashBenchmark.c layout=v41 (absent: no gcc on the PATH)",
        finding.verdict());
    Aim either =
        new Aim(
            "either",
            "beside either",
            Pick.of("HashBenchmark.java"),
            List.of(Pick.of("HashBenchmark.numpy"), Pick.of("HashBenchmark.c")),
            Aim.Direction.OF_THE_TIME,
            1);
    Finding partly =
        either.find(
            List.of(Runs.measured("java", null, 10), Runs.measured("numpy", "NUMPY", 20), absent));
    assertEquals(
        "met; without HashBenchmark.c layout=v41 (absent: no gcc on the PATH)", partly.verdict());
  }

  @Test
  void whatWasNotChosenIsNotFound() {
    assertNull(Runs.CLOSE.find(List.of(Runs.measured("java", null, 10))));
    assertNull(Runs.CLOSE.find(List.of(Runs.measured("c", "C", 10))));
  }

  @Test
  void aPickThatLeavesAChoiceOfOursIsRefused() {
    Measured other =
        new Measured(
            "hash",
            "HashBenchmark.java",
            Map.of("layout", "paper"),
            null,
            1,
            "ns/op",
            Runs.measured("java", null, 10).rounds(),
            null,
            null);
    Aim vague =
        new Aim(
            "vague",
            "vague",
            Pick.of("HashBenchmark.java"),
            List.of(Pick.of("HashBenchmark.c")),
            Aim.Direction.OF_THE_TIME,
            1);
    List<Measured> all =
        List.of(Runs.measured("java", null, 10), other, Runs.measured("c", "C", 10));
    assertTrue(
        assertThrows(IllegalArgumentException.class, () -> vague.find(all))
            .getMessage()
            .contains("leaves a choice of"));
    assertEquals(1, Runs.CLOSE.find(all).ratio().median());
  }

  @Test
  void picksAreReadAndWritten() {
    assertEquals("A.b c=1 d=2", Pick.of("A.b d=2 c=1").toString());
    assertThrows(IllegalArgumentException.class, () -> Pick.of("A.b =2"));
  }
}
