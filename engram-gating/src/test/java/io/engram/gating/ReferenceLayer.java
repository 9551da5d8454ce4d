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
import io.engram.Tensor;
import java.util.Arrays;

/**
 * The layer as the specification's text has it, in double precision, one number after the other: a
 * second opinion that shares no code with the engines.
 */
final class ReferenceLayer {
  /** [N, (S + 1) * W]. */
  final double[] keysAndValue;

  /** [N, S]: the normalised dot products. */
  final double[] dots;

  /** [N, S]. */
  final double[] gates;

  /** [N, S, W], not rounded. */
  final double[] output;

  /** [N, S]: what the keys are divided by; their errors grow with its inverse. */
  final double[] keyRms;

  /** [N, S, W]: how much an error in the memory grows on its way through the convolution. */
  final double[] growth;

  ReferenceLayer(
      RandomLayer layer, int sequences, int tokens, float[] rows, float[] streams, boolean[] live) {
    GateConfig gate = layer.gate();
    int count = gate.streams();
    int width = gate.width();
    int channels = layer.channels();
    int outputs = gate.projectionRows();
    int all = sequences * tokens;
    keysAndValue = new double[all * outputs];
    dots = new double[all * count];
    gates = new double[all * count];
    output = new double[all * channels];
    keyRms = new double[all * count];
    Arrays.fill(keyRms, 1);
    growth = new double[all * channels];
    double[] rms = new double[all * count];
    double[] memory = new double[all * channels];
    double[] normed = new double[all * channels];
    for (int n = 0; n < all; n++) {
      if (live != null && !live[n]) {
        continue;
      }
      for (int o = 0; o < outputs; o++) {
        double sum = 0;
        for (int e = 0; e < layer.rowWidth(); e++) {
          sum +=
              (double) rows[n * layer.rowWidth() + e]
                  * at(layer.weights().projection(), (long) o * layer.rowWidth() + e);
        }
        if (gate.bias()) {
          sum += at(layer.weights().bias().orElseThrow(), o);
        }
        keysAndValue[n * outputs + o] = gate.rounding() == Rounding.BF16 ? bfloat16(sum) : sum;
      }
      for (int s = 0; s < count; s++) {
        double keySquares = 0;
        double querySquares = 0;
        for (int d = 0; d < width; d++) {
          keySquares += Math.pow(keysAndValue[n * outputs + s * width + d], 2);
          querySquares += Math.pow(streams[n * channels + s * width + d], 2);
        }
        double keyScale = Math.sqrt(keySquares / width + gate.normEps());
        keyRms[n * count + s] = keyScale;
        double queryRms = Math.sqrt(querySquares / width + gate.normEps());
        double dot = 0;
        for (int d = 0; d < width; d++) {
          int c = s * width + d;
          double key =
              keysAndValue[n * outputs + c] / keyScale * factor(gate, layer.weights().keyNorm(), c);
          double query =
              streams[n * channels + c] / queryRms * factor(gate, layer.weights().queryNorm(), c);
          dot += key * query;
        }
        dot /= Math.sqrt(width);
        dots[n * count + s] = dot;
        gates[n * count + s] = gate(gate, dot);
        for (int d = 0; d < width; d++) {
          memory[n * channels + s * width + d] =
              gates[n * count + s] * keysAndValue[n * outputs + channels + d];
        }
      }
    }
    if (layer.conv().isPresent()) {
      for (int group = 0; group < all * count; group++) {
        double squares = 0;
        for (int d = 0; d < width; d++) {
          squares += Math.pow(memory[group * width + d], 2);
        }
        rms[group] = Math.sqrt(squares / width + layer.conv().get().normEps());
        for (int d = 0; d < width; d++) {
          int c = group % count * width + d;
          normed[group * width + d] =
              memory[group * width + d]
                  / rms[group]
                  * factor(gate, layer.weights().convNorm().orElseThrow(), c);
        }
      }
    }
    for (int n = 0; n < all; n++) {
      for (int c = 0; c < channels; c++) {
        double result = memory[n * channels + c];
        if (layer.conv().isPresent()) {
          result += convolved(layer, normed, rms, n, n % tokens, c);
        }
        if (gate.residual() == Residual.IN_PLACE) {
          result += streams[n * channels + c];
        }
        output[n * channels + c] = result;
      }
    }
  }

  private double convolved(
      RandomLayer layer, double[] normed, double[] rms, int n, int token, int c) {
    ConvConfig conv = layer.conv().orElseThrow();
    double sum = 0;
    for (int k = 0; k < conv.kernelSize(); k++) {
      int back = (conv.kernelSize() - 1 - k) * conv.dilation();
      if (back <= token) {
        int from = n - back;
        double tap = at(layer.weights().conv().orElseThrow(), (long) c * conv.kernelSize() + k);
        sum += tap * normed[from * layer.channels() + c];
        growth[n * layer.channels() + c] +=
            Math.abs(tap * factor(layer.gate(), layer.weights().convNorm().orElseThrow(), c))
                / rms[from * layer.gate().streams() + c / layer.gate().width()];
      }
    }
    return sum / (1 + Math.exp(-sum));
  }

  private static double gate(GateConfig gate, double dot) {
    if (gate.shape() == Shape.PLAIN) {
      return 1 / (1 + Math.exp(-dot));
    }
    if (dot == 0 && gate.zeroDot() == ZeroDot.SIGN_ZERO) {
      return 0.5;
    }
    double root = Math.sqrt(Math.max(Math.abs(dot), 1e-6));
    return 1 / (1 + Math.exp(-Math.copySign(root, dot)));
  }

  private static double factor(GateConfig gate, Tensor norm, long i) {
    return gate.normWeight() == NormWeight.ONE_PLUS ? 1 + at(norm, i) : at(norm, i);
  }

  /** To 8 significant bits, ties to even. */
  private static double bfloat16(double value) {
    int exponent = Math.max(Math.getExponent(value), -126);
    return Math.scalb(Math.rint(Math.scalb(value, 7 - exponent)), exponent - 7);
  }

  private static double at(Tensor tensor, long i) {
    return tensor.dtype() == Dtype.F32
        ? tensor.data().get(Memory.FLOAT, 4 * i)
        : Bfloat16.toFloat(tensor.data().get(Memory.SHORT, 2 * i));
  }
}
