// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

/** A curve in one line of text. */
final class Sparkline {
  private static final String LEVELS = "▁▂▃▄▅▆▇█";

  private Sparkline() {}

  /** Frequencies over ranks, both on a log scale. */
  static String ofRanks(int[] countsByRank, int width) {
    StringBuilder line = new StringBuilder();
    if (countsByRank.length == 0) {
      return "";
    }
    double top = Math.log(countsByRank[0]);
    for (int i = 0; i < width; i++) {
      int rank = (int) Math.pow(countsByRank.length, (double) i / width);
      double level = top == 0 ? 0 : Math.log(countsByRank[rank - 1]) / top;
      line.append(LEVELS.charAt((int) Math.round(level * (LEVELS.length() - 1))));
    }
    return line.toString();
  }

  /** Values on a linear scale, left to right; those beyond its ends are drawn at them. */
  static String of(double[] values, double low, double high, int width) {
    StringBuilder line = new StringBuilder();
    int points = Math.min(width, values.length);
    for (int i = 0; i < points; i++) {
      double value = values[(int) ((long) i * values.length / points)];
      double level = high > low ? Math.clamp((value - low) / (high - low), 0, 1) : 0;
      line.append(LEVELS.charAt((int) Math.round(level * (LEVELS.length() - 1))));
    }
    return line.toString();
  }
}
