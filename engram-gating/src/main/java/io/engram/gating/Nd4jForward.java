// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.gating.EngramLayer.Output;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.memory.MemoryWorkspace;
import org.nd4j.linalg.api.memory.conf.WorkspaceConfiguration;
import org.nd4j.linalg.api.memory.enums.LearningPolicy;
import org.nd4j.linalg.api.memory.enums.ResetPolicy;
import org.nd4j.linalg.api.memory.enums.SpillPolicy;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.api.ops.impl.transforms.strict.Swish;
import org.nd4j.linalg.factory.Nd4j;
import org.nd4j.linalg.indexing.INDArrayIndex;
import org.nd4j.linalg.indexing.NDArrayIndex;

/**
 * The layer in ND4J operations: few and large ones, for each costs 10 to 30 microseconds whatever
 * its size. Only the gates of each token and stream, a handful of numbers, are computed on the
 * host, by the function that the CPU engine uses as well.
 *
 * <p>Intermediate arrays live in a workspace of the calling thread, since fresh ones cost more than
 * the arithmetic on them. Long sequences are computed in pieces, so that it stays small.
 */
final class Nd4jForward implements EngramLayer.Forward {
  private static final String WORKSPACE = "ENGRAM_LAYER";
  private static final WorkspaceConfiguration WORKSPACE_CONFIG =
      WorkspaceConfiguration.builder()
          .initialSize(0)
          .policyLearning(LearningPolicy.FIRST_LOOP)
          .policyReset(ResetPolicy.BLOCK_LEFT)
          .policySpill(SpillPolicy.REALLOCATE)
          .build();

  /** Values that go through the host at once while weights are loaded. */
  private static final int LOADED_AT_ONCE = 1 << 22;

  /** Values of the projection that are computed at once: it bounds the workspace. */
  private static final int COMPUTED_AT_ONCE = 1 << 22;

  /** Splits a double at 8 bits: 2^(53 - 8) + 1. */
  private static final double SPLITTER = 0x1p45 + 1;

  private final PreparedLayer layer;
  private final GateFunction function;
  private final int computedAtOnce;

  /** FLOAT or DOUBLE [outputs, E]. */
  private final INDArray projection;

  /** [1, outputs] in the projection's type, or null. */
  private final INDArray bias;

  /** FLOAT [S, W] each: the norms' factors. */
  private final INDArray keyFactor;

  private final INDArray queryFactor;

  /** FLOAT [1, S, W]: their product. */
  private final INDArray normWeight;

  /** The product as DOUBLE. */
  private final INDArray wideNormWeight;

  /** FLOAT [1, S, W], or null. */
  private final INDArray convFactor;

  /** FLOAT [1, 1, S * W] for each tap, or empty. */
  private final INDArray[] taps;

  /** How often the weights were read again. */
  private final AtomicInteger version = new AtomicInteger();

  Nd4jForward(PreparedLayer layer) {
    this(layer, COMPUTED_AT_ONCE);
  }

  Nd4jForward(PreparedLayer layer, int computedAtOnce) {
    this.layer = layer;
    this.computedAtOnce = computedAtOnce;
    this.function = new GateFunction(layer.gate);
    long[] perStream = {1, layer.gate.streams(), layer.gate.width()};
    try (MemoryWorkspace _ = Nd4j.getWorkspaceManager().scopeOutOfWorkspaces()) {
      DataType type = inDouble() ? DataType.DOUBLE : DataType.FLOAT;
      projection = create(type, layer.outputs, layer.rowWidth);
      bias = layer.bias == null ? null : create(type, 1, layer.outputs);
      keyFactor = create(DataType.FLOAT, layer.gate.streams(), layer.gate.width());
      queryFactor = create(DataType.FLOAT, layer.gate.streams(), layer.gate.width());
      normWeight = create(DataType.FLOAT, perStream);
      wideNormWeight = create(DataType.DOUBLE, perStream);
      convFactor = layer.conv.isEmpty() ? null : create(DataType.FLOAT, perStream);
      taps = new INDArray[layer.conv.map(ConvConfig::kernelSize).orElse(0)];
      for (int k = 0; k < taps.length; k++) {
        taps[k] = create(DataType.FLOAT, 1, 1, layer.channels);
      }
    }
    read();
  }

  private static INDArray create(DataType type, long... shape) {
    return Nd4j.createUninitialized(type, shape, 'c');
  }

  @Override
  public void refresh() {
    if (layer.weights.projection().dtype() == Dtype.F8_E4M3) {
      throw new IllegalStateException(
          "the projection is F8_E4M3, which is not changed in place: make a new layer");
    }
    layer.checkSmall();
    layer.checkProjection();
    layer.readSmall();
    read();
    version.incrementAndGet();
  }

