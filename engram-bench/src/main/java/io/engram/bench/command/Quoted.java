// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

/** Token texts in one line. */
final class Quoted {
  private Quoted() {}

  static String of(String text) {
    StringBuilder out = new StringBuilder();
    text.codePoints()
        .forEach(c -> {
          switch (c) {
            case '\n' -> out.append("\\n");
            case '\r' -> out.append("\\r");
            case '\t' -> out.append("\\t");
            default -> {
              if (Character.isISOControl(c) || Character.getType(c) == Character.FORMAT) {
                out.append(String.format("\\u%04X", c));
              } else {
                out.appendCodePoint(c);
              }
            }
          }
        });
    return out.toString();
  }

  /**
   * A text of several lines, without what would move a terminal's cursor. NUL stands between
   * documents and is no part of their text.
   */
  static String printable(String text) {
    return text.replace("\0", "").replaceAll("[\\p{Cntrl}&&[^\n\t]]", "\uFFFD");
  }

  static String shorten(String text, int most) {
    return text.length() <= most ? text : text.substring(0, most - 3) + "...";
  }
}
