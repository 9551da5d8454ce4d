// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.util.List;

/**
 * One run: a line of the history.
 *
 * @param format version of this layout, {@link #FORMAT}
 * @param date when it began, in UTC, such as {@code 2026-11-25T16:00:00Z}
 * @param commit what was measured
 * @param machine where
 * @param environment with what
 * @param settings how
 * @param measured every benchmark of the run, also those that failed or could not run
 * @param findings the aims that the run had a say in
 * @param noise a benchmark compared with itself, or null if nothing could be measured twice
 */
public record BenchRun(
    int format,
    String date,
    Commit commit,
    Machine machine,
    Environment environment,
    Settings settings,
    List<Measured> measured,
    List<Finding> findings,
    Noise noise) {

  /** The version of the layout that this code reads and writes. */
  public static final int FORMAT = 1;

  /**
   * How a run was made.
   *
   * @param sets what was asked for
   * @param rounds how many rounds
   * @param iterations iterations measured of each benchmark in each round, 0 for its own number
   * @param seconds length of an iteration, 0 for its own
   * @param threads threads, 0 for each benchmark's own
   */
  public record Settings(
      List<String> sets, int rounds, int iterations, double seconds, int threads) {
    /** Checks. */
    public Settings {
      sets = Checks.list("sets", sets);
      if (rounds < 1 || iterations < 0 || !(seconds >= 0) || threads < 0) {
        throw new IllegalArgumentException(
            "settings: rounds "
                + rounds
                + ", iterations "
                + iterations
                + ", seconds "
                + seconds
                + ", threads "
                + threads);
      }
    }
  }

  /**
   * The noise floor: one benchmark measured twice in every round, once near its beginning and once
   * near its end.
   *
   * @param benchmark which one
   * @param ratios the second time over the first, round by round
   */
  public record Noise(String benchmark, List<Double> ratios) {
    /** Checks. */
    public Noise {
      Checks.named("benchmark", benchmark);
      ratios =
          new Spread(ratios)
              .rounds().stream()
                  .map(ratio ->
                      new java.math.BigDecimal(ratio)
                          .round(new java.math.MathContext(4))
                          .doubleValue())
                  .toList();
    }

    /**
     * How far apart equal things were.
     *
     * @return median, lowest and highest ratio
     */
    public Spread spread() {
      return new Spread(ratios);
    }
  }

  /** Checks. */
  public BenchRun {
    if (format != FORMAT) {
      throw new IllegalArgumentException("format: expected " + FORMAT + ", found " + format);
    }
    Checks.named("date", date);
    try {
      Instant.parse(date);
    } catch (DateTimeParseException e) {
      throw new IllegalArgumentException("date: \"" + date + "\" is none", e);
    }
    Checks.present("commit", commit);
    Checks.present("machine", machine);
    Checks.present("environment", environment);
    Checks.present("settings", settings);
    measured = Checks.list("measured", measured);
    findings = Checks.list("findings", findings);
  }

  /**
   * The day.
   *
   * @return such as {@code 2026-11-25}
   */
  public String day() {
    return date.substring(0, 10);
  }
}
