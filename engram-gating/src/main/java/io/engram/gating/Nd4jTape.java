// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import java.util.Map;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.INDArrayIndex;
import org.nd4j.linalg.indexing.NDArrayIndex;
import org.nd4j.linalg.ops.transforms.Transforms;

/**
 * What {@link Nd4jForward} keeps of a forward, and the way back in ND4J operations: like the
 * forward few and large ones, with the numbers of each token and stream on the host.
 *
 * <p>N is tokens of all sequences, S streams, W width. With k the key, h the stream, w the combined
 * norm weight, r the inverse rms of either and g the gradient of the normalised dot product d = r_k
 * r_h (k . h w) / sqrt(W), the way back through both norms is
 *
 * <pre>
 * dk = g (r_k r_h / sqrt(W) h w - d r_k^2 / W k)
 * dh = g (r_k r_h / sqrt(W) k w - d r_h^2 / W h)
 * dw = g  r_k r_h / sqrt(W) h k
 * </pre>
 */
final class Nd4jTape implements EngramLayer.Tape {
  private final Nd4jForward forward;
  private final PreparedLayer layer;
  private final GateFunction function;

  /** Which weights were used: how often they have been read. */
  private final int version;

  private final int count;
  private final int width;
  private final long sequences;
  private final long tokens;
  private final int all;

  /** FLOAT [N, E], zeros where there is no token. */
  private final INDArray rows;

  /** FLOAT [N, S, W], zeros where there is no token. */
  private final INDArray streams;

  /** One for each token, or null. */
  private final boolean[] live;

  /** FLOAT [N, S + 1, W]. */
  private INDArray keysAndValue;

  /** Of keys and value, and of the streams: square roots of the sums of squares. */
  private double[] norms;

  private double[] queryNorms;

  /** Sums of key * stream * combined norm weight. */
  private double[] dots;

  private float[] gates;

  /** FLOAT [B, history + T, S * W]: what the convolution sees. */
  private INDArray padded;

  /** FLOAT [B, T, S * W]: the convolution before its SiLU. */
  private INDArray convolved;

  Nd4jTape(
      Nd4jForward forward, PreparedLayer layer, INDArray streams, INDArray rows, boolean[] live) {
    this.forward = forward;
    this.layer = layer;
    this.function = new GateFunction(layer.gate);
    this.version = forward.version();
    this.count = layer.gate.streams();
    this.width = layer.gate.width();
    this.sequences = streams.size(0);
    this.tokens = streams.size(1);
    this.all = Math.toIntExact(sequences * tokens);
    this.live = live;
    // Copies: a caller may add the output to the very streams before the way back is taken.
    this.streams = copy(streams, all, count, width);
    this.rows = copy(rows, all, layer.rowWidth);
    for (int n = 0; live != null && n < all; n++) {
      if (!live[n]) {
        this.streams.get(NDArrayIndex.point(n)).assign(0);
        this.rows.get(NDArrayIndex.point(n)).assign(0);
      }
    }
  }

  private static INDArray copy(INDArray array, long... shape) {
    INDArray copy = Nd4j.createUninitialized(DataType.FLOAT, array.shape(), 'c');
    copy.assign(array);
    return copy.reshape('c', shape);
  }

  void gates(
      INDArray keysAndValue, double[] norms, double[] queryNorms, double[] dots, float[] gates) {
    this.keysAndValue = keysAndValue.detach().reshape('c', all, count + 1, width);
    this.norms = norms;
    this.queryNorms = queryNorms;
    this.dots = dots;
    this.gates = gates;
  }

  void convolution(INDArray padded, INDArray convolved) {
    this.padded = padded.detach();
    this.convolved = convolved.detach();
  }

  @Override
  public void backward(
      INDArray outGradient, INDArray streamsGradient, INDArray rowsGradient, Nd4jWeights sums) {
    if (version != forward.version()) {
      throw new IllegalStateException(
          "the weights were read again after this forward, which has to be done once more");
    }
    try (MemoryWorkspace _ = Nd4jForward.workspace()) {
      compute(outGradient, streamsGradient, rowsGradient, sums.arrays());
    }
  }

  private void compute(
      INDArray outGradient,
      INDArray streamsGradient,
      INDArray rowsGradient,
      Map<String, INDArray> gradients) {
    INDArray out = outGradient.dup('c').reshape('c', all, count, width);
    checkFinite(out);
    INDArray keys = keysAndValue.get(all(), NDArrayIndex.interval(0, count), all());
    INDArray value = keysAndValue.get(all(), NDArrayIndex.interval(count, count + 1), all());
    INDArray memory = layer.conv.isPresent() ? throughConvolution(out, value, gradients) : out;
    double[] gateGradients = Nd4jForward.doubles(memory.mul(value).sum(2));
    float[] cross = new float[all * count];
    float[] keyScales = new float[cross.length];
    float[] queryScales = new float[cross.length];
    double root = Math.sqrt(width);
    for (int i = 0; i < cross.length; i++) {
      if (live == null || live[i / count]) {
        double key = inverseRms(norms[i / count * (count + 1) + i % count], layer.gate.normEps());
        double query = inverseRms(queryNorms[i], layer.gate.normEps());
        double dot = dots[i] * key * query / root;
        double gradient = gateGradients[i] * function.slope((float) dot);
        cross[i] = (float) (gradient * key * query / root);
        keyScales[i] = (float) (gradient * dot * key * key / width);
        queryScales[i] = (float) (gradient * dot * query * query / width);
      }
    }
    INDArray perGate = perGate(cross);
    INDArray projected =
        Nd4j.createUninitialized(DataType.FLOAT, new long[] {all, count + 1, width}, 'c');
    projected
        .get(all(), NDArrayIndex.interval(0, count), all())
        .assign(streams.mul(forward.normWeight()).muli(perGate).subi(keys.mul(perGate(keyScales))));
    projected
        .get(all(), NDArrayIndex.interval(count, count + 1), all())
        .assign(memory.mul(perGate(gates)).sum(true, 1));
    INDArray towardsStreams =
        keys.mul(forward.normWeight()).muli(perGate).subi(streams.mul(perGate(queryScales)));
    if (layer.gate.residual() == GateConfig.Residual.IN_PLACE) {
      towardsStreams.addi(out);
    }
    streamsGradient.assign(towardsStreams.reshape('c', streamsGradient.shape()));
    INDArray normWeight = overTokens(keys.mul(streams).muli(perGate));
    gradients.get(Nd4jWeights.KEY_NORM).addi(normWeight.mul(forward.queryFactor()));
    gradients.get(Nd4jWeights.QUERY_NORM).addi(normWeight.mul(forward.keyFactor()));
    throughProjection(projected.reshape('c', all, layer.outputs), rowsGradient, gradients);
  }

