// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import io.engram.GateConfig.NormWeight;
import io.engram.GateConfig.Residual;
import io.engram.GateConfig.Rounding;
import io.engram.GateConfig.Shape;
import io.engram.GateConfig.ZeroDot;
import io.engram.Tensor;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * A layer whose weights and inputs are numbers in double precision that a test may move by a
 * little: what the gradients of a loss, the sum of outputs times given numbers, are measured on. It
 * shares no code with the engines.
 *
 * <p>Rounding is straight-through: what it added at first is added from then on, whatever the sums
 * are.
 */
final class DoubleLayer {
  private final GateConfig gate;
  private final ConvConfig conv;
  private final int rowWidth;
  private final int sequences;
  private final int tokens;
  private final boolean[] live;

  /** By name: the projection, bias, keyNorm, queryNorm, convNorm, conv, rows and streams. */
  final Map<String, double[]> inputs = new LinkedHashMap<>();

  /** [N, outputs]: rounded less not rounded, of the first computation. */
  private double[] rounding;

  /** The smallest normalised dot product of the last computation, in size. */
  double smallestDot;

  DoubleLayer(
      RandomLayer layer, int sequences, int tokens, float[] rows, float[] streams, boolean[] live) {
    gate = layer.gate();
    conv = layer.conv().orElse(null);
    rowWidth = layer.rowWidth();
    this.sequences = sequences;
    this.tokens = tokens;
    this.live = live;
    inputs.put("projection", doubles(layer.weights().projection()));
    put("bias", layer.weights().bias());
    inputs.put("keyNorm", doubles(layer.weights().keyNorm()));
    inputs.put("queryNorm", doubles(layer.weights().queryNorm()));
    put("convNorm", layer.weights().convNorm());
    put("conv", layer.weights().conv());
    inputs.put("rows", doubles(rows));
    inputs.put("streams", doubles(streams));
    output();
  }

  private void put(String name, Optional<Tensor> tensor) {
    tensor.ifPresent(t -> inputs.put(name, doubles(t)));
  }

  private static double[] doubles(Tensor tensor) {
    double[] values = new double[Math.toIntExact(tensor.count())];
    for (int i = 0; i < values.length; i++) {
      values[i] =
          switch (tensor.dtype()) {
            case F32 -> tensor.data().get(Memory.FLOAT, 4L * i);
            case BF16 -> Bfloat16.toFloat(tensor.data().get(Memory.SHORT, 2L * i));
            default -> throw new IllegalArgumentException(tensor.toString());
          };
    }
    return values;
  }

  private static double[] doubles(float[] values) {
    double[] doubles = new double[values.length];
    Arrays.setAll(doubles, i -> values[i]);
    return doubles;
  }

  /** The loss for the gradient of the output. */
  double loss(float[] outGradient) {
    double[] output = output();
    double loss = 0;
    for (int i = 0; i < output.length; i++) {
      loss += output[i] * outGradient[i];
    }
    return loss;
  }

  /** The derivative of the loss in a direction in which one input is moved. */
  double derivative(String name, double[] direction, double step, float[] outGradient) {
    double[] values = inputs.get(name);
    double[] before = values.clone();
    Arrays.setAll(values, i -> before[i] + step * direction[i]);
    double above = loss(outGradient);
    Arrays.setAll(values, i -> before[i] - step * direction[i]);
    double below = loss(outGradient);
    System.arraycopy(before, 0, values, 0, before.length);
    return (above - below) / (2 * step);
  }

  /** The derivative of the loss by one number. */
  double derivative(String name, int index, double step, float[] outGradient) {
    double[] values = inputs.get(name);
    double before = values[index];
    values[index] = before + step;
    double above = loss(outGradient);
    values[index] = before - step;
    double below = loss(outGradient);
    values[index] = before;
    return (above - below) / (2 * step);
  }

