// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;

/**
 * One forward at a time, with the scratch that it needs. Tokens of all sequences are worked off in
 * blocks, so that a weight is read once for a whole block; inside a block each phase is a loop over
 * independent items: rows of the projection, then tokens, then tokens again for the convolution.
 *
 * <p>A token's sums never depend on the block or the thread it falls to.
 */
final class GateRun {
  /** Tokens of a block: enough that reading the weights costs little beside using them. */
  static final int BLOCK = 64;

  /** Rows of the projection that are multiplied together. */
  private static final int PANEL = 4;

  private static final int CHECKED_AT_ONCE = 16;

  /** Multiplications below which waking another thread costs more than it brings. */
  private static final long PARALLEL_WORK = 1 << 20;

  private final PreparedLayer layer;
  private final GateFunction function;
  private final GateLoops loops;
  private final int maxWorkers;
  private final Local[] locals;

  /** The sequence's past where the caller keeps none: only for a sequence longer than a block. */
  private final ConvState ownState;

  /** Made once, for a lambda made at each call would be garbage. */
  private final Workers.Body checkItem = this::checkItem;

  private final Workers.Body projectItem = this::projectItem;
  private final Workers.Body gateItem = this::gateItem;
  private final Workers.Body convolveItem = this::convolveItem;

  // The call.
  private GateCall call;
  private MemorySegment live;
  private int workers;
  private volatile boolean refused;

  // The block: its first token and size, counted over all sequences.
  private int first;
  private int count;
  private float[] x = {};
  private double[] doubles = {};
  private float[] keysAndValue = {};
  private float[] gates = {};
  private float[] normed = {};

  /** Scratch of one worker. */
  private static final class Local {
    final float[] panel;
    final short[] shorts;
    final double[] doublePanel;
    final double[] products;
    final float[] input;
    final float[] out;
    final double[] sums = new double[3];
    final float[] lanes = new float[GateLoops.LANES];
    final double[] doubleLanes = new double[GateLoops.LANES];

    Local(PreparedLayer layer, boolean inDouble) {
      int wide = Math.max(layer.rowWidth, layer.channels);
      panel = new float[PANEL * layer.rowWidth];
      shorts = new short[Math.max(panel.length, wide)];
      doublePanel = new double[inDouble ? panel.length : 0];
      products = new double[PANEL * BLOCK];
      input = new float[wide];
      out = new float[layer.channels];
    }
  }

  GateRun(PreparedLayer layer, GateLoops loops, int maxWorkers) {
    this.layer = layer;
    this.function = new GateFunction(layer.gate);
    this.loops = loops;
    this.maxWorkers = maxWorkers;
    this.locals = new Local[maxWorkers];
    this.locals[0] = new Local(layer, inDouble());
    this.ownState = layer.conv.map(c -> ConvState.start(layer.gate, c, 0)).orElse(null);
  }

  private boolean inDouble() {
    return layer.gate.rounding() == GateConfig.Rounding.BF16;
  }

  /** Computes a call whose memory and states have been checked. */
  void forward(GateCall call) {
    this.call = call;
    try {
      live = call.live().orElse(null);
      workers = shared(call) ? maxWorkers : 1;
      checkInputs();
      int tokens = call.sequences() * call.tokens();
      for (first = 0; first < tokens; first += count) {
        count = Math.min(BLOCK, tokens - first);
        block();
      }
    } finally {
      this.call = null;
      live = null;
    }
  }

  private boolean shared(GateCall call) {
    return Memory.isShared(layer.projection)
        && Memory.isShared(call.rows())
        && Memory.isShared(call.streams())
        && Memory.isShared(call.out())
        && (live == null || Memory.isShared(live));
  }

  /** Everything is looked at before anything is written: a refused call leaves no trace. */
  private void checkInputs() {
    int tokens = call.sequences() * call.tokens();
    refused = false;
    parallel(
        (tokens + CHECKED_AT_ONCE - 1) / CHECKED_AT_ONCE,
        (long) tokens * (layer.rowWidth + layer.channels),
        checkItem);
    if (refused) {
      for (int token = 0; token < tokens; token++) {
        explain(token);
      }
    }
  }

  private void checkItem(int worker, int item) {
    Local local = locals[worker];
    int end = Math.min((item + 1) * CHECKED_AT_ONCE, call.sequences() * call.tokens());
    for (int token = item * CHECKED_AT_ONCE; token < end && !refused; token++) {
      if (isLive(token)) {
        readRow(token, local);
        boolean good = loops.finite(local.input, 0, layer.rowWidth);
        readStreams(token, local);
        if (!good || !loops.finite(local.input, 0, layer.channels)) {
          refused = true;
        }
      }
    }
  }

