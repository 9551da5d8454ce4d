// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import io.engram.hash.kernel.Workers;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;

/**
 * One forward at a time, with the scratch that it needs. Tokens of all sequences are worked off in
 * blocks, so that a weight is read once for a whole block. Inside a block each phase is a loop over
 * independent items:
 *
 * <ul>
 *   <li>the tokens are laid out for the product;
 *   <li>a group of outputs of all tokens is computed and, while it is in cache, taken into the sums
 *       of the gate: keys are never written to memory;
 *   <li>the sums become gates;
 *   <li>each stream of a token gets its convolution, its memory and its residual in one pass.
 * </ul>
 *
 * <p>A token's sums never depend on the block or the thread it falls to.
 */
final class GateRun {
  /** Tokens of a block: enough that reading the weights costs little beside using them. */
  static final int BLOCK = 128;

  private static final int CHECKED_AT_ONCE = 16;

  /** Multiplications below which waking another thread costs more than it brings. */
  private static final long PARALLEL_WORK = 1 << 20;

  private static final int SUMS = GateTape.SUMS;

  private final PreparedLayer layer;
  private final BlockProduct product;
  private final GateFunction function;
  private final GateLoops loops;
  private final int maxWorkers;
  private final Workers crew;
  private final Local[] locals;
  private final OutputGroups groups;
  private final int perSection;

  /** The sequence's past where the caller keeps none: only for a sequence longer than a block. */
  private final ConvState ownState;

  /** Made once, for a lambda made at each call would be garbage. */
  private final Workers.Body checkItem = this::checkItem;

  private final Workers.Body layOutItem = this::layOutItem;
  private final Workers.Body pieceItem = this::pieceItem;
  private final Workers.Body groupItem = this::groupItem;
  private final Workers.Body gateItem = this::gateItem;
  private final Workers.Body writeItem = this::writeItem;
  private final ConvState.Source normedSource = this::normed;

  // The call.
  private GateCall call;
  private MemorySegment live;

  /** What the call is remembered in, or null. */
  private GateTape tape;

  private int workers;
  private volatile boolean refused;

  // The block: its first token and size, counted over all sequences.
  private int first;
  private int count;

  /** The token that {@link #normed} counts from. */
  private int appended;

  /** [count, streams, groups of a section, SUMS]. */
  private double[] keySums = {};

  /** [count, groups of a section]: squares of the value. */
  private double[] valueSums = {};

  /** [count, width]. */
  private float[] values = {};

  /** [count, streams]. */
  private float[] gates = {};

  /** [count, streams]: what makes of a value its normalised memory, the norm's weight apart. */
  private float[] factors = {};

  /** Scratch of one worker. */
  private static final class Local {
    final float[] fours;
    final float[] products;
    final float[] input;
    final float[] out;
    final short[] shorts;
    final double[] sums = new double[SUMS];
    final double[] lanes = new double[GateLoops.LANES];

    Local(PreparedLayer layer, OutputGroups groups) {
      int wide = Math.max(layer.rowWidth, layer.channels);
      fours = new float[GateLoops.TOKENS * layer.rowWidth];
      products = new float[BLOCK * groups.groupWidth()];
      input = new float[wide];
      out = new float[layer.gate.width()];
      shorts = new short[wide];
    }
  }

  GateRun(PreparedLayer layer, BlockProduct.Maker product, GateLoops loops, int maxWorkers) {
    this.layer = layer;
    this.product = product.forRun(maxWorkers);
    this.groups = product.groups();
    this.perSection = groups.perSection();
    this.function = new GateFunction(layer.gate);
    this.loops = loops;
    this.maxWorkers = maxWorkers;
    this.crew = new Workers(maxWorkers);
    this.locals = new Local[maxWorkers];
    this.locals[0] = new Local(layer, groups);
    this.ownState = layer.conv.map(c -> ConvState.start(layer.gate, c, 0)).orElse(null);
  }

  /** Computes a call whose memory and states have been checked. */
  void forward(GateCall call) {
    forward(call, null);
  }

  /**
   * The same.
   *
   * @param tape remembers it, or null
   */
  void forward(GateCall call, GateTape tape) {
    this.call = call;
    this.tape = tape;
    crew.begin();
    try {
      live = call.live().orElse(null);
      workers = shared(call) ? maxWorkers : 1;
      checkInputs();
      if (tape != null) {
        tape.start(call);
      }
      int tokens = call.sequences() * call.tokens();
      for (first = 0; first < tokens; first += count) {
        count = Math.min(BLOCK, tokens - first);
        block();
      }
    } finally {
      crew.end();
      this.call = null;
      this.tape = null;
      live = null;
    }
  }

