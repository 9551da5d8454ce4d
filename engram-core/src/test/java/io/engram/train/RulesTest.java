// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.util.function.Function;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The rules, each against its definition in double precision. */
class RulesTest {
  private static final int ROWS = 40;
  private static final int DIM = 19;
  private static final long[] ALL = LongStream.range(0, ROWS).toArray();

  /** A rule by its definition, on whole matrices and step by step. */
  private interface Reference {
    /** Changes the weights; untouched rows have gradients of zero. */
    void step(double[][] weights, double[][] gradients, boolean[] touched, int step);
  }

  private static void assertRule(
      String name, int steps, Reference reference, Function<EngramTable, TableOptimizer> make) {
    RandomGenerator random = Seeds.random(name);
    try (EngramTable table = Trained.table(RowFormat.F32, ROWS, DIM, random);
        TableOptimizer optimizer = make.apply(table)) {
      double[][] expected = new double[ROWS][DIM];
      float[] start = table.gather(ALL);
      for (int i = 0; i < start.length; i++) {
        expected[i / DIM][i % DIM] = start[i];
      }
      TableGradients gradients = new TableGradients(table);
      for (int step = 1; step <= steps; step++) {
        float[] values = Trained.gradients(ROWS, DIM, random);
        double[][] gradient = new double[ROWS][DIM];
        boolean[] touched = new boolean[ROWS];
        gradients.clear();
        for (int row = 0; row < ROWS; row++) {
          // Row 0 always, the last ones hardly ever.
          touched[row] = random.nextInt(ROWS) >= row;
          if (touched[row]) {
            gradients.add(new long[] {row}, 0, 1, Trained.memory(values), 4L * DIM * row);
            for (int e = 0; e < DIM; e++) {
              gradient[row][e] = values[row * DIM + e];
            }
          }
        }
        optimizer.step(gradients);
        reference.step(expected, gradient, touched, step);
      }
      float[] rows = table.gather(ALL);
      int moved = 0;
      for (int i = 0; i < rows.length; i++) {
        assertEquals(expected[i / DIM][i % DIM], rows[i], 5e-5, "element " + i);
        moved += rows[i] != start[i] ? 1 : 0;
      }
      // Of those that were touched, that is.
      assertTrue(moved > rows.length / 2, moved + " elements moved");
    }
  }

  @Test
  void adamDecaysItsMomentsAtEveryStepAndMovesTheRowsThatItTouches() {
    AdamOptions options = new AdamOptions(0.01, 0.8, 0.95, 1e-7, StepOptions.DEFAULT);
    double[][] first = new double[ROWS][DIM];
    double[][] second = new double[ROWS][DIM];
    assertRule(
        "adam",
        300,
        (weights, gradients, touched, step) -> {
          for (int row = 0; row < ROWS; row++) {
            for (int e = 0; e < DIM; e++) {
              double g = gradients[row][e];
              first[row][e] = 0.8 * first[row][e] + 0.2 * g;
              second[row][e] = 0.95 * second[row][e] + 0.05 * g * g;
              if (touched[row]) {
                double mean = first[row][e] / (1 - Math.pow(0.8, step));
                double square = second[row][e] / (1 - Math.pow(0.95, step));
                weights[row][e] -= 0.01 * mean / (Math.sqrt(square) + 1e-7);
              }
            }
          }
        },
        table -> TableOptimizer.adam(table, options));
  }

  @ParameterizedTest
  @CsvSource({"0, false", "0.7, false", "0.7, true"})
  void momentumDecaysAtEveryStepAndMovesTheRowsThatItTouches(double momentum, boolean nesterov) {
    SgdOptions options = new SgdOptions(0.01, momentum, nesterov, StepOptions.DEFAULT);
    double[][] moving = new double[ROWS][DIM];
    assertRule(
        "sgd " + momentum + " " + nesterov,
        100,
        (weights, gradients, touched, step) -> {
          for (int row = 0; row < ROWS; row++) {
            for (int e = 0; e < DIM; e++) {
              double g = gradients[row][e];
              moving[row][e] = momentum * moving[row][e] + g;
              if (touched[row]) {
                weights[row][e] -=
                    0.01 * (nesterov ? g + momentum * moving[row][e] : moving[row][e]);
              }
            }
          }
        },
        table -> TableOptimizer.sgd(table, options));
  }

  @Test
  void adagradDividesByTheRootOfWhatARowHasSummedUp() {
    AdagradOptions options = new AdagradOptions(0.05, 1e-3, StepOptions.DEFAULT);
    double[] sums = new double[ROWS];
    assertRule(
        "adagrad",
        100,
        (weights, gradients, touched, step) -> {
          for (int row = 0; row < ROWS; row++) {
            double squares = 0;
            for (double g : gradients[row]) {
              squares += g * g;
            }
            sums[row] += squares / DIM;
            for (int e = 0; e < DIM && touched[row]; e++) {
              weights[row][e] -= 0.05 * gradients[row][e] / (Math.sqrt(sums[row]) + 1e-3);
            }
          }
        },
        table -> TableOptimizer.adagrad(table, options));
  }

