// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class CorpusTest {
  private static final SmallVocabulary BYTES = SmallVocabulary.choose(List.of(), 0);

  private static Corpus counting(int training) {
    return Corpus.ofTokens(
        BYTES, "numbers", IntStream.range(0, training).toArray(), IntStream.range(0, 50).toArray());
  }

  @Test
  void aBatchIsAFunctionOfSeedAndStep() {
    Corpus one = counting(1_000);
    int[][][] inOrder = new int[40][][];
    for (int step = 0; step < inOrder.length; step++) {
      inOrder[step] = one.batch(7, step, 3, 8);
    }
    Corpus other = counting(1_000);
    for (int step = inOrder.length - 1; step >= 0; step--) {
      assertTrue(Arrays.deepEquals(inOrder[step], other.batch(7, step, 3, 8)));
    }
    assertFalse(Arrays.deepEquals(inOrder[0], other.batch(8, 0, 3, 8)));
  }

  @Test
  void anEpochReadsEachWindowOnceAndEpochsDiffer() {
    Corpus corpus = counting(1_000);
    int context = 10;
    int windows = 999 / context - 1;
    List<Set<Integer>> starts = List.of(new HashSet<>(), new HashSet<>());
    List<Integer> first = new ArrayList<>();
    for (int epoch = 0; epoch < 2; epoch++) {
      for (int w = 0; w < windows; w++) {
        int[] window = corpus.batch(3, (long) epoch * windows + w, 1, context)[0];
        assertEquals(context + 1, window.length);
        for (int t = 1; t <= context; t++) {
          assertEquals(window[0] + t, window[t]);
        }
        assertTrue(starts.get(epoch).add(window[0]), "read twice: " + window[0]);
        if (w == 0) {
          first.add(window[0]);
        }
      }
      assertEquals(windows, starts.get(epoch).size());
    }
    assertNotEquals(first.get(0), first.get(1));
  }

  @Test
  void heldOutWindowsAreSpreadAndInOrder() {
    List<int[][]> batches = counting(100).heldOutBatches(4, 3, 5);
    assertEquals(List.of(3, 1), batches.stream().map(b -> b.length).toList());
    assertArrayEquals(new int[] {0, 1, 2, 3, 4, 5}, batches.get(0)[0]);
    assertEquals(30, batches.get(1)[0][0]);
    assertEquals(9, counting(100).heldOutBatches(1000, 9, 5).getFirst().length);
  }

  @Test
  void tooLittleTextIsRefused() {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> counting(20).batch(1, 0, 1, 10));
    assertTrue(e.getMessage().contains("expected at least 21"), e.getMessage());
    assertEquals(1, counting(21).batch(1, 0, 1, 10).length);
    assertThrows(IllegalArgumentException.class, () -> counting(90).heldOutBatches(1, 1, 50));
    assertThrows(IllegalArgumentException.class, () -> counting(90).batch(1, -1, 1, 10));
  }

  @Test
  void documentsAreHeldOutWhole(@TempDir Path directory) throws IOException {
    for (int d = 0; d < 40; d++) {
      Files.writeString(directory.resolve("doc" + d), ("<" + (char) ('0' + d) + ">").repeat(50));
    }
    Files.write(directory.resolve("picture"), new byte[] {(byte) 0x89, 0x50, (byte) 0xFF});
    Files.write(directory.resolve("zeros"), new byte[100]);
    SourceText text = SourceText.of(directory, Long.MAX_VALUE);
    assertEquals(40, text.documents().size());
    Corpus corpus = Corpus.of(text, BYTES);
    assertEquals(2 * 151, corpus.heldOutTokens());
    assertEquals(38 * 151, corpus.trainingTokens());
    int[] held = corpus.heldOut(1_000);
    assertEquals(SmallVocabulary.BOUNDARY, held[0]);
    assertEquals(SmallVocabulary.BOUNDARY, held[151]);
    int marker = held[2];
    for (long step = 0; step < 80; step++) {
      for (int id : corpus.batch(1, step, 1, 100)[0]) {
        assertNotEquals(marker, id);
      }
    }
    assertEquals(10, SourceText.of(directory, 1_500).documents().size());
  }

  @Test
  void aFileIsCutAtLineEnds(@TempDir Path directory) throws IOException {
    String lines = "a line of the text\n".repeat(400) + "and no end";
    Path file = Files.writeString(directory.resolve("text"), lines);
    SourceText text = SourceText.of(file, Long.MAX_VALUE);
    assertEquals(lines.length(), text.characters());
    assertTrue(text.documents().size() > 30, text.documents().size() + " pieces");
    assertTrue(
        text.documents().stream()
            .allMatch(d -> d.text().startsWith("a line") || d.text().startsWith("and")));
    assertTrue(SourceText.of(file, 1_000).characters() < 1_100);
    Files.write(file, "\u00E9".getBytes(StandardCharsets.ISO_8859_1));
    assertTrue(
        assertThrows(IOException.class, () -> SourceText.of(file, 10))
            .getMessage()
            .contains("UTF-8"));
    Files.writeString(file, "one line");
    assertThrows(IllegalArgumentException.class, () -> SourceText.of(file, 10));
  }

  @Test
  void everyJdkBringsAText() throws IOException {
    SourceText text = SourceText.ofJdk(200_000);
    assertTrue(text.characters() > 20_000, text.origin());
    assertEquals(text, SourceText.ofJdk(200_000));
    Corpus corpus = Corpus.of(text, 500);
    assertTrue(corpus.vocabulary().size() <= 756);
    assertTrue(
        corpus.heldOutTokens() > 100 && corpus.trainingTokens() > 8 * corpus.heldOutTokens());
  }
}
