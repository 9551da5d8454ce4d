// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.vocab.JtokkitTokenizer;
import io.engram.vocab.TokenMap;

/**
 * From a text to row ids, without any table: what a planner or a prefetcher on another machine
 * needs.
 */
public final class TextToRowIds {
  private TextToRowIds() {}

  /**
   * Prints the row ids of two spellings of one sentence. Compression makes most of them the same.
   *
   * @param arguments not used
   */
  public static void main(String[] arguments) {
    JtokkitTokenizer tokenizer = JtokkitTokenizer.cl100kBase();
    TokenMap map = TokenMap.compress(tokenizer.vocabulary());
    System.out.println(map.size() + " ids become " + map.compressedSize());

    EngramConfig config = EngramConfig.paper().vocabulary(map.size(), map.compressedSize()).build();
    HashLayout layout = HashLayout.derive(config.hashing()).getFirst();
    NgramHasher hasher = new NgramHasher(layout, WindowRule.padded(map.get(config.fillTokenId())));

    long[] lower = hasher.hash(map.map(tokenizer.encode("the quick brown fox")));
    long[] title = hasher.hash(map.map(tokenizer.encode("The Quick Brown Fox")));
    int columns = hasher.columns();
    for (int p = 0; p < lower.length / columns; p++) {
      int same = 0;
      for (int c = 0; c < columns; c++) {
        same += lower[p * columns + c] == title[p * columns + c] ? 1 : 0;
      }
      System.out.println("position " + p + ": " + same + " of " + columns + " row ids are shared");
    }
  }
}