  private void explain(int token) {
    if (!isLive(token)) {
      return;
    }
    Local local = locals[0];
    String where = " at sequence " + token / call.tokens() + ", token " + token % call.tokens();
    readRow(token, local);
    for (int i = 0; i < layer.rowWidth; i++) {
      if (!Float.isFinite(local.input[i])) {
        throw new IllegalArgumentException(
            "rows hold " + local.input[i] + where + ", element " + i);
      }
    }
    readStreams(token, local);
    int width = layer.gate.width();
    for (int i = 0; i < layer.channels; i++) {
      if (!Float.isFinite(local.input[i])) {
        throw new IllegalArgumentException(
            "streams hold "
                + local.input[i]
                + where
                + ", stream "
                + i / width
                + ", element "
                + i % width);
      }
    }
  }

  private void block() {
    project(call.rows());
    gates = atLeast(gates, BLOCK, layer.gate.streams());
    if (layer.conv.isPresent()) {
      normed = atLeast(normed, BLOCK, layer.channels);
    }
    parallel(count, 8L * count * layer.channels, gateItem);
    if (call.gates().isPresent()) {
      int streams = layer.gate.streams();
      long at = (long) first * streams * Float.BYTES;
      MemorySegment.copy(gates, 0, call.gates().get(), Memory.FLOAT, at, count * streams);
    }
    if (layer.conv.isPresent()) {
      parallel(count, 16L * count * layer.channels, convolveItem);
      advance();
    }
  }

  // --- projection -----------------------------------------------------------------------------

  /** Keys and value of a block of tokens: [count, outputs], valid until the next call. */
  float[] project(MemorySegment rows, int from, int tokens) {
    first = from;
    count = tokens;
    workers = maxWorkers;
    project(rows);
    return keysAndValue;
  }

  private void project(MemorySegment rows) {
    int width = layer.rowWidth;
    x = atLeast(x, count, width);
    for (int n = 0; n < count; n++) {
      if (isLive(first + n)) {
        MemorySegment.copy(
            rows, Memory.FLOAT, (long) (first + n) * width * Float.BYTES, x, n * width, width);
      } else {
        Arrays.fill(x, n * width, (n + 1) * width, 0);
      }
    }
    if (inDouble()) {
      int values = count * width;
      if (doubles.length < values) {
        doubles = new double[values];
      }
      for (int i = 0; i < values; i++) {
        doubles[i] = x[i];
      }
    }
    keysAndValue = atLeast(keysAndValue, count, layer.outputs);
    parallel(
        (layer.outputs + PANEL - 1) / PANEL, (long) count * layer.outputs * width, projectItem);
  }

  private void projectItem(int worker, int item) {
    Local local = locals[worker];
    int output = item * PANEL;
    int rows = Math.min(PANEL, layer.outputs - output);
    int width = layer.rowWidth;
    layer.readProjection(output, rows, local.shorts, local.panel);
    if (inDouble()) {
      for (int i = 0; i < rows * width; i++) {
        local.doublePanel[i] = local.panel[i];
      }
      loops.multiply(
          local.doublePanel, rows, doubles, count, width, local.products, local.doubleLanes);
    } else {
      loops.multiply(local.panel, rows, x, count, width, local.products, local.lanes);
    }
    for (int n = 0; n < count; n++) {
      for (int r = 0; r < rows; r++) {
        double sum = local.products[n * rows + r];
        if (layer.bias != null) {
          sum += layer.bias[output + r];
        }
        keysAndValue[n * layer.outputs + output + r] =
            inDouble() ? Bfloat16.round(sum) : (float) sum;
      }
    }
  }

  // --- gate -----------------------------------------------------------------------------------

  private void gateItem(int worker, int n) {
    int streams = layer.gate.streams();
    int width = layer.gate.width();
    int token = first + n;
    boolean isLive = isLive(token);
    Local local = locals[worker];
    int keys = n * layer.outputs;
    int value = keys + layer.channels;
    if (isLive) {
      readStreams(token, local);
    }
    for (int s = 0; s < streams; s++) {
      float gate = 0;
      if (isLive) {
        loops.gateSums(
            keysAndValue,
            keys + s * width,
            local.input,
            s * width,
            layer.normWeight,
            s * width,
            width,
            local.sums,
            local.doubleLanes);
        gate = function.gate(local.sums[0], local.sums[1], local.sums[2]);
      }
      gates[n * streams + s] = gate;
    }
    if (layer.conv.isPresent()) {
      normalise(n, value, local);
    } else {
      write(token, n, local, false);
    }
  }

