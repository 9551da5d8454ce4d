// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/** Adam's rule, against a reference in double precision. */
class AdamTest {
  /** One element of a row: the published rule, moments decayed at every step, touched or not. */
  private static final class Reference {
    private double weight;
    private double first;
    private double second;

    void step(boolean touched, double gradient, int step, AdamOptions options) {
      first *= options.beta1();
      second *= options.beta2();
      if (!touched) {
        return;
      }
      first += (1 - options.beta1()) * gradient;
      second += (1 - options.beta2()) * gradient * gradient;
      double mean = first / (1 - Math.pow(options.beta1(), step));
      double square = second / (1 - Math.pow(options.beta2(), step));
      weight -= options.learningRate() * mean / (Math.sqrt(square) + options.epsilon());
    }
  }

  @Test
  void rowsMoveByTheRuleWhenTouchedAndRememberWhatTheyMissed() {
    RandomGenerator random = Seeds.random("adam");
    int rows = 40;
    int dim = 19;
    AdamOptions options = new AdamOptions(0.01, 0.8, 0.95, 1e-7, StepOptions.DEFAULT);
    try (EngramTable table = Trained.table(RowFormat.F32, rows, dim, random);
        TableOptimizer optimizer = TableOptimizer.adam(table, options)) {
      Reference[] expected = new Reference[rows * dim];
      float[] start = table.gather(LongStream.range(0, rows).toArray());
      for (int i = 0; i < expected.length; i++) {
        expected[i] = new Reference();
        expected[i].weight = start[i];
      }
      TableGradients gradients = new TableGradients(table);
      for (int step = 1; step <= 300; step++) {
        float[] values = Trained.gradients(rows, dim, random);
        gradients.clear();
        for (int row = 0; row < rows; row++) {
          // Row 0 always, the last ones hardly ever.
          boolean touched = random.nextInt(rows) >= row;
          if (touched) {
            gradients.add(new long[] {row}, 0, 1, Trained.memory(values), 0);
          }
          for (int e = 0; e < dim; e++) {
            expected[row * dim + e].step(touched, values[e], step, options);
          }
        }
        optimizer.step(gradients);
      }
      float[] rowsAfter = table.gather(LongStream.range(0, rows).toArray());
      for (int i = 0; i < expected.length; i++) {
        assertEquals(expected[i].weight, rowsAfter[i], 2e-5, "element " + i);
      }
    }
  }

  @Test
  void optionsOutOfRangeAreRefused() {
    StepOptions step = StepOptions.DEFAULT;
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(-1, 0.9, 0.99, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 1, 0.99, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, -0.1, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, 0.99, 1e-50, step));
    assertThrows(
        IllegalArgumentException.class, () -> new AdamOptions(1, 0.9, Double.NaN, 1e-8, step));
    assertThrows(IllegalArgumentException.class, () -> step.threads(0));
  }
}