  private void checkFinite(INDArray out) {
    if (Double.isFinite(out.sumNumber().doubleValue())) {
      return;
    }
    // Finite numbers may have a sum that is not.
    float[] values = out.data().asFloat();
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        int token = i / layer.channels;
        throw new IllegalArgumentException(
            "outGradient holds "
                + values[i]
                + " at sequence "
                + token / tokens
                + ", token "
                + token % tokens
                + ", stream "
                + i % layer.channels / width);
      }
    }
  }

  private void throughProjection(
      INDArray projected, INDArray rowsGradient, Map<String, INDArray> gradients) {
    if (layer.bias != null) {
      gradients.get(Nd4jWeights.BIAS).addi(sum(projected));
    }
    // Seen from the other side, for ND4J's products want their results in 'f' order.
    INDArray weights = gradients.get(Nd4jWeights.PROJECTION).transpose();
    Nd4j.gemm(rows, projected, weights, true, false, 1, 1);
    INDArray projection = forward.projection();
    DataType type = projection.dataType();
    INDArray result = Nd4j.createUninitialized(type, new long[] {layer.rowWidth, all}, 'f');
    projection.transpose().mmuli(projected.castTo(type).transpose(), result);
    rowsGradient.assign(result.transpose().reshape('c', rowsGradient.shape()));
  }

  /**
   * From the gradient of what the layer adds to that of the gated value, and the gradients of taps
   * and norm on the way.
   *
   * @return FLOAT [N, S, W]
   */
  private INDArray throughConvolution(
      INDArray out, INDArray value, Map<String, INDArray> gradients) {
    ConvConfig conv = layer.conv.orElseThrow();
    INDArray sigmoid = Transforms.sigmoid(convolved, true);
    INDArray slope = convolved.mul(sigmoid.rsub(1)).addi(1).muli(sigmoid);
    INDArray towardsTaps = slope.muli(out.reshape('c', convolved.shape()));
    INDArray towardsPadded = Nd4j.zeros(DataType.FLOAT, padded.shape());
    for (int k = 0; k < conv.kernelSize(); k++) {
      long from = (long) k * conv.dilation();
      INDArrayIndex seen = NDArrayIndex.interval(from, from + tokens);
      INDArray part = padded.get(all(), seen, all()).mul(towardsTaps);
      gradients
          .get(Nd4jWeights.CONV)
          .getColumn(k)
          .addi(sum(part.reshape('c', all, layer.channels)).reshape(layer.channels));
      towardsPadded.get(all(), seen, all()).addi(towardsTaps.mul(forward.taps()[k]));
    }
    INDArray towardsNormed =
        towardsPadded
            .get(all(), NDArrayIndex.interval(conv.history(), conv.history() + tokens), all())
            .dup('c')
            .reshape('c', all, count, width);
    float[] scales = new float[gates.length];
    float[] factors = new float[gates.length];
    for (int i = 0; i < scales.length; i++) {
      double rms = gates[i] * norms[i / count * (count + 1) + count];
      double scale = inverseRms(rms, conv.normEps());
      scales[i] = (float) scale;
      factors[i] = (float) (gates[i] * scale);
    }
    INDArray product = towardsNormed.mul(value);
    gradients.get(Nd4jWeights.CONV_NORM).addi(overTokens(product.mul(perGate(factors))));
    double[] means = Nd4jForward.doubles(product.muli(forward.convFactor()).sum(2));
    float[] along = new float[gates.length];
    for (int i = 0; i < along.length; i++) {
      along[i] = (float) (means[i] / width * factors[i] * factors[i] * scales[i]);
    }
    return towardsNormed
        .muli(forward.convFactor())
        .muli(perGate(scales))
        .subi(value.mul(perGate(along)))
        .addi(out);
  }

  private double inverseRms(double norm, double eps) {
    return 1 / Math.sqrt(norm * norm / width + eps);
  }

  private INDArray perGate(float[] values) {
    return Nd4j.createFromArray(values).reshape(all, count, 1);
  }

  /** [N, S, W] to [S, W]. */
  private INDArray overTokens(INDArray array) {
    return sum(array.reshape('c', all, layer.channels)).reshape(count, width);
  }

  /** [N, x] to [x], by a product: it sums in blocks, which is the faster and the better sum. */
  private INDArray sum(INDArray array) {
    return Nd4j.ones(DataType.FLOAT, 1, all).mmul(array).reshape(array.size(1));
  }

  private static INDArrayIndex all() {
    return NDArrayIndex.all();
  }
}
