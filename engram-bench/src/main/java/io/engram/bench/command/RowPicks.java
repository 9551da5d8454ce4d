// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/** Which rows a measurement asks for. */
interface RowPicks {
  /** What is asked for, for people. */
  String description();

  /**
   * Row ids that no earlier call with another seed has given, but by chance.
   *
   * @param seed decides them
   * @param count how many
   */
  long[] rows(long seed, int count);

  /** Every row equally often. */
  static RowPicks uniform(long rows) {
    return new Drawn("uniform row ids", random -> random.nextLong(rows));
  }

  /**
   * Rank r about in proportion to 1/r, ranks scattered over the table: frequencies of n-grams are
   * near that.
   */
  static RowPicks zipf(long rows) {
    double log = Math.log(rows + 1.0);
    return new Drawn(
        "row ids by Zipf's law, exponent 1",
        random -> {
          long rank = Math.min(rows, (long) Math.exp(random.nextDouble() * log));
          return Math.floorMod(Math.multiplyHigh(rank * 0x9E3779B97F4A7C15L, rows), rows);
        });
  }

  /** Rows that the n-grams of a text hash to, orders 2 and 3 with 8 heads, from some place on. */
  static RowPicks text(Path file, String tokenizerName, long rows) throws IOException {
    Tokenizer tokenizer = TokenizerSource.tokenizer(tokenizerName);
    int[] ids = tokenizer.encode(DemoText.of(file).text());
    TokenMap map = TokenMap.compress(tokenizer.vocabulary());
    int columns = EngramConfig.paper().build().hashing().columns();
    // Moduli are primes from here upwards, sixteen of them.
    long slots = (long) (rows / (double) columns * 0.98) - 1000;
    if (slots < 2) {
      throw new IllegalArgumentException(
          "a table of " + rows + " rows is too small for the n-grams of a text");
    }
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(map.size(), map.compressedSize())
            .layers(1)
            .slotsPerHead(slots)
            .build();
    HashLayout layout = HashLayout.derive(config.hashing()).getFirst();
    if (layout.rowCount() > rows || ids.length == 0) {
      throw new IllegalArgumentException(file + " has no tokens that fit " + rows + " rows");
    }
    int[] hashed = new int[ids.length];
    map.map(ids, 0, ids.length, hashed, 0);
    long[] all = new long[Math.multiplyExact(ids.length, columns)];
    new NgramHasher(
            layout,
            new WindowRule(map.get(config.fillTokenId()), WindowRule.NO_BOUNDARY, config.dead()))
        .hash(hashed, 0, ids.length, Lookback.start(), all, 0);
    String what =
        "row ids of %s, %,d tokens by %s, 16 a token".formatted(file, ids.length, tokenizerName);
    return new RowPicks() {
      @Override
      public String description() {
        return what;
      }

      @Override
      public long[] rows(long seed, int count) {
        int from = RandomGeneratorFactory.of("L64X128MixRandom").create(seed).nextInt(all.length);
        long[] picked = new long[count];
        for (int i = 0; i < count; i++) {
          picked[i] = all[(int) (((long) from + i) % all.length)];
        }
        return picked;
      }
    };
  }

  /**
   * Rows drawn one by one.
   *
   * @param description what, for people
   * @param draw one row
   */
  record Drawn(String description, java.util.function.ToLongFunction<RandomGenerator> draw)
      implements RowPicks {
    @Override
    public long[] rows(long seed, int count) {
      RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
      long[] picked = new long[count];
      for (int i = 0; i < count; i++) {
        picked[i] = draw.applyAsLong(random);
      }
      return picked;
    }
  }
}
