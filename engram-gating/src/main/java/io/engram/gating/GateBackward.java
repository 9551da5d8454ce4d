// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.kernel.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * One backward at a time, with the scratch that it needs. Tokens are worked off in blocks from the
 * first to the last; inside a block each phase is a loop over independent items:
 *
 * <ul>
 *   <li>a chunk of channels of one part of the tokens goes back through the convolution, from its
 *       last token to its first, as far as the gate: every position needs what comes up to a
 *       convolution's reach later, which a part computes again rather than wait for;
 *   <li>two sums for each token and stream become the gradients of its gate's sums;
 *   <li>a chunk of keys or of the value gets its gradient, laid out for both products;
 *   <li>what the parts have summed up for weights is added to the caller's gradients;
 *   <li>gradient * projection gives the rows' gradient;
 *   <li>gradient transposed * rows gives the projection's.
 * </ul>
 *
 * <p>A token's gradients depend on its own sequence alone. Each sum over tokens is made of parts at
 * fixed places, in their order, whichever thread computes them.
 */
final class GateBackward {
  /** Tokens after which the projection's gradient is read and written once. */
  static final int BLOCK = 512;

  /** Tokens of a part: as many as the second cache holds of one chunk beside the rest. */
  static final int PART = 128;

  /** Channels of an item that works on elements alone. */
  private static final int CHUNK = 256;

  /** Rows of the projection whose gradient is one item. */
  private static final int OUTPUTS = 64;

  /** Summands of one chain: a piece of four panels stays in the second cache. */
  private static final int DEPTH = 256;

  private static final int CHECKED_AT_ONCE = 16;

  private static final int TOKENS_AT_ONCE = 16;

  private static final int ROWS_AT_ONCE = 16;

  /** Multiplications below which waking another thread costs more than it brings. */
  private static final long PARALLEL_WORK = 1 << 20;

  /** Of a gate: for key * stream, for the key itself, for the stream itself. */
  private static final int SLOPES = 3;

  private final PreparedLayer layer;
  private final GateLoops loops;
  private final GateFunction function;
  private final int maxWorkers;
  private final Workers crew;
  private final Local[] locals;
  private final int streams;
  private final int width;
  private final int channels;
  private final int rowWidth;
  private final int outputs;
  private final int taps;
  private final int chunks;
  private final int panelWidth;
  private final int groupWidth;
  private final int rowGroups;
  private final int outputGroups;

  /** Made once, for a lambda made at each call would be garbage. */
  private final Workers.Body checkItem = this::checkItem;

  private final Workers.Body convItem = this::convItem;
  private final Workers.Body slopesItem = this::slopesItem;
  private final Workers.Body gradientItem = this::gradientItem;
  private final Workers.Body packItem = this::packItem;
  private final Workers.Body reduceItem = this::reduceItem;
  private final Workers.Body layOutProjectionItem = this::layOutProjectionItem;
  private final Workers.Body rowsItem = this::rowsItem;
  private final Workers.Body writeRowsItem = this::writeRowsItem;
  private final Workers.Body projectionItem = this::projectionItem;

  /** The gradients that were looked at last, with their tensors' names and memory. */
  private LayerWeights checked;

  private String[] names = {};
  private MemorySegment[] tensors = {};

  // The call.
  private GateTape tape;
  private MemorySegment outGradient;
  private MemorySegment rowsGradient;
  private MemorySegment streamsGradient;
  private LayerWeights gradients;

  /** F32 or BF16 [outputs, rowWidth], where the caller has it. */
  private Tensor projection;

  private int tokens;
  private int workers;
  private volatile boolean refused;

  // The block: its first token and size, counted over all sequences.
  private int first;
  private int count;
  private int parts;

  /** The first row of the projection that is multiplied by now, and how many there are. */
  private int firstOutput;

  private int depth;

  /** [count, channels]: of the normalised memory, its norm's weight apart. */
  private float[] normedGradients = {};

  /** [count, streams, chunks, 2]: normed gradient * value, output gradient * value. */
  private double[] valueDots = {};

  /** [count, streams, SLOPES]. */
  private float[] slopes = {};

  /** [count]: what the norm before the convolution takes of the value itself. */
  private float[] valueFactors = {};

  /** [parts, taps, channels]: sums of convolution gradient * normalised memory. */
  private float[] tapSums = {};

