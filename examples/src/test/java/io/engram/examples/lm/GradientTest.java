// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.examples.lm.SmallModels.Memory;
import io.engram.store.RamRowStore;
import io.engram.train.TableGradients;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every tensor's gradient against differences of the loss, through the whole model. */
class GradientTest {
  /** Directions tried in each tensor. */
  private static final int DIRECTIONS = 3;

  /** Sequences of the batch, more than shards. */
  private static final int SEQUENCES = 3;

  static Stream<Arguments> models() {
    return Stream.of(
        Arguments.of(FeedForward.gelu(6), 1, Memory.NONE),
        Arguments.of(FeedForward.swiGlu(6), 4, Memory.NONE),
        Arguments.of(FeedForward.experts(4, 5, 2, 1), 1, Memory.NONE),
        Arguments.of(FeedForward.experts(4, 3, 1, 0), 4, Memory.NONE),
        Arguments.of(FeedForward.swiGlu(6), 1, Memory.PAPER),
        Arguments.of(FeedForward.swiGlu(6), 4, Memory.PAPER),
        Arguments.of(FeedForward.gelu(6), 4, Memory.IN_PLACE),
        Arguments.of(FeedForward.gelu(6), 2, Memory.SEGMENTS));
  }

  @ParameterizedTest
  @MethodSource("models")
  void isTheSlopeOfTheLoss(FeedForward feedForward, int streams, Memory memory) {
    // One seed: near a kink of a gate, or where experts change places, no difference is a slope.
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(5);
    ModelConfig config = SmallModels.config(feedForward, streams, memory);
    try (LanguageModel model =
        LanguageModel.create(config, SmallModels.tokenMap(memory), random.nextInt(1000))) {
      int[][] batch = SmallModels.batch(random, SEQUENCES, SmallModels.CONTEXT - 1);
      // Away from where a model starts: the convolution is 0 there, and streams are alike.
      for (int i = 0; i < 4; i++) {
        model.train(SmallModels.batch(random, SEQUENCES, SmallModels.CONTEXT), 0.02);
      }
      separateExperts(model);
      float[] gradient = model.gradientOf(batch).clone();
      List<String> wrong = new ArrayList<>();
      for (Parameter parameter : model.flat().all()) {
        if (parameter.kind() != Parameter.Kind.BALANCE) {
          checkTensor(model, parameter, gradient, batch, random, wrong);
        }
      }
      for (MemoryLayer layer : model.memoryLayers()) {
        checkRows(model, layer, batch, random, wrong);
      }
      assertTrue(wrong.isEmpty(), wrong::toString);
    }
  }

  /** One preference for all tokens, since the loss jumps where experts change places. */
  private static void separateExperts(LanguageModel model) {
    for (Parameter parameter : model.flat().all()) {
      for (int e = 0; e < parameter.size() && parameter.kind() == Parameter.Kind.BALANCE; e++) {
        model.flat().memory(parameter).setAtIndex(ValueLayout.JAVA_FLOAT, e, 3 * (e % 4));
      }
    }
    model.parametersChanged();
  }

  private static void checkTensor(
      LanguageModel model,
      Parameter parameter,
      float[] gradient,
      int[][] batch,
      RandomGenerator random,
      List<String> wrong) {
    MemorySegment memory = model.flat().memory(parameter);
    float[] before = memory.toArray(ValueLayout.JAVA_FLOAT);
    for (int n = 0; n < DIRECTIONS; n++) {
      float[] direction = direction(random, before.length);
      double expected = 0;
      for (int i = 0; i < before.length; i++) {
        expected += (double) gradient[parameter.offset() + i] * direction[i];
      }
      double slope =
          slope(step -> {
            for (int i = 0; i < before.length; i++) {
              memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, before[i] + step * direction[i]);
            }
            model.parametersChanged();
            return SmallModels.mean(model.losses(batch));
          });
      compare(parameter.name(), expected, slope, wrong);
    }
    MemorySegment.copy(before, 0, memory, ValueLayout.JAVA_FLOAT, 0, before.length);
    model.parametersChanged();
  }

  /** All rows that the batch looks up, in one direction. */
  private static void checkRows(
      LanguageModel model,
      MemoryLayer layer,
      int[][] batch,
      RandomGenerator random,
      List<String> wrong) {
    model.gradientOf(batch);
    TableGradients gradients = layer.gradients();
    RamRowStore store = layer.rows();
    int headDim = gradients.table().headDim();
    int rows = (int) gradients.rows();
    long[] ids = new long[rows];
    float[] summed = new float[rows * headDim];
    for (int i = 0; i < rows; i++) {
      ids[i] = gradients.rowId(i);
      gradients.read(i, summed, i * headDim);
    }
    float[] before = gradients.table().gather(ids);
    float[] direction = direction(random, before.length);
    double expected = 0;
    for (int i = 0; i < before.length; i++) {
      expected += (double) summed[i] * direction[i];
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(ValueLayout.JAVA_FLOAT, headDim);
      double slope =
          slope(step -> {
            for (int i = 0; i < rows; i++) {
              for (int j = 0; j < headDim; j++) {
                float moved = before[i * headDim + j] + step * direction[i * headDim + j];
                row.setAtIndex(ValueLayout.JAVA_FLOAT, j, moved);
              }
              store.write(ids[i], 1, row, 0);
            }
            return SmallModels.mean(model.losses(batch));
          });
      compare("table of layer " + layer.layer(), expected, slope, wrong);
    }
  }

  @FunctionalInterface
  private interface Loss {
    double at(float step);
  }

  /** By four points, so that a large step, which rounding asks for, costs no accuracy. */
  private static double slope(Loss loss) {
    float h = 0.01f;
    double near = loss.at(h) - loss.at(-h);
    double far = loss.at(2 * h) - loss.at(-2 * h);
    return (8 * near - far) / (12 * h);
  }

  private static float[] direction(RandomGenerator random, int size) {
    float[] direction = new float[size];
    double square = 0;
    for (int i = 0; i < size; i++) {
      direction[i] = (float) random.nextGaussian();
      square += direction[i] * direction[i];
    }
    for (int i = 0; i < size; i++) {
      direction[i] /= (float) Math.sqrt(square);
    }
    return direction;
  }

  private static void compare(String name, double expected, double slope, List<String> wrong) {
    if (!(Math.abs(expected - slope) <= 0.02 * Math.abs(slope) + 1e-4)) {
      wrong.add(name + ": gradient " + expected + ", slope " + slope);
    }
  }
}
