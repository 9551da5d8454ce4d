// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.bench.report.LineChart;
import io.engram.examples.lm.LossCurve;
import java.util.ArrayList;
import java.util.List;

/** Loss curves as they are drawn. */
final class LossSeries {
  /** More points than a line of the chart shows are one for several steps. */
  private static final int POINTS = 100;

  private LossSeries() {}

  static LineChart.Series of(String name, List<LossCurve.Point> points) {
    return new LineChart.Series(
        name,
        points.stream()
            .map(p -> new LineChart.Point(p.step(), p.loss(), p.loss(), p.loss()))
            .toList());
  }

  /** Means over equal numbers of steps. */
  static List<LossCurve.Point> smoothed(List<LossCurve.Point> points) {
    int each = Math.max(1, (points.size() + POINTS - 1) / POINTS);
    List<LossCurve.Point> means = new ArrayList<>();
    for (int from = 0; from < points.size(); from += each) {
      List<LossCurve.Point> some = points.subList(from, Math.min(points.size(), from + each));
      means.add(
          new LossCurve.Point(
              some.getLast().step(),
              some.stream().mapToDouble(LossCurve.Point::loss).average().orElseThrow()));
    }
    return means;
  }
}
