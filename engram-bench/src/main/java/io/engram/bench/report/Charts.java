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
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Draws runs: how fast beside rivals, how long each benchmark takes, how ratios have moved. */
public final class Charts {
  private static final int WIDTH = 880;
  private static final int MARGIN = 24;
  private static final int LABELS = 330;
  private static final int VALUES = 132;

  private static final int INK = 0xFF1F2933;
  private static final int GREY = 0xFF66727F;
  private static final int GRID = 0xFFE4E7EB;
  private static final int PAPER = 0xFFFFFFFF;
  private static final int MET = 0xFF16794A;
  private static final int MET_GROUND = 0x2416794A;
  private static final int MISSED = 0xFFC2410C;
  private static final int NOISE = 0x181F2933;
  private static final int OURS = 0xFF2563EB;
  private static final int RIVAL = 0xFF9AA5B1;

  /** So many points are labelled each; more would cover one another. */
  private static final int FEW = 6;

  private static final double[] TICKS = {
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000
  };

  private Charts() {}

  /** A logarithmic axis. */
  private record Axis(double low, double high, double from, double to) {
    double at(double value) {
      double share = Math.log(value / low) / Math.log(high / low);
      return from + Math.clamp(share, 0, 1) * (to - from);
    }
  }

  /**
   * How many times as fast as its rival each thing is: a dot for the median, a bar from the lowest
   * to the highest round, green ground where the aim is reached, and a line at 1.
   *
   * @param heading the first line
   * @param below the second line, in small letters
   * @param findings what was found, top to bottom
   * @param noise lowest and highest ratio of something with itself, or null
   * @return the chart
   */
  public static Picture ratios(String heading, String below, List<Finding> findings, Spread noise) {
    List<Shape> shapes = new ArrayList<>();
    double top = heading(shapes, heading, below) + 30;
    double left = MARGIN + LABELS;
    double right = WIDTH - MARGIN - VALUES;
    List<List<String>> labels =
        findings.stream().map(f -> wrapped(f.what(), 13, LABELS - 18)).toList();
    List<Double> heights = labels.stream().map(lines -> 34.0 + 17 * lines.size()).toList();
    double bottom = top + heights.stream().mapToDouble(h -> h).sum();
    double low = 0.8;
    double high = 1.25;
    for (Finding finding : findings) {
      low = Math.min(low, finding.speedAimed() * 0.8);
      high = Math.max(high, finding.speedAimed() * 1.25);
      if (finding.speed() != null) {
        low = Math.min(low, finding.speed().lowest() * 0.85);
        high = Math.max(high, finding.speed().highest() * 1.18);
      }
    }
    Axis axis = new Axis(low, high, left, right);
    for (double tick : TICKS) {
      if (tick >= low && tick <= high) {
        double x = axis.at(tick);
        shapes.add(new Line(x, top, x, bottom, GRID, 1, false));
        shapes.add(new Text(x, bottom + 18, plain(tick) + " ×", 11, false, GREY, Anchor.MIDDLE));
      }
    }
    double one = axis.at(1);
    if (noise != null) {
      double from = axis.at(noise.lowest());
      shapes.add(
          new Box(from, top, Math.max(1, axis.at(noise.highest()) - from), bottom - top, 0, NOISE));
    }
    shapes.add(new Line(one, top - 6, one, bottom + 4, INK, 1.5, false));
    double y = top;
    for (int i = 0; i < findings.size(); i++) {
      Finding finding = findings.get(i);
      double height = heights.get(i);
      shapes.add(new Line(MARGIN, y, WIDTH - MARGIN, y, GRID, 1, false));
      double line = y + 22;
      for (String words : labels.get(i)) {
        shapes.add(new Text(MARGIN, line, words, 13, false, INK, Anchor.START));
        line += 17;
      }
      shapes.add(
          new Text(
              MARGIN,
              line,
              finding.rival() == null
                  ? "no rival measured"
                  : shortened("beside " + finding.rival(), 11, LABELS - 18),
              11,
              false,
              GREY,
              Anchor.START));
      double middle = y + height / 2;
      Spread speed = finding.speed();
      double aim = axis.at(finding.speedAimed());
      shapes.add(new Box(aim, y + 6, right - aim, height - 12, 3, MET_GROUND));
      shapes.add(new Line(aim, y + 6, aim, y + height - 6, MET, 2, false));
      if (speed == null) {
        shapes.add(
            new Text(WIDTH - MARGIN, middle - 1, "not compared", 12, false, GREY, Anchor.END));
      } else {
        int colour = finding.met() ? MET : MISSED;
        double from = axis.at(speed.lowest());
        double to = axis.at(speed.highest());
        shapes.add(
            new Box(from - 3, middle - 3, to - from + 6, 6, 3, (colour & 0xFFFFFF) | 0x66000000));
        shapes.add(new Dot(axis.at(speed.median()), middle, 6.5, colour));
        shapes.add(
            new Text(
                WIDTH - MARGIN,
                middle - 1,
                Unit.digits(speed.median()) + " ×",
                16,
                true,
                colour,
                Anchor.END));
      }
      shapes.add(
          new Text(WIDTH - MARGIN, middle + 16, aimed(finding), 11, false, GREY, Anchor.END));
      y += height;
    }
    shapes.add(new Line(MARGIN, bottom, WIDTH - MARGIN, bottom, GRID, 1, false));
    double room = 75;
    shapes.add(
        new Text(
            Math.clamp(one, left + room, right - room),
            top - 11,
            "as fast as the rival",
            11,
            true,
            INK,
            Anchor.MIDDLE));
    String legend =
        "Dot: median of the rounds. Bar: lowest to highest. Green ground: the aim is reached."
            + (noise == null ? "" : " Grey: a benchmark beside itself.");
    shapes.add(new Text(MARGIN, bottom + 42, legend, 11, false, GREY, Anchor.START));
    return picture((int) bottom + 58, heading, shapes);
  }

