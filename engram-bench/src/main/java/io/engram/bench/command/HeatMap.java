// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.util.Locale;

/** Gates over a text: in the terminal, and as an HTML page. */
final class HeatMap {
  /** Colours 17 to 231 of a terminal with 256, from cold to hot. */
  private static final int[] TERMINAL = {17, 18, 24, 30, 36, 71, 107, 143, 179, 215, 209, 203};

  private static final String DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

  private final String[] tokens;
  private final float[] gates;
  private final int streams;
  private final float low;
  private final float high;

  /**
   * @param tokens the text of each token
   * @param gates gates [tokens, streams]
   */
  HeatMap(String[] tokens, float[] gates) {
    this.tokens = tokens;
    this.gates = gates;
    this.streams = gates.length / tokens.length;
    float least = 1;
    float most = 0;
    for (int t = 0; t < tokens.length; t++) {
      least = Math.min(least, mean(t));
      most = Math.max(most, mean(t));
    }
    this.low = least;
    this.high = Math.max(most, least + 1e-6f);
  }

  float low() {
    return low;
  }

  float high() {
    return high;
  }

  private float mean(int token) {
    float sum = 0;
    for (int s = 0; s < streams; s++) {
      sum += gates[token * streams + s];
    }
    return sum / streams;
  }

  private float heat(int token) {
    return (mean(token) - low) / (high - low);
  }

  /**
   * The first tokens, each on a background of its heat; without colours, each followed by its heat
   * as a raised digit from 0 to 9.
   */
  String terminal(int count, int lineWidth, boolean colours) {
    StringBuilder out = new StringBuilder();
    int column = 0;
    for (int t = 0; t < Math.min(count, tokens.length); t++) {
      String text = tokens[t].replaceAll("\\s*\\n\\s*", " ");
      String shown = colours ? text : text + DIGITS.charAt(Math.round(heat(t) * 9));
      if (column + shown.length() > lineWidth) {
        out.append('\n');
        column = 0;
      }
      column += shown.length();
      if (colours) {
        int colour = TERMINAL[Math.round(heat(t) * (TERMINAL.length - 1))];
        int ink = heat(t) > 0.45 ? 16 : 231;
        out.append("\u001b[48;5;%d;38;5;%dm%s\u001b[0m".formatted(colour, ink, shown));
      } else {
        out.append(shown);
      }
    }
    return out.append('\n').toString();
  }

  /** A page that stands alone: no script, no fonts, no network. */
  String html(String title, String note) {
    StringBuilder out = new StringBuilder();
    out.append(
        """
        <!doctype html>
        <html lang="en"><head><meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>%s</title>
        <style>
        body { font: 16px/1.9 ui-monospace, Menlo, Consolas, monospace; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1b1b1f; background: #fff; }
        h1 { font: 600 1.4rem system-ui, sans-serif; } p { font: 1rem/1.5 system-ui, sans-serif; }
        .text { white-space: pre-wrap; } .text span { padding: .15em 0; border-radius: 2px; }
        .scale { display: flex; align-items: center; gap: .6rem; font: .85rem system-ui, sans-serif; }
        .scale i { flex: 0 0 16rem; height: .9rem; border-radius: 3px; background: linear-gradient(90deg, %s, %s, %s); }
        </style></head><body>
        <h1>%s</h1>
        <p>%s</p>
        <div class="scale"><span>%.3f</span><i></i><span>%.3f</span></div>
        <p>Mean gate of all streams. Point at a token to see each stream.</p>
        <div class="text">\
        """
            .formatted(
                escape(title),
                colour(0),
                colour(.5f),
                colour(1),
                escape(title),
                escape(note),
                low,
                high));
    for (int t = 0; t < tokens.length; t++) {
      StringBuilder each = new StringBuilder("gate");
      for (int s = 0; s < streams; s++) {
        each.append(String.format(Locale.ROOT, " %.4f", gates[t * streams + s]));
      }
      out.append("<span style=\"background:%s\" title=\"%s\">".formatted(colour(heat(t)), each))
          .append(escape(tokens[t]))
          .append("</span>");
    }
    return out.append("</div>\n</body></html>\n").toString();
  }

  /** From blue over white to red, light enough for black ink. */
  private static String colour(float heat) {
    float cold = Math.max(0, 1 - 2 * heat);
    float hot = Math.max(0, 2 * heat - 1);
    int red = Math.round(255 - 120 * cold);
    int green = Math.round(255 - 70 * cold - 130 * hot);
    int blue = Math.round(255 - 150 * hot);
    return "rgb(%d,%d,%d)".formatted(red, green, blue);
  }

  private static String escape(String text) {
    return text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\"", "&quot;");
  }
}
