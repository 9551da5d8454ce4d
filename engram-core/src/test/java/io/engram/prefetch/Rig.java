// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.testkit.Golden;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;

/** A prefetcher over the tables of a small checkpoint, with hooks in between. */
final class Rig implements AutoCloseable {
  final EngramMemory memory;
  final Prefetcher prefetcher;
  final Map<Integer, HookedStore> stores = new LinkedHashMap<>();
  final List<Integer> layers;

  Rig(String checkpoint, PrefetchOptions options) {
    memory = EngramMemory.open(Golden.path(checkpoint));
    EngramConfig config = memory.config();
    layers = config.layerIds();
    int boundary = config.boundaryTokenId();
    WindowRule window =
        new WindowRule(
            memory.tokenMap().get(config.fillTokenId()),
            boundary == WindowRule.NO_BOUNDARY ? boundary : memory.tokenMap().get(boundary),
            config.dead());
    List<Prefetcher.Layer> all = new ArrayList<>();
    for (int layer : layers) {
      HookedStore store = new HookedStore(memory.table(layer).store());
      stores.put(layer, store);
      all.add(
          new Prefetcher.Layer(
              new NgramHasher(memory.layout(layer), window), memory.table(layer).over(store)));
    }
    prefetcher = new Prefetcher(memory.tokenMap(), all, options);
  }

  void hook(HookedStore.Hook hook) {
    stores.values().forEach(store -> store.setHook(hook));
  }

  int[] tokens(RandomGenerator random, int count) {
    return random.ints(count, 0, memory.config().vocabularySize()).toArray();
  }

  /** Tokens as in a text: few of them make up most of it. */
  int[] text(RandomGenerator random, int count) {
    int[] tokens = new int[count];
    for (int i = 0; i < count; i++) {
      double u = random.nextDouble();
      tokens[i] = (int) (u * u * u * u * memory.config().vocabularySize());
    }
    return tokens;
  }

  /** The rows by plain lookup, which has tests of its own. */
  float[] expected(int layer, int[] tokens, int from, int count, Lookback past) {
    float[] values = new float[count * memory.config().rowWidth()];
    memory.lookup(layer, tokens, from, count, past, MemorySegment.ofArray(values));
    return values;
  }

  float[] rows(Retrieval retrieval, int layer) {
    float[] values = new float[retrieval.tokens() * memory.config().rowWidth()];
    retrieval.rows(layer, MemorySegment.ofArray(values), 0, Dtype.F32);
    return values;
  }

  static float[] floats(MemorySegment segment) {
    return segment.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
  }

  void assertRows(Retrieval retrieval, int layer, int[] tokens, Lookback past) {
    assertArrayEquals(
        expected(layer, tokens, 0, tokens.length, past),
        rows(retrieval, layer),
        () -> "layer " + layer);
  }

  PrefetchStatistics.Layer statistics(int layer) {
    return prefetcher.statistics().layers().get(layer);
  }

  @Override
  public void close() {
    prefetcher.close();
    memory.close();
  }
}