  /**
   * How long each benchmark of a set takes. Those with equal parameters stand together, drawn to
   * one scale.
   *
   * @param heading the first line
   * @param below the second line, in small letters
   * @param measured what was measured, in the order in which it is drawn
   * @return the chart
   */
  public static Picture times(String heading, String below, List<Measured> measured) {
    Map<String, List<Measured>> groups = new LinkedHashMap<>();
    List<Measured> oursFirst =
        measured.stream().sorted(Comparator.comparing(one -> one.rival() != null)).toList();
    for (Measured one : oursFirst) {
      String group = one.benchmark().substring(0, one.benchmark().lastIndexOf('.') + 1);
      groups.computeIfAbsent(group + " " + one.parameters(), _ -> new ArrayList<>()).add(one);
    }
    List<Shape> shapes = new ArrayList<>();
    double y = heading(shapes, heading, below) + 8;
    double left = MARGIN + 190;
    double right = WIDTH - MARGIN - 190;
    for (Map.Entry<String, List<Measured>> group : groups.entrySet()) {
      List<Measured> members = group.getValue();
      String name = group.getKey().replaceFirst("(Benchmark)?\\. ?", " ").strip();
      shapes.add(new Text(MARGIN, y + 16, name, 13, true, INK, Anchor.START));
      y += 26;
      double longest =
          members.stream()
              .filter(one -> !one.rounds().isEmpty())
              .mapToDouble(one -> one.seconds().highest())
              .max()
              .orElse(1);
      for (Measured one : members) {
        String method = one.benchmark().substring(one.benchmark().lastIndexOf('.') + 1);
        shapes.add(new Text(left - 10, y + 14, method, 12, false, INK, Anchor.END));
        if (one.rounds().isEmpty()) {
          shapes.add(
              new Text(
                  left,
                  y + 14,
                  shortened(
                      one.absent() == null ? "failed: " + one.failed() : "absent: " + one.absent(),
                      11,
                      WIDTH - MARGIN - left),
                  11,
                  false,
                  one.absent() == null ? MISSED : GREY,
                  Anchor.START));
        } else {
          Spread time = one.seconds();
          double scale = (right - left) / longest;
          shapes.add(
              new Box(
                  left,
                  y + 2,
                  Math.max(1.5, time.median() * scale),
                  16,
                  2,
                  one.rival() == null ? OURS : RIVAL));
          double from = left + time.lowest() * scale;
          double to = left + time.highest() * scale;
          shapes.add(new Line(from, y + 10, to, y + 10, INK, 1.5, false));
          shapes.add(new Line(from, y + 6, from, y + 14, INK, 1.5, false));
          shapes.add(new Line(to, y + 6, to, y + 14, INK, 1.5, false));
          shapes.add(
              new Text(to + 8, y + 14, Unit.time(time.median()), 12, true, INK, Anchor.START));
        }
        y += 23;
      }
      y += 10;
    }
    shapes.add(
        new Text(
            MARGIN,
            y + 14,
            "Time for one operation, median of the rounds, with the lowest and the highest; bars of"
                + " a group are to one scale.",
            11,
            false,
            GREY,
            Anchor.START));
    shapes.add(new Box(MARGIN, y + 24, 10, 10, 2, OURS));
    shapes.add(new Text(MARGIN + 15, y + 33, "this library", 11, false, GREY, Anchor.START));
    shapes.add(new Box(MARGIN + 100, y + 24, 10, 10, 2, RIVAL));
    shapes.add(new Text(MARGIN + 115, y + 33, "a rival", 11, false, GREY, Anchor.START));
    return picture((int) y + 50, heading, shapes);
  }