  private void read() {
    readProjection();
    if (bias != null) {
      fill(bias, layer.bias);
    }
    fill(keyFactor, layer.keyFactor);
    fill(queryFactor, layer.queryFactor);
    fill(normWeight, layer.normWeight);
    wideNormWeight.assign(normWeight);
    if (convFactor != null) {
      fill(convFactor, layer.convFactor);
    }
    for (int k = 0; k < taps.length; k++) {
      float[] tap = new float[layer.channels];
      System.arraycopy(layer.taps, k * layer.channels, tap, 0, layer.channels);
      fill(taps[k], tap);
    }
  }

  private static void fill(INDArray array, float[] values) {
    array.assign(Nd4j.createFromArray(values).reshape(array.shape()));
  }

  private boolean inDouble() {
    return layer.gate.rounding() == GateConfig.Rounding.BF16;
  }

  private void readProjection() {
    int atOnce = Math.max(1, LOADED_AT_ONCE / layer.rowWidth);
    for (int row = 0; row < layer.outputs; row += atOnce) {
      int rows = Math.min(atOnce, layer.outputs - row);
      float[] values = new float[rows * layer.rowWidth];
      layer.readProjection(row, rows, new short[values.length], values);
      projection
          .get(NDArrayIndex.interval(row, row + rows), NDArrayIndex.all())
          .assign(Nd4j.createFromArray(values).reshape(rows, layer.rowWidth));
    }
  }

  @Override
  public void forward(
      INDArray streams, INDArray rows, boolean[] live, List<ConvState> states, Output output) {
    int claimed = 0;
    try {
      for (; claimed < states.size(); claimed++) {
        states.get(claimed).claim();
      }
      long sequences = streams.size(0);
      long tokens = streams.size(1);
      long step = Math.max(1, computedAtOnce / layer.outputs / sequences);
      // A token refused in a later piece must not have moved a state in an earlier one.
      List<ConvState> moving = tokens <= step ? states : copies(states, (int) sequences);
      for (long from = 0; from < tokens; from += step) {
        long to = Math.min(tokens, from + step);
        try (MemoryWorkspace _ = workspace()) {
          compute(
              from,
              piece(streams, from, to),
              piece(rows, from, to),
              live == null ? null : piece(live, tokens, from, to),
              moving,
              new Output(piece(output.streams(), from, to), piece(output.gates(), from, to)),
              null);
        }
      }
      for (int i = 0; tokens > step && i < states.size(); i++) {
        states.get(i).become(moving.get(i));
      }
    } finally {
      for (int i = 0; i < claimed; i++) {
        states.get(i).release();
      }
    }
  }

  @Override
  public EngramLayer.Tape record(INDArray streams, INDArray rows, boolean[] live, Output output) {
    Nd4jTape tape;
    try (MemoryWorkspace _ = Nd4j.getWorkspaceManager().scopeOutOfWorkspaces()) {
      tape = new Nd4jTape(this, layer, streams, rows, live);
    }
    try (MemoryWorkspace _ = workspace()) {
      compute(0, streams, rows, live, List.of(), output, tape);
    }
    return tape;
  }

  /** Where intermediate arrays of a call live, to be closed at its end. */
  static MemoryWorkspace workspace() {
    return Nd4j.getWorkspaceManager().getAndActivateWorkspace(WORKSPACE_CONFIG, WORKSPACE);
  }

  /** States for a sequence in pieces: the caller's as they are now, or such as are at the start. */
  private List<ConvState> copies(List<ConvState> states, int sequences) {
    if (!states.isEmpty()) {
      return states.stream().map(ConvState::fork).toList();
    }
    return layer
        .conv
        .map(conv ->
            Stream.generate(() -> ConvState.start(layer.gate, conv, 0)).limit(sequences).toList())
        .orElse(List.of());
  }

  private static INDArray piece(INDArray array, long from, long to) {
    return from == 0 && to == array.size(1)
        ? array
        : array.get(all(), NDArrayIndex.interval(from, to));
  }

  private static boolean[] piece(boolean[] live, long tokens, long from, long to) {
    int size = (int) (to - from);
    int sequences = (int) (live.length / tokens);
    boolean[] piece = new boolean[sequences * size];
    for (int i = 0; i < sequences; i++) {
      System.arraycopy(live, (int) (i * tokens + from), piece, i * size, size);
    }
    return piece;
  }

