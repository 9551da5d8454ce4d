// SPDX-License-Identifier: Apache-2.0
package io.engram;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.engram.checkpoint.Check;
import io.engram.checkpoint.Checkpoint;
import io.engram.checkpoint.Safetensors;
import io.engram.hash.Lookback;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The three small checkpoints that the reference implementations wrote, opened in place. */
class GoldenCheckpointTest {
  private static final Arena ARENA = Arena.ofShared();

  @AfterAll
  static void close() {
    ARENA.close();
  }

  private static Safetensors expected(String checkpoint) {
    return Safetensors.open(Golden.path(checkpoint).resolve("expected.safetensors"), ARENA);
  }

  private static long[] longs(Safetensors file, String name) {
    return file.tensor(name).data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
  }

  private static int[] ints(Safetensors file, String name) {
    return Arrays.stream(longs(file, name)).mapToInt(Math::toIntExact).toArray();
  }

  private static long[] rowIds(EngramMemory memory, int layer, int[] ids, int sequences) {
    int tokens = ids.length / sequences;
    int columns = memory.config().hashing().columns();
    long[] all = new long[ids.length * columns];
    for (int s = 0; s < sequences; s++) {
      memory.rowIds(layer, ids, s * tokens, tokens, Lookback.start(), all, s * tokens * columns);
    }
    return all;
  }

  /** The last sequence of the released layout has two dead positions. */
  private static int[] masked(Safetensors file) {
    int[] ids = ints(file, "input_ids");
    byte[] mask = file.tensor("mask").data().toArray(ValueLayout.JAVA_BYTE);
    for (int i = 0; i < ids.length; i++) {
      ids[i] = mask[i] == 0 ? Lookback.DEAD : ids[i];
    }
    return ids;
  }

  @Test
  void fusedFp8LayoutGivesItsTokenMapRowIdsAndRows() {
    Safetensors expected = expected("v41_mini");
    try (EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"))) {
      assertArrayEquals(ints(expected, "token_map"), memory.tokenMap().toArray());
      int[] ids = masked(expected);
      int columns = memory.config().hashing().columns();
      long[] both = longs(expected, "row_ids");
      long[] multipliers = longs(expected, "multipliers");
      for (int l = 0; l < 2; l++) {
        int layer = memory.config().layerIds().get(l);
        assertArrayEquals(
            Arrays.copyOfRange(multipliers, l * 4, l * 4 + 4), memory.layout(layer).multipliers());
        long[] found = rowIds(memory, layer, ids, 2);
        for (int p = 0; p < ids.length; p++) {
          int at = (p * 2 + l) * columns;
          assertArrayEquals(
              Arrays.copyOfRange(both, at, at + columns),
              Arrays.copyOfRange(found, p * columns, (p + 1) * columns),
              "layer " + layer + " position " + p);
        }
        short[] bf16 =
            expected.tensor("L" + layer + ".rows").data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
        float[] rows = memory.table(layer).gather(found);
        for (int i = 0; i < bf16.length; i++) {
          assertEquals(Float.intBitsToFloat(bf16[i] << 16), rows[i], "value " + i);
        }
      }
    }
  }

  @Test
  void splitTableLayoutGivesItsMultipliersAndRowIds() {
    Safetensors expected = expected("qwen_mini");
    try (EngramMemory memory = EngramMemory.open(Golden.path("qwen_mini"))) {
      for (int layer : new int[] {1, 3}) {
        assertArrayEquals(
            longs(expected, "L" + layer + ".multipliers"), memory.layout(layer).multipliers());
        assertArrayEquals(
            longs(expected, "L" + layer + ".row_ids"),
            rowIds(memory, layer, ints(expected, "input_ids"), 2));
      }
    }
  }