  /**
   * The norm of gate * value for each stream. Its mean square is the square of the gate times that
   * of the value, so one sum serves all streams.
   */
  private void normalise(int n, int value, Local local) {
    int streams = layer.gate.streams();
    int width = layer.gate.width();
    double meanSquare = loops.sumOfSquares(keysAndValue, value, width, local.doubleLanes) / width;
    double eps = layer.conv.orElseThrow().normEps();
    for (int s = 0; s < streams; s++) {
      double gate = gates[n * streams + s];
      float factor = (float) (gate / Math.sqrt(gate * gate * meanSquare + eps));
      loops.scale(
          keysAndValue,
          value,
          factor,
          layer.convFactor,
          s * width,
          normed,
          n * layer.channels + s * width,
          width);
    }
  }

  // --- convolution ----------------------------------------------------------------------------

  private void convolveItem(int worker, int n) {
    Local local = locals[worker];
    ConvConfig conv = layer.conv.orElseThrow();
    int token = first + n;
    int sequence = token / call.tokens();
    int inBlock = token - Math.max(sequence * call.tokens(), first);
    ConvState past = past(sequence);
    Arrays.fill(local.out, 0);
    for (int k = 0; k < conv.kernelSize(); k++) {
      int back = (conv.kernelSize() - 1 - k) * conv.dilation();
      int tap = k * layer.channels;
      if (back <= inBlock) {
        int from = (n - back) * layer.channels;
        loops.addProduct(normed, from, layer.taps, tap, local.out, 0, layer.channels);
      } else if (past != null) {
        long position = past.position() + inBlock - back;
        if (position >= 0) {
          loops.addProduct(
              past.ring(), past.offset(position), layer.taps, tap, local.out, 0, layer.channels);
        }
      }
    }
    loops.silu(local.out, 0, layer.channels);
    write(token, n, local, true);
  }

  /** What came before this block in a sequence, or null at its start. */
  private ConvState past(int sequence) {
    if (!call.states().isEmpty()) {
      return call.states().get(sequence);
    }
    return sequence * call.tokens() < first ? ownState : null;
  }

  /** Hands the block's vectors to the states. */
  private void advance() {
    List<ConvState> states = call.states();
    int tokens = call.tokens();
    int end = first + count;
    int sequence = first / tokens;
    for (int from = first; from < end; sequence++) {
      int to = Math.min((sequence + 1) * tokens, end);
      if (!states.isEmpty()) {
        states.get(sequence).append(to - from, normed, from - first, to - from);
      } else {
        if (from == sequence * tokens) {
          ownState.reset();
        }
        ownState.append(to - from, normed, from - first, to - from);
      }
      from = to;
    }
  }

  // --- memory ---------------------------------------------------------------------------------

  /**
   * Writes the result of a token: gate * value for each stream, on top of what {@code local.out}
   * holds if {@code add}, and of the streams where the layer writes in place.
   */
  private void write(int token, int n, Local local, boolean add) {
    int streams = layer.gate.streams();
    int width = layer.gate.width();
    if (!add) {
      Arrays.fill(local.out, 0);
    }
    for (int s = 0; s < streams; s++) {
      float gate = gates[n * streams + s];
      if (gate != 0) {
        loops.addScaled(
            keysAndValue, n * layer.outputs + layer.channels, gate, local.out, s * width, width);
      }
    }
    float[] result = local.out;
    if (layer.gate.residual() == GateConfig.Residual.IN_PLACE) {
      readStreams(token, local);
      result = local.input;
      loops.addScaled(local.out, 0, 1, result, 0, layer.channels);
    }
    Memory.write(
        loops,
        result,
        layer.channels,
        local.shorts,
        call.out(),
        call.dtype(),
        (long) token * layer.channels);
  }

  private boolean isLive(int token) {
    return live == null || live.get(ValueLayout.JAVA_BYTE, token) != 0;
  }

  private void readRow(int token, Local local) {
    long at = (long) token * layer.rowWidth * Float.BYTES;
    MemorySegment.copy(call.rows(), Memory.FLOAT, at, local.input, 0, layer.rowWidth);
  }

  private void readStreams(int token, Local local) {
    Memory.read(
        loops,
        call.streams(),
        call.dtype(),
        (long) token * layer.channels,
        local.shorts,
        local.input,
        layer.channels);
  }

  private void parallel(int items, long work, Workers.Body body) {
    int wanted = work < PARALLEL_WORK ? 1 : workers;
    for (int i = 1; i < wanted; i++) {
      if (locals[i] == null) {
        locals[i] = new Local(layer, inDouble());
      }
    }
    Workers.forEach(wanted, items, body);
  }

  private static float[] atLeast(float[] array, int vectors, int width) {
    int size = Math.multiplyExact(vectors, width);
    return array.length >= size ? array : new float[size];
  }
}
