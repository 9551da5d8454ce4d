// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import io.engram.bench.report.Picture.Anchor;
import io.engram.bench.report.Picture.Box;
import io.engram.bench.report.Picture.Line;
import io.engram.bench.report.Picture.Shape;
import io.engram.bench.report.Picture.Text;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Differences from zero as bars, each with how sure it is. */
public final class DifferenceChart {
  private static final int WIDTH = 880;
  private static final int MARGIN = 24;
  private static final int LABELS = 270;
  private static final int VALUES = 120;
  private static final int ROW = 34;
  private static final int INK = 0xFF1F2933;
  private static final int GREY = 0xFF66727F;
  private static final int GRID = 0xFFE4E7EB;
  private static final int MORE = 0xFFC2410C;
  private static final int LESS = 0xFF2563EB;

  /**
   * A difference.
   *
   * @param name of what
   * @param mean how much
   * @param low lower end of what is likely, or the mean
   * @param high upper end, or the mean
   */
  public record Bar(String name, double mean, double low, double high) {}

  private DifferenceChart() {}

  /**
   * Draws bars from top to bottom.
   *
   * @param heading the first line
   * @param below the second line, in small letters
   * @param unit what is measured
   * @param decimals digits of the numbers
   * @param bars at least one, all finite
   * @return the picture
   */
  public static Picture of(
      String heading, String below, String unit, int decimals, List<Bar> bars) {
    double low = 0;
    double high = 0;
    for (Bar bar : bars) {
      if (!Double.isFinite(bar.mean + bar.low + bar.high)) {
        throw new IllegalArgumentException(heading + ": " + bar);
      }
      low = Math.min(low, Math.min(bar.low, bar.mean));
      high = Math.max(high, Math.max(bar.high, bar.mean));
    }
    if (bars.isEmpty()) {
      throw new IllegalArgumentException(heading + ": a chart needs at least one bar");
    }
    List<Shape> shapes = new ArrayList<>();
    shapes.add(new Text(MARGIN, 36, heading, 19, true, INK, Anchor.START));
    double y = 56;
    for (String line : Charts.wrapped(below, 12, WIDTH - 2 * MARGIN)) {
      shapes.add(new Text(MARGIN, y, line, 12, false, GREY, Anchor.START));
      y += 16;
    }
    double top = y + 14;
    double left = MARGIN + LABELS;
    double right = WIDTH - MARGIN - VALUES;
    double scale = (right - left) / Math.max(high - low, 1e-12);
    double zero = left - low * scale;
    double bottom = top + bars.size() * ROW;
    for (int i = 0; i < bars.size(); i++) {
      Bar bar = bars.get(i);
      double middle = top + i * ROW + ROW / 2.0;
      shapes.add(new Line(MARGIN, top + i * ROW, WIDTH - MARGIN, top + i * ROW, GRID, 1, false));
      shapes.add(
          new Text(
              MARGIN,
              middle + 4,
              Charts.shortened(bar.name, 13, LABELS - 10),
              13,
              false,
              INK,
              Anchor.START));
      double end = zero + bar.mean * scale;
      shapes.add(
          new Box(
              Math.min(zero, end),
              middle - 8,
              Math.max(1, Math.abs(end - zero)),
              16,
              2,
              bar.mean > 0 ? MORE : LESS));
      if (bar.high > bar.low) {
        double from = zero + bar.low * scale;
        double to = zero + bar.high * scale;
        shapes.add(new Line(from, middle, to, middle, INK, 1.5, false));
        shapes.add(new Line(from, middle - 4, from, middle + 4, INK, 1.5, false));
        shapes.add(new Line(to, middle - 4, to, middle + 4, INK, 1.5, false));
      }
      shapes.add(
          new Text(
              WIDTH - MARGIN,
              middle + 5,
              String.format(Locale.ROOT, "%+." + decimals + "f", bar.mean),
              14,
              true,
              INK,
              Anchor.END));
    }
    shapes.add(new Line(zero, top - 4, zero, bottom + 4, INK, 1.5, false));
    shapes.add(
        new Text(
            MARGIN,
            bottom + 24,
            unit + ". Bars: mean over seeds, with its 95 % confidence interval.",
            11,
            false,
            GREY,
            Anchor.START));
    int height = (int) bottom + 42;
    List<Shape> all = new ArrayList<>();
    all.add(new Box(0, 0, WIDTH, height, 0, 0xFFFFFFFF));
    all.addAll(shapes);
    return new Picture(WIDTH, height, heading, all);
  }
}