  /** [parts, channels]: sums of key * stream * slope. */
  private float[] normSums = {};

  /** [parts, outputs]. */
  private float[] biasSums = {};

  /** [count / 4, outputs, 4]: the gradient of keys and value, four tokens side by side. */
  private float[] byToken = {};

  /** [outputs / 4, outputStride, 4]: the same, four outputs side by side. */
  private float[] byOutput = {};

  /** More than the tokens: rows a power of two apart would fall on the same lines of a cache. */
  private int outputStride;

  /** [count, rowGroups * groupWidth]: the rows' gradient as far as it is summed up. */
  private float[] rowSums = {};

  /** F32 [panels, count, panelWidth]: the rows. */
  private MemorySegment rowPanels = MemorySegment.NULL;

  /** F32 [panels, DEPTH, panelWidth]: some rows of the projection. */
  private final MemorySegment projectionPanels;

  /** Scratch of one worker. */
  private final class Local {
    final float[] gradient = new float[CHUNK];
    final float[] mixed = new float[CHUNK];
    final float[] fours = new float[GateLoops.TOKENS * CHUNK];
    final float[] queries = new float[CHUNK];
    final float[] small = new float[CHUNK * Math.max(taps, 1)];
    final float[] convGradients =
        new float[layer.conv.map(c -> Math.multiplyExact(PART + c.history(), CHUNK)).orElse(0)];
    final float[] products = new float[OUTPUTS * groupWidth];
    final float[] wide = new float[Math.max(channels, rowWidth)];
    final short[] shorts = new short[rowWidth];
    final double[] sums = new double[2];
    final double[] lanes = new double[GateLoops.LANES];
  }

  GateBackward(PreparedLayer layer, GateLoops loops, int maxWorkers) {
    this.layer = layer;
    this.loops = loops;
    this.function = new GateFunction(layer.gate);
    this.maxWorkers = maxWorkers;
    this.crew = new Workers(maxWorkers);
    this.locals = new Local[maxWorkers];
    this.streams = layer.gate.streams();
    this.width = layer.gate.width();
    this.channels = layer.channels;
    this.rowWidth = layer.rowWidth;
    this.outputs = layer.outputs;
    this.taps = layer.conv.map(ConvConfig::kernelSize).orElse(0);
    this.chunks = Math.ceilDiv(width, CHUNK);
    this.panelWidth = loops.panelWidth();
    this.groupWidth = GateLoops.PANELS * panelWidth;
    this.rowGroups = Math.ceilDiv(rowWidth, groupWidth);
    this.outputGroups = Math.ceilDiv(outputs, OUTPUTS);
    this.projectionPanels =
        Arena.ofAuto().allocate((long) rowGroups * groupWidth * DEPTH * Float.BYTES, 64);
    this.locals[0] = new Local();
  }

  /** Refuses memory that does not fit a tape, before anything is written. */
  void check(
      GateTape tape,
      MemorySegment outGradient,
      MemorySegment rowsGradient,
      MemorySegment streamsGradient,
      LayerWeights gradients) {
    checkSize("outGradient", outGradient, tape, channels);
    checkSize("rowsGradient", rowsGradient, tape, rowWidth);
    checkSize("streamsGradient", streamsGradient, tape, channels);
    Memory.checkWritable("rowsGradient", rowsGradient);
    Memory.checkWritable("streamsGradient", streamsGradient);
    Memory.checkApart("rowsGradient", rowsGradient, "outGradient", outGradient);
    Memory.checkApart("streamsGradient", streamsGradient, "outGradient", outGradient);
    Memory.checkApart("rowsGradient", rowsGradient, "streamsGradient", streamsGradient);
    if (!gradients.equals(checked)) {
      checkGradients(gradients);
    }
    for (int i = 0; i < tensors.length; i++) {
      MemorySegment memory = tensors[i];
      if (!memory.scope().isAlive()) {
        throw new IllegalStateException("the memory of " + names[i] + " is already closed");
      }
      Memory.checkApart(names[i], memory, "outGradient", outGradient);
      Memory.checkApart(names[i], memory, "rowsGradient", rowsGradient);
      Memory.checkApart(names[i], memory, "streamsGradient", streamsGradient);
    }
  }

