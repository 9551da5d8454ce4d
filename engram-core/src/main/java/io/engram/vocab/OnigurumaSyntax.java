// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.Locale;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Regular expressions of {@code tokenizer.json}, which are written for Oniguruma, as patterns of
 * the JDK. Only what means the same in both is let through; each construct is written out anew, so
 * that nothing unknown slips by.
 */
final class OnigurumaSyntax {
  private static final Set<String> CATEGORIES =
      Set.of(
          "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",
          "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl",
          "Zp", "C", "Cc", "Cf", "Cn", "Co");

  /** Letters that Oniguruma, ignoring case, also finds as one character. */
  private static final Set<String> FOLDED_PAIRS = Set.of("ss", "st", "ff", "fi", "fl");

  private static final int KELVIN_SIGN = 0x212A;
  private static final int LONG_S = 0x17F;
  private static final int MAX_DEPTH = 50;

  private final String source;
  private final StringBuilder out = new StringBuilder();
  private int at;

  private OnigurumaSyntax(String source) {
    this.source = source;
  }

  /**
   * Translates a pattern.
   *
   * @throws IllegalArgumentException naming what is not supported and where it is
   */
  static Pattern compile(String source) {
    OnigurumaSyntax syntax = new OnigurumaSyntax(source);
    syntax.alternatives(0, false);
    if (syntax.at < source.length()) {
      throw syntax.unsupported("an unopened )", syntax.at);
    }
    return Pattern.compile(syntax.out.toString());
  }

  private void alternatives(int depth, boolean ignoreCase) {
    if (depth > MAX_DEPTH) {
      throw unsupported("more than " + MAX_DEPTH + " nested groups", at);
    }
    while (at < source.length() && source.charAt(at) != ')') {
      if (source.charAt(at) == '|') {
        at++;
        out.append('|');
      } else {
        item(depth, ignoreCase);
      }
    }
  }

  private void item(int depth, boolean ignoreCase) {
    int start = at;
    int codePoint = next();
    switch (codePoint) {
      case '(' -> {
        group(depth, ignoreCase, start);
        return;
      }
      case '[' -> {
        characterClass(ignoreCase, start);
      }
      case '\\' -> {
        int literal = escape(start);
        if (literal >= 0) {
          literal(literal, ignoreCase, start);
        } else {
          refuseIn(ignoreCase, source.substring(start, at), start);
        }
      }
      case '^', '$', '.', '*', '+', '?', '{', '}', ']' ->
          throw unsupported("'" + (char) codePoint + "' here", start);
      default -> literal(codePoint, ignoreCase, start);
    }
    quantifier();
  }

  private void refuseIn(boolean ignoreCase, String what, int start) {
    if (ignoreCase) {
      throw unsupported(what + " in a case-insensitive group", start);
    }
  }

  private void literal(int codePoint, boolean ignoreCase, int start) {
    if (ignoreCase) {
      if (at < source.length()
          && FOLDED_PAIRS.contains(source.substring(start, start + 2).toLowerCase(Locale.ROOT))) {
        throw unsupported("letters that fold to a ligature", start);
      }
    }
    out.append('[');
    emit(codePoint, ignoreCase, start);
    out.append(']');
  }

  /** Writes a literal, in a class, together with what equals it when case is ignored. */
  private void emit(int codePoint, boolean ignoreCase, int start) {
    hex(codePoint);
    if (!ignoreCase) {
      return;
    }
    if (codePoint >= 0x80) {
      throw unsupported("a character beyond ASCII in a case-insensitive group", start);
    }
    if (Character.isLetter(codePoint)) {
      hex(codePoint ^ 0x20);
      switch (codePoint | 0x20) {
        case 'k' -> hex(KELVIN_SIGN);
        case 's' -> hex(LONG_S);
        default -> {}
      }
    }
  }

  private void hex(int codePoint) {
    out.append("\\x{").append(Integer.toHexString(codePoint)).append('}');
  }

  private void group(int depth, boolean ignoreCase, int start) {
    refuseIn(ignoreCase, "a group", start);
    boolean lookAhead = false;
    boolean inner = false;
    if (source.startsWith("?:", at)) {
      at += 2;
      out.append("(?:");
    } else if (source.startsWith("?i:", at)) {
      at += 3;
      inner = true;
      out.append("(?:");
    } else if (source.startsWith("?=", at) || source.startsWith("?!", at)) {
      out.append('(').append(source, at, at + 2);
      at += 2;
      lookAhead = true;
    } else if (source.startsWith("?", at)) {
      throw unsupported("a group of this kind", start);
    } else {
      out.append("(?:");
    }
    alternatives(depth + 1, inner);
    if (at == source.length()) {
      throw unsupported("an unclosed group", start);
    }
    at++;
    out.append(')');
    if (at < source.length() && "?*+{".indexOf(source.charAt(at)) >= 0) {
      // A repeated group recurses on the JDK, as deep as the text is long.
      if (lookAhead || source.charAt(at) != '?') {
        throw unsupported("a repeated group", at);
      }
      at++;
      out.append('?');
      refuseQuantifier();
    }
  }

