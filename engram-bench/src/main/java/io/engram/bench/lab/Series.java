// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.bench.report.LineChart;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Estimates as charts, texts and JSON have them. */
final class Series {
  private Series() {}

  /** A line of estimates. */
  static LineChart.Series of(String name, Map<Double, Estimate> estimates) {
    List<LineChart.Point> points = new ArrayList<>();
    estimates.forEach((x, y) -> points.add(new LineChart.Point(x, y.mean(), y.low(), y.high())));
    return new LineChart.Series(name, points);
  }

  /** The ends of some values. */
  static String spread(double[] values, int decimals) {
    String digits = "%." + decimals + "f";
    return (digits + " to " + digits)
        .formatted(
            Arrays.stream(values).min().orElseThrow(), Arrays.stream(values).max().orElseThrow());
  }

  static Map<String, Object> figures(Estimate estimate) {
    Map<String, Object> out = new LinkedHashMap<>();
    out.put("mean", estimate.mean());
    if (estimate.count() > 1) {
      out.put("low95", estimate.low());
      out.put("high95", estimate.high());
      out.put("deviation", estimate.deviation());
    }
    out.put("seeds", estimate.count());
    return out;
  }

  static Map<String, Object> figures(Paired paired) {
    Map<String, Object> out = figures(paired.difference());
    if (paired.difference().count() > 1) {
      out.put("p", paired.pValue());
    }
    return out;
  }
}