  private static void checkSize(String name, MemorySegment memory, GateTape tape, int perToken) {
    Memory.check(name, memory, tape.sequences(), tape.tokens(), perToken, Float.BYTES);
  }

  /** What a record of tensors says once it says always; looking costs garbage. */
  private void checkGradients(LayerWeights gradients) {
    checked = null;
    if (gradients.projection().dtype() != Dtype.F32) {
      throw new IllegalArgumentException(
          "the projection's gradient is " + gradients.projection() + ", expected F32");
    }
    try {
      gradients.check(layer.gate, layer.conv, rowWidth);
    } catch (IllegalArgumentException e) {
      throw new IllegalArgumentException("gradients: " + e.getMessage(), e);
    }
    Map<String, Tensor> all = new LinkedHashMap<>();
    all.put("the projection's gradient", gradients.projection());
    gradients.bias().ifPresent(t -> all.put("the bias' gradient", t));
    all.put("the key norm's gradient", gradients.keyNorm());
    all.put("the query norm's gradient", gradients.queryNorm());
    gradients.convNorm().ifPresent(t -> all.put("the convolution norm's gradient", t));
    gradients.conv().ifPresent(t -> all.put("the convolution's gradient", t));
    names = all.keySet().toArray(String[]::new);
    tensors = all.values().stream().map(Tensor::data).toArray(MemorySegment[]::new);
    for (int i = 0; i < tensors.length; i++) {
      Memory.checkWritable(names[i], tensors[i]);
      for (int j = 0; j < i; j++) {
        Memory.checkApart(names[i], tensors[i], names[j], tensors[j]);
      }
    }
    checked = gradients;
  }

  /**
   * Computes a call whose memory has been checked.
   *
   * @param projection F32 or BF16 [outputs, rowWidth]: that of the forward
   */
  void backward(
      GateTape tape,
      MemorySegment outGradient,
      MemorySegment rowsGradient,
      MemorySegment streamsGradient,
      LayerWeights gradients,
      Tensor projection) {
    this.tape = tape;
    this.outGradient = outGradient;
    this.rowsGradient = rowsGradient;
    this.streamsGradient = streamsGradient;
    this.gradients = gradients;
    this.projection = projection;
    tokens = tape.tokens();
    crew.begin();
    try {
      workers = shared() ? maxWorkers : 1;
      checkGradient();
      int all = tape.sequences() * tokens;
      for (first = 0; first < all; first += count) {
        count = Math.min(BLOCK, all - first);
        block();
      }
    } finally {
      crew.end();
      this.tape = null;
      this.outGradient = null;
      this.rowsGradient = null;
      this.streamsGradient = null;
      this.gradients = null;
      this.projection = null;
    }
  }

  private boolean shared() {
    return Memory.isShared(outGradient)
        && Memory.isShared(rowsGradient)
        && Memory.isShared(streamsGradient)
        && Memory.isShared(projection.data())
        && Memory.isShared(gradients.projection().data())
        && Memory.isShared(gradients.keyNorm().data())
        && Memory.isShared(gradients.queryNorm().data())
        && (gradients.bias().isEmpty() || Memory.isShared(gradients.bias().get().data()))
        && (gradients.convNorm().isEmpty() || Memory.isShared(gradients.convNorm().get().data()))
        && (gradients.conv().isEmpty() || Memory.isShared(gradients.conv().get().data()));
  }

  /** Everything is looked at before anything is written: a refused call leaves no trace. */
  private void checkGradient() {
    int all = tape.sequences() * tokens;
    refused = false;
    parallel(Math.ceilDiv(all, CHECKED_AT_ONCE), (long) all * channels, checkItem);
    for (int token = 0; refused && token < all; token++) {
      explain(token);
    }
  }

  private void checkItem(int worker, int item) {
    Local local = locals[worker];
    int end = Math.min((item + 1) * CHECKED_AT_ONCE, tape.sequences() * tokens);
    for (int token = item * CHECKED_AT_ONCE; token < end && !refused; token++) {
      readGradient(token, 0, channels, local.wide);
      if (!loops.finite(local.wide, 0, channels)) {
        refused = true;
      }
    }
  }

