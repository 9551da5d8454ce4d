// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.function.BiFunction;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** What every optimiser promises, for each rule and each format. */
class TableOptimizerTest {
  private static final long ROWS = 900;
  private static final int DIM = 13;

  /** A rule, made with given common options. */
  record Rule(String name, BiFunction<EngramTable, StepOptions, TableOptimizer> make) {
    TableOptimizer of(EngramTable table) {
      return make.apply(table, StepOptions.DEFAULT);
    }

    TableOptimizer of(EngramTable table, StepOptions options) {
      return make.apply(table, options);
    }

    @Override
    public String toString() {
      return name;
    }
  }

  static Stream<Rule> rules() {
    return Stream.of(
        new Rule(
            "adam", (table, step) -> TableOptimizer.adam(table, AdamOptions.DEFAULT.step(step))),
        new Rule("sgd", (table, step) -> TableOptimizer.sgd(table, SgdOptions.DEFAULT.step(step))),
        new Rule(
            "adagrad",
            (table, step) -> TableOptimizer.adagrad(table, AdagradOptions.DEFAULT.step(step))),
        new Rule(
            "sinkhorn",
            (table, step) -> TableOptimizer.sinkhorn(table, SinkhornOptions.DEFAULT.step(step))));
  }

  static Stream<Arguments> rulesAndFormats() {
    return rules()
        .flatMap(rule ->
            Stream.of(RowFormat.F32, RowFormat.BF16).map(format -> Arguments.of(rule, format)));
  }

  /** Several steps of random rows, many of them in several steps and often in one. */
  private static List<long[]> batches(RandomGenerator random, int steps) {
    List<long[]> batches = new ArrayList<>();
    for (int i = 0; i < steps; i++) {
      batches.add(Trained.ids(700, i % 2 == 0 ? ROWS : ROWS / 9, random));
    }
    return batches;
  }

  private static EngramTable copy(EngramTable table) {
    return table.over(RamRowStore.copyOf(table.store(), 1, rows -> {}));
  }

  /** Some bytes after some steps, in micro-batches of a given size. */
  private static final class Run {
    private final byte[] rows;
    private final byte[] state;

    Run(byte[] rows, byte[] state) {
      this.rows = rows;
      this.state = state;
    }

    static Run of(
        Rule rule, EngramTable start, List<long[]> batches, long seed, int threads, int micro) {
      try (EngramTable table = copy(start);
          TableOptimizer optimizer = rule.of(table, StepOptions.DEFAULT.threads(threads))) {
        TableGradients gradients = new TableGradients(table, threads);
        steps(optimizer, gradients, batches, 0, batches.size(), seed, micro);
        return new Run(Trained.bytes(table), Trained.state(optimizer));
      }
    }

    void assertSame(Run other) {
      assertArrayEquals(rows, other.rows);
      assertArrayEquals(state, other.state);
    }
  }

