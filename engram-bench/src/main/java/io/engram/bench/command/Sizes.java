// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Numbers for people. */
final class Sizes {
  private static final String[] UNITS = {"B", "kB", "MB", "GB", "TB"};

  private static final Pattern SIZE =
      Pattern.compile("(\\d+(?:\\.\\d+)?)\\s*(?:([kmgt])(i?)b?|b)", Pattern.CASE_INSENSITIVE);

  private Sizes() {}

  /**
   * A size as people write it: a number and B, kB, MB, GB or TB (decimal), or KiB, MiB, GiB or TiB.
   * The B may be left out after a letter.
   *
   * @throws IllegalArgumentException if it is none, saying what one looks like
   */
  static long parse(String text) {
    Matcher parts = SIZE.matcher(text.strip());
    if (!parts.matches()) {
      throw new IllegalArgumentException(
          "\"" + text + "\" is no size; expected one such as 500MB, 24GB or 1.5GiB");
    }
    String prefix = parts.group(2);
    int power = prefix == null ? 0 : "KMGT".indexOf(prefix.toUpperCase(Locale.ROOT)) + 1;
    double unit = prefix == null || parts.group(3).isEmpty() ? 1000 : 1024;
    double bytes = Double.parseDouble(parts.group(1)) * Math.pow(unit, power);
    if (bytes < 1 || bytes > 1e18) {
      throw new IllegalArgumentException(text + " is out of range");
    }
    return (long) bytes;
  }

  /** Decimal units, as disks are sold and tables are quoted. */
  static String bytes(long bytes) {
    double value = bytes;
    int unit = 0;
    while (value >= 999.5 && unit < UNITS.length - 1) {
      value /= 1000;
      unit++;
    }
    return unit == 0
        ? bytes + " B"
        : String.format(Locale.ROOT, value < 10 ? "%.2f %s" : "%.1f %s", value, UNITS[unit]);
  }
}