  private void explain(int token) {
    float[] values = locals[0].wide;
    readGradient(token, 0, channels, values);
    for (int i = 0; i < channels; i++) {
      if (!Float.isFinite(values[i])) {
        throw new IllegalArgumentException(
            "outGradient holds "
                + values[i]
                + " at sequence "
                + token / tokens
                + ", token "
                + token % tokens
                + ", stream "
                + i / width
                + ", element "
                + i % width);
      }
    }
  }

  private void block() {
    parts = Math.ceilDiv(count, PART);
    int padded = Math.ceilDiv(count, GateLoops.TOKENS) * GateLoops.TOKENS;
    int paddedOutputs = Math.ceilDiv(outputs, GateLoops.TOKENS) * GateLoops.TOKENS;
    normedGradients = atLeast(normedGradients, layer.conv.isPresent() ? count : 0, channels);
    valueDots = atLeast(valueDots, count, streams * chunks * 2);
    slopes = atLeast(slopes, count, streams * SLOPES);
    valueFactors = atLeast(valueFactors, count, 1);
    tapSums = atLeast(tapSums, parts, taps * channels);
    normSums = atLeast(normSums, parts, channels);
    biasSums = atLeast(biasSums, layer.gate.bias() ? parts : 0, outputs);
    byToken = atLeast(byToken, padded, outputs);
    outputStride = count + GateLoops.TOKENS;
    byOutput = atLeast(byOutput, outputStride, paddedOutputs);
    rowSums = atLeast(rowSums, padded, rowGroups * groupWidth);
    long panelBytes = (long) rowGroups * groupWidth * count * Float.BYTES;
    if (rowPanels.byteSize() < panelBytes) {
      rowPanels = Arena.ofAuto().allocate(panelBytes, 64);
    }
    long elements = (long) count * channels;
    parallel(parts * streams * chunks, (taps > 0 ? 48 : 4) * elements, convItem);
    parallel(Math.ceilDiv(count, TOKENS_AT_ONCE), 64L * count * streams, slopesItem);
    parallel(parts * (streams + 1) * chunks, 16 * elements, gradientItem);
    parallel(rowGroups * GateLoops.PANELS, (long) count * rowWidth, packItem);
    parallel((streams + 1) * chunks, (long) parts * (taps + 2) * channels, reduceItem);
    for (firstOutput = 0; firstOutput < outputs; firstOutput += depth) {
      depth = Math.min(DEPTH, outputs - firstOutput);
      parallel(Math.ceilDiv(depth, ROWS_AT_ONCE), 2L * depth * rowWidth, layOutProjectionItem);
      parallel(rowGroups * parts, (long) count * depth * rowWidth, rowsItem);
    }
    parallel(Math.ceilDiv(count, TOKENS_AT_ONCE), (long) count * rowWidth, writeRowsItem);
    long products = (long) count * outputs * rowWidth;
    parallel(rowGroups * outputGroups, products, projectionItem);
  }

  // --- back through the convolution -----------------------------------------------------------

  /** A chunk of one stream's channels for one part of the block's tokens. */
  private void convItem(int worker, int item) {
    Local local = locals[worker];
    int chunk = item % chunks;
    int stream = item / chunks % streams;
    int part = item / chunks / streams;
    int column = chunk * CHUNK;
    int columns = Math.min(CHUNK, width - column);
    int channel = stream * width + column;
    int from = first + part * PART;
    int to = Math.min(from + PART, first + count);
    int reach = to;
    if (taps > 0) {
      for (int k = 0; k < taps; k++) {
        int at = (part * taps + k) * channels + channel;
        Arrays.fill(tapSums, at, at + columns, 0);
      }
      int end = ((to - 1) / tokens + 1) * tokens;
      reach = (int) Math.min((long) to + layer.conv.orElseThrow().history(), end);
    }
    for (int token = reach - 1; token >= from; token--) {
      readGradient(token, channel, columns, local.gradient);
      if (taps > 0) {
        backToConvolution(token, token - from, stream, column, columns, local);
      }
      if (token >= to) {
        continue;
      }
      int n = token - first;
      float[] normed = local.gradient;
      int normedAt = 0;
      if (taps > 0) {
        backToNorm(token, token - from, part, stream, column, columns, local);
        normed = normedGradients;
        normedAt = n * channels + channel;
      }
      loops.twoDots(
          normed,
          normedAt,
          local.gradient,
          0,
          tape.values,
          token * width + column,
          columns,
          local.sums,
          local.lanes);
      int at = ((n * streams + stream) * chunks + chunk) * 2;
      valueDots[at] = local.sums[0];
      valueDots[at + 1] = local.sums[1];
    }
  }

