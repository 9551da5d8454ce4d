// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import io.engram.vocab.JtokkitTokenizer;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class SmallVocabularyTest {
  private static final String TEXT =
      "the cat and the dog and the cat sat on the mat; Horses were tamed, horses were not.";

  private final SmallVocabulary vocabulary = SmallVocabulary.choose(List.of(TEXT), 8);

  @Test
  void everyTextComesBack() {
    RandomGenerator random = Seeds.random("everyTextComesBack");
    for (int run = 0; run < 300; run++) {
      StringBuilder text = new StringBuilder();
      int limit = run % 3 == 0 ? 0x80 : run % 3 == 1 ? 0x3000 : Character.MAX_CODE_POINT + 1;
      for (int length = random.nextInt(60); length > 0; length--) {
        int c = random.nextInt(limit);
        text.appendCodePoint(c >= 0xD800 && c < 0xE000 ? ' ' : c);
      }
      int[] ids = vocabulary.encode(text.toString());
      assertEquals(text.toString(), vocabulary.decode(ids));
      assertTrue(Arrays.stream(ids).allMatch(id -> id >= 0 && id < vocabulary.size()));
    }
  }

  @Test
  void theMostFrequentTokensAreKept() {
    Vocabulary large = JtokkitTokenizer.cl100kBase().vocabulary();
    int[] ids = JtokkitTokenizer.cl100kBase().encode(TEXT);
    int[] counts = new int[large.size()];
    for (int id : ids) {
      counts[id]++;
    }
    assertEquals(256 + 8, vocabulary.size());
    int before = Integer.MAX_VALUE;
    for (int id = 256; id < 256 + 6; id++) {
      byte[] bytes = vocabulary.bytes(id);
      int count = 0;
      for (int largeId : ids) {
        count += Arrays.equals(bytes, large.bytes(largeId)) ? 1 : 0;
      }
      assertTrue(count > 0 && count <= before, "id " + id + " occurs " + count + " times");
      before = count;
    }
    assertEquals(" the", vocabulary.decode(256));
    // The first merges that are not among them already.
    assertEquals(large.text(256), vocabulary.decode(262));
    assertEquals(large.text(257), vocabulary.decode(263));
  }

  @Test
  void aRareTokenIsSpeltWithTheLongestThatFit() {
    SmallVocabulary two = SmallVocabulary.choose(List.of("able able able un un un"), 8);
    int[] ids = two.encode("able");
    assertEquals(1, ids.length);
    // " unable" is one token of the large vocabulary, which the text has not.
    assertEquals(1, JtokkitTokenizer.cl100kBase().encode(" unable").length);
    assertArrayEquals(new String[] {" un", "able"}, pieces(two, " unable"));
  }

  private static String[] pieces(SmallVocabulary vocabulary, String text) {
    return Arrays.stream(vocabulary.encode(text))
        .mapToObj(vocabulary::decode)
        .toArray(String[]::new);
  }

  @Test
  void itIsReadAsItWasWritten(@TempDir Path directory) throws IOException {
    SmallVocabulary read = SmallVocabulary.fromBytes(vocabulary.toBytes());
    assertArrayEquals(vocabulary.toBytes(), read.toBytes());
    assertArrayEquals(vocabulary.encode(TEXT + "\u20AC"), read.encode(TEXT + "\u20AC"));
    // The library reads it as the tiktoken file that it is.
    Path file = Files.write(directory.resolve("vocabulary.tiktoken"), vocabulary.toBytes());
    assertEquals(TokenMap.compress(Vocabulary.readTiktoken(file)), vocabulary.tokenMap());
    assertTrue(vocabulary.tokenMap().compressedSize() < vocabulary.size());
  }

  @Test
  void whatIsDamagedIsNamed() {
    String lines = new String(vocabulary.toBytes(), StandardCharsets.US_ASCII);
    assertNamed("line 3", lines.replace("Ag== 2\n", "Ag== 3\n"));
    assertNamed("id 65", lines.replace("QQ== 65\n", "Qg== 65\n"));
    assertNamed("id 0", "");
    assertNamed("the same", lines + "QQ== " + vocabulary.size() + "\n");
    assertThrows(IllegalArgumentException.class, () -> SmallVocabulary.choose(List.of(), -1));
  }

  private static void assertNamed(String what, String lines) {
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class,
            () -> SmallVocabulary.fromBytes(lines.getBytes(StandardCharsets.US_ASCII)));
    assertTrue(e.getMessage().contains(what), e.getMessage());
  }
}
