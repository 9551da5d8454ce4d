// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/**
 * One benchmark with one choice of its parameters, in all rounds of a run.
 *
 * @param set the set that it belongs to, such as {@code hash}
 * @param benchmark class and method, such as {@code HashBenchmark.engram}
 * @param params its parameters by name
 * @param rival which rival's work it is, or null if it is this library's
 * @param threads how many threads called it
 * @param unit unit of the scores: a time for each operation, or operations for each unit of time
 * @param rounds the scores, round by round
 * @param failed why it broke off, or null
 * @param absent what it needs and this machine lacks, or null
 */
public record Measured(
    String set,
    String benchmark,
    Map<String, String> params,
    String rival,
    int threads,
    String unit,
    List<Score> rounds,
    String failed,
    String absent) {

  /** Checks, and orders the parameters by name. */
  public Measured {
    Checks.named("set", set);
    Checks.named("benchmark", benchmark);
    if (params == null) {
      throw new IllegalArgumentException("params: is missing");
    }
    params = Collections.unmodifiableMap(new TreeMap<>(params));
    if (threads < 1) {
      throw new IllegalArgumentException("threads: " + threads + " is less than 1");
    }
    Unit.of(unit);
    rounds = Checks.list("rounds", rounds);
    if (failed != null && absent != null) {
      throw new IllegalArgumentException(benchmark + ": both failed and absent");
    }
    if (rounds.isEmpty() && failed == null && absent == null) {
      throw new IllegalArgumentException(benchmark + ": no rounds, and nothing that says why");
    }
  }

  /**
   * How people name it.
   *
   * @return class, method, and parameters in the order of their names
   */
  public String label() {
    return params.isEmpty() ? benchmark : benchmark + " " + parameters();
  }

  /**
   * Its parameters.
   *
   * @return name and value of each, separated by spaces
   */
  public String parameters() {
    return params.entrySet().stream()
        .map(entry -> entry.getKey() + "=" + entry.getValue())
        .collect(Collectors.joining(" "));
  }

  /**
   * Whether every round was measured.
   *
   * @return false if it failed or is absent
   */
  public boolean whole() {
    return failed == null && absent == null;
  }

  /**
   * Time for one operation.
   *
   * @param round from 0
   * @return seconds
   */
  public double seconds(int round) {
    return Unit.of(unit).seconds(rounds.get(round).score());
  }

  /**
   * Time for one operation over all rounds.
   *
   * @return median, lowest and highest, in seconds
   */
  public Spread seconds() {
    return new Spread(
        java.util.stream.IntStream.range(0, rounds.size()).mapToObj(this::seconds).toList());
  }

  /**
   * The median of what was allocated for each operation.
   *
   * @return bytes, or null where that was not counted
   */
  public Double allocated() {
    List<Double> counted =
        rounds.stream().map(Score::allocated).filter(bytes -> bytes != null).toList();
    return counted.isEmpty() ? null : Double.valueOf(new Spread(counted).median());
  }
}
