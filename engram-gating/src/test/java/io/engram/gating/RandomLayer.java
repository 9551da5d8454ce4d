// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.GateConfig.NormWeight;
import io.engram.GateConfig.Residual;
import io.engram.GateConfig.Rounding;
import io.engram.GateConfig.Shape;
import io.engram.GateConfig.ZeroDot;
import io.engram.LayerWeights;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import java.util.random.RandomGenerator;

/**
 * A layer of some configuration with random weights.
 *
 * @param gate the gate
 * @param conv the convolution
 * @param rowWidth E
 * @param weights the weights
 */
record RandomLayer(GateConfig gate, Optional<ConvConfig> conv, int rowWidth, LayerWeights weights) {

  /** Random weights for a configuration. */
  static RandomLayer of(
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      Dtype projection,
      RandomGenerator random) {
    int streams = gate.streams();
    int width = gate.width();
    float norm = gate.normWeight() == NormWeight.ONE_PLUS ? 0 : 1;
    double scale = 1 / Math.sqrt(rowWidth);
    Tensor matrix = tensor(random, 0, scale, projection, gate.projectionRows(), rowWidth);
    return new RandomLayer(
        gate,
        conv,
        rowWidth,
        new LayerWeights(
            matrix,
            gate.bias()
                ? Optional.of(tensor(random, 0, 0.1, Dtype.F32, gate.projectionRows()))
                : Optional.empty(),
            tensor(random, norm, 0.2, Dtype.F32, streams, width),
            tensor(random, norm, 0.2, Dtype.F32, streams, width),
            conv.map(c -> tensor(random, norm, 0.2, Dtype.F32, streams, width)),
            conv.map(
                c -> tensor(random, 0, 0.4, Dtype.F32, (long) streams * width, c.kernelSize()))));
  }

  /** Any configuration that the descriptor can express, small. */
  static RandomLayer any(RandomGenerator random) {
    GateConfig gate =
        new GateConfig(
            random.nextInt(1, 6),
            random.nextInt(1, 71),
            random.nextBoolean(),
            pick(Shape.values(), random),
            pick(ZeroDot.values(), random),
            pick(NormWeight.values(), random),
            pick(new Float[] {0x1p-23f, 1e-6f, 1e-20f}, random),
            pick(Rounding.values(), random),
            pick(Residual.values(), random));
    Optional<ConvConfig> conv =
        random.nextInt(4) == 0
            ? Optional.empty()
            : Optional.of(new ConvConfig(random.nextInt(1, 6), random.nextInt(1, 5), 1e-5f));
    return of(
        gate, conv, random.nextInt(1, 100), random.nextBoolean() ? Dtype.F32 : Dtype.BF16, random);
  }

  GateKernel kernel() {
    return GateKernel.of(gate, conv, rowWidth, weights);
  }

  int channels() {
    return gate.streams() * gate.width();
  }

  private static <T> T pick(T[] values, RandomGenerator random) {
    return values[random.nextInt(values.length)];
  }

  static Tensor tensor(
      RandomGenerator random, double mean, double deviation, Dtype dtype, long... shape) {
    long count = 1;
    for (long size : shape) {
      count *= size;
    }
    MemorySegment data = Arena.ofAuto().allocate(count * dtype.bytes(), 64);
    for (long i = 0; i < count; i++) {
      float value = (float) (mean + deviation * random.nextGaussian());
      if (dtype == Dtype.F32) {
        data.set(Memory.FLOAT, 4 * i, value);
      } else {
        data.set(Memory.SHORT, 2 * i, Bfloat16.toBits(value));
      }
    }
    return new Tensor(dtype, shape, data);
  }

  static float[] values(RandomGenerator random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** The nearest bfloat16 values, for what a tensor of that type can hold. */
  static float[] rounded(float[] values) {
    float[] rounded = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      rounded[i] = Bfloat16.toFloat(Bfloat16.toBits(values[i]));
    }
    return rounded;
  }
}
