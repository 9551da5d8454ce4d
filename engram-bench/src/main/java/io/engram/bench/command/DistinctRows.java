// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.vocab.TokenMap;
import java.util.Arrays;

/** How many different rows the chunks of a text ask for. */
final class DistinctRows {
  private DistinctRows() {}

  /**
   * Different rows of each chunk over rows asked for, all chunks and layers together.
   *
   * @param config the configuration
   * @param map its token map
   * @param ids raw ids of the text
   * @param chunkTokens tokens of a chunk
   * @return more than 0, at most 1
   */
  static double share(EngramConfig config, TokenMap map, int[] ids, int chunkTokens) {
    WindowRule window =
        new WindowRule(
            map.get(config.fillTokenId()),
            config.boundaryTokenId() == WindowRule.NO_BOUNDARY
                ? WindowRule.NO_BOUNDARY
                : map.get(config.boundaryTokenId()),
            config.dead());
    int[] hashed = new int[ids.length];
    map.map(ids, 0, ids.length, hashed, 0);
    long asked = 0;
    long distinct = 0;
    for (HashLayout layout : HashLayout.derive(config.hashing())) {
      NgramHasher hasher = new NgramHasher(layout, window);
      long[] rows = new long[Math.multiplyExact(ids.length, layout.columns())];
      hasher.hash(hashed, 0, ids.length, Lookback.start(), rows, 0);
      asked += rows.length;
      int perChunk = Math.multiplyExact(chunkTokens, layout.columns());
      for (int from = 0; from < rows.length; from += perChunk) {
        long[] chunk = Arrays.copyOfRange(rows, from, Math.min(rows.length, from + perChunk));
        Arrays.sort(chunk);
        for (int i = 0; i < chunk.length; i++) {
          distinct += i == 0 || chunk[i] != chunk[i - 1] ? 1 : 0;
        }
      }
    }
    return (double) distinct / asked;
  }

  /** The same tables, asked by another tokenizer: special ids that it lacks become its last. */
  static EngramConfig withVocabulary(EngramConfig config, TokenMap map) {
    HashScheme scheme = config.hashing();
    int last = map.size() - 1;
    boolean bounded = config.boundaryTokenId() != WindowRule.NO_BOUNDARY;
    return new EngramConfig(
        map.size(),
        config.compressed(),
        Math.min(config.fillTokenId(), last),
        bounded ? Math.min(config.boundaryTokenId(), last) : WindowRule.NO_BOUNDARY,
        config.dead(),
        new HashScheme(
            config.compressed() ? map.compressedSize() : map.size(),
            scheme.orders(),
            scheme.headsPerOrder(),
            scheme.slotsPerHead(),
            scheme.layerIds(),
            scheme.seed(),
            scheme.generator(),
            scheme.primeSearch(),
            scheme.rowAlignment()),
        config.rowFormat(),
        config.headDim(),
        config.gate(),
        config.conv());
  }
}
