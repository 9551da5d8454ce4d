// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Sums of gradients, against sums in the order in which they came. */
class TableGradientsTest {
  private static final int DIM = 11;

  private static EngramTable table(long rows) {
    return new EngramTable(
        RamRowStore.create("layer 3", rows, 4 * DIM, 1L << 20), RowFormat.F32, DIM);
  }

  /** The definition: one chain of float32 additions a row, rows as they come. */
  private static Map<Long, float[]> sums(long[] ids, float[] gradients) {
    Map<Long, float[]> sums = new LinkedHashMap<>();
    for (int i = 0; i < ids.length; i++) {
      float[] row = Arrays.copyOfRange(gradients, i * DIM, (i + 1) * DIM);
      sums.merge(
          ids[i],
          row,
          (sum, more) -> {
            for (int e = 0; e < DIM; e++) {
              sum[e] += more[e];
            }
            return sum;
          });
    }
    return sums;
  }

  private static void assertSums(Map<Long, float[]> expected, TableGradients gradients) {
    assertEquals(expected.size(), gradients.rows());
    int index = 0;
    float[] row = new float[DIM];
    for (Map.Entry<Long, float[]> entry : expected.entrySet()) {
      assertEquals(entry.getKey(), gradients.rowId(index));
      gradients.read(index, row, 0);
      assertArrayEquals(entry.getValue(), row);
      index++;
    }
  }

  /** Many rows come often, many once; thousands of slots, so that the map grows. */
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 8})
  void rowsAreSummedInTheOrderTheyCameWhateverTheThreadsAndCalls(int threads) {
    RandomGenerator random = Seeds.random("rows are summed");
    try (EngramTable table = table(1L << 40)) {
      TableGradients gradients = new TableGradients(table, threads);
      for (int batch = 0; batch < 3; batch++) {
        int count = 40_000;
        long[] ids = new long[count];
        for (int i = 0; i < count; i++) {
          ids[i] =
              random.nextBoolean() ? random.nextLong(50) << 34 : random.nextLong(table.rowCount());
        }
        float[] values = Trained.gradients(count, DIM, random);
        MemorySegment memory = Trained.memory(values);
        int done = 0;
        while (done < count) {
          int some = Math.min(count - done, 1 + random.nextInt(batch == 0 ? count : 9_000));
          gradients.add(ids, done, some, memory, 4L * DIM * done);
          done += some;
        }
        assertSums(sums(ids, values), gradients);
        gradients.clear();
        assertEquals(0, gradients.rows());
      }
    }
  }

  /** Ids are spread over a table of a trillion rows, most of it never made. */
  @Test
  void anOrderIsAPermutationThatWalksTheTable() {
    RandomGenerator random = Seeds.random("an order");
    try (EngramTable table = table(1L << 40)) {
      TableGradients gradients = new TableGradients(table);
      long[] ids = Trained.ids(5_000, table.rowCount(), random);
      gradients.add(ids, 0, ids.length, Trained.memory(new float[ids.length * DIM]));
      gradients.order();
      int rows = (int) gradients.rows();
      for (int i = 0; i < rows; i++) {
        assertEquals(gradients.rowId(gradients.orderedSlots()[i]), gradients.orderedIds()[i]);
        if (i > 0) {
          assertTrue(gradients.orderedIds()[i - 1] >>> 28 <= gradients.orderedIds()[i] >>> 28);
        }
      }
      assertArrayEquals(
          Arrays.stream(ids).distinct().sorted().toArray(),
          Arrays.stream(gradients.orderedIds(), 0, rows).sorted().toArray());
    }
  }

  @Test
  void scalingMultipliesEachSum() {
    try (EngramTable table = table(10)) {
      TableGradients gradients = new TableGradients(table);
      float[] ones = new float[2 * DIM];
      Arrays.fill(ones, 3f);
      gradients.add(new long[] {4, 4}, 0, 2, Trained.memory(ones));
      assertEquals(6 * Math.sqrt(DIM), gradients.norm(), 1e-12);
      gradients.scale(0.1);
      float[] row = new float[DIM];
      gradients.read(0, row, 0);
      float[] expected = new float[DIM];
      Arrays.fill(expected, 6f * 0.1f);
      assertArrayEquals(expected, row);
      assertThrows(IllegalArgumentException.class, () -> gradients.scale(Double.NaN));
      assertThrows(IllegalArgumentException.class, () -> gradients.scale(1e300));
    }
  }

  /** A negative id names itself, and nothing of its call is kept. */
  @ParameterizedTest
  @ValueSource(longs = {-1, 10, Long.MIN_VALUE, Long.MAX_VALUE})
  void anIdThatIsNotOfTheTableIsNamedAndNothingAdded(long bad) {
    try (EngramTable table = table(10)) {
      TableGradients gradients = new TableGradients(table);
      MemorySegment zeros = Trained.memory(new float[3 * DIM]);
      gradients.add(new long[] {9}, 0, 1, zeros);
      IndexOutOfBoundsException e =
          assertThrows(
              IndexOutOfBoundsException.class,
              () -> gradients.add(new long[] {1, 2, bad}, 0, 3, zeros));
      assertEquals(
          "layer 3: gradient of row id " + bad + " at position 2, expected 0 to 9", e.getMessage());
      assertEquals(1, gradients.rows());
    }
  }

  @Test
  void tooFewGradientsAreRefused() {
    try (EngramTable table = table(10)) {
      TableGradients gradients = new TableGradients(table);
      MemorySegment memory = Trained.memory(new float[2 * DIM]);
      assertThrows(IllegalArgumentException.class, () -> gradients.add(new long[3], 0, 3, memory));
      assertThrows(
          IllegalArgumentException.class, () -> gradients.add(new long[2], 0, 2, memory, 4));
      assertThrows(IndexOutOfBoundsException.class, () -> gradients.add(new long[2], 1, 2, memory));
      assertThrows(IllegalArgumentException.class, () -> new TableGradients(table, 0));
      assertEquals(0, gradients.rows());
    }
  }

  @Test
  void gradientsThatAreClosedLeaveNothingBehind() {
    try (EngramTable table = table(10)) {
      TableGradients gradients = new TableGradients(table);
      MemorySegment closed;
      try (Arena arena = Arena.ofShared()) {
        closed = arena.allocate(4 * DIM);
      }
      assertThrows(IllegalStateException.class, () -> gradients.add(new long[] {1}, 0, 1, closed));
      assertEquals(0, gradients.rows());
    }
  }

  /** Memory of the heap is a memory segment, too. */
  @Test
  void gradientsMayLieOnTheHeap() {
    try (EngramTable table = table(10)) {
      TableGradients gradients = new TableGradients(table);
      float[] values = new float[DIM];
      values[3] = 5;
      gradients.add(new long[] {1}, 0, 1, MemorySegment.ofArray(values));
      float[] row = new float[DIM];
      gradients.read(0, row, 0);
      assertArrayEquals(values, row);
    }
  }
}