  /** The gradient of a token's convolution, for which it is computed once more. */
  private void backToConvolution(
      int token, int n, int stream, int column, int columns, Local local) {
    int dilation = layer.conv.orElseThrow().dilation();
    int channel = stream * width + column;
    int position = token % tokens;
    Arrays.fill(local.mixed, 0, columns, 0);
    for (int k = 0; k < taps; k++) {
      int back = (taps - 1 - k) * dilation;
      if (back <= position) {
        int m = token - back;
        loops.addTap(
            tape.values,
            m * width + column,
            tape.factors[m * streams + stream],
            layer.convFactor,
            channel,
            layer.taps,
            k * channels + channel,
            local.mixed,
            0,
            columns);
      }
    }
    loops.siluGradient(local.mixed, 0, local.gradient, 0, local.convGradients, n * CHUNK, columns);
  }

  /** The sums of the taps, and the gradient of what goes into the convolution. */
  private void backToNorm(
      int token, int n, int part, int stream, int column, int columns, Local local) {
    int dilation = layer.conv.orElseThrow().dilation();
    int channel = stream * width + column;
    int position = token % tokens;
    Arrays.fill(local.mixed, 0, columns, 0);
    for (int k = 0; k < taps; k++) {
      int back = (taps - 1 - k) * dilation;
      if (back <= position) {
        int m = token - back;
        loops.addScaledProduct(
            tape.values,
            m * width + column,
            tape.factors[m * streams + stream],
            local.convGradients,
            n * CHUNK,
            tapSums,
            (part * taps + k) * channels + channel,
            columns);
      }
      if (back < tokens - position) {
        loops.addProduct(
            local.convGradients,
            (n + back) * CHUNK,
            layer.taps,
            k * channels + channel,
            local.mixed,
            0,
            columns);
      }
    }
    loops.scale(
        local.mixed,
        0,
        1,
        layer.convFactor,
        channel,
        normedGradients,
        (token - first) * channels + channel,
        columns);
  }

  // --- back through the gate ------------------------------------------------------------------

  private void slopesItem(int worker, int item) {
    int end = Math.min((item + 1) * TOKENS_AT_ONCE, count);
    for (int n = item * TOKENS_AT_ONCE; n < end; n++) {
      slopes(n);
    }
  }

  /**
   * With m = gate * v and f = gate / rms(m): the norm hands (d - f * v * mean(d * f * v)) / rms(m)
   * back to m for a gradient d of its result. What of it falls on the gate, its product with v, is
   * d * v times eps / rms(m)^3; what falls on v is f * d - f^3 * mean(d * v) * v.
   */
  private void slopes(int n) {
    int token = first + n;
    double ofValue = 0;
    for (int s = 0; s < streams; s++) {
      int at = n * streams + s;
      if (!tape.isLive(token)) {
        Arrays.fill(slopes, at * SLOPES, (at + 1) * SLOPES, 0);
        continue;
      }
      double normed = 0;
      double direct = 0;
      for (int c = 0; c < chunks; c++) {
        normed += valueDots[(at * chunks + c) * 2];
        direct += valueDots[(at * chunks + c) * 2 + 1];
      }
      if (taps > 0) {
        double eps = layer.conv.orElseThrow().normEps();
        double gate = tape.gates[token * streams + s];
        double factor = tape.factors[token * streams + s];
        double scale = 1 / Math.sqrt(gate * gate * tape.meanSquares[token] + eps);
        direct += normed * scale * scale * scale * eps;
        ofValue += factor * factor * factor * normed / width;
      }
      int sums = (token * streams + s) * GateTape.SUMS;
      double keyScale = function.scale(tape.sums[sums]);
      double streamScale = function.scale(tape.sums[sums + 1]);
      double dot = tape.sums[sums + 2] * keyScale * streamScale / function.rootOfWidth();
      double slope = direct * function.slope((float) dot);
      slopes[at * SLOPES] = (float) (slope * keyScale * streamScale / function.rootOfWidth());
      slopes[at * SLOPES + 1] = (float) (-slope * dot * keyScale * keyScale / width);
      slopes[at * SLOPES + 2] = (float) (-slope * dot * streamScale * streamScale / width);
    }
    valueFactors[n] = (float) -ofValue;
  }

