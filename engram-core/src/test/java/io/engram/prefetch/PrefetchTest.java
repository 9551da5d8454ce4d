// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.EngramMemory;
import io.engram.MemoryOptions;
import io.engram.hash.Lookback;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What is prefetched is what a plain lookup gives. */
@Tag("once")
@Timeout(60)
class PrefetchTest {
  private static final PrefetchOptions SMALL_SLICES = PrefetchOptions.defaults().withSliceRows(13);

  @ParameterizedTest
  @CsvSource({
    "v41_mini,0,64", "v41_mini,1,64", "v41_mini,3,64", "qwen_mini,0,64", "qwen_mini,2,64",
    "demo_mini,0,64", "demo_mini,2,64", "v41_mini,2,0", "qwen_mini,2,0", "demo_mini,2,0",
    "v41_mini,2,20", "qwen_mini,2,20", "demo_mini,2,20"
  })
  void rowsAreThoseOfALookup(String checkpoint, int workers, int stagingKib) {
    RandomGenerator random = Seeds.random("PrefetchTest.rowsAreThoseOfALookup " + checkpoint);
    PrefetchOptions options =
        SMALL_SLICES.withWorkers(workers).withStagingBytes((long) stagingKib << 10);
    try (Rig rig = new Rig(checkpoint, options)) {
      int[] tokens = rig.text(random, 700);
      Lookback past = Lookback.start();
      for (int at = 0; at < tokens.length; ) {
        int count = Math.min(random.nextInt(random.nextBoolean() ? 4 : 300), tokens.length - at);
        try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, at, count, past)) {
          assertEquals(count, retrieval.tokens());
          for (int layer : rig.layers) {
            assertArrayEquals(
                rig.expected(layer, tokens, at, count, past), rig.rows(retrieval, layer));
            // Asked for again, they are read again.
            assertArrayEquals(
                rig.expected(layer, tokens, at, count, past), Rig.floats(retrieval.rows(layer)));
          }
        }
        past = past.advance(tokens, at, count);
        at += count;
      }
      assertEquals(0, rig.prefetcher.statistics().stagingInUse());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void memoryPrefetchesForAllItsLayers(String checkpoint) {
    RandomGenerator random = Seeds.random("PrefetchTest.memoryPrefetches " + checkpoint);
    try (EngramMemory memory = EngramMemory.open(Golden.path(checkpoint))) {
      int[] tokens = random.ints(300, 0, memory.config().vocabularySize()).toArray();
      try (Retrieval retrieval = memory.prefetch(tokens, Lookback.start())) {
        for (int layer : memory.config().layerIds().reversed()) {
          assertArrayEquals(memory.lookup(layer, tokens), Rig.floats(retrieval.rows(layer)));
          assertSame(retrieval.rows(layer), retrieval.rows(layer));
        }
      }
      assertEquals(1, memory.statistics().prefetch().orElseThrow().retrievals());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void severalSequencesAreOneRetrieval(String checkpoint) {
    RandomGenerator random = Seeds.random("PrefetchTest.severalSequences " + checkpoint);
    for (int kib : new int[] {1024, 0}) {
      PrefetchOptions options = SMALL_SLICES.withStagingBytes((long) kib << 10);
      try (Rig rig = new Rig(checkpoint, options)) {
        int[] counts = {1, 0, 230, 1, 17, 1};
        int[] tokens = rig.text(random, Arrays.stream(counts).sum());
        List<Lookback> pasts = new ArrayList<>();
        for (int s = 0; s < counts.length; s++) {
          pasts.add(Lookback.start().advance(rig.tokens(random, random.nextInt(6))));
        }
        try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, counts, pasts)) {
          for (int layer : rig.layers) {
            float[] found = rig.rows(retrieval, layer);
            int at = 0;
            for (int s = 0; s < counts.length; s++) {
              float[] expected = rig.expected(layer, tokens, at, counts[s], pasts.get(s));
              int from = at * rig.memory.config().rowWidth();
              assertArrayEquals(
                  expected, Arrays.copyOfRange(found, from, from + expected.length), "seq " + s);
              at += counts[s];
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void longChunksWithoutRoomAreReadInRounds(String checkpoint) {
    RandomGenerator random = Seeds.random("PrefetchTest.longChunksWithoutRoom " + checkpoint);
    try (Rig rig = new Rig(checkpoint, SMALL_SLICES.withStagingBytes(1 << 14))) {
      int[] tokens = rig.text(random, 2500);
      Lookback past = Lookback.start().advance(rig.tokens(random, 3));
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, tokens.length, past)) {
        for (int layer : rig.layers) {
          rig.assertRows(retrieval, layer, tokens, past);
          assertEquals(1, rig.statistics(layer).synchronous());
          assertTrue(rig.stores.get(layer).reads() > 1);
        }
      }
    }
  }

  @Test
  void outputsMayBeBfloat16AndOfAnyKind() {
    RandomGenerator random = Seeds.random("PrefetchTest.outputsMayBe");
    for (String checkpoint : List.of("v41_mini", "qwen_mini", "demo_mini")) {
      try (Rig rig = new Rig(checkpoint, SMALL_SLICES);
          Arena arena = Arena.ofConfined()) {
        int[] tokens = rig.text(random, 90);
        int layer = rig.layers.getLast();
        int values = tokens.length * rig.memory.config().rowWidth();
        MemorySegment expected = arena.allocate(values * 2L);
        long[] rowIds = rig.memory.rowIds(layer, tokens);
        rig.memory.table(layer).gather(rowIds, 0, rowIds.length, expected, 0, Dtype.BF16);
        for (MemorySegment out :
            List.of(
                arena.allocate(values * 2L + 7), MemorySegment.ofArray(new byte[values * 2 + 7]))) {
          try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 90, Lookback.start())) {
            retrieval.rows(layer, out, 7, Dtype.BF16);
            assertEquals(-1, expected.mismatch(out.asSlice(7)));
          }
        }
      }
    }
  }

  @Test
  void draftedTokensAreDiscardedAndReissued() {
    RandomGenerator random = Seeds.random("PrefetchTest.draftedTokens");
    try (Rig rig = new Rig("v41_mini", SMALL_SLICES)) {
      int[] prompt = rig.tokens(random, 40);
      Lookback past = Lookback.start().advance(prompt);
      for (int round = 0; round < 100; round++) {
        int[] draft = rig.tokens(random, 5);
        int accepted = random.nextInt(5);
        try (Retrieval speculative = rig.prefetcher.prefetch(draft, 0, 5, past)) {
          rig.assertRows(speculative, rig.layers.getFirst(), draft, past);
        }
        Lookback rolledBack = past.advance(draft).rollBack(5 - accepted);
        int[] next = rig.tokens(random, 1);
        try (Retrieval retrieval = rig.prefetcher.prefetch(next, 0, 1, rolledBack)) {
          for (int layer : rig.layers) {
            rig.assertRows(retrieval, layer, next, past.advance(Arrays.copyOf(draft, accepted)));
          }
        }
        past = rolledBack.advance(next);
      }
    }
  }

  @Test
  void rowsAreReadOnceEachInAscendingOrder() {
    RandomGenerator random = Seeds.random("PrefetchTest.rowsAreReadOnce");
    for (int count : new int[] {1, 2, 255, 256, 257, 1000}) {
      try (Rig rig = new Rig("demo_mini", PrefetchOptions.defaults().withWorkers(0))) {
        int layer = rig.layers.getFirst();
        int[] tokens = rig.text(random, count);
        List<Long> read = new ArrayList<>();
        rig.stores
            .get(layer)
            .setHook((_, store, ids, from, n, out, at) -> {
              Arrays.stream(ids, from, from + n).forEach(read::add);
              store.read(ids, from, n, out, at);
            });
        try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, count, Lookback.start())) {
          retrieval.rows(layer);
        }
        long[] distinct =
            Arrays.stream(rig.memory.rowIds(layer, tokens)).sorted().distinct().toArray();
        assertArrayEquals(distinct, read.stream().mapToLong(Long::longValue).toArray());
        PrefetchStatistics.Layer statistics = rig.statistics(layer);
        int rowBytes = rig.memory.table(layer).store().rowBytes();
        long pages =
            Arrays.stream(distinct)
                .flatMap(id ->
                    Arrays.stream(
                        new long[] {(id * rowBytes) >> 12, (id * rowBytes + rowBytes - 1) >> 12}))
                .distinct()
                .count();
        assertEquals(distinct.length, statistics.distinctRows());
        assertEquals((long) distinct.length * rowBytes, statistics.stagedBytes());
        assertEquals(pages, statistics.distinctPages());
        assertEquals((long) count * rig.memory.layout(layer).columns(), statistics.rows());
      }
    }
  }

