// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/**
 * Picks benchmarks of a run.
 *
 * @param benchmark class and method
 * @param params the values that parameters must have; those that are not named may have any
 */
public record Pick(String benchmark, Map<String, String> params) {
  /** Checks, and orders the parameters by name. */
  public Pick {
    Checks.named("benchmark", benchmark);
    params = Collections.unmodifiableMap(new TreeMap<>(Checks.present("params", params)));
  }

  /**
   * Reads one.
   *
   * @param text such as {@code LayerBenchmark.kernel tokens=512 dtype=F32}
   * @return the pick
   */
  public static Pick of(String text) {
    String[] words = text.strip().split("\\s+", -1);
    Map<String, String> params = new TreeMap<>();
    for (int i = 1; i < words.length; i++) {
      int equals = words[i].indexOf('=');
      if (equals < 1) {
        throw new IllegalArgumentException(text + ": \"" + words[i] + "\" is no parameter");
      }
      params.put(words[i].substring(0, equals), words[i].substring(equals + 1));
    }
    return new Pick(words[0], params);
  }

  /**
   * Whether a benchmark is meant.
   *
   * @param one what was or will be measured
   * @return true if its name and the named parameters agree
   */
  public boolean fits(Measured one) {
    return fits(one.benchmark(), one.params());
  }

  /**
   * Whether a benchmark is meant.
   *
   * @param name class and method
   * @param values its parameters
   * @return true if its name and the named parameters agree
   */
  public boolean fits(String name, Map<String, String> values) {
    return benchmark.equals(name) && values.entrySet().containsAll(params.entrySet());
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder(benchmark);
    params.forEach((name, value) -> text.append(' ').append(name).append('=').append(value));
    return text.toString();
  }
}
