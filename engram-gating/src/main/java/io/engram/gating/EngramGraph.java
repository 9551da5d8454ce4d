// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * One layer's memory inside a SameDiff graph, made of SameDiff's operations: the same numbers as
 * {@link EngramLayer} gives, and the gradients that automatic differentiation gives.
 *
 * <p>The dense weights become variables of the graph, called {@code name/projection} and so on as
 * {@link Nd4jWeights} names them. The retrieved rows come in by a placeholder, whose gradient is
 * what a table's optimiser needs; {@link GraphTrainer} takes both steps. B and T may be open (-1).
 *
 * <p>The graph is FLOAT or DOUBLE, as its streams are. Two things differ from the other engines.
 * Positions without a token are zeros of the mask, and what they hold must be numbers. A dot
 * product of exactly -0 counts as +0 under {@link GateConfig.ZeroDot#COPY_SIGN}. An output that is
 * rounded to bfloat16 is refused, since SameDiff would round a sum in float32 once more: train with
 * {@link GateConfig.Rounding#NONE}, whose weights are the same.
 *
 * <p>Sources: paper, section 2.3; {@code Engram} of the demo; {@code engram.py} of DeepSeek-V4.1;
 * the PLE of Qwen.
 */
public final class EngramGraph {
  private final Map<String, SDVariable> weights;
  private final SDVariable output;
  private final SDVariable gates;

  private EngramGraph(Map<String, SDVariable> weights, SDVariable output, SDVariable gates) {
    this.weights = weights;
    this.output = output;
    this.gates = gates;
  }

  /**
   * Adds a layer to a graph, all tokens live.
   *
   * @param graph the graph
   * @param name begins the names of the layer's variables, and of {@code name/output} and {@code
   *     name/gates}
   * @param gate the gate, without rounding
   * @param conv the convolution, where the variant has one
   * @param rowWidth E: values that one token retrieves, columns * head dim
   * @param initial what the variables start with; copied
   * @param streams FLOAT or DOUBLE [B, T, S, W]: the hidden state
   * @param rows [B, T, E] in the same type: the retrieved rows, usually a placeholder
   * @return the layer
   * @throws IllegalArgumentException if the weights do not fit the configuration, the types are
   *     others, or the gate rounds
   */
  public static EngramGraph add(
      SameDiff graph,
      String name,
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      LayerWeights initial,
      SDVariable streams,
      SDVariable rows) {
    return add(graph, name, gate, conv, rowWidth, initial, streams, rows, Optional.empty());
  }

  /**
   * Adds a layer to a graph.
   *
   * @param graph the graph
   * @param name begins the names of the layer's variables, and of {@code name/output} and {@code
   *     name/gates}
   * @param gate the gate, without rounding
   * @param conv the convolution, where the variant has one
   * @param rowWidth E: values that one token retrieves, columns * head dim
   * @param initial what the variables start with; copied
   * @param streams FLOAT or DOUBLE [B, T, S, W]: the hidden state
   * @param rows [B, T, E] in the same type: the retrieved rows, usually a placeholder
   * @param live [B, T] in the same type: 1, or 0 where a position has no token (padding, an image)
   * @return the layer
   * @throws IllegalArgumentException if the weights do not fit the configuration, the types are
   *     others, or the gate rounds
   */
  public static EngramGraph add(
      SameDiff graph,
      String name,
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      LayerWeights initial,
      SDVariable streams,
      SDVariable rows,
      Optional<SDVariable> live) {
    Objects.requireNonNull(name, "name");
    DataType type = streams.dataType();
    if (type != DataType.FLOAT && type != DataType.DOUBLE) {
      throw new IllegalArgumentException(
          name + ": streams are " + type + ", expected FLOAT or DOUBLE");
    }
    checkType(name + ": rows are ", rows, type);
    live.ifPresent(mask -> checkType(name + ": live is ", mask, type));
    if (gate.rounding() != GateConfig.Rounding.NONE) {
      throw new IllegalArgumentException(
          name
              + ": a projection rounded to "
              + gate.rounding()
              + " cannot be part of a graph: use a gate with Rounding.NONE, the weights are the"
              + " same");
    }
    initial.check(gate, conv, rowWidth);
    int count = gate.streams();
    int width = gate.width();
    checkShape(name + ": streams are ", streams, -1, -1, count, width);
    checkShape(name + ": rows are ", rows, -1, -1, rowWidth);
    Map<String, SDVariable> weights = new LinkedHashMap<>();
    Nd4jWeights.copyOf(initial)
        .arrays()
        .forEach((key, array) -> weights.put(key, graph.var(name + "/" + key, array.castTo(type))));

    SDVariable projected =
        graph.mmul(
            graph.reshape(rows, -1, rowWidth),
            weights.get(Nd4jWeights.PROJECTION),
            false,
            true,
            false);
    if (gate.bias()) {
      projected = projected.add(weights.get(Nd4jWeights.BIAS));
    }
    SDVariable wide = graph.reshape(projected, -1, count + 1, width);
    SDVariable keys = sections(graph, wide, 0, count);
    SDVariable value = sections(graph, wide, count, 1);
    SDVariable query = graph.reshape(streams, -1, count, width);
    SDVariable normWeight =
        factor(gate, weights.get(Nd4jWeights.KEY_NORM))
            .mul(factor(gate, weights.get(Nd4jWeights.QUERY_NORM)));
    SDVariable dot =
        query
            .mul(normWeight)
            .mul(keys)
            .sum(true, 2)
            .mul(inverseNorm(graph, keys, width, gate.normEps()))
            .mul(inverseNorm(graph, query, width, gate.normEps()))
            .mul(Math.sqrt(width));
    SDVariable gates = gate(graph, gate, dot);
    if (live.isPresent()) {
      gates = gates.mul(graph.reshape(live.get(), -1, 1, 1));
    }
    SDVariable memory = value.mul(gates);
    SDVariable shape = graph.shape(streams);
    SDVariable out = graph.reshape(memory, shape);
    if (conv.isPresent()) {
      SDVariable normed =
          memory
              .mul(inverseNorm(graph, memory, width, conv.get().normEps()))
              .mul(factor(gate, weights.get(Nd4jWeights.CONV_NORM)).mul(Math.sqrt(width)));
      SDVariable taps =
          graph.reshape(weights.get(Nd4jWeights.CONV), count, width, conv.get().kernelSize());
      out = out.add(convolved(graph, conv.get(), graph.reshape(normed, shape), taps));
    }
    if (gate.residual() == GateConfig.Residual.IN_PLACE) {
      out = out.add(streams);
    }
    return new EngramGraph(weights, out.rename(name + "/output"), gates.rename(name + "/gates"));
  }

  private static void checkType(String what, SDVariable variable, DataType type) {
    if (variable.dataType() != type) {
      throw new IllegalArgumentException(
          what + variable.dataType() + ", expected " + type + " as the streams");
    }
  }

  /** Compares what is known of a shape: SameDiff knows that of placeholders and variables. */
  private static void checkShape(String what, SDVariable variable, long... expected) {
    long[] shape = variable.getShape();
    boolean fits = shape == null || shape.length == expected.length;
    for (int i = 0; shape != null && fits && i < shape.length; i++) {
      fits = shape[i] < 0 || expected[i] < 0 || shape[i] == expected[i];
    }
    if (!fits) {
      throw new IllegalArgumentException(
          what + Arrays.toString(shape) + ", expected " + Arrays.toString(expected));
    }
  }

  /** SiLU of the causal convolution: past positions are zeros in front of the sequence. */
  private static SDVariable convolved(
      SameDiff graph, ConvConfig conv, SDVariable normed, SDVariable taps) {
    int history = conv.history();
    INDArray widths = Nd4j.createFromArray(new int[][] {{0, 0}, {history, 0}, {0, 0}, {0, 0}});
    SDVariable padded = history == 0 ? normed : graph.nn().pad(normed, graph.constant(widths), 0);
    SDVariable[] byPosition = graph.unstack(taps, 2, conv.kernelSize());
    SDVariable sum = null;
    for (int k = 0; k < byPosition.length; k++) {
      int from = k * conv.dilation();
      // From its place to as far from the end as the sequence is long; all of the other dimensions.
      SDVariable seen =
          graph.stridedSlice(
              padded,
              new long[] {0, from, 0, 0},
              new long[] {0, from - history, 0, 0},
              new long[] {1, 1, 1, 1},
              0b1101,
              from == history ? 0b1111 : 0b1101,
              0,
              0,
              0);
      SDVariable term = seen.mul(byPosition[k]);
      sum = sum == null ? term : sum.add(term);
    }
    return graph.nn().swish(sum);
  }

  private static SDVariable gate(SameDiff graph, GateConfig gate, SDVariable dot) {
    return switch (gate.shape()) {
      case PLAIN -> graph.nn().sigmoid(dot);
      case SIGNED_SQRT -> {
        // Clipping lets no gradient through below its bound, nor does the size at zero.
        SDVariable size =
            graph.math().clipByValue(graph.math().abs(dot), GateFunction.SMALLEST, Float.MAX_VALUE);
        SDVariable sign =
            switch (gate.zeroDot()) {
              case SIGN_ZERO -> graph.math().sign(dot);
              case COPY_SIGN -> dot.gte(0).castTo(dot.dataType()).mul(2).sub(1);
            };
        yield graph.nn().sigmoid(graph.math().sqrt(size).mul(sign));
      }
    };
  }

  private static SDVariable factor(GateConfig gate, SDVariable norm) {
    return gate.normWeight() == GateConfig.NormWeight.ONE_PLUS ? norm.add(1) : norm;
  }

  /** 1 / rms / sqrt(width): the width goes where it costs nothing. */
  private static SDVariable inverseNorm(SameDiff graph, SDVariable x, int width, double eps) {
    return graph.math().rsqrt(graph.math().squaredNorm(x, true, 2).add(width * eps));
  }

  /** Some sections of [N, S + 1, W]. */
  private static SDVariable sections(SameDiff graph, SDVariable x, long from, long size) {
    return graph.stridedSlice(
        x,
        new long[] {0, from, 0},
        new long[] {0, from + size, 0},
        new long[] {1, 1, 1},
        0b101,
        0b101,
        0,
        0,
        0);
  }

  /**
   * The result.
   *
   * @return [B, T, S, W]: the new streams, or what the graph adds to them, as {@link
   *     GateConfig.Residual} says
   */
  public SDVariable output() {
    return output;
  }

  /**
   * How much was let in.
   *
   * @return [B * T, S, 1], from 0 to 1
   */
  public SDVariable gates() {
    return gates;
  }

  /**
   * The present values of the layer's variables: to be saved, or to be used by {@link EngramLayer}
   * and {@link GateKernel}.
   *
   * @return of a FLOAT graph the variables' own memory, of a DOUBLE one copies
   */
  public Nd4jWeights weights() {
    Map<String, INDArray> arrays = new LinkedHashMap<>();
    weights.forEach((name, variable) -> arrays.put(name, variable.getArr().castTo(DataType.FLOAT)));
    return new Nd4jWeights(arrays);
  }
}