  /** A chunk of one stream's keys, or of the value, for one part of the block's tokens. */
  private void gradientItem(int worker, int item) {
    Local local = locals[worker];
    int chunk = item % chunks;
    int section = item / chunks % (streams + 1);
    int part = item / chunks / (streams + 1);
    int column = chunk * CHUNK;
    int columns = Math.min(CHUNK, width - column);
    int output = section * width + column;
    int from = part * PART;
    int to = Math.min(from + PART, count);
    if (section < streams) {
      Arrays.fill(normSums, part * channels + output, part * channels + output + columns, 0);
    }
    if (layer.gate.bias()) {
      Arrays.fill(biasSums, part * outputs + output, part * outputs + output + columns, 0);
    }
    for (int n = from; n < to; n += GateLoops.TOKENS) {
      int fours = Math.min(GateLoops.TOKENS, to - n);
      for (int t = 0; t < fours; t++) {
        if (section < streams) {
          keyGradient(n + t, part, section, output, columns, t * CHUNK, local);
        } else {
          valueGradient(n + t, column, columns, t * CHUNK, local);
        }
        if (layer.gate.bias()) {
          loops.addScaled(local.fours, t * CHUNK, 1, biasSums, part * outputs + output, columns);
        }
      }
      layOut(n, fours, output, columns, local.fours);
    }
  }

  private void keyGradient(
      int n, int part, int stream, int channel, int columns, int to, Local local) {
    int token = first + n;
    if (tape.isLive(token)) {
      int at = (n * streams + stream) * SLOPES;
      loops.gateGradients(
          tape.keys,
          tape.streams,
          token * channels + channel,
          layer.normWeight,
          channel,
          slopes[at],
          slopes[at + 1],
          slopes[at + 2],
          local.fours,
          to,
          local.queries,
          normSums,
          part * channels + channel,
          columns);
    } else {
      Arrays.fill(local.fours, to, to + columns, 0);
      Arrays.fill(local.queries, 0, columns, 0);
    }
    if (layer.gate.residual() == GateConfig.Residual.IN_PLACE) {
      readGradient(token, channel, columns, local.gradient);
      loops.addScaled(local.gradient, 0, 1, local.queries, 0, columns);
    }
    long at = ((long) token * channels + channel) * Float.BYTES;
    MemorySegment.copy(local.queries, 0, streamsGradient, Memory.FLOAT, at, columns);
  }

  private void valueGradient(int n, int column, int columns, int to, Local local) {
    int token = first + n;
    Arrays.fill(local.fours, to, to + columns, 0);
    if (!tape.isLive(token)) {
      return;
    }
    for (int s = 0; s < streams; s++) {
      int channel = s * width + column;
      readGradient(token, channel, columns, local.gradient);
      float gate = tape.gates[token * streams + s];
      loops.addScaled(local.gradient, 0, gate, local.fours, to, columns);
      if (taps > 0) {
        float factor = tape.factors[token * streams + s];
        int at = n * channels + channel;
        loops.addScaled(normedGradients, at, factor, local.fours, to, columns);
      }
    }
    if (taps > 0) {
      int at = token * width + column;
      loops.addScaled(tape.values, at, valueFactors[n], local.fours, to, columns);
    }
  }

  /** Up to four tokens of a chunk, [4, CHUNK], into both orders. */
  private void layOut(int n, int fours, int output, int columns, float[] gradient) {
    int four = GateLoops.TOKENS;
    int toToken = (n / four * outputs + output) * four;
    int whole = fours == four && output % four == 0 ? columns - columns % four : 0;
    for (int c = 0; c < whole; c += four) {
      int toOutput = ((output + c) / four * outputStride + n) * four;
      for (int t = 0; t < four; t++) {
        float a = gradient[t * CHUNK + c];
        float b = gradient[t * CHUNK + c + 1];
        float d = gradient[t * CHUNK + c + 2];
        float e = gradient[t * CHUNK + c + 3];
        byOutput[toOutput + t * four] = a;
        byOutput[toOutput + t * four + 1] = b;
        byOutput[toOutput + t * four + 2] = d;
        byOutput[toOutput + t * four + 3] = e;
        byToken[toToken + c * four + t] = a;
        byToken[toToken + c * four + four + t] = b;
        byToken[toToken + c * four + 2 * four + t] = d;
        byToken[toToken + c * four + 3 * four + t] = e;
      }
    }
    for (int c = whole; c < columns; c++) {
      int toOutput = ((output + c) / four * outputStride + n) * four + (output + c) % four;
      for (int t = 0; t < fours; t++) {
        float value = gradient[t * CHUNK + c];
        byToken[toToken + c * four + t] = value;
        byOutput[toOutput + t * four] = value;
      }
    }
  }

