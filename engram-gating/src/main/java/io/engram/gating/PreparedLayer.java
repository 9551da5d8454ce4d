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

  /** [S, W]. */
  final float[] keyFactor;

  /** [S, W]. */
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
    this.bias = weights.bias().map(PreparedLayer::room).orElse(null);
    this.keyFactor = room(weights.keyNorm());
    this.queryFactor = room(weights.queryNorm());
    this.normWeight = new float[channels];
    this.convFactor = weights.convNorm().map(PreparedLayer::room).orElse(null);
    this.taps = weights.conv().map(PreparedLayer::room).orElse(null);
    checkSmall();
    readSmall();
  }

  /** Everything but the projection is looked at before anything changes. */
  void checkSmall() {
    check("bias", weights.bias().orElse(null));
    check("keyNorm", weights.keyNorm());
    check("queryNorm", weights.queryNorm());
    check("convNorm", weights.convNorm().orElse(null));
    check("conv", weights.conv().orElse(null));
  }

  /** Reads everything but the projection, again where the caller has changed it. */
  void readSmall() {
    if (bias != null) {
      read(weights.bias().orElseThrow(), bias);
    }
    readFactors(weights.keyNorm(), keyFactor);
    readFactors(weights.queryNorm(), queryFactor);
    for (int i = 0; i < channels; i++) {
      normWeight[i] = keyFactor[i] * queryFactor[i];
    }
    if (conv.isPresent()) {
      readFactors(weights.convNorm().orElseThrow(), convFactor);
      transpose(weights.conv().orElseThrow().data());
    }
  }

  private static float[] room(Tensor tensor) {
    return new float[Math.toIntExact(tensor.count())];
  }

  private static void read(Tensor tensor, float[] out) {
    MemorySegment.copy(tensor.data(), Memory.FLOAT, 0, out, 0, out.length);
  }

  private void readFactors(Tensor tensor, float[] factors) {
    read(tensor, factors);
    if (gate.normWeight() == GateConfig.NormWeight.ONE_PLUS) {
      for (int i = 0; i < factors.length; i++) {
        factors[i] += 1;
      }
    }
  }

  private void transpose(MemorySegment kernel) {
    int kernelSize = conv.orElseThrow().kernelSize();
    for (int c = 0; c < channels; c++) {
      for (int k = 0; k < kernelSize; k++) {
        long at = ((long) c * kernelSize + k) * Float.BYTES;
        taps[k * channels + c] = kernel.get(Memory.FLOAT, at);
      }
    }
  }

  private static void check(String name, Tensor tensor) {
    long count = tensor == null ? 0 : tensor.count();
    for (long i = 0; i < count; i++) {
      float value = tensor.data().get(Memory.FLOAT, i * Float.BYTES);
      if (!Float.isFinite(value)) {
        throw new IllegalArgumentException(
            name + " " + tensor + " holds " + value + " at element " + i);
      }
    }
  }

  /** Whether products are summed in double precision, then rounded once. */
  boolean inDouble() {
    return gate.rounding() == GateConfig.Rounding.BF16;
  }

  void checkProjection() {
    float[] row = new float[rowWidth];
    short[] shorts = new short[rowWidth];
    for (int o = 0; o < outputs; o++) {
      checkProjectionRow(o, shorts, row);
    }
  }

  /** A NaN among the weights would spread to every token without a word. */
  void checkProjectionRow(int o, short[] shorts, float[] row) {
    readProjection(o, 1, shorts, row);
    if (!GateLoops.CHOSEN.finite(row, 0, rowWidth)) {
      throw new IllegalArgumentException(
          "projection holds a NaN or an infinity in row " + o + " of " + outputs);
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
