// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.Locale;

/** A unit of scores, as JMH writes it. */
record Unit(boolean throughput, double second) {
  private static final String[] PREFIXES = {"ns", "us", "µs", "ms", "s", "min"};
  private static final double[] SECONDS = {1e-9, 1e-6, 1e-6, 1e-3, 1, 60};

  /**
   * Reads one.
   *
   * @throws IllegalArgumentException if it is neither a time nor a rate
   */
  static Unit of(String unit) {
    for (int i = 0; unit != null && i < PREFIXES.length; i++) {
      if (unit.equals(PREFIXES[i] + "/op")) {
        return new Unit(false, SECONDS[i]);
      }
      if (unit.equals("ops/" + PREFIXES[i])) {
        return new Unit(true, SECONDS[i]);
      }
    }
    throw new IllegalArgumentException(
        "unit: \"" + unit + "\" is neither a time for each operation nor operations in a time");
  }

  /** The time for one operation. */
  double seconds(double score) {
    return throughput ? second / score : second * score;
  }

  /** A time for people, with three digits. */
  static String time(double seconds) {
    double size = Math.abs(seconds);
    if (size < 999.5e-9) {
      return digits(seconds * 1e9) + " ns";
    }
    if (size < 999.5e-6) {
      return digits(seconds * 1e6) + " µs";
    }
    if (size < 999.5e-3) {
      return digits(seconds * 1e3) + " ms";
    }
    return digits(seconds) + " s";
  }

  /** Three significant digits, without an exponent. */
  static String digits(double value) {
    double size = Math.abs(value);
    String pattern =
        size < 0.0095 ? "%.4f" : size < 9.995 ? "%.2f" : size < 99.95 ? "%.1f" : "%.0f";
    return String.format(Locale.ROOT, pattern, value);
  }
}