  @Test
  void wrongArgumentsAreRefusedWhenPrefetching() {
    for (int kib : new int[] {1024, 0}) {
      PrefetchOptions options = SMALL_SLICES.withStagingBytes((long) kib << 10);
      try (Rig rig = new Rig("demo_mini", options)) {
        Prefetcher p = rig.prefetcher;
        Lookback start = Lookback.start();
        int size = rig.memory.config().vocabularySize();
        assertThrows(
            IllegalArgumentException.class, () -> p.prefetch(new int[] {1, size}, 0, 2, start));
        assertThrows(
            IllegalArgumentException.class, () -> p.prefetch(new int[] {1, -1}, 0, 2, start));
        assertThrows(
            IndexOutOfBoundsException.class, () -> p.prefetch(new int[] {1, 2}, 1, 2, start));
        assertThrows(
            IllegalArgumentException.class,
            () -> p.prefetch(new int[] {1}, 0, 1, Lookback.start(1).advance(new int[] {1, 2, 3})));
        assertThrows(
            IllegalArgumentException.class,
            () -> p.prefetch(new int[] {1, 2}, new int[] {1}, List.of(start)));
        assertThrows(
            IllegalArgumentException.class,
            () -> p.prefetch(new int[] {1, 2}, new int[] {3, -1}, List.of(start, start)));
        assertThrows(
            IllegalArgumentException.class,
            () -> p.prefetch(new int[] {1, 2}, new int[] {1, 1}, List.of(start)));
        assertEquals(0, p.statistics().open());
        assertEquals(0, p.statistics().stagingInUse());
        try (Retrieval retrieval = p.prefetch(new int[] {1, 2}, 0, 2, start)) {
          assertEquals(
              "layer 3 has no memory; layers [1, 15] have one",
              assertThrows(IllegalArgumentException.class, () -> retrieval.rows(3)).getMessage());
          long bytes = 2L * rig.memory.config().rowWidth() * 4;
          MemorySegment small = Arena.ofAuto().allocate(bytes - 1);
          assertThrows(
              IllegalArgumentException.class, () -> retrieval.rows(1, small, 0, Dtype.F32));
          MemorySegment readOnly = Arena.ofAuto().allocate(bytes).asReadOnly();
          assertThrows(
              IllegalArgumentException.class, () -> retrieval.rows(1, readOnly, 0, Dtype.F32));
          assertThrows(
              IllegalArgumentException.class,
              () -> retrieval.rows(1, Arena.ofAuto().allocate(bytes), 0, Dtype.F16));
          // A refused call consumes nothing.
          rig.assertRows(retrieval, 1, new int[] {1, 2}, start);
          assertEquals(kib == 0 ? 1 : 0, rig.statistics(1).synchronous());
        }
      }
    }
  }

