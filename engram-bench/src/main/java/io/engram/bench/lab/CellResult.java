// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What came of one setting with one seed.
 *
 * @param setting which setting
 * @param seed which seed
 * @param numbers by name, all finite
 * @param curves points by name, each {x, y}, all finite
 * @param seconds how long it took
 */
public record CellResult(
    String setting,
    long seed,
    Map<String, Double> numbers,
    Map<String, List<double[]>> curves,
    double seconds) {

  /**
   * Copies, and checks that everything is a number: a loss that is none would spoil a mean much
   * later, without saying where it came from.
   */
  public CellResult {
    numbers = new LinkedHashMap<>(numbers);
    curves = new LinkedHashMap<>(curves);
    for (Map.Entry<String, Double> number : numbers.entrySet()) {
      check(setting, seed, number.getKey(), number.getValue());
    }
    for (Map.Entry<String, List<double[]>> curve : curves.entrySet()) {
      for (double[] point : curve.getValue()) {
        check(setting, seed, curve.getKey(), point[0]);
        check(setting, seed, curve.getKey(), point[1]);
      }
    }
  }

  private static void check(String setting, long seed, String name, double value) {
    if (!Double.isFinite(value)) {
      throw new IllegalArgumentException(
          "%s of setting %s, seed %d, is %s, expected a finite number: has the training diverged?"
              .formatted(name, setting, seed, value));
    }
  }

  /**
   * One of the numbers.
   *
   * @param name its name
   * @return the number
   * @throws IllegalArgumentException if there is none of that name
   */
  public double number(String name) {
    Double value = numbers.get(name);
    if (value == null) {
      throw new IllegalArgumentException(
          "setting " + setting + " has no " + name + "; it has " + numbers.keySet());
    }
    return value;
  }
}