  @Test
  void modulesLayoutGivesItsPrimesMultipliersAndRowIds() {
    Safetensors expected = expected("demo_mini");
    try (EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"))) {
      for (int layer : new int[] {1, 15}) {
        String l = "L" + layer;
        assertArrayEquals(longs(expected, l + ".primes"), memory.layout(layer).moduli());
        assertArrayEquals(longs(expected, l + ".multipliers"), memory.layout(layer).multipliers());
        assertArrayEquals(
            longs(expected, l + ".row_ids"), rowIds(memory, layer, ints(expected, "input_ids"), 2));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void everyCheckHolds(String name) {
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path(name))) {
      for (Check check : checkpoint.check(checkpoint.tokenMap())) {
        assertEquals(true, check.holds(), check.toString());
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void anyChunkingGivesTheSameRowsAndALostLookbackDoesNot(String name) {
    RandomGenerator random = Seeds.random("anyChunkingGivesTheSameRows " + name);
    try (EngramMemory memory = EngramMemory.open(Golden.path(name))) {
      int layer = memory.config().layerIds().getLast();
      int columns = memory.config().hashing().columns();
      int[] ids =
          IntStream.range(0, 200)
              .map(i -> random.nextInt(memory.config().vocabularySize()))
              .toArray();
      long[] whole = memory.rowIds(layer, ids);
      for (int round = 0; round < 20; round++) {
        long[] cut = new long[whole.length];
        Lookback past = Lookback.start();
        long[] forgetful = new long[whole.length];
        for (int at = 0; at < ids.length; ) {
          int count = Math.min(1 + random.nextInt(60), ids.length - at);
          memory.rowIds(layer, ids, at, count, past, cut, at * columns);
          memory.rowIds(layer, ids, at, count, Lookback.start(), forgetful, at * columns);
          past = past.advance(ids, at, count);
          at += count;
        }
        assertArrayEquals(whole, cut);
        assertFalse(Arrays.equals(whole, forgetful), "a lost look-back went unnoticed");
      }
    }
  }

  @Test
  void wrongArgumentsAreNamed() {
    EngramMemory memory = EngramMemory.open(Golden.path("v41_mini"));
    String noLayer =
        assertThrows(IllegalArgumentException.class, () -> memory.rowIds(2, 1)).getMessage();
    assertEquals("layer 2 has no memory; layers [1, 5] have one", noLayer);
    assertThrows(IllegalArgumentException.class, () -> memory.rowIds(1, -2));
    assertThrows(IllegalArgumentException.class, () -> memory.rowIds(1, 644));
    assertEquals(0, memory.rowIds(1).length);
    memory.close();
    memory.close();
    assertThrows(IllegalStateException.class, () -> memory.lookup(1, 3));
    assertThrows(IllegalStateException.class, () -> memory.weights(1));
    assertThrows(IllegalStateException.class, () -> memory.rowIds(1, 3));
    assertThrows(IllegalStateException.class, memory::checkUnchanged);
  }

  @Test
  void deadPositionsAreRefusedWhereTheVariantHasNone() {
    try (EngramMemory memory = EngramMemory.open(Golden.path("demo_mini"))) {
      assertThrows(IllegalArgumentException.class, () -> memory.rowIds(1, 5, Lookback.DEAD));
    }
  }

  /** The positions of a sequence in one array, one by one, and in pieces of any size. */
  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void positionsOfASequenceAreThoseOfTheWhole(String name) {
    try (EngramMemory memory = EngramMemory.open(Golden.path(name));
        Arena arena = Arena.ofConfined()) {
      int vocabulary = memory.config().vocabularySize();
      RandomGenerator random = Seeds.random("positions " + name);
      int[] sequence = random.ints(40, 0, Math.min(vocabulary, 500)).toArray();
      int columns = memory.config().hashing().columns();
      int width = memory.config().rowWidth();
      for (int layer : memory.config().layerIds()) {
        long[] whole = memory.rowIds(layer, sequence);
        float[] rows = memory.lookup(layer, sequence);
        for (int step : new int[] {1, 2, 7, 40}) {
          for (int from = 0; from < sequence.length; from += step) {
            int to = Math.min(from + step, sequence.length);
            long[] some = new long[(to - from) * columns + 1];
            memory.rowIdsAt(layer, sequence, from, to, some, 1);
            assertArrayEquals(
                Arrays.copyOfRange(whole, from * columns, to * columns),
                Arrays.copyOfRange(some, 1, some.length));
            MemorySegment out = arena.allocate(4L * (to - from) * width, 64);
            memory.lookupAt(layer, sequence, from, to, out);
            assertArrayEquals(
                Arrays.copyOfRange(rows, from * width, to * width),
                out.toArray(ValueLayout.JAVA_FLOAT));
          }
        }
        assertThrows(
            IndexOutOfBoundsException.class,
            () -> memory.rowIdsAt(layer, sequence, 3, 41, new long[40 * columns], 0));
      }
    }
  }
}
