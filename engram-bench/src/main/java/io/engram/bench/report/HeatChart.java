// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import io.engram.bench.report.Picture.Anchor;
import io.engram.bench.report.Picture.Box;
import io.engram.bench.report.Picture.Shape;
import io.engram.bench.report.Picture.Text;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Numbers between 0 and 1 as a grid of colours, each with its number. */
public final class HeatChart {
  private static final int WIDTH = 880;
  private static final int MARGIN = 24;
  private static final int LABELS = 120;
  private static final int MOST = 86;
  private static final int INK = 0xFF1F2933;
  private static final int GREY = 0xFF66727F;

  private HeatChart() {}

  /**
   * Draws a grid.
   *
   * @param heading the first line
   * @param below the second line, in small letters
   * @param rows names of the rows, from the top
   * @param columns names of the columns
   * @param rowLabel what rows are
   * @param columnLabel what columns are
   * @param values [rows][columns]; what is beyond 0 or 1 has the colour of the end
   * @return the picture
   */
  public static Picture of(
      String heading,
      String below,
      List<String> rows,
      List<String> columns,
      String rowLabel,
      String columnLabel,
      double[][] values) {
    if (values.length != rows.size()) {
      throw new IllegalArgumentException(
          "found " + values.length + " rows, expected " + rows.size());
    }
    for (double[] row : values) {
      if (row.length != columns.size()) {
        throw new IllegalArgumentException(
            "found " + row.length + " columns, expected " + columns.size());
      }
    }
    List<Shape> shapes = new ArrayList<>();
    shapes.add(new Text(MARGIN, 36, heading, 19, true, INK, Anchor.START));
    double y = 56;
    for (String line : Charts.wrapped(below, 12, WIDTH - 2 * MARGIN)) {
      shapes.add(new Text(MARGIN, y, line, 12, false, GREY, Anchor.START));
      y += 16;
    }
    double left = MARGIN + LABELS;
    double top = y + 44;
    double wide = Math.min(MOST, (WIDTH - MARGIN - left) / columns.size());
    double high = 40;
    shapes.add(
        new Text(
            left + wide * columns.size() / 2, y + 16, columnLabel, 11, true, INK, Anchor.MIDDLE));
    shapes.add(new Text(MARGIN, top - 10, rowLabel, 11, true, INK, Anchor.START));
    for (int j = 0; j < columns.size(); j++) {
      shapes.add(
          new Text(
              left + wide * (j + 0.5), top - 8, columns.get(j), 11, false, GREY, Anchor.MIDDLE));
    }
    for (int i = 0; i < rows.size(); i++) {
      double from = top + i * high;
      shapes.add(
          new Text(left - 10, from + high / 2 + 4, rows.get(i), 11, false, GREY, Anchor.END));
      for (int j = 0; j < columns.size(); j++) {
        double value = values[i][j];
        double share = Double.isNaN(value) ? 0 : Math.clamp(value, 0, 1);
        shapes.add(new Box(left + j * wide + 1, from + 1, wide - 2, high - 2, 3, colour(share)));
        shapes.add(
            new Text(
                left + wide * (j + 0.5),
                from + high / 2 + 4,
                String.format(Locale.ROOT, "%.2f", value),
                11,
                false,
                share > 0.55 ? 0xFFFFFFFF : INK,
                Anchor.MIDDLE));
      }
    }
    int height = (int) (top + rows.size() * high) + MARGIN;
    List<Shape> all = new ArrayList<>();
    all.add(new Box(0, 0, WIDTH, height, 0, 0xFFFFFFFF));
    all.addAll(shapes);
    return new Picture(WIDTH, height, heading, all);
  }

  private static int colour(double share) {
    int red = (int) Math.round(0xEF + share * (0x1E - 0xEF));
    int green = (int) Math.round(0xF4 + share * (0x40 - 0xF4));
    int blue = (int) Math.round(0xFE + share * (0xAF - 0xFE));
    return 0xFF000000 | red << 16 | green << 8 | blue;
  }
}
