// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.engram.examples.lm.SmallModels.Memory;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A mixture whose tokens go to different experts, against the sum written out. */
@Tag("once")
class ExpertUnitsTest {
  private static final int TOKENS = 9;
  private static final int WIDTH = SmallModels.WIDTH;

  private record Mixture(
      FeedForward config, Parameters parameters, ExpertUnits.Weights weights, ExpertUnits units) {
    static Mixture of(FeedForward config, float[][] gradient) {
      ModelConfig model = SmallModels.config(config, 1, Memory.NONE);
      Parameters parameters = new Parameters();
      ExpertUnits.Weights weights = ExpertUnits.Weights.add(parameters, "mixture", model);
      parameters.allocate(1);
      gradient[0] = new float[parameters.size()];
      return new Mixture(
          config,
          parameters,
          weights,
          new ExpertUnits(model, weights, parameters.values(), gradient[0]));
    }

    double at(Parameter parameter, int index) {
      return parameters.values()[parameter.offset() + index];
    }

    /** One expert on one token, in double precision. */
    void expert(DenseUnit.Weights unit, int expert, int hidden, double[] x, double by, double[] y) {
      int inputs = 2 * hidden;
      for (int u = 0; u < hidden; u++) {
        double gate = 0;
        double up = 0;
        for (int i = 0; i < WIDTH; i++) {
          gate += x[i] * at(unit.in(), (expert * WIDTH + i) * inputs + u);
          up += x[i] * at(unit.in(), (expert * WIDTH + i) * inputs + hidden + u);
        }
        double value = gate / (1 + Math.exp(-gate)) * up;
        for (int i = 0; i < WIDTH; i++) {
          y[i] += by * value * at(unit.out(), (expert * hidden + u) * WIDTH + i);
        }
      }
    }

    double[] expected(double[] x) {
      double[] scores = new double[config.experts()];
      double sum = 0;
      for (int e = 0; e < scores.length; e++) {
        for (int i = 0; i < WIDTH; i++) {
          scores[e] += x[i] * at(weights.router(), i * scores.length + e);
        }
        scores[e] = Math.exp(scores[e]);
        sum += scores[e];
      }
      double[] sorted = scores.clone();
      Arrays.sort(sorted);
      double least = sorted[scores.length - config.active()];
      double chosen = Arrays.stream(scores).filter(s -> s >= least).sum();
      double[] y = new double[WIDTH];
      for (int e = 0; e < scores.length; e++) {
        if (scores[e] >= least) {
          double by = scores[e] / (config.active() > 1 ? chosen : sum);
          expert(weights.experts(), e, config.hidden(), x, by, y);
        }
      }
      if (config.shared() > 0) {
        expert(weights.shared(), 0, config.shared() * config.hidden(), x, 1, y);
      }
      return y;
    }
  }

  @ParameterizedTest
  @CsvSource({"5, 2, 1", "4, 1, 0", "3, 3, 2"})
  void isTheWeightedSumAndItsSlope(int experts, int active, int shared) {
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(7);
    float[][] gradient = new float[1][];
    Mixture mixture = Mixture.of(FeedForward.experts(6, experts, active, shared), gradient);
    float[] x = new float[TOKENS * WIDTH];
    float[] dy = new float[TOKENS * WIDTH];
    for (int i = 0; i < x.length; i++) {
      x[i] = (float) random.nextGaussian();
      dy[i] = (float) random.nextGaussian();
    }
    float[] y = new float[x.length];
    float[] dx = new float[x.length];
    mixture.units.forward(x, TOKENS, y);
    mixture.units.backward(dy, TOKENS, dx);
    for (int t = 0; t < TOKENS; t++) {
      double[] expected = mixture.expected(row(x, t));
      for (int i = 0; i < WIDTH; i++) {
        assertEquals(expected[i], y[t * WIDTH + i], 1e-5);
      }
    }
    double h = 1e-5;
    for (int i = 0; i < x.length; i++) {
      double[] row = row(x, i / WIDTH);
      row[i % WIDTH] += h;
      double[] above = mixture.expected(row);
      row[i % WIDTH] -= 2 * h;
      double[] below = mixture.expected(row);
      double slope = 0;
      for (int j = 0; j < WIDTH; j++) {
        slope += (above[j] - below[j]) / (2 * h) * dy[i / WIDTH * WIDTH + j];
      }
      assertEquals(slope, dx[i], 1e-4 * (1 + Math.abs(slope)));
    }
    checkParameters(mixture, gradient[0], x, dy);
    long[] loads = new long[experts];
    mixture.units.takeLoads(loads);
    assertEquals((long) TOKENS * active, Arrays.stream(loads).sum());
    long[] after = new long[experts];
    mixture.units.takeLoads(after);
    assertArrayEquals(new long[experts], after);
  }

  private static void checkParameters(Mixture mixture, float[] gradient, float[] x, float[] dy) {
    float[] values = mixture.parameters.values();
    int trained = values.length - mixture.config.experts();
    for (int i = 0; i < trained; i++) {
      float before = values[i];
      values[i] = before + 1e-3f;
      double step = values[i];
      double above = sum(mixture, x, dy);
      values[i] = before - 1e-3f;
      step -= values[i];
      double slope = (above - sum(mixture, x, dy)) / step;
      values[i] = before;
      assertEquals(slope, gradient[i], 1e-3 * (1 + Math.abs(slope)));
    }
  }

  private static double sum(Mixture mixture, float[] x, float[] dy) {
    double sum = 0;
    for (int t = 0; t < TOKENS; t++) {
      double[] y = mixture.expected(row(x, t));
      for (int i = 0; i < WIDTH; i++) {
        sum += y[i] * dy[t * WIDTH + i];
      }
    }
    return sum;
  }

  private static double[] row(float[] x, int token) {
    double[] row = new double[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
      row[i] = x[token * WIDTH + i];
    }
    return row;
  }
}