  @Test
  void emptyChunksAreNoError() {
    try (Rig rig = new Rig("v41_mini", PrefetchOptions.defaults());
        Retrieval retrieval = rig.prefetcher.prefetch(new int[0], 0, 0, Lookback.start())) {
      assertEquals(0, retrieval.tokens());
      assertTrue(retrieval.isReady(1));
      assertEquals(0, retrieval.rows(1).byteSize());
    }
  }

  @Test
  void optionsAreRefusedOutOfRange() {
    PrefetchOptions o = PrefetchOptions.defaults();
    assertThrows(IllegalArgumentException.class, () -> o.withStagingBytes(-1));
    assertThrows(IllegalArgumentException.class, () -> o.withWorkers(-1));
    assertThrows(IllegalArgumentException.class, () -> o.withSliceRows(0));
    assertThrows(IllegalArgumentException.class, () -> o.withTimeToLayer(1, Duration.ofNanos(-1)));
    MemoryOptions wrong =
        MemoryOptions.builder().prefetch(o.withTimeToLayer(2, Duration.ZERO)).build();
    assertThrows(
        IllegalArgumentException.class,
        () -> EngramMemory.open(Golden.path("v41_mini"), wrong).close());
    MemoryOptions few = MemoryOptions.builder().prefetch(o.withStagingBytes(1 << 16)).build();
    try (EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"), few)) {
      memory.prefetch(new int[] {1, 2}, Lookback.start()).close();
      assertEquals(1 << 16, memory.statistics().prefetch().orElseThrow().stagingBytes());
    }
  }

  @Test
  void rowsOutliveTheirRetrieval() {
    try (Rig rig = new Rig("v41_mini", PrefetchOptions.defaults())) {
      int[] tokens = {3, 1, 4, 1, 5};
      MemorySegment rows;
      try (Retrieval retrieval = rig.prefetcher.prefetch(tokens, 0, 5, Lookback.start())) {
        rows = retrieval.rows(1);
      }
      assertFalse(rows.isReadOnly());
      for (int i = 0; i < 20; i++) {
        try (Retrieval other = rig.prefetcher.prefetch(new int[] {i}, 0, 1, Lookback.start())) {
          other.rows(1);
        }
      }
      assertArrayEquals(
          rig.expected(1, tokens, 0, 5, Lookback.start()),
          rows.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
    }
  }
}