  private void compute(
      long firstToken,
      INDArray streams,
      INDArray rows,
      boolean[] live,
      List<ConvState> states,
      Output output,
      Nd4jTape tape) {
    long tokens = streams.size(0) * streams.size(1);
    int count = layer.gate.streams();
    int width = layer.gate.width();
    INDArray keysAndValue = project(rows.reshape('c', tokens, layer.rowWidth), live);
    INDArray wide = keysAndValue.castTo(DataType.DOUBLE).reshape('c', tokens, count + 1, width);
    INDArray query = streams.castTo(DataType.DOUBLE).reshape('c', tokens, count, width);
    double[] norms = doubles(wide.norm2(2));
    double[] queryNorms = doubles(query.norm2(2));
    INDArray keys = wide.get(all(), NDArrayIndex.interval(0, count), all());
    double[] dots = doubles(query.mul(wideNormWeight).muli(keys).sum(2));
    float[] gates = new float[dots.length];
    for (int n = 0; n < tokens; n++) {
      if (live == null || live[n]) {
        check(firstToken, n, streams, rows, norms, queryNorms);
        for (int s = 0; s < count; s++) {
          double key = norms[n * (count + 1) + s];
          double hidden = queryNorms[n * count + s];
          gates[n * count + s] = function.gate(key * key, hidden * hidden, dots[n * count + s]);
        }
      }
    }
    if (tape != null) {
      tape.gates(keysAndValue, norms, queryNorms, dots, gates);
    }
    INDArray gate = Nd4j.createFromArray(gates).reshape(tokens, count, 1);
    output.gates().assign(gate.reshape(output.gates().shape()));
    INDArray value =
        keysAndValue
            .reshape('c', tokens, count + 1, width)
            .get(all(), NDArrayIndex.interval(count, count + 1), all());
    INDArray memory = value.mul(gate);
    if (layer.conv.isPresent()) {
      memory.addi(
          convolved(value, gates, norms, states, streams.size(0), streams.size(1), tape)
              .reshape(memory.shape()));
    }
    INDArray result = memory.reshape(streams.shape());
    if (layer.gate.residual() == GateConfig.Residual.IN_PLACE) {
      result.addi(streams.castTo(DataType.FLOAT));
    }
    output.streams().assign(result);
  }

  /** FLOAT [N, outputs] in 'c' order: keys of all streams, then the value. */
  INDArray project(INDArray rows, boolean[] live) {
    DataType type = projection.dataType();
    INDArray x = zeroed(rows, live).castTo(type);
    INDArray sums;
    if (x.size(0) == 1) {
      sums = Nd4j.createUninitialized(type, new long[] {1, layer.outputs}, 'f');
      x.mmuli(projection.transpose(), sums);
    } else {
      // The transposed product: a result in 'f' order is the faster one, and seen from the other
      // side it is in 'c' order.
      INDArray product = Nd4j.createUninitialized(type, new long[] {layer.outputs, x.size(0)}, 'f');
      projection.mmuli(x.transpose(), product);
      sums = product.transpose();
    }
    if (bias != null) {
      sums.addi(bias);
    }
    return inDouble() ? roundedToBfloat16(sums) : sums;
  }

  /** The rows with zeros at positions without a token, whose rows may be anything. */
  private static INDArray zeroed(INDArray rows, boolean[] live) {
    if (live == null) {
      return rows;
    }
    INDArray copy = rows.dup('c');
    for (int n = 0; n < live.length; n++) {
      int from = n;
      while (n < live.length && !live[n]) {
        n++;
      }
      if (n > from) {
        copy.get(NDArrayIndex.interval(from, n), all()).assign(0);
      }
    }
    return copy;
  }

  /**
   * DOUBLE to the nearest bfloat16, ties to even, rounded once, as FLOAT. ND4J casts by way of
   * float32, which rounds twice where a sum lies close to a tie. Splitting in double precision
   * rounds once, but ties to either side. A tie is itself a float32, so: the cast where the sum is
   * one, the split elsewhere.
   */
  static INDArray roundedToBfloat16(INDArray sums) {
    INDArray single = sums.castTo(DataType.FLOAT);
    INDArray cast = single.castTo(DataType.BFLOAT16).castTo(DataType.DOUBLE);
    INDArray inexact = sums.neq(single.castTo(DataType.DOUBLE)).castTo(DataType.DOUBLE);
    INDArray product = sums.mul(SPLITTER);
    INDArray split = sums.sub(product).addi(product);
    return split.subi(cast).muli(inexact).addi(cast).castTo(DataType.FLOAT);
  }

