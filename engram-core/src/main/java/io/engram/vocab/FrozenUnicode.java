// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Unicode as the reference sees it, on a JDK whose tables are younger: its normal forms and its
 * combining marks are those of Unicode 9.0, its lower case that of Unicode 17.
 */
final class FrozenUnicode {
  /** Starts and ends (inclusive) of the ranges that the reference leaves alone, ascending. */
  private static final int[] YOUNG_FIRST;

  private static final int[] YOUNG_LAST;
  private static final Map<Integer, Integer> YOUNG_LOWER = new HashMap<>();

  static {
    List<String> ranges = lines("young-code-points.txt");
    YOUNG_FIRST = new int[ranges.size()];
    YOUNG_LAST = new int[ranges.size()];
    for (int i = 0; i < YOUNG_FIRST.length; i++) {
      String[] ends = ranges.get(i).split("-", 2);
      YOUNG_FIRST[i] = Integer.parseInt(ends[0], 16);
      YOUNG_LAST[i] = Integer.parseInt(ends[ends.length - 1], 16);
    }
    for (String line : lines("young-lower-case.txt")) {
      String[] pair = line.split(" ", 2);
      YOUNG_LOWER.put(Integer.parseInt(pair[0], 16), Integer.parseInt(pair[1], 16));
    }
  }

  private FrozenUnicode() {}

  private static List<String> lines(String resource) {
    try (InputStream in = FrozenUnicode.class.getResourceAsStream(resource)) {
      if (in == null) {
        throw new IllegalStateException(resource + " is missing beside " + FrozenUnicode.class);
      }
      return new BufferedReader(new InputStreamReader(in, StandardCharsets.US_ASCII))
          .lines()
          .filter(line -> !line.isBlank() && !line.startsWith("#"))
          .toList();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Whether the reference's tables are too old to know this code point, and that matters. */
  static boolean isYoung(int codePoint) {
    if (codePoint < YOUNG_FIRST[0]) {
      return false;
    }
    int at = Arrays.binarySearch(YOUNG_FIRST, codePoint);
    return at >= 0 || codePoint <= YOUNG_LAST[-at - 2];
  }

  /** A normal form, applied to the pieces between young code points, which block it. */
  static String normalize(String text, Normalizer.Form form) {
    int young = indexOfYoung(text, 0);
    if (young == text.length()) {
      return Normalizer.normalize(text, form);
    }
    StringBuilder out = new StringBuilder(text.length() + 16);
    int from = 0;
    while (young < text.length()) {
      int codePoint = text.codePointAt(young);
      out.append(Normalizer.normalize(text.substring(from, young), form));
      out.appendCodePoint(codePoint);
      from = young + Character.charCount(codePoint);
      young = indexOfYoung(text, from);
    }
    return out.append(Normalizer.normalize(text.substring(from), form)).toString();
  }

  private static int indexOfYoung(String text, int from) {
    int i = from;
    while (i < text.length()) {
      int codePoint = text.codePointAt(i);
      if (isYoung(codePoint)) {
        return i;
      }
      i += Character.charCount(codePoint);
    }
    return i;
  }

  /**
   * Lower case without context: a capital sigma gives U+03C3 everywhere. The one code point whose
   * full mapping is longer, U+0130, has no place in decomposed text.
   */
  static int lowerCase(int codePoint) {
    if (codePoint >= 0xA7CE) {
      Integer young = YOUNG_LOWER.get(codePoint);
      if (young != null) {
        return young;
      }
    }
    return Character.toLowerCase(codePoint);
  }

  /** The property White_Space, which neither String.strip nor Character.isWhitespace follows. */
  static boolean isWhiteSpace(int codePoint) {
    return (codePoint >= 0x09 && codePoint <= 0x0D)
        || codePoint == 0x20
        || codePoint == 0x85
        || codePoint == 0xA0
        || codePoint == 0x1680
        || (codePoint >= 0x2000 && codePoint <= 0x200A)
        || codePoint == 0x2028
        || codePoint == 0x2029
        || codePoint == 0x202F
        || codePoint == 0x205F
        || codePoint == 0x3000;
  }

  /**
   * Refuses text that is not Unicode: the reference works on UTF-8, which has no surrogates.
   *
   * @throws IllegalArgumentException naming the first unpaired surrogate
   */
  static void requireWellFormed(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (Character.isSurrogate(c)) {
        boolean pair =
            Character.isHighSurrogate(c)
                && i + 1 < text.length()
                && Character.isLowSurrogate(text.charAt(i + 1));
        if (!pair) {
          throw new IllegalArgumentException(
              String.format("unpaired surrogate U+%04X at char %d of the text", (int) c, i));
        }
        i++;
      }
    }
  }
}
