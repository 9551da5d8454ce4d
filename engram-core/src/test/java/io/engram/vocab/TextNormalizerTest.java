// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.text.Normalizer;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class TextNormalizerTest {
  @ParameterizedTest
  @CsvSource({
    "'', ''",
    "' ', ' '",
    "'\t\r\n', ' '",
    "' The ', the",
    "'a \t b', a b",
    "THÉ, the",
    "ﬁ, fi",
    "'\u00B4', ' '",
    "'\u0301', ''",
    "'ΣΑΣ', σασ",
    "'\u0130', i",
    "'\uE000', ' '",
    "'\uE000a', ' a'",
    "'\u0085x\u0085', x",
    "'\u001Cx', '\u001Cx'",
    "'\u200B', '\u200B'",
    "'\uA7CE', '\uA7CF'",
    "'\u1CF2', ''",
  })
  void followsTheSpecification(String text, String normal) {
    assertEquals(normal, TextNormalizer.normalize(text));
  }

  @ParameterizedTest
  @ValueSource(strings = {"\uD800", "a\uDC00b", "\uDC00\uD800", "ab\uD83D"})
  void refusesTextThatIsNotUnicode(String text) {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> TextNormalizer.normalize(text));
    assertTrue(e.getMessage().contains("unpaired surrogate U+D"), e.getMessage());
  }

  /** Each between two letters, many to a call: what is left for the ends of a text is below. */
  @Test
  void equalsTheReferenceOnEveryCodePoint() {
    int inOneCall = 64;
    try (Reference reference = Reference.compressionNormalizer()) {
      for (int first = 0; first <= Character.MAX_CODE_POINT; first += inOneCall) {
        StringBuilder text = new StringBuilder();
        for (int c = first; c < first + inOneCall; c++) {
          if (!isSurrogate(c)) {
            text.append('q').appendCodePoint(c);
          }
        }
        compare(reference, text.append('q').toString());
      }
    }
  }

  /** Only white space is treated differently at the ends, and all of it lies in these blocks. */
  @Test
  void equalsTheReferenceOnSingleCodePoints() {
    try (Reference reference = Reference.compressionNormalizer()) {
      for (int c = 0; c < 0x3100; c++) {
        compare(reference, Character.toString(c));
      }
      for (int c = 0xE000; c < 0xE010; c++) {
        compare(reference, Character.toString(c));
      }
      for (int c = 0xF900; c < 0x10000; c++) {
        compare(reference, Character.toString(c));
      }
    }
  }

  @Tag("long")
  @Test
  void equalsTheReferenceOnEverySingleCodePoint() {
    try (Reference reference = Reference.compressionNormalizer()) {
      for (int c = 0; c <= Character.MAX_CODE_POINT; c++) {
        if (!isSurrogate(c)) {
          compare(reference, Character.toString(c));
        }
      }
    }
  }

  private static boolean isSurrogate(int codePoint) {
    return codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE;
  }

  @Test
  void equalsTheReferenceOnRandomText() {
    compareRandom("equalsTheReferenceOnRandomText", 20_000);
  }

  @Tag("long")
  @Test
  void equalsTheReferenceOnHalfAMillionTexts() {
    compareRandom("equalsTheReferenceOnHalfAMillionTexts", 491_520);
  }

  private static void compareRandom(String test, int count) {
    RandomGenerator random = Seeds.random(test);
    try (Reference reference = Reference.compressionNormalizer()) {
      for (int i = 0; i < count; i++) {
        compare(reference, RandomText.next(random, 12));
      }
    }
  }

  private static void compare(Reference reference, String text) {
    String expected = reference.textOf(text);
    String actual = TextNormalizer.normalize(text);
    if (!expected.equals(actual)) {
      assertEquals(RandomText.show(expected), RandomText.show(actual), () -> RandomText.show(text));
    }
  }

  /** What the frozen tables are for: the JDK's own ones differ from the reference. */
  @ParameterizedTest
  @ValueSource(ints = {0x10781, 0x1E030, 0x08D3, 0x32FF})
  void theJdkAloneDiffers(int young) {
    String text = Character.toString(young);
    assertEquals(text, TextNormalizer.normalize(text));
    String jdk = Normalizer.normalize(text, Normalizer.Form.NFKD).replaceAll("\\p{M}", "");
    assertNotEquals(text, jdk);
  }
}