  private void check(
      long firstToken,
      int n,
      INDArray streams,
      INDArray rows,
      double[] norms,
      double[] queryNorms) {
    int count = layer.gate.streams();
    long sequence = n / streams.size(1);
    long token = n % streams.size(1);
    for (int s = 0; s < count; s++) {
      if (!Double.isFinite(norms[n * (count + 1) + s])) {
        // Weights are finite and rows may still overflow, which is theirs to do.
        float[] row =
            rows.get(NDArrayIndex.point(sequence), NDArrayIndex.point(token), all())
                .dup()
                .toFloatVector();
        for (int i = 0; i < row.length; i++) {
          if (!Float.isFinite(row[i])) {
            throw new IllegalArgumentException(
                "rows hold "
                    + row[i]
                    + " at sequence "
                    + sequence
                    + ", token "
                    + (firstToken + token)
                    + ", element "
                    + i);
          }
        }
      }
      if (!Double.isFinite(queryNorms[n * count + s])) {
        throw new IllegalArgumentException(
            "streams hold a NaN or an infinity at sequence "
                + sequence
                + ", token "
                + (firstToken + token)
                + ", stream "
                + s);
      }
    }
  }

  /** SiLU of the convolution: FLOAT [B, T, S * W]. */
  private INDArray convolved(
      INDArray value,
      float[] gates,
      double[] norms,
      List<ConvState> states,
      long sequences,
      long tokens,
      Nd4jTape tape) {
    ConvConfig conv = layer.conv.orElseThrow();
    int count = layer.gate.streams();
    int history = conv.history();
    float[] factors = new float[gates.length];
    for (int n = 0; n < factors.length / count; n++) {
      double norm = norms[n * (count + 1) + count];
      double meanSquare = norm * norm / layer.gate.width();
      for (int s = n * count; s < (n + 1) * count; s++) {
        double gate = gates[s];
        factors[s] = (float) (gate / Math.sqrt(gate * gate * meanSquare + conv.normEps()));
      }
    }
    INDArray normed =
        value
            .mul(Nd4j.createFromArray(factors).reshape(sequences * tokens, count, 1))
            .muli(convFactor)
            .reshape(sequences, tokens, layer.channels);
    INDArray padded =
        Nd4j.createUninitialized(
            DataType.FLOAT, new long[] {sequences, history + tokens, layer.channels}, 'c');
    if (history > 0) {
      padded
          .get(all(), NDArrayIndex.interval(0, history), all())
          .assign(past(states, (int) sequences, history));
    }
    padded.get(all(), NDArrayIndex.interval(history, history + tokens), all()).assign(normed);
    INDArray sum = null;
    for (int k = 0; k < taps.length; k++) {
      long from = (long) k * conv.dilation();
      INDArray term =
          padded.get(all(), NDArrayIndex.interval(from, from + tokens), all()).mul(taps[k]);
      sum = sum == null ? term : sum.addi(term);
    }
    if (tape != null) {
      tape.convolution(padded, sum);
    }
    Nd4j.exec(new Swish(sum, sum));
    for (int i = 0; i < states.size(); i++) {
      int kept = (int) Math.min(tokens, states.get(i).capacity());
      INDArrayIndex range = NDArrayIndex.interval(history + tokens - kept, history + tokens);
      float[] last =
          kept == 0
              ? new float[0]
              : padded.get(NDArrayIndex.point(i), range, all()).dup('c').data().asFloat();
      int firstKept = (int) tokens - kept;
      states
          .get(i)
          .append(
              (int) tokens,
              (index, out, from) ->
                  System.arraycopy(
                      last, (index - firstKept) * layer.channels, out, from, layer.channels));
    }
    return sum;
  }

  /** [B, history, S * W]: what came before, zeros before the start. */
  private INDArray past(List<ConvState> states, int sequences, int history) {
    int channels = layer.channels;
    float[] past = new float[Math.multiplyExact(Math.multiplyExact(sequences, history), channels)];
    for (int i = 0; i < states.size(); i++) {
      ConvState state = states.get(i);
      for (int back = history; back > 0; back--) {
        long position = state.position() - back;
        if (position >= 0) {
          System.arraycopy(
              state.ring(),
              state.offset(position),
              past,
              (i * history + history - back) * channels,
              channels);
        }
      }
    }
    return Nd4j.createFromArray(past).reshape(sequences, history, channels);
  }

  int version() {
    return version.get();
  }

  INDArray projection() {
    return projection;
  }

  INDArray keyFactor() {
    return keyFactor;
  }

  INDArray queryFactor() {
    return queryFactor;
  }

  INDArray normWeight() {
    return normWeight;
  }

  INDArray convFactor() {
    return convFactor;
  }

  INDArray[] taps() {
    return taps;
  }

  static double[] doubles(INDArray array) {
    return array.dup('c').data().asDouble();
  }

  private static INDArrayIndex all() {
    return NDArrayIndex.all();
  }
}
