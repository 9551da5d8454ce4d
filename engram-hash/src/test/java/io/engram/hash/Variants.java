// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import com.google.gson.JsonElement;
import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.IntBuffer;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.List;

/** The schemes of the published variants, and the golden sequences as this package takes them. */
final class Variants {
  /** Pad id of every DeepSeek variant, raw and compressed. */
  static final int PAD = 2;

  static final int QWEN_EOS = 248044;

  static final WindowRule V41_RULE =
      new WindowRule(PAD, WindowRule.NO_BOUNDARY, WindowRule.Dead.BLOCKS);

  static final HashScheme V41 = deepSeek(99_092, List.of(2, 3, 4), 8, 16_000_000, List.of(1, 14));

  static final HashScheme DEMO = deepSeek(98_627, List.of(2, 3), 8, 646_400, List.of(1, 15));

  static final HashScheme QWEN = qwen(248_320, 8, 20_000_000, List.of(2));

  private Variants() {}

  static HashScheme deepSeek(
      int vocabularySize, List<Integer> orders, int heads, long slots, List<Integer> layers) {
    return new HashScheme(
        vocabularySize,
        orders,
        heads,
        orders.stream().map(order -> slots).toList(),
        layers,
        0,
        Generator.NUMPY_PCG64,
        PrimeSearch.RESTART_PER_ORDER,
        1);
  }

  static HashScheme qwen(int vocabularySize, int heads, long slots, List<Integer> layers) {
    return new HashScheme(
        vocabularySize,
        List.of(2, 3),
        heads,
        List.of(slots, slots),
        layers,
        1234,
        Generator.SPLITMIX64,
        PrimeSearch.ONE_RUN,
        128);
  }

  static WindowRule qwenRule(int eos) {
    return new WindowRule(eos, eos, WindowRule.Dead.BOUNDARY);
  }

  static HashScheme withVocabulary(HashScheme scheme, int vocabularySize) {
    return new HashScheme(
        vocabularySize,
        scheme.orders(),
        scheme.headsPerOrder(),
        scheme.slotsPerHead(),
        scheme.layerIds(),
        scheme.seed(),
        scheme.generator(),
        scheme.primeSearch(),
        scheme.rowAlignment());
  }

  /** Compressed ids of the DeepSeek V3 vocabulary, which V4.1 continues: see the specification. */
  static int[] compress(int... rawIds) {
    IntBuffer map;
    try {
      map =
          ByteBuffer.wrap(Files.readAllBytes(Golden.path("demo_mini/token_map.i32le.bin")))
              .order(ByteOrder.LITTLE_ENDIAN)
              .asIntBuffer();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return Arrays.stream(rawIds)
        .map(id -> id < 128_000 ? map.get(id) : 97_812 + (id - 128_000))
        .toArray();
  }

  /** Puts DEAD where a golden mask is false; a mask of null leaves all as it is. */
  static int[] masked(int[] ids, JsonElement mask) {
    if (mask.isJsonNull()) {
      return ids;
    }
    boolean[] alive = Golden.booleans(mask);
    int[] masked = ids.clone();
    for (int i = 0; i < ids.length; i++) {
      masked[i] = alive[i] ? ids[i] : Lookback.DEAD;
    }
    return masked;
  }
}