  /**
   * One ratio over the runs of one kind of machine.
   *
   * @param what the aim's sentence
   * @param points the runs that had a ratio, the oldest first: commit and what was found
   */
  public record Movement(String what, List<Point> points) {
    /** Copies the points. */
    public Movement {
      points = List.copyOf(points);
    }

    /**
     * One run.
     *
     * @param run which of all runs, from 0: its place from left to right
     * @param commit short name of the commit
     * @param finding what was found
     */
    public record Point(int run, String commit, Finding finding) {}
  }

  /**
   * How ratios have moved: a strip for each, all with the same runs from left to right.
   *
   * @param heading the first line
   * @param below the second line, in small letters
   * @param runs how many runs there are, whether or not each has every ratio
   * @param movements the strips, top to bottom
   * @return the chart
   */
  public static Picture moves(String heading, String below, int runs, List<Movement> movements) {
    List<Shape> shapes = new ArrayList<>();
    double y = heading(shapes, heading, below) + 12;
    double left = MARGIN + LABELS;
    double right = WIDTH - MARGIN - VALUES;
    double height = 76;
    Map<Integer, String> commits = new LinkedHashMap<>();
    for (Movement movement : movements) {
      shapes.add(new Line(MARGIN, y, WIDTH - MARGIN, y, GRID, 1, false));
      double line = y + 24;
      for (String words : wrapped(movement.what(), 13, LABELS - 18)) {
        shapes.add(new Text(MARGIN, line, words, 13, false, INK, Anchor.START));
        line += 17;
      }
      Finding last = movement.points().getLast().finding();
      double low = last.speedAimed();
      double high = low;
      for (Movement.Point point : movement.points()) {
        low = Math.min(low, point.finding().speed().lowest());
        high = Math.max(high, point.finding().speed().highest());
        commits.put(point.run(), point.commit());
      }
      // Turned round, so that faster is higher.
      Axis axis = new Axis(low * 0.9, high * 1.1, y + height - 8, y + 8);
      double aim = axis.at(last.speedAimed());
      shapes.add(new Box(left, y + 8, right - left, Math.max(0, aim - y - 8), 2, MET_GROUND));
      shapes.add(new Line(left, aim, right, aim, MET, 1.5, true));
      if (low * 0.9 < 1 && high * 1.1 > 1) {
        shapes.add(new Line(left, axis.at(1), right, axis.at(1), GREY, 1, false));
        shapes.add(new Text(right + 5, axis.at(1) + 4, "1 ×", 10, false, GREY, Anchor.START));
      }
      List<double[]> median = new ArrayList<>();
      List<double[]> band = new ArrayList<>();
      List<double[]> under = new ArrayList<>();
      for (Movement.Point point : movement.points()) {
        double x = x(point.run(), runs, left, right);
        Spread speed = point.finding().speed();
        median.add(new double[] {x, axis.at(speed.median())});
        band.add(new double[] {x, axis.at(speed.highest())});
        under.addFirst(new double[] {x, axis.at(speed.lowest())});
        shapes.add(
            new Line(
                x, axis.at(speed.lowest()), x, axis.at(speed.highest()), 0x802563EB, 2, false));
      }
      band.addAll(under);
      if (median.size() > 1) {
        shapes.add(new Trail(band, 0x262563EB, 0));
        shapes.add(new Trail(median, OURS, 2));
      }
      for (int i = 0; i < median.size(); i++) {
        boolean met = movement.points().get(i).finding().met();
        shapes.add(new Dot(median.get(i)[0], median.get(i)[1], 4.5, met ? MET : MISSED));
        if (median.size() <= FEW && i < median.size() - 1) {
          shapes.add(
              new Text(
                  median.get(i)[0] + 8,
                  median.get(i)[1] + 13,
                  Unit.digits(movement.points().get(i).finding().speed().median()),
                  10,
                  false,
                  GREY,
                  Anchor.START));
        }
      }
      double middle = y + height / 2;
      shapes.add(
          new Text(
              WIDTH - MARGIN,
              middle - 1,
              Unit.digits(last.speed().median()) + " ×",
              16,
              true,
              last.met() ? MET : MISSED,
              Anchor.END));
      shapes.add(new Text(WIDTH - MARGIN, middle + 16, aimed(last), 11, false, GREY, Anchor.END));
      y += height;
    }
    shapes.add(new Line(MARGIN, y, WIDTH - MARGIN, y, GRID, 1, false));
    double free = Double.NEGATIVE_INFINITY;
    for (Map.Entry<Integer, String> commit : new TreeMap<>(commits).entrySet()) {
      double x = x(commit.getKey(), runs, left, right);
      if (x - free > 62) {
        shapes.add(new Text(x, y + 17, commit.getValue(), 11, false, GREY, Anchor.MIDDLE));
        free = x;
      }
    }
    shapes.add(
        new Text(
            MARGIN,
            y + 40,
            "Times as fast as the rival in the same run, by commit; higher is faster. Band: lowest to"
                + " highest round. Dashed: the aim.",
            11,
            false,
            GREY,
            Anchor.START));
    return picture((int) y + 56, heading, shapes);
  }