  // --- what is summed over tokens --------------------------------------------------------------

  /** A chunk of one stream's channels, or of the value's, over all parts of the block. */
  private void reduceItem(int worker, int item) {
    Local local = locals[worker];
    int section = item / chunks;
    int column = item % chunks * CHUNK;
    int columns = Math.min(CHUNK, width - column);
    int output = section * width + column;
    if (layer.gate.bias()) {
      sum(biasSums, output, outputs, columns, local.mixed);
      add(gradients.bias().orElseThrow(), output, columns, local.mixed, local.small);
    }
    if (section == streams) {
      return;
    }
    sum(normSums, output, channels, columns, local.mixed);
    multiply(local.mixed, layer.queryFactor, output, columns, local.queries);
    add(gradients.keyNorm(), output, columns, local.queries, local.small);
    multiply(local.mixed, layer.keyFactor, output, columns, local.queries);
    add(gradients.queryNorm(), output, columns, local.queries, local.small);
    if (taps > 0) {
      reduceTaps(output, columns, local);
    }
  }

  /** The sum of one tap times its norm's weight is its gradient; times the tap, the weight's. */
  private void reduceTaps(int channel, int columns, Local local) {
    Arrays.fill(local.queries, 0, columns, 0);
    Tensor conv = gradients.conv().orElseThrow();
    long at = (long) channel * taps * Float.BYTES;
    MemorySegment.copy(conv.data(), Memory.FLOAT, at, local.small, 0, columns * taps);
    for (int k = 0; k < taps; k++) {
      sum(tapSums, k * channels + channel, taps * channels, columns, local.mixed);
      loops.addProduct(
          local.mixed, 0, layer.taps, k * channels + channel, local.queries, 0, columns);
      for (int c = 0; c < columns; c++) {
        local.small[c * taps + k] += local.mixed[c] * layer.convFactor[channel + c];
      }
    }
    MemorySegment.copy(local.small, 0, conv.data(), Memory.FLOAT, at, columns * taps);
    add(gradients.convNorm().orElseThrow(), channel, columns, local.queries, local.small);
  }

  private void sum(float[] partSums, int from, int stride, int columns, float[] out) {
    Arrays.fill(out, 0, columns, 0);
    for (int part = 0; part < parts; part++) {
      loops.addScaled(partSums, from + part * stride, 1, out, 0, columns);
    }
  }

  private static void multiply(float[] x, float[] w, int wFrom, int count, float[] out) {
    for (int i = 0; i < count; i++) {
      out[i] = x[i] * w[wFrom + i];
    }
  }

  private void add(Tensor gradient, int from, int columns, float[] more, float[] scratch) {
    long at = (long) from * Float.BYTES;
    MemorySegment.copy(gradient.data(), Memory.FLOAT, at, scratch, 0, columns);
    loops.addScaled(more, 0, 1, scratch, 0, columns);
    MemorySegment.copy(scratch, 0, gradient.data(), Memory.FLOAT, at, columns);
  }

  // --- products -------------------------------------------------------------------------------

  /** One panel of the rows of all tokens. */
  private void packItem(int worker, int panel) {
    int from = panel * panelWidth;
    int columns = Math.min(panelWidth, rowWidth - from);
    long at = (long) panel * count * panelWidth * Float.BYTES;
    for (int n = 0; n < count && columns > 0; n++, at += (long) panelWidth * Float.BYTES) {
      int row = (first + n) * rowWidth + from;
      MemorySegment.copy(tape.rows, row, rowPanels, Memory.NATIVE_FLOAT, at, columns);
    }
  }

