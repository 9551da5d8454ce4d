// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntPredicate;
import java.util.random.RandomGenerator;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class OnigurumaSyntaxTest {
  private static final List<String> CATEGORIES =
      List.of(
          "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
          "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cn", "Co");

  /** Every code point, apart from most of the large blocks that are uniform inside. */
  private static final String CODE_POINTS =
      codePoints(c -> !isInside(c) || c % 997 == 0 || !isInside(c - 16) || !isInside(c + 16));

  private static boolean isInside(int c) {
    return (c >= 0x3400 && c < 0x4DC0)
        || (c >= 0x4E00 && c < 0xA000)
        || (c >= 0xAC00 && c < 0xD7A4)
        || (c >= 0xE000 && c < 0xF900)
        || (c >= 0x17000 && c < 0x18800)
        || (c >= 0x20000 && c < 0x2EE80)
        || (c >= 0x2F800 && c < 0x323C0)
        || (c >= 0x33480 && c < 0xE0000)
        || (c >= 0xE0200);
  }

  private static String codePoints(IntPredicate kept) {
    return IntStream.rangeClosed(0, Character.MAX_CODE_POINT)
        .filter(c -> c < Character.MIN_SURROGATE || c > Character.MAX_SURROGATE)
        .filter(kept)
        .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
        .toString();
  }

  /** Patterns that together tell every general category from every other one. */
  static List<String> categoryBits() {
    List<String> patterns = new ArrayList<>();
    for (int bit = 1; bit < CATEGORIES.size() + 1; bit <<= 1) {
      StringBuilder members = new StringBuilder();
      for (int i = 0; i < CATEGORIES.size(); i++) {
        if ((i + 1 & bit) != 0) {
          members.append("\\p{").append(CATEGORIES.get(i)).append('}');
        }
      }
      patterns.add("[" + members + "]+");
    }
    return patterns;
  }

  @ParameterizedTest
  @MethodSource("categoryBits")
  @ValueSource(
      strings = {
        "[\\p{L}\\p{N}\\p{S}\\p{C}]+",
        "[\\p{M}\\p{N}\\p{Z}\\p{C}]+",
        "[\\p{P}\\p{S}\\p{Z}\\p{C}]+",
        "\\s+",
        "\\D+"
      })
  void categoriesHoldTheSameCodePoints(String pattern) {
    compare(pattern, CODE_POINTS);
  }

  @Tag("long")
  @ParameterizedTest
  @ValueSource(
      strings = {
        "\\s",
        "\\S",
        "\\d",
        "\\D",
        "\\p{L}",
        "\\p{Lu}",
        "\\p{Ll}",
        "\\p{Lt}",
        "\\p{Lm}",
        "\\p{Lo}",
        "\\p{M}",
        "\\p{Mn}",
        "\\p{Mc}",
        "\\p{Me}",
        "\\p{N}",
        "\\p{Nd}",
        "\\p{Nl}",
        "\\p{No}",
        "\\p{P}",
        "\\p{Pc}",
        "\\p{Pd}",
        "\\p{Ps}",
        "\\p{Pe}",
        "\\p{Pi}",
        "\\p{Pf}",
        "\\p{Po}",
        "\\p{S}",
        "\\p{Sm}",
        "\\p{Sc}",
        "\\p{Sk}",
        "\\p{So}",
        "\\p{Z}",
        "\\p{Zs}",
        "\\p{Zl}",
        "\\p{Zp}",
        "\\p{C}",
        "\\p{Cc}",
        "\\p{Cf}",
        "\\p{Cn}",
        "\\p{Co}",
        "\\P{Lu}",
        "[^\\s\\p{L}\\p{N}]",
        "[\\P{L}a-c]",
        "[一-龥぀-ゟ゠-ヿ]",
        "[^\\r\\n\\p{L}\\p{P}\\p{S}]"
      })
  void classesHoldTheSameCodePoints(String pattern) {
    compare(pattern + "+", codePoints(c -> true));
  }

  /** Letters that are equal when case is ignored, beyond ASCII too. */
  @Test
  void ignoresCaseAlike() {
    String literals =
        IntStream.range(0x21, 0x7F)
            .mapToObj(c -> Character.isLetterOrDigit(c) ? Character.toString(c) : "\\" + (char) c)
            .collect(Collectors.joining(")|(?i:", "(?i:", ")"));
    compare(literals, CODE_POINTS);
    compare("(?i:[" + literals.replaceAll("\\)\\|\\(\\?i:|\\(\\?i:|\\)$", "") + "])", CODE_POINTS);
  }

  private static void compare(String pattern, String text) {
    // What is left is what matches, so that a class and its complement cannot be mixed up.
    String split = TokenizerFixture.split("Regex", pattern, "Removed", true);
    TextSplitter splitter =
        new TextSplitter(OnigurumaSyntax.compile(pattern), TextSplitter.Behavior.REMOVED, true);
    try (Reference reference = Reference.ofWords(split)) {
      assertArrayEquals(reference.words(text), words(splitter, text), pattern);
    }
  }

  @Test
  void digitsHoldTheSameCodePoints() {
    for (boolean each : new boolean[] {true, false}) {
      TextSplitter splitter = BpeTokenizer.digits(each);
      try (Reference reference =
          Reference.ofWords("{\"type\":\"Digits\",\"individual_digits\":" + each + "}")) {
        assertArrayEquals(
            reference.words(CODE_POINTS), words(splitter, CODE_POINTS), "each " + each);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "\\p{N}{1,3}",
        "\\p{N}{2}",
        "\\p{L}{2,}",
        "a|ab|abc",
        "(abc|ab|a)c?",
        "[a-f]*?c",
        "[a-f]*+c",
        "x??y",
        "x?+xy",
        "a++b",
        "\\s+(?!\\S)|\\s+",
        "(?=[A-Z])",
        "\\s*[\\r\\n]+|\\s+",
        "",
        "[^\\r\\n]?'[a-z]",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "'(?i:[sdmt]|ll|ve|re)",
        "(?i:kelvin|long)?[-+*/.,]",
        "[+\\-^]",
        "[a^-]",
        "\\/|\\\"|\\#",
        "(?:(?:a(?:b|c))|d)?e",
        "(?![0-9])\\p{N}",
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*",
        "-|#|&|~|/|=|<|,|:|;|@|%|!|\"|'| "
      })
  void findsTheSameMatches(String pattern) {
    RandomGenerator random = Seeds.random(pattern);
    try (Reference reference = Reference.ofWords(TokenizerFixture.split(pattern))) {
      for (int i = 0; i < 400; i++) {
        String text = text(random);
        assertArrayEquals(reference.words(text), words(pattern, text), () -> RandomText.show(text));
      }
    }
  }

  /** Text in which short patterns often match. */
  private static String text(RandomGenerator random) {
    StringBuilder text = new StringBuilder();
    for (int n = random.nextInt(30); n > 0; n--) {
      switch (random.nextInt(6)) {
        case 0 -> text.append((char) random.nextInt(0x20, 0x7F));
        case 1 -> text.append("'").append("sStTdDmM\u017FlLvVrReE".charAt(random.nextInt(17)));
        case 2 -> text.append("abcdefxy ABC\n\r\t".charAt(random.nextInt(15)));
        case 3 -> text.append("12\u0663\u00BD\u2167 ".charAt(random.nextInt(6)));
        case 4 -> text.append("\u212Aelvin long Kelvin\u212A").append(' ');
        default -> text.append(RandomText.next(random, 1));
      }
    }
    return text.toString();
  }

  private static int[] words(String pattern, String text) {
    Pattern compiled = OnigurumaSyntax.compile(pattern);
    return words(new TextSplitter(compiled, TextSplitter.Behavior.ISOLATED, false), text);
  }

  /** Starts and ends in code points. */
  private static int[] words(TextSplitter splitter, String text) {
    IntList all = new IntList();
    if (!text.isEmpty()) {
      all.add(0);
      all.add(text.length());
    }
    int[] words = splitter.split(text, all).toArray();
    int chars = 0;
    int codePoints = 0;
    for (int i = 0; i < words.length; i++) {
      codePoints += text.codePointCount(chars, words[i]);
      chars = words[i];
      words[i] = codePoints;
    }
    return words;
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '~',
      quoteCharacter = '`',
      value = {
        "\\w+ ~ \\w",
        "\\bfoo ~ \\b",
        "\\h ~ \\h",
        "\\Aa ~ \\A",
        "a\\ ~ backslash at the end",
        "\\u0041 ~ \\u",
        "\\x41 ~ \\x",
        "\\1 ~ \\1",
        "\\p{Han} ~ \\p{Han}",
        "\\p{^L} ~ \\p{^L}",
        "\\pL ~ \\p{}",
        "\\p{L ~ \\p{}",
        "\\X ~ \\X",
        "\\é ~ \\é",
        "^a ~ '^'",
        "a$ ~ '$'",
        "a.b ~ '.'",
        "*a ~ '*'",
        "a|+ ~ '+'",
        "a} ~ '}'",
        "a] ~ ']'",
        "a{,3} ~ interval",
        "a{3 ~ interval",
        "a{99999} ~ interval",
        "a{2}+ ~ behind a quantifier",
        "a{2}? ~ behind a quantifier",
        "a*** ~ behind a quantifier",
        "a??? ~ behind a quantifier",
        "(ab)+ ~ repeated group",
        "(?:ab)* ~ repeated group",
        "(ab){2} ~ repeated group",
        "(?=a)? ~ repeated group",
        "(a)?? ~ behind a quantifier",
        "(?<=a)b ~ group of this kind",
        "(?<n>a) ~ group of this kind",
        "(?>a) ~ group of this kind",
        "(?i)a ~ group of this kind",
        "(?x:a) ~ group of this kind",
        "(a ~ unclosed group",
        "a) ~ unopened",
        "[a ~ unclosed class",
        "[]a] ~ ']' in a class",
        "[] ~ ']' in a class",
        "[a[b]] ~ '[' in a class",
        "[[:alpha:]] ~ '[' in a class",
        "[a&&b] ~ '&' in a class",
        "[\\s-z] ~ this range",
        "[a-\\s] ~ this range",
        "[z-a] ~ this range",
        "[--a] ~ this range",
        "[a-- ] ~ this range",
        "[\\w] ~ \\w",
        "(?i:é) ~ beyond ASCII",
        "(?i:[^a]) ~ negated class",
        "(?i:\\s) ~ case-insensitive",
        "(?i:[\\s]) ~ case-insensitive",
        "(?i:[a-z]) ~ a range",
        "(?i:a(b)) ~ a group in a case-insensitive",
        "(?i:lost) ~ ligature",
        "(?i:Fine) ~ ligature",
        "(?i:off) ~ ligature",
        "(?i:fl) ~ ligature",
        "(?i:SS) ~ ligature"
      })
  void refusesByName(String pattern, String named) {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> OnigurumaSyntax.compile(pattern));
    assertTrue(e.getMessage().contains(named), e.getMessage());
    assertTrue(e.getMessage().endsWith("which is not supported"), e.getMessage());
  }

  @Test
  void refusesDeepNesting() {
    String deep = "(".repeat(60) + "a" + ")".repeat(60);
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> OnigurumaSyntax.compile(deep));
    assertTrue(e.getMessage().contains("nested groups"), e.getMessage());
    assertEquals("(?:[\\x{61}])", OnigurumaSyntax.compile("(a)").pattern());
  }
}
