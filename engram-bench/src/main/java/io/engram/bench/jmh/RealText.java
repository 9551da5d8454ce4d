// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.command.DemoText;
import io.engram.vocab.JtokkitTokenizer;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;

/**
 * The ids of a real text, for everything that depends on which ids repeat: prose of the JDK's own
 * documentation in the encoding cl100k_base. Arrays are not copied.
 */
final class RealText {
  /** English has some four to five characters a token; markup and code have fewer. */
  private static final int CHARACTERS_PER_TOKEN = 8;

  private final TokenMap map;
  private final int[] raw;

  private RealText(TokenMap map, int[] raw) {
    this.map = map;
    this.raw = raw;
  }

  static RealText of(int tokens) {
    JtokkitTokenizer tokenizer = JtokkitTokenizer.cl100kBase();
    try {
      int[] all = tokenizer.encode(DemoText.ofJdk(tokens * CHARACTERS_PER_TOKEN).text());
      if (all.length < tokens) {
        throw new IllegalStateException(
            "the text of this JDK has " + all.length + " tokens, expected " + tokens);
      }
      return new RealText(TokenMap.compress(tokenizer.vocabulary()), Arrays.copyOf(all, tokens));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** The token map of the encoding. */
  TokenMap map() {
    return map;
  }

  /** The ids of the encoding. */
  int[] raw() {
    return raw;
  }

  /** The same, compressed. */
  int[] compressed() {
    return map.map(raw);
  }
}