  private static void steps(
      TableOptimizer optimizer,
      TableGradients gradients,
      List<long[]> batches,
      int from,
      int to,
      long seed,
      int micro) {
    for (int i = from; i < to; i++) {
      long[] ids = batches.get(i);
      float[] values = Trained.gradients(ids.length, DIM, new Random(seed + i));
      for (int done = 0; done < ids.length; done += micro) {
        int some = Math.min(micro, ids.length - done);
        gradients.add(ids, done, some, Trained.memory(values), 4L * DIM * done);
      }
      optimizer.step(gradients);
      gradients.clear();
    }
  }

  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void theBitsDependNeitherOnThreadsNorOnMicroBatches(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("bits of " + rule + " " + format);
    List<long[]> batches = batches(random, 6);
    long seed = random.nextLong();
    try (EngramTable start = Trained.table(format, ROWS, DIM, random)) {
      Run expected = Run.of(rule, start, batches, seed, 1, 700);
      for (int threads : new int[] {2, 3, 7}) {
        Run.of(rule, start, batches, seed, threads, 700).assertSame(expected);
      }
      Run.of(rule, start, batches, seed, 2, 64).assertSame(expected);
      Run.of(rule, start, batches, seed, 1, 1).assertSame(expected);
    }
  }

  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void whatIsNotTouchedStaysAsItIs(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("untouched " + rule + " " + format);
    List<long[]> batches = batches(random, 1);
    Set<Long> touched = new HashSet<>(LongStream.of(batches.getFirst()).boxed().toList());
    try (EngramTable table = Trained.table(format, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table)) {
      byte[] before = Trained.bytes(table);
      // Less might be rounded away.
      optimizer.learningRate(10);
      steps(optimizer, new TableGradients(table), batches, 0, 1, random.nextLong(), 700);
      byte[] after = Trained.bytes(table);
      byte[] state = Trained.state(optimizer);
      int rowBytes = table.store().rowBytes();
      int stateBytes = state.length / (int) ROWS;
      for (int row = 0; row < ROWS; row++) {
        boolean same =
            Arrays.equals(
                before,
                row * rowBytes,
                (row + 1) * rowBytes,
                after,
                row * rowBytes,
                (row + 1) * rowBytes);
        assertEquals(!touched.contains((long) row), same, "row " + row);
        boolean zero =
            Arrays.equals(
                new byte[stateBytes],
                0,
                stateBytes,
                state,
                row * stateBytes,
                (row + 1) * stateBytes);
        assertEquals(!touched.contains((long) row) || stateBytes == 0, zero, "state " + row);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void whoRestoresContinuesWithTheSameBits(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("restore " + rule + " " + format);
    List<long[]> batches = batches(random, 8);
    long seed = random.nextLong();
    try (EngramTable start = Trained.table(format, ROWS, DIM, random);
        EngramTable first = copy(start);
        TableOptimizer before = rule.of(first)) {
      Run expected = Run.of(rule, start, batches, seed, 2, 700);
      steps(before, new TableGradients(first), batches, 0, 5, seed, 700);
      try (EngramTable second = copy(first);
          TableOptimizer after = rule.of(second)) {
        before
            .state()
            .forEach((name, store) -> after.state().get(name).write(0, ROWS, store.whole(), 0));
        after.restore(before.steps());
        assertEquals(5, after.steps());
        steps(after, new TableGradients(second), batches, 5, 8, seed, 700);
        new Run(Trained.bytes(second), Trained.state(after)).assertSame(expected);
      }
    }
  }

  /** Any of these in any place, on its first touch and later. */
  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void aBadGradientIsNamedAndNothingChanged(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("bad gradients of " + rule + " " + format);
    List<long[]> batches = batches(random, 2);
    try (EngramTable table = Trained.table(format, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table)) {
      TableGradients gradients = new TableGradients(table);
      steps(optimizer, gradients, batches, 0, 2, random.nextLong(), 700);
      byte[] rows = Trained.bytes(table);
      byte[] state = Trained.state(optimizer);
      for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY}) {
        long[] ids = Trained.ids(400, ROWS, random);
        float[] values = Trained.gradients(ids.length, DIM, random);
        int place = random.nextInt(values.length);
        values[place] = bad;
        gradients.add(ids, 0, ids.length, Trained.memory(values));
        EngramException e = assertThrows(EngramException.class, () -> optimizer.step(gradients));
        String expected =
            "layer 7: the gradient of row %d, element %d is %s"
                .formatted(ids[place / DIM], place % DIM, bad);
        assertTrue(e.getMessage().startsWith(expected), e.getMessage());
        assertArrayEquals(rows, Trained.bytes(table));
        assertArrayEquals(state, Trained.state(optimizer));
        assertEquals(2, optimizer.steps());
        gradients.clear();
      }
      steps(optimizer, gradients, batches, 0, 1, random.nextLong(), 700);
      assertFalse(Arrays.equals(rows, Trained.bytes(table)));
    }
  }

  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void aStepWithABadGradientMayBeLeftOut(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("skipping by " + rule + " " + format);
    StepOptions skip = StepOptions.DEFAULT.badGradient(StepOptions.BadGradient.SKIP);
    try (EngramTable table = Trained.table(format, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table, skip)) {
      byte[] rows = Trained.bytes(table);
      TableGradients gradients = new TableGradients(table);
      float[] values = Trained.gradients(3, DIM, random);
      values[DIM + 1] = Float.NaN;
      gradients.add(new long[] {1, 2, 3}, 0, 3, Trained.memory(values));
      // Nothing makes a number of it again.
      gradients.scale(0);
      optimizer.step(gradients);
      assertArrayEquals(rows, Trained.bytes(table));
      assertEquals(0, optimizer.steps());
      assertEquals(1, optimizer.skipped());
    }
  }

  /** Sums of finite gradients may be infinite, too. */
  @ParameterizedTest
  @MethodSource("rules")
  void aSumThatIsTooLargeIsABadGradient(Rule rule) {
    RandomGenerator random = Seeds.random("sums for " + rule);
    try (EngramTable table = Trained.table(RowFormat.F32, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table)) {
      TableGradients gradients = new TableGradients(table);
      float[] values = new float[2 * DIM];
      values[3] = Float.MAX_VALUE;
      values[DIM + 3] = Float.MAX_VALUE;
      gradients.add(new long[] {8, 8}, 0, 2, Trained.memory(values));
      EngramException e = assertThrows(EngramException.class, () -> optimizer.step(gradients));
      assertTrue(e.getMessage().contains("row 8, element 3 is Infinity"), e.getMessage());
    }
  }

  /** The largest weight and a learning rate beyond reason, in one row of several. */
  @ParameterizedTest
  @MethodSource("rulesAndFormats")
  void aRowThatWouldBecomeInfiniteIsNamedAndStays(Rule rule, RowFormat format) {
    RandomGenerator random = Seeds.random("overflow of " + rule + " " + format);
    try (EngramTable table = Trained.table(format, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table)) {
      RamRowStore store = (RamRowStore) table.store();
      // The largest number of either format.
      byte[] largest =
          format == RowFormat.F32 ? new byte[] {-1, -1, 127, 127} : new byte[] {127, 127};
      for (int i = 0; i < largest.length; i++) {
        long at = 5L * store.rowBytes() + 2L * largest.length + i;
        store.whole().set(ValueLayout.JAVA_BYTE, at, largest[i]);
      }
      byte[] before = Trained.bytes(table);
      TableGradients gradients = new TableGradients(table);
      float[] values = new float[3 * DIM];
      Arrays.fill(values, -1f);
      gradients.add(new long[] {4, 5, 6}, 0, 3, Trained.memory(values));
      optimizer.learningRate(1e37);
      EngramException e = assertThrows(EngramException.class, () -> optimizer.step(gradients));
      assertTrue(e.getMessage().contains("row 5, element 2"), e.getMessage());
      byte[] after = Trained.bytes(table);
      int rowBytes = store.rowBytes();
      assertArrayEquals(
          Arrays.copyOfRange(before, 5 * rowBytes, 6 * rowBytes),
          Arrays.copyOfRange(after, 5 * rowBytes, 6 * rowBytes));
      assertFalse(Arrays.equals(before, after));
      for (float weight : table.gather(4, 5, 6)) {
        assertTrue(Float.isFinite(weight));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("rules")
  void whatIsClosedSaysSo(Rule rule) {
    RandomGenerator random = Seeds.random("closed " + rule);
    EngramTable table = Trained.table(RowFormat.F32, ROWS, DIM, random);
    TableOptimizer optimizer = rule.of(table);
    TableOptimizer other = rule.of(table);
    TableGradients gradients = new TableGradients(table);
    gradients.add(new long[] {1}, 0, 1, Trained.memory(new float[DIM]));
    optimizer.close();
    optimizer.close();
    IllegalStateException e =
        assertThrows(IllegalStateException.class, () -> optimizer.step(gradients));
    assertEquals("layer 7: the optimiser " + rule + " is closed", e.getMessage());
    table.close();
    e = assertThrows(IllegalStateException.class, () -> other.step(gradients));
    assertEquals("layer 7: the row store is closed", e.getMessage());
    assertEquals(0, other.steps());
    other.close();
  }

  @ParameterizedTest
  @MethodSource("rules")
  void gradientsOfAnotherTableAreRefused(Rule rule) {
    RandomGenerator random = Seeds.random("another table for " + rule);
    try (EngramTable table = Trained.table(RowFormat.F32, ROWS, DIM, random);
        EngramTable other = copy(table);
        TableOptimizer optimizer = rule.of(table)) {
      TableGradients gradients = new TableGradients(other);
      assertThrows(IllegalArgumentException.class, () -> optimizer.step(gradients));
      assertThrows(IllegalArgumentException.class, () -> optimizer.restore(-1));
      for (double rate : new double[] {-1, Double.NaN, Double.POSITIVE_INFINITY}) {
        assertThrows(IllegalArgumentException.class, () -> optimizer.learningRate(rate));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("rules")
  void aStateOfLaterStepsIsRefused(Rule rule) {
    RandomGenerator random = Seeds.random("later steps of " + rule);
    try (EngramTable table = Trained.table(RowFormat.F32, ROWS, DIM, random);
        TableOptimizer optimizer = rule.of(table)) {
      steps(optimizer, new TableGradients(table), batches(random, 3), 0, 3, 1, 700);
      assertEquals(3, optimizer.steps());
      optimizer.restore(1);
      if (rule.name().equals("adagrad")) {
        return;
      }
      TableGradients gradients = new TableGradients(table);
      long[] all = LongStream.range(0, ROWS).toArray();
      gradients.add(all, 0, all.length, Trained.memory(new float[all.length * DIM]));
      EngramException e = assertThrows(EngramException.class, () -> optimizer.step(gradients));
      assertTrue(e.getMessage().contains("restore(steps)"), e.getMessage());
    }
  }

  @Test
  void tablesThatCannotBeTrainedAreRefusedWithWhatToDo() {
    RamRowStore store = RamRowStore.create("layer 1", 4, 2 * DIM);
    try (EngramTable table = new EngramTable(store, RowFormat.F16, DIM)) {
      IllegalArgumentException e =
          assertThrows(
              IllegalArgumentException.class,
              () -> TableOptimizer.adam(table, AdamOptions.DEFAULT));
      assertTrue(e.getMessage().contains("only in F32 or BF16"), e.getMessage());
    }
  }
}
