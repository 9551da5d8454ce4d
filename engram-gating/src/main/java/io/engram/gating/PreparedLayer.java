// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/**
 * The weights of a layer as the engines want them: checked, norm weights in their factor form and
 * multiplied together, taps by position. The projection stays where it is.
 */
final class PreparedLayer {
  final GateConfig gate;
  final Optional<ConvConfig> conv;
  final int rowWidth;

  /** Streams * width. */
  final int channels;

  /** Keys of all streams and the value. */
  final int outputs;

  final LayerWeights weights;

  /** The narrowest type of arithmetic, F32 or BF16, that holds every weight of the projection. */
  final Dtype projectionType;

  final MemorySegment projection;

  /** [outputs], or null. */
  final float[] bias;

  /** [S, W] each. */
  final float[] keyFactor;

  final float[] queryFactor;

  /** [S, W]: key factor * query factor. */
  final float[] normWeight;

  /** [S, W], or null. */
  final float[] convFactor;

  /** [K, S * W], or null: the taps of one position side by side. */
  final float[] taps;

  PreparedLayer(GateConfig gate, Optional<ConvConfig> conv, int rowWidth, LayerWeights weights) {
    if (rowWidth < 1) {
      throw new IllegalArgumentException("rowWidth is " + rowWidth + ", expected at least 1");
    }
    weights.check(gate, conv, rowWidth);
    this.gate = gate;
    this.conv = conv;
    this.rowWidth = rowWidth;
    this.channels = Math.multiplyExact(gate.streams(), gate.width());
    this.outputs = gate.projectionRows();
    this.weights = weights;
    this.projection = weights.projection().data();
    this.projectionType =
        weights.projection().dtype() == Dtype.F8_E4M3 ? Dtype.BF16 : weights.projection().dtype();
    checkProjection();
    this.bias = weights.bias().map(t -> floats("bias", t)).orElse(null);
    this.keyFactor = factors("keyNorm", weights.keyNorm());
    this.queryFactor = factors("queryNorm", weights.queryNorm());
    this.normWeight = new float[channels];
    for (int i = 0; i < channels; i++) {
      normWeight[i] = keyFactor[i] * queryFactor[i];
    }
    this.convFactor = weights.convNorm().map(t -> factors("convNorm", t)).orElse(null);
    this.taps = weights.conv().map(t -> transposed(floats("conv", t))).orElse(null);
  }

  private float[] factors(String name, Tensor tensor) {
    float[] factors = floats(name, tensor);
    if (gate.normWeight() == GateConfig.NormWeight.ONE_PLUS) {
      for (int i = 0; i < factors.length; i++) {
        factors[i] += 1;
      }
    }
    return factors;
  }

  private float[] transposed(float[] weights) {
    int kernelSize = conv.orElseThrow().kernelSize();
    float[] transposed = new float[weights.length];
    for (int c = 0; c < channels; c++) {
      for (int k = 0; k < kernelSize; k++) {
        transposed[k * channels + c] = weights[c * kernelSize + k];
      }
    }
    return transposed;
  }

  private static float[] floats(String name, Tensor tensor) {
    float[] values = new float[Math.toIntExact(tensor.count())];
    MemorySegment.copy(tensor.data(), Memory.FLOAT, 0, values, 0, values.length);
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        throw new IllegalArgumentException(
            name + " " + tensor + " holds " + values[i] + " at element " + i);
      }
    }
    return values;
  }

  /** Whether products are summed in double precision, then rounded once. */
  boolean inDouble() {
    return gate.rounding() == GateConfig.Rounding.BF16;
  }

  /** A NaN among the weights would spread to every token without a word. */
  private void checkProjection() {
    float[] row = new float[rowWidth];
    short[] shorts = new short[rowWidth];
    for (int o = 0; o < outputs; o++) {
      readProjection(o, 1, shorts, row);
      if (!GateLoops.CHOSEN.finite(row, 0, rowWidth)) {
        throw new IllegalArgumentException(
            "projection holds a NaN or an infinity in row " + o + " of " + outputs);
      }
    }
  }

  /** Reads consecutive rows of the projection as floats. */
  void readProjection(int firstRow, int rows, short[] shorts, float[] out) {
    if (weights.projection().dtype() == Dtype.F8_E4M3) {
      for (int r = 0; r < rows; r++) {
        weights.widenProjectionRow(firstRow + r, shorts);
        for (int e = 0; e < rowWidth; e++) {
          out[r * rowWidth + e] = Bfloat16.toFloat(shorts[e]);
        }
      }
      return;
    }
    Memory.read(
        GateLoops.CHOSEN,
        projection,
        projectionType,
        (long) firstRow * rowWidth,
        shorts,
        out,
        rows * rowWidth);
  }
}
