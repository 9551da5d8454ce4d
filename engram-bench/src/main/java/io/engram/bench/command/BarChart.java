// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

/** Times as bars of text: one character for a fixed time. */
final class BarChart {
  private static final char SOLID = '█';
  private static final char LIGHT = '░';

  private final double whole;
  private final int width;

  /**
   * A scale.
   *
   * @param whole what the longest bar stands for, positive
   * @param width characters of the longest bar
   */
  BarChart(double whole, int width) {
    this.whole = whole;
    this.width = width;
  }

  /** A solid bar, followed by a light one; what is not nothing shows at least one character. */
  String bar(double solid, double light) {
    int end = characters(solid + light);
    int first = Math.min(characters(solid), light > 0.001 * whole ? Math.max(0, end - 1) : end);
    return String.valueOf(SOLID).repeat(first) + String.valueOf(LIGHT).repeat(end - first);
  }

  String bar(double solid) {
    return bar(solid, 0);
  }

  private int characters(double value) {
    return value <= 0 ? 0 : Math.clamp(Math.round(width * value / whole), 1, width);
  }
}