  private boolean shared(GateCall call) {
    return Memory.isShared(call.rows())
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
        readStreams(token, 0, layer.channels, local);
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
    readStreams(token, 0, layer.channels, local);
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
    int streams = layer.gate.streams();
    int width = layer.rowWidth;
    product.start(count);
    keySums = atLeast(keySums, count, streams * perSection * SUMS);
    valueSums = atLeast(valueSums, count, perSection);
    values = atLeast(values, count, layer.gate.width());
    gates = atLeast(gates, count, streams);
    factors = atLeast(factors, count, streams);
    long elements = (long) count * layer.channels;
    parallel(Math.ceilDiv(count, GateLoops.TOKENS), 2L * count * width, layOutItem);
    long products = (long) count * layer.outputs * width;
    parallel(product.pieces(), products, pieceItem);
    parallel(groups.count(), products, groupItem);
    parallel(count, 64L * count * streams, gateItem);
    if (tape != null) {
      System.arraycopy(
          values, 0, tape.values, first * layer.gate.width(), count * layer.gate.width());
      System.arraycopy(gates, 0, tape.gates, first * streams, count * streams);
      System.arraycopy(factors, 0, tape.factors, first * streams, count * streams);
    }
    if (call.gates().isPresent()) {
      long at = (long) first * streams * Float.BYTES;
      MemorySegment.copy(gates, 0, call.gates().get(), Memory.FLOAT, at, count * streams);
    }
    parallel(count, (layer.conv.isPresent() ? 24 : 8) * elements, writeItem);
    if (layer.conv.isPresent()) {
      advance();
    }
  }

  // --- projection -----------------------------------------------------------------------------

  /** Lays out four tokens, or what is left of the last four. */
  private void layOutItem(int worker, int item) {
    float[] rows = locals[worker].fours;
    int width = layer.rowWidth;
    int token = item * GateLoops.TOKENS;
    int tokens = Math.min(GateLoops.TOKENS, count - token);
    for (int t = 0; t < tokens; t++) {
      if (isLive(first + token + t)) {
        long at = (long) (first + token + t) * width * Float.BYTES;
        MemorySegment.copy(call.rows(), Memory.FLOAT, at, rows, t * width, width);
      } else {
        Arrays.fill(rows, t * width, (t + 1) * width, 0);
      }
    }
    product.put(token, tokens, rows);
    if (tape != null) {
      System.arraycopy(rows, 0, tape.rows, (first + token) * width, tokens * width);
    }
  }

  private void pieceItem(int worker, int piece) {
    product.piece(piece);
  }

  /** One group of outputs of one stream's key, or of the value. */
  private void groupItem(int worker, int item) {
    Local local = locals[worker];
    product.group(worker, item, local.products);
    int streams = layer.gate.streams();
    int section = groups.section(item);
    int stride = groups.groupWidth();
    int columns = groups.columns(item);
    int group = groups.group(item);
    for (int n = 0; n < count && section == streams; n++) {
      int to = n * layer.gate.width() + groups.column(item);
      System.arraycopy(local.products, n * stride, values, to, columns);
      if (layer.conv.isPresent()) {
        valueSums[n * perSection + group] =
            loops.sumOfSquares(local.products, n * stride, columns, local.lanes);
      }
    }
    for (int n = 0; n < count && section < streams; n++) {
      if (isLive(first + n)) {
        int channel = groups.output(item);
        readStreams(first + n, channel, columns, local);
        loops.gateSums(
            local.products,
            n * stride,
            local.input,
            0,
            layer.normWeight,
            channel,
            columns,
            local.sums,
            local.lanes);
        int at = ((n * streams + section) * perSection + group) * SUMS;
        System.arraycopy(local.sums, 0, keySums, at, SUMS);
        if (tape != null) {
          int to = (first + n) * layer.channels + channel;
          System.arraycopy(local.products, n * stride, tape.keys, to, columns);
          System.arraycopy(local.input, 0, tape.streams, to, columns);
        }
      }
    }
  }

  /** Keys and value of one block of tokens as the gate sees them, [tokens, outputs], for tests. */
  float[] keysAndValue(GateCall rowsOnly) {
    call = rowsOnly;
    first = 0;
    count = rowsOnly.sequences() * rowsOnly.tokens();
    product.start(count);
    for (int item = 0; item * GateLoops.TOKENS < count; item++) {
      layOutItem(0, item);
    }
    for (int piece = 0; piece < product.pieces(); piece++) {
      product.piece(piece);
    }
    float[] all = new float[count * layer.outputs];
    float[] products = locals[0].products;
    for (int item = 0; item < groups.count(); item++) {
      product.group(0, item, products);
      for (int n = 0; n < count; n++) {
        int to = n * layer.outputs + groups.output(item);
        System.arraycopy(products, n * groups.groupWidth(), all, to, groups.columns(item));
      }
    }
    call = null;
    return all;
  }

  // --- gate -----------------------------------------------------------------------------------

