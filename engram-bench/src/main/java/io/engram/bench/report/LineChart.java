// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import io.engram.bench.report.Picture.Anchor;
import io.engram.bench.report.Picture.Box;
import io.engram.bench.report.Picture.Dot;
import io.engram.bench.report.Picture.Line;
import io.engram.bench.report.Picture.Shape;
import io.engram.bench.report.Picture.Text;
import io.engram.bench.report.Picture.Trail;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Lines over a common axis, with bars for how sure each point is.
 *
 * @param heading the first line
 * @param below the second line, in small letters
 * @param xLabel what x is
 * @param xLogarithmic whether x is drawn by its logarithm; all x are positive then
 * @param yLabel what y is
 * @param series what is drawn, at least one with a point
 * @param levels horizontal lines to compare with
 */
public record LineChart(
    String heading,
    String below,
    String xLabel,
    boolean xLogarithmic,
    String yLabel,
    List<Series> series,
    List<Level> levels) {
  private static final int WIDTH = 880;
  private static final int MARGIN = 24;
  private static final int AXIS = 62;
  private static final int NAMES = 190;
  private static final int PLOT = 330;
  private static final int TICKS = 5;

  private static final int INK = 0xFF1F2933;
  private static final int GREY = 0xFF66727F;
  private static final int GRID = 0xFFE4E7EB;
  private static final int[] COLOURS = {
    0xFF2563EB, 0xFFC2410C, 0xFF16794A, 0xFF7C3AED, 0xFFB7791F, 0xFF0E7490, 0xFFBE185D, 0xFF4B5563
  };

  /**
   * A point.
   *
   * @param x where
   * @param y how much
   * @param low lower end of its bar, or y
   * @param high upper end of its bar, or y
   */
  public record Point(double x, double y, double low, double high) {}

  /**
   * A line.
   *
   * @param name what it is
   * @param points from left to right
   */
  public record Series(String name, List<Point> points) {
    /** Copies the points. */
    public Series {
      points = List.copyOf(points);
    }
  }

  /**
   * A horizontal line.
   *
   * @param name what it is
   * @param y where
   */
  public record Level(String name, double y) {}

  /** Copies the lists, and checks that there is something to draw. */
  public LineChart {
    series = List.copyOf(series);
    levels = List.copyOf(levels);
    if (series.stream().allMatch(one -> one.points().isEmpty())) {
      throw new IllegalArgumentException(heading + ": a chart needs at least one point");
    }
    for (Series one : series) {
      for (Point p : one.points()) {
        if (!Double.isFinite(p.x + p.y + p.low + p.high) || (xLogarithmic && p.x <= 0)) {
          throw new IllegalArgumentException(heading + ": " + one.name() + " has " + p);
        }
      }
    }
  }

  /** A scale that ends at round numbers. */
  private record Scale(double low, double high, double step, double from, double to) {
    static Scale of(double low, double high, double from, double to) {
      double room = high > low ? high - low : Math.max(1e-9, Math.abs(low) * 0.1 + 1e-3);
      double rough = room / TICKS;
      double power = Math.pow(10, Math.floor(Math.log10(rough)));
      double step = power;
      for (double nice : new double[] {1, 2, 5, 10}) {
        step = nice * power;
        if (step >= rough) {
          break;
        }
      }
      return new Scale(
          Math.floor(low / step - 1e-9) * step,
          Math.max(Math.ceil(high / step + 1e-9), Math.floor(low / step - 1e-9) + 1) * step,
          step,
          from,
          to);
    }

    double at(double value) {
      return from + (value - low) / (high - low) * (to - from);
    }

    String text(double value) {
      int digits = (int) Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
      return String.format(Locale.ROOT, "%." + digits + "f", value == 0 ? 0.0 : value);
    }
  }

  /**
   * Draws it.
   *
   * @return the picture
   */
  public Picture picture() {
    List<Shape> shapes = new ArrayList<>();
    double top = heading(shapes);
    double left = MARGIN + AXIS;
    double right = WIDTH - MARGIN - NAMES;
    double bottom = top + PLOT;
    double lowX = Double.POSITIVE_INFINITY;
    double highX = Double.NEGATIVE_INFINITY;
    double lowY = Double.POSITIVE_INFINITY;
    double highY = Double.NEGATIVE_INFINITY;
    for (Series one : series) {
      for (Point p : one.points()) {
        lowX = Math.min(lowX, x(p.x));
        highX = Math.max(highX, x(p.x));
        lowY = Math.min(lowY, Math.min(p.low, p.y));
        highY = Math.max(highY, Math.max(p.high, p.y));
      }
    }
    for (Level level : levels) {
      lowY = Math.min(lowY, level.y);
      highY = Math.max(highY, level.y);
    }
    Scale vertical = Scale.of(lowY, highY, bottom, top);
    for (double y = vertical.low();
        y <= vertical.high() + vertical.step() / 2;
        y += vertical.step()) {
      double at = vertical.at(y);
      shapes.add(new Line(left, at, right, at, GRID, 1, false));
      shapes.add(new Text(left - 8, at + 4, vertical.text(y), 11, false, GREY, Anchor.END));
    }
    shapes.add(new Text(MARGIN, top - 12, yLabel, 11, true, INK, Anchor.START));
    double inset = 14;
    double from = lowX;
    double width = highX > lowX ? highX - lowX : 1;
    double start = highX > lowX ? left + inset : (left + right) / 2;
    double scale = (right - left - 2 * inset) / width;
    horizontal(shapes, lowX, highX, start, scale, bottom);
    shapes.add(new Text((left + right) / 2, bottom + 38, xLabel, 11, true, INK, Anchor.MIDDLE));
    for (Level level : levels) {
      double y = vertical.at(level.y);
      shapes.add(new Line(left, y, right, y, INK, 1.5, true));
    }
    double[] names = names(vertical, top, bottom);
    for (int i = 0; i < series.size(); i++) {
      Series one = series.get(i);
      int colour = COLOURS[i % COLOURS.length];
      List<double[]> line = new ArrayList<>();
      for (Point p : one.points()) {
        double at = start + (x(p.x) - from) * scale;
        line.add(new double[] {at, vertical.at(p.y)});
        if (p.high > p.low) {
          int pale = (colour & 0xFFFFFF) | 0x99000000;
          double high = vertical.at(p.high);
          double low = vertical.at(p.low);
          shapes.add(new Line(at, high, at, low, pale, 1.5, false));
          shapes.add(new Line(at - 3, high, at + 3, high, pale, 1.5, false));
          shapes.add(new Line(at - 3, low, at + 3, low, pale, 1.5, false));
        }
      }
      if (line.size() > 1) {
        shapes.add(new Trail(line, colour, 2));
      }
      for (double[] at : line) {
        shapes.add(new Dot(at[0], at[1], line.size() > 20 ? 2.5 : 4, colour));
      }
      if (!line.isEmpty()) {
        double y = names[i];
        shapes.add(new Box(right + 14, y - 9, 10, 10, 2, colour));
        shapes.add(
            new Text(
                right + 30,
                y,
                Charts.shortened(one.name(), 12, NAMES - 34),
                12,
                false,
                INK,
                Anchor.START));
      }
    }
    for (int i = 0; i < levels.size(); i++) {
      double y = names[series.size() + i];
      shapes.add(new Line(right + 12, y - 4, right + 26, y - 4, INK, 1.5, true));
      shapes.add(
          new Text(
              right + 30,
              y,
              Charts.shortened(levels.get(i).name(), 12, NAMES - 34),
              12,
              false,
              INK,
              Anchor.START));
    }
    shapes.add(
        new Text(
            MARGIN,
            bottom + 62,
            "Dots: mean over seeds. Bars: 95 % confidence interval.",
            11,
            false,
            GREY,
            Anchor.START));
    int height = (int) bottom + 78;
    List<Shape> all = new ArrayList<>();
    all.add(new Box(0, 0, WIDTH, height, 0, 0xFFFFFFFF));
    all.addAll(shapes);
    return new Picture(WIDTH, height, heading, all);
  }

  private double heading(List<Shape> shapes) {
    shapes.add(new Text(MARGIN, 36, heading, 19, true, INK, Anchor.START));
    double y = 56;
    for (String line : Charts.wrapped(below, 12, WIDTH - 2 * MARGIN)) {
      shapes.add(new Text(MARGIN, y, line, 12, false, GREY, Anchor.START));
      y += 16;
    }
    return y + 26;
  }

  private double x(double value) {
    return xLogarithmic ? Math.log10(value) : value;
  }

  private void horizontal(
      List<Shape> shapes, double low, double high, double start, double scale, double bottom) {
    List<double[]> ticks = new ArrayList<>();
    if (xLogarithmic) {
      // The points' own places where they are few: powers of ten may miss all of them.
      List<Double> own =
          series.stream()
              .flatMap(s -> s.points().stream())
              .map(Point::x)
              .distinct()
              .sorted()
              .toList();
      if (own.size() <= 9) {
        own.forEach(x -> ticks.add(new double[] {x(x), x}));
      } else {
        for (double p = Math.ceil(low); p <= high; p++) {
          ticks.add(new double[] {p, Math.pow(10, p)});
        }
      }
      for (double[] tick : ticks) {
        tick(shapes, start + (tick[0] - low) * scale, bottom, plain(tick[1]));
      }
      return;
    }
    Scale even = Scale.of(low, high, 0, 1);
    for (double x = even.low(); x <= high + even.step() / 2; x += even.step()) {
      if (x >= low - 1e-9 && x <= high + 1e-9) {
        tick(shapes, start + (x - low) * scale, bottom, even.text(x));
      }
    }
  }

  private static void tick(List<Shape> shapes, double at, double bottom, String text) {
    shapes.add(new Line(at, bottom, at, bottom + 5, GREY, 1, false));
    shapes.add(new Text(at, bottom + 19, text, 11, false, GREY, Anchor.MIDDLE));
  }

  private static String plain(double value) {
    return value >= 1000 || value == Math.rint(value)
        ? String.format(Locale.ROOT, "%,.0f", value)
        : String.format(Locale.ROOT, "%.3g", value);
  }

  /** Where names stand: beside the last points, moved apart where they would cover one another. */
  private double[] names(Scale vertical, double top, double bottom) {
    int count = series.size() + levels.size();
    double[] wanted = new double[count];
    for (int i = 0; i < count; i++) {
      wanted[i] =
          i < series.size()
              ? series.get(i).points().isEmpty()
                  ? bottom
                  : vertical.at(series.get(i).points().getLast().y) + 4
              : vertical.at(levels.get(i - series.size()).y) + 4;
    }
    List<Integer> order = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      order.add(i);
    }
    order.sort((a, b) -> Double.compare(wanted[a], wanted[b]));
    double[] placed = new double[count];
    double free = top;
    for (int i : order) {
      placed[i] = Math.max(wanted[i], free);
      free = placed[i] + 17;
    }
    double over = free - 17 - bottom - 8;
    if (over > 0) {
      double below = Double.POSITIVE_INFINITY;
      for (int k = count - 1; k >= 0; k--) {
        int i = order.get(k);
        placed[i] = Math.min(placed[i], Math.min(bottom + 8, below));
        below = placed[i] - 17;
      }
    }
    return placed;
  }
}