  private double[] output() {
    int streams = gate.streams();
    int width = gate.width();
    int channels = streams * width;
    int all = sequences * tokens;
    double[] memory = new double[all * channels];
    smallestDot = Double.MAX_VALUE;
    double[] projected = projected();
    for (int n = 0; n < all; n++) {
      for (int s = 0; s < streams && live[n]; s++) {
        double alpha = gate(projected, n, s);
        for (int d = 0; d < width; d++) {
          memory[n * channels + s * width + d] =
              alpha * projected[n * gate.projectionRows() + channels + d];
        }
      }
    }
    double[] output = memory.clone();
    if (conv != null) {
      addConvolution(memory, output);
    }
    if (gate.residual() == Residual.IN_PLACE) {
      double[] before = inputs.get("streams");
      Arrays.setAll(output, i -> output[i] + before[i]);
    }
    return output;
  }

  private double[] projected() {
    int outputs = gate.projectionRows();
    double[] matrix = inputs.get("projection");
    double[] rows = inputs.get("rows");
    double[] projected = new double[sequences * tokens * outputs];
    for (int n = 0; n < sequences * tokens; n++) {
      for (int o = 0; o < outputs && live[n]; o++) {
        double sum = gate.bias() ? inputs.get("bias")[o] : 0;
        for (int e = 0; e < rowWidth; e++) {
          sum += rows[n * rowWidth + e] * matrix[o * rowWidth + e];
        }
        projected[n * outputs + o] = sum;
      }
    }
    if (gate.rounding() == Rounding.BF16) {
      if (rounding == null) {
        rounding = new double[projected.length];
        Arrays.setAll(rounding, i -> Bfloat16.round(projected[i]) - projected[i]);
      }
      Arrays.setAll(projected, i -> projected[i] + rounding[i]);
    }
    return projected;
  }

  private double gate(double[] projected, int n, int s) {
    int width = gate.width();
    int key = n * gate.projectionRows() + s * width;
    int query = (n * gate.streams() + s) * width;
    double[] streams = inputs.get("streams");
    double keySquares = 0;
    double querySquares = 0;
    double dot = 0;
    for (int d = 0; d < width; d++) {
      double k = projected[key + d];
      double q = streams[query + d];
      keySquares += k * k;
      querySquares += q * q;
      dot += k * q * factor("keyNorm", s * width + d) * factor("queryNorm", s * width + d);
    }
    dot /=
        Math.sqrt(keySquares / width + gate.normEps())
            * Math.sqrt(querySquares / width + gate.normEps())
            * Math.sqrt(width);
    smallestDot = Math.min(smallestDot, Math.abs(dot));
    if (gate.shape() == Shape.PLAIN) {
      return 1 / (1 + Math.exp(-dot));
    }
    if (dot == 0 && gate.zeroDot() == ZeroDot.SIGN_ZERO) {
      return 0.5;
    }
    double root = Math.sqrt(Math.max(Math.abs(dot), 1e-6f));
    return 1 / (1 + Math.exp(-Math.copySign(root, dot)));
  }

  private double factor(String norm, int i) {
    return (gate.normWeight() == NormWeight.ONE_PLUS ? 1 : 0) + inputs.get(norm)[i];
  }

  private void addConvolution(double[] memory, double[] output) {
    int width = gate.width();
    int channels = gate.streams() * width;
    double[] normed = new double[memory.length];
    for (int group = 0; group < memory.length / width; group++) {
      double squares = 0;
      for (int d = 0; d < width; d++) {
        squares += memory[group * width + d] * memory[group * width + d];
      }
      double rms = Math.sqrt(squares / width + conv.normEps());
      for (int d = 0; d < width; d++) {
        int i = group * width + d;
        normed[i] = memory[i] / rms * factor("convNorm", i % channels);
      }
    }
    double[] taps = inputs.get("conv");
    for (int i = 0; i < memory.length; i++) {
      int position = i / channels % tokens;
      double sum = 0;
      for (int k = 0; k < conv.kernelSize(); k++) {
        int back = (conv.kernelSize() - 1 - k) * conv.dilation();
        if (back <= position) {
          sum += taps[i % channels * conv.kernelSize() + k] * normed[i - back * channels];
        }
      }
      output[i] += sum / (1 + Math.exp(-sum));
    }
  }
}