  /** The gates of one token and, before a convolution, the norms of gate * value. */
  private void gateItem(int worker, int n) {
    int streams = layer.gate.streams();
    boolean isLive = isLive(first + n);
    double meanSquare = 0;
    for (int g = 0; g < perSection && layer.conv.isPresent(); g++) {
      meanSquare += valueSums[n * perSection + g];
    }
    meanSquare /= layer.gate.width();
    if (tape != null) {
      tape.meanSquares[first + n] = meanSquare;
    }
    for (int s = 0; s < streams; s++) {
      float gate = 0;
      if (isLive) {
        double keys = 0;
        double queries = 0;
        double dot = 0;
        int at = (n * streams + s) * perSection * SUMS;
        for (int g = 0; g < perSection; g++, at += SUMS) {
          keys += keySums[at];
          queries += keySums[at + 1];
          dot += keySums[at + 2];
        }
        gate = function.gate(keys, queries, dot);
        if (tape != null) {
          tape.keepSums(first + n, s, keys, queries, dot);
        }
      }
      gates[n * streams + s] = gate;
      if (layer.conv.isPresent()) {
        // The mean square of gate * value is that of the value times the gate's square, so that
        // one sum serves all streams.
        double square = (double) gate * gate * meanSquare;
        factors[n * streams + s] = (float) (gate / Math.sqrt(square + layer.conv.get().normEps()));
      }
    }
  }

  /** The normalised memory of a token: what a state keeps. */
  private void normed(int index, float[] out, int from) {
    int n = appended + index;
    int streams = layer.gate.streams();
    int width = layer.gate.width();
    for (int s = 0; s < streams; s++) {
      loops.scale(
          values,
          n * width,
          factors[n * streams + s],
          layer.convFactor,
          s * width,
          out,
          from + s * width,
          width);
    }
  }

  // --- convolution and residual ---------------------------------------------------------------

  /** One token: for each stream SiLU(convolution) + gate * value, and the stream itself. */
  private void writeItem(int worker, int n) {
    Local local = locals[worker];
    int token = first + n;
    int width = layer.gate.width();
    for (int s = 0; s < layer.gate.streams(); s++) {
      Arrays.fill(local.out, 0, width, 0);
      if (layer.conv.isPresent()) {
        convolve(token, n, s, local.out);
        loops.silu(local.out, 0, width);
      }
      float gate = gates[n * layer.gate.streams() + s];
      if (gate != 0) {
        loops.addScaled(values, n * width, gate, local.out, 0, width);
      }
      float[] result = local.out;
      if (layer.gate.residual() == GateConfig.Residual.IN_PLACE) {
        readStreams(token, s * width, width, local);
        result = local.input;
        loops.addScaled(local.out, 0, 1, result, 0, width);
      }
      Memory.write(
          loops,
          result,
          width,
          local.shorts,
          call.out(),
          call.dtype(),
          (long) token * layer.channels + (long) s * width);
    }
  }

  private void convolve(int token, int n, int s, float[] out) {
    ConvConfig conv = layer.conv.orElseThrow();
    int streams = layer.gate.streams();
    int width = layer.gate.width();
    int sequence = token / call.tokens();
    int inBlock = token - Math.max(sequence * call.tokens(), first);
    ConvState past = past(sequence);
    for (int k = 0; k < conv.kernelSize(); k++) {
      int back = (conv.kernelSize() - 1 - k) * conv.dilation();
      int tap = k * layer.channels + s * width;
      if (back <= inBlock) {
        int m = n - back;
        loops.addTap(
            values,
            m * width,
            factors[m * streams + s],
            layer.convFactor,
            s * width,
            layer.taps,
            tap,
            out,
            0,
            width);
      } else if (past != null) {
        long position = past.position() + inBlock - back;
        if (position >= 0) {
          int at = past.offset(position) + s * width;
          loops.addProduct(past.ring(), at, layer.taps, tap, out, 0, width);
        }
      }
    }
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
      ConvState state = states.isEmpty() ? ownState : states.get(sequence);
      if (states.isEmpty() && from == sequence * tokens) {
        state.reset();
      }
      appended = from - first;
      state.append(to - from, normedSource);
      from = to;
    }
  }

  // --- memory ---------------------------------------------------------------------------------

  private boolean isLive(int token) {
    return live == null || live.get(ValueLayout.JAVA_BYTE, token) != 0;
  }

  private void readRow(int token, Local local) {
    long at = (long) token * layer.rowWidth * Float.BYTES;
    MemorySegment.copy(call.rows(), Memory.FLOAT, at, local.input, 0, layer.rowWidth);
  }

  /** Some channels of a token's streams: {@code local.input}. */
  private void readStreams(int token, int channel, int channels, Local local) {
    Memory.read(
        loops,
        call.streams(),
        call.dtype(),
        (long) token * layer.channels + channel,
        local.shorts,
        local.input,
        channels);
  }

  private void parallel(int items, long work, Workers.Body body) {
    int wanted = work < PARALLEL_WORK ? 1 : workers;
    for (int i = 1; i < wanted; i++) {
      if (locals[i] == null) {
        locals[i] = new Local(layer, groups);
      }
    }
    crew.forEach(wanted, items, body);
  }

  private static float[] atLeast(float[] array, int vectors, int width) {
    int size = Math.multiplyExact(vectors, width);
    return array.length >= size ? array : new float[size];
  }

  private static double[] atLeast(double[] array, int vectors, int width) {
    int size = Math.multiplyExact(vectors, width);
    return array.length >= size ? array : new double[size];
  }
}