  private static double x(int run, int runs, double left, double right) {
    double inset = 34;
    return runs == 1
        ? (left + right) / 2
        : left + inset + (right - left - 2 * inset) * run / (runs - 1);
  }

  private static double heading(List<Shape> shapes, String heading, String below) {
    shapes.add(new Text(MARGIN, 36, heading, 19, true, INK, Anchor.START));
    double y = 56;
    for (String line : wrapped(below, 12, WIDTH - 2 * MARGIN)) {
      shapes.add(new Text(MARGIN, y, line, 12, false, GREY, Anchor.START));
      y += 16;
    }
    return y;
  }

  private static Picture picture(int height, String title, List<Shape> shapes) {
    List<Shape> all = new ArrayList<>();
    all.add(new Box(0, 0, WIDTH, height, 0, PAPER));
    all.addAll(shapes);
    return new Picture(WIDTH, height, title, all);
  }

  static List<String> wrapped(String text, double size, double width) {
    List<String> lines = new ArrayList<>();
    StringBuilder line = new StringBuilder();
    for (String word : text.split(" ", -1)) {
      if (!line.isEmpty() && Picture.width(line + " " + word, size, false) > width) {
        lines.add(line.toString());
        line.setLength(0);
      }
      line.append(line.isEmpty() ? "" : " ").append(word);
    }
    lines.add(line.toString());
    return lines;
  }

  static String shortened(String text, double size, double width) {
    int most = (int) (width / Picture.width("n", size, false));
    return text.length() <= most ? text : text.substring(0, most - 1) + "…";
  }

  private static String aimed(Finding finding) {
    String digits = Unit.digits(finding.speedAimed());
    return "aim " + digits.replaceFirst("\\.0+$", "") + " ×";
  }

  private static String plain(double value) {
    return new java.math.BigDecimal(Double.toString(value)).stripTrailingZeros().toPlainString();
  }
}