  /** Some rows of the projection, each read in one piece, into all panels. */
  private void layOutProjectionItem(int worker, int item) {
    Local local = locals[worker];
    int end = Math.min((item + 1) * ROWS_AT_ONCE, depth);
    for (int k = item * ROWS_AT_ONCE; k < end; k++) {
      Memory.read(
          loops,
          projection.data(),
          projection.dtype(),
          (long) (firstOutput + k) * rowWidth,
          local.shorts,
          local.wide,
          rowWidth);
      long at = (long) k * panelWidth * Float.BYTES;
      for (int c = 0; c < rowWidth; c += panelWidth, at += panelBytes()) {
        int columns = Math.min(panelWidth, rowWidth - c);
        MemorySegment.copy(local.wide, c, projectionPanels, Memory.NATIVE_FLOAT, at, columns);
      }
    }
  }

  private long panelBytes() {
    return (long) DEPTH * panelWidth * Float.BYTES;
  }

  /** What some rows of the projection add to the rows' gradient: a group of columns, a part. */
  private void rowsItem(int worker, int item) {
    int column = item % rowGroups * groupWidth;
    int end = Math.min(column + groupWidth, rowWidth);
    int from = item / rowGroups * PART;
    int to = Math.min(from + PART, count);
    int stride = rowGroups * groupWidth;
    boolean add = firstOutput > 0;
    for (int c = column; c < end; c += panelWidth) {
      long panel = c / panelWidth * panelBytes();
      for (int n = from; n < to; n += GateLoops.TOKENS) {
        int x = n * outputs + firstOutput * GateLoops.TOKENS;
        int out = n * stride + c;
        loops.tile(byToken, x, projectionPanels, panel, depth, rowSums, out, stride, add);
      }
    }
  }

  private void writeRowsItem(int worker, int item) {
    int end = Math.min((item + 1) * TOKENS_AT_ONCE, count);
    for (int n = item * TOKENS_AT_ONCE; n < end; n++) {
      long at = (long) (first + n) * rowWidth * Float.BYTES;
      int from = n * rowGroups * groupWidth;
      MemorySegment.copy(rowSums, from, rowsGradient, Memory.FLOAT, at, rowWidth);
    }
  }

  /** The projection's gradient for a group of outputs and a group of columns. */
  private void projectionItem(int worker, int item) {
    Local local = locals[worker];
    int group = item % rowGroups;
    int output = item / rowGroups * OUTPUTS;
    int end = Math.min(output + OUTPUTS, outputs);
    int column = group * groupWidth;
    int columns = Math.min(groupWidth, rowWidth - column);
    MemorySegment gradient = gradients.projection().data();
    for (int o = output; o < end; o++) {
      long at = ((long) o * rowWidth + column) * Float.BYTES;
      int to = (o - output) * groupWidth;
      MemorySegment.copy(gradient, Memory.FLOAT, at, local.products, to, columns);
    }
    for (int n = 0; n < count; n += DEPTH) {
      int summands = Math.min(DEPTH, count - n);
      for (int c = 0; c < columns; c += panelWidth) {
        long panel = (long) (column + c) / panelWidth * count + n;
        long at = panel * panelWidth * Float.BYTES;
        for (int o = output; o < end; o += GateLoops.TOKENS) {
          int x = o * outputStride + n * GateLoops.TOKENS;
          int out = (o - output) * groupWidth + c;
          loops.tile(byOutput, x, rowPanels, at, summands, local.products, out, groupWidth, true);
        }
      }
    }
    for (int o = output; o < end; o++) {
      long at = ((long) o * rowWidth + column) * Float.BYTES;
      int from = (o - output) * groupWidth;
      MemorySegment.copy(local.products, from, gradient, Memory.FLOAT, at, columns);
    }
  }

  // --- memory ---------------------------------------------------------------------------------

  private void readGradient(int token, int channel, int count, float[] out) {
    long at = ((long) token * channels + channel) * Float.BYTES;
    MemorySegment.copy(outGradient, Memory.FLOAT, at, out, 0, count);
  }

  private void parallel(int items, long work, Workers.Body body) {
    int wanted = work < PARALLEL_WORK ? 1 : workers;
    for (int i = 1; i < wanted; i++) {
      if (locals[i] == null) {
        locals[i] = new Local();
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