  private void quantifier() {
    if (at == source.length()) {
      return;
    }
    char c = source.charAt(at);
    if (c == '?' || c == '*' || c == '+') {
      at++;
      out.append(c);
      if (at < source.length() && (source.charAt(at) == '?' || source.charAt(at) == '+')) {
        out.append(source.charAt(at++));
      }
      refuseQuantifier();
    } else if (c == '{') {
      int close = source.indexOf('}', at);
      String interval = close < 0 ? "" : source.substring(at, close + 1);
      if (!interval.matches("\\{[0-9]{1,4}(,[0-9]{0,4})?}")) {
        throw unsupported("this interval", at);
      }
      at = close + 1;
      out.append(interval);
      refuseQuantifier();
    }
  }

  private void refuseQuantifier() {
    if (at < source.length() && "?*+{".indexOf(source.charAt(at)) >= 0) {
      throw unsupported("a quantifier behind a quantifier", at);
    }
  }

  private void characterClass(boolean ignoreCase, int start) {
    out.append('[');
    if (source.startsWith("^", at)) {
      refuseIn(ignoreCase, "a negated class", start);
      at++;
      out.append('^');
    }
    int first = at;
    while (true) {
      if (at == source.length()) {
        throw unsupported("an unclosed class", start);
      }
      int from = at;
      if (source.charAt(at) == ']' && at > first) {
        at++;
        out.append(']');
        return;
      }
      int low = classCharacter(from);
      boolean dash = source.startsWith("-", at) && !source.startsWith("-]", at);
      if (low < 0) {
        refuseIn(ignoreCase, source.substring(from, at), from);
      } else if (!dash) {
        emit(low, ignoreCase, from);
      }
      if (dash) {
        at++;
        int high = at == source.length() ? -1 : classCharacter(at);
        if (low < 0 || high < low || low == '-' || high == '-') {
          throw unsupported("this range", from);
        }
        refuseIn(ignoreCase, "a range", from);
        hex(low);
        out.append('-');
        hex(high);
      }
    }
  }

  /** A literal of a class, or -1 after a class escape such as \s, which is written already. */
  private int classCharacter(int start) {
    int codePoint = next();
    if (codePoint == '\\') {
      return escape(start);
    }
    boolean special =
        codePoint == '[' || codePoint == ']' || (codePoint == '&' && source.startsWith("&", at));
    if (special) {
      throw unsupported("'" + Character.toString(codePoint) + "' in a class", start);
    }
    return codePoint;
  }

  /** The literal that an escape stands for, or -1 if it was a class, which is written. */
  private int escape(int start) {
    if (at == source.length()) {
      throw unsupported("a backslash at the end", start);
    }
    int codePoint = next();
    switch (codePoint) {
      case 's' -> out.append("\\p{IsWhite_Space}");
      case 'S' -> out.append("\\P{IsWhite_Space}");
      case 'd' -> out.append("\\p{Nd}");
      case 'D' -> out.append("\\P{Nd}");
      case 'p', 'P' -> category((char) codePoint, start);
      case 'n' -> {
        return '\n';
      }
      case 'r' -> {
        return '\r';
      }
      case 't' -> {
        return '\t';
      }
      default -> {
        if (codePoint >= 0x80 || codePoint <= ' ' || Character.isLetterOrDigit(codePoint)) {
          throw unsupported("\\" + Character.toString(codePoint), start);
        }
        return codePoint;
      }
    }
    return -1;
  }

  private void category(char p, int start) {
    int close = source.indexOf('}', at);
    String name = close < 0 || !source.startsWith("{", at) ? "" : source.substring(at + 1, close);
    if (!CATEGORIES.contains(name)) {
      throw unsupported("\\" + p + "{" + name + "}", start);
    }
    at = close + 1;
    out.append('\\').append(p).append('{').append(name).append('}');
  }

  private int next() {
    int codePoint = source.codePointAt(at);
    at += Character.charCount(codePoint);
    return codePoint;
  }

  private IllegalArgumentException unsupported(String what, int position) {
    return new IllegalArgumentException(
        "the regular expression '"
            + source
            + "' has "
            + what
            + " at char "
            + position
            + ", which is not supported");
  }
}