  /** Literally: a matrix of the touched rows, normalised again and again. */
  @ParameterizedTest
  @CsvSource({"1, 0", "3, 0.9", "11, 0.95"})
  void sinkhornBalancesTheRowsThatAStepTouches(int iterations, double tau) {
    SinkhornOptions options =
        new SinkhornOptions(0.01, 0.9, 0.2, iterations, tau, 1e-20, StepOptions.DEFAULT);
    double[][] moving = new double[ROWS][DIM];
    int[] still = new int[1];
    assertRule(
        "sinkhorn " + iterations + " " + tau,
        100,
        (weights, gradients, touched, step) -> {
          double[][] u = new double[ROWS][DIM];
          double mean = 0;
          int count = 0;
          for (int row = 0; row < ROWS; row++) {
            for (int e = 0; e < DIM; e++) {
              moving[row][e] = 0.9 * moving[row][e] + 0.1 * gradients[row][e];
              u[row][e] = touched[row] ? 0.9 * moving[row][e] + 0.1 * gradients[row][e] : 0;
            }
            count += touched[row] ? 1 : 0;
            mean += norm(u[row]);
          }
          mean /= count;
          for (int row = 0; row < ROWS; row++) {
            if (touched[row] && norm(u[row]) <= tau * mean) {
              u[row] = new double[DIM];
              still[0]++;
            }
          }
          for (int k = 1; k <= iterations; k++) {
            normalize(u, k % 2 == 1);
          }
          for (int row = 0; row < ROWS; row++) {
            for (int e = 0; e < DIM; e++) {
              weights[row][e] -= 0.2 * 0.01 * Math.sqrt(DIM) * u[row][e];
            }
          }
        },
        table -> TableOptimizer.sinkhorn(table, options));
    assertEquals(tau > 0, still[0] > 0);
  }

  private static double norm(double... values) {
    double sum = 0;
    for (double value : values) {
      sum += value * value;
    }
    return Math.sqrt(sum);
  }

  private static void normalize(double[][] u, boolean rows) {
    if (rows) {
      for (double[] row : u) {
        double norm = norm(row) + 1e-20;
        for (int e = 0; e < DIM; e++) {
          row[e] /= norm;
        }
      }
      return;
    }
    for (int e = 0; e < DIM; e++) {
      double[] column = new double[ROWS];
      for (int row = 0; row < ROWS; row++) {
        column[row] = u[row][e];
      }
      double norm = norm(column) + 1e-20;
      for (int row = 0; row < ROWS; row++) {
        u[row][e] /= norm;
      }
    }
  }

  /** More rows than one block has; some of nothing but zeros, and a column of them. */
  @Test
  void sinkhornMovesAllElementsOfManyRowsByAboutTheSame() {
    RandomGenerator random = Seeds.random("sinkhorn");
    int rows = 3_000;
    SinkhornOptions options = SinkhornOptions.DEFAULT;
    try (EngramTable table = Trained.table(RowFormat.F32, rows, DIM, random);
        TableOptimizer optimizer = TableOptimizer.sinkhorn(table, options)) {
      long[] all = LongStream.range(0, rows).toArray();
      float[] before = table.gather(all);
      float[] values = Trained.gradients(rows, DIM, random);
      for (int i = 0; i < values.length; i++) {
        int row = i / DIM;
        int column = i % DIM;
        values[i] *= row % 10 == 0 || column == 4 ? 0 : 1e-6f * (row % 7 + 1) * (column + 1);
      }
      TableGradients gradients = new TableGradients(table);
      gradients.add(all, 0, rows, Trained.memory(values));
      optimizer.step(gradients);
      float[] after = table.gather(all);
      double[] columns = new double[DIM];
      for (int row = 0; row < rows; row++) {
        double square = 0;
        for (int e = 0; e < DIM; e++) {
          double moved = (double) after[row * DIM + e] - before[row * DIM + e];
          square += moved * moved;
          columns[e] += moved * moved / rows;
        }
        double expected = options.gamma() * options.learningRate();
        assertEquals(row % 10 == 0 ? 0 : expected, Math.sqrt(square / DIM), 1e-6);
      }
      for (int e = 0; e < DIM; e++) {
        double share = columns[e] / columns[0];
        assertTrue(e == 4 ? share == 0 : Math.abs(share - 1) < 0.01, e + ": " + share);
      }
    }
  }

  @Test
  void optionsOutOfRangeAreRefused() {
    StepOptions step = StepOptions.DEFAULT;
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(-1, 0.9, 0.9, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 1, 0.9, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, -0.1, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, 0.9, 1e-50, step));
    assertThrows(
        IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, Double.NaN, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new SgdOptions(1, 1, false, step));
    assertThrows(IllegalArgumentException.class, () -> new SgdOptions(1, 0, true, step));
    assertThrows(IllegalArgumentException.class, () -> new AdagradOptions(1, 0, step));
    assertThrows(
        IllegalArgumentException.class, () -> new SinkhornOptions(1, 0.9, 0.1, 10, 0, 1e-20, step));
    assertThrows(
        IllegalArgumentException.class, () -> new SinkhornOptions(1, 0.9, 0, 11, 0, 1e-20, step));
    assertThrows(
        IllegalArgumentException.class,
        () -> new SinkhornOptions(1, 0.9, 0.1, 11, -1, 1e-20, step));
    assertThrows(IllegalArgumentException.class, () -> step.threads(0));
  }
}
