// SPDX-License-Identifier: Apache-2.0
package io.engram;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.Lookback;
import io.engram.testkit.Golden;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Row ids and rows of a token or a chunk, once compiled, allocate nothing. */
class SteadyStateTest {
  private static final int CHUNK = 48;
  private static final int CALLS = 2000;

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "demo_mini"})
  void rowIdsAndLookupsAllocateNothing(String checkpoint) {
    try (EngramMemory memory = EngramMemory.open(Golden.path(checkpoint));
        Arena arena = Arena.ofConfined()) {
      int layer = memory.config().layerIds().getLast();
      int vocabulary = memory.config().vocabularySize();
      int[] tokens = IntStream.range(0, CHUNK).map(i -> i * 37 % vocabulary).toArray();
      Lookback past = Lookback.start().advance(IntStream.range(0, 100).toArray());
      long[] rowIds = new long[CHUNK * memory.config().hashing().columns()];
      MemorySegment rows =
          arena.allocate((long) CHUNK * memory.config().rowWidth() * Float.BYTES, 64);
      for (int count : List.of(1, CHUNK)) {
        assertEquals(
            0,
            allocated(() -> memory.rowIds(layer, tokens, 0, count, past, rowIds, 0)),
            () -> "row ids of " + count);
        assertEquals(
            0,
            allocated(() -> memory.lookup(layer, tokens, 0, count, past, rows)),
            () -> "lookup of " + count);
      }
      assertEquals(
          0, allocated(() -> memory.rowIdsAt(layer, tokens, 30, 31, rowIds, 0)), "row ids at");
      assertEquals(0, allocated(() -> memory.lookupAt(layer, tokens, 30, 31, rows)), "lookup at");
      // What is measured would show: a translated look-back is some hundred bytes.
      long control = allocated(() -> past.map(memory.tokenMap()::get));
      assertTrue(control > 100L * CALLS, () -> control + " bytes");
    }
  }

  /**
   * The least that several thousand calls allocated, as soon as it is nothing: interpreted vectors
   * are objects, so this waits until compiled code runs.
   */
  private static long allocated(Runnable call) {
    var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
    long thread = Thread.currentThread().threadId();
    long least = Long.MAX_VALUE;
    for (int round = 0; round < 40 && least > 0; round++) {
      long before = threads.getThreadAllocatedBytes(thread);
      for (int i = 0; i < CALLS; i++) {
        call.run();
      }
      least = Math.min(least, threads.getThreadAllocatedBytes(thread) - before);
    }
    return least;
  }
}
