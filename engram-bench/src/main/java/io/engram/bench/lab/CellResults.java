// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * All cells of an experiment.
 *
 * @param cells one for each setting and seed, seeds within settings
 */
public record CellResults(List<CellResult> cells) {
  /** Copies the list. */
  public CellResults {
    cells = List.copyOf(cells);
  }

  /**
   * Settings in order.
   *
   * @return each once
   */
  public List<String> settings() {
    return cells.stream().map(CellResult::setting).distinct().toList();
  }

  /**
   * Seeds in order.
   *
   * @return each once
   */
  public List<Long> seeds() {
    return cells.stream().map(CellResult::seed).distinct().toList();
  }

  /**
   * Cells of one setting.
   *
   * @param setting the setting
   * @return by seed
   */
  public List<CellResult> of(String setting) {
    return cells.stream().filter(cell -> cell.setting().equals(setting)).toList();
  }

  /**
   * A number of one setting.
   *
   * @param setting the setting
   * @param number the number's name
   * @return by seed
   */
  public double[] values(String setting, String number) {
    return of(setting).stream().mapToDouble(cell -> cell.number(number)).toArray();
  }

  /**
   * A number of one setting over its seeds.
   *
   * @param setting the setting
   * @param number the number's name
   * @return mean and interval
   */
  public Estimate estimate(String setting, String number) {
    return Estimate.of(values(setting, number));
  }

  /**
   * One setting less another, seed by seed.
   *
   * @param setting the setting
   * @param other the other
   * @param number the number's name
   * @return the difference
   */
  public Paired difference(String setting, String other, String number) {
    return Paired.of(values(setting, number), values(other, number));
  }

  /**
   * A curve of one setting over its seeds.
   *
   * @param setting the setting
   * @param curve the curve's name
   * @return y by x, at those x that all seeds have
   */
  public Map<Double, Estimate> curve(String setting, String curve) {
    List<CellResult> seeds = of(setting);
    Map<Double, List<Double>> all = new TreeMap<>();
    for (CellResult cell : seeds) {
      for (double[] point : cell.curves().getOrDefault(curve, List.of())) {
        all.computeIfAbsent(point[0], _ -> new ArrayList<>()).add(point[1]);
      }
    }
    Map<Double, Estimate> means = new TreeMap<>();
    all.forEach((x, y) -> {
      if (y.size() == seeds.size()) {
        means.put(x, Estimate.of(y.stream().mapToDouble(Double::doubleValue).toArray()));
      }
    });
    return means;
  }
}
