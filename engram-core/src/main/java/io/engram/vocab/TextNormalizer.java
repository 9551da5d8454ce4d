// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.text.Normalizer;

/**
 * The normaliser of tokenizer compression: tokens whose texts it maps to the same string share one
 * compressed id (paper, section 2.2; released {@code engram.py} of DeepSeek-V4.1-Flash).
 *
 * <p>In this order: NFKC, NFD, drop combining marks (general categories Mn, Mc and Me), lower case
 * of each code point without regard to its neighbours, each run of space, tab, carriage return and
 * line feed becomes one space, a string that is exactly one space is kept, else white space (the
 * Unicode property White_Space) is stripped from both ends. U+E000 in the input becomes a space,
 * because the reference uses it to keep the single space.
 *
 * <p>The result equals the reference (the Rust library {@code tokenizers}) on every Unicode code
 * point and on random strings; a test compares them. The reference's tables are older than those of
 * the JDK in some places and younger in others; two small resource files hold the differences, so
 * the result depends on the JDK only for characters that are younger than Unicode 17. Verified on
 * JDK 25, whose tables are Unicode 16.
 *
 * <p>Stateless and thread-safe.
 */
public final class TextNormalizer {
  /** General categories of combining marks, as bits. */
  static final int MARKS =
      1 << Character.NON_SPACING_MARK
          | 1 << Character.COMBINING_SPACING_MARK
          | 1 << Character.ENCLOSING_MARK;

  private static final int FIRST_MARK = 0x300;

  private TextNormalizer() {}

  /**
   * Normalises one string.
   *
   * @param text well-formed Unicode text of any length
   * @return its normal form, which may be empty
   * @throws IllegalArgumentException if the text holds an unpaired surrogate
   */
  public static String normalize(String text) {
    return normalize(text, MARKS);
  }

  static String normalize(String text, int marks) {
    FrozenUnicode.requireWellFormed(text);
    // NFD of NFKC is NFKD.
    String decomposed = FrozenUnicode.normalize(text, Normalizer.Form.NFKD);
    StringBuilder out = new StringBuilder(decomposed.length());
    int i = 0;
    while (i < decomposed.length()) {
      int codePoint = decomposed.codePointAt(i);
      i += Character.charCount(codePoint);
      if (isDropped(codePoint, marks)) {
        continue;
      }
      if (codePoint == ' ' || codePoint == '\t' || codePoint == '\r' || codePoint == '\n') {
        if (out.isEmpty() || out.charAt(out.length() - 1) != ' ') {
          out.append(' ');
        }
      } else {
        out.appendCodePoint(FrozenUnicode.lowerCase(codePoint));
      }
    }
    if (out.length() == 1 && out.charAt(0) == ' ') {
      return " ";
    }
    // No white space lies outside the basic plane, so chars do.
    int from = 0;
    int to = out.length();
    while (from < to && FrozenUnicode.isWhiteSpace(out.charAt(from))) {
      from++;
    }
    while (to > from && FrozenUnicode.isWhiteSpace(out.charAt(to - 1))) {
      to--;
    }
    return out.substring(from, to).replace('\uE000', ' ');
  }

  private static boolean isDropped(int codePoint, int marks) {
    if (codePoint < FIRST_MARK) {
      return false;
    }
    if (FrozenUnicode.isYoung(codePoint)) {
      // Marks of Unicode 9.0 that later versions made letters.
      return codePoint == 0x1CF2 || codePoint == 0x1CF3;
    }
    return (marks >>> Character.getType(codePoint) & 1) != 0;
  }
}
