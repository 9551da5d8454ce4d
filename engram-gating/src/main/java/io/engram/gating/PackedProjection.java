// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.kernel.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;

/**
 * A layer's projection in the order in which the loops read it, copied once into anonymous memory:
 * for each group of outputs {@link GateLoops#PANELS} panels one after the other, each [rowWidth,
 * panel width], padded with zeros where a section has no more outputs.
 *
 * <p>Weights keep the bytes they were given: bfloat16, and FP8 with its block scales, are widened
 * piece by piece in cache, once for all tokens of a block, or in registers for one token. Only
 * float32 weights of a layer that sums in double precision are widened beforehand.
 *
 * <p>The sum of one output is made of chains of {@link #DEPTH} additions, added up in their order:
 * the same bits for any number of tokens. Safe to share; it changes only where {@link #refresh} is
 * called.
 */
final class PackedProjection implements BlockProduct.Maker {
  /** Summands of one chain: a piece of four panels stays in the second cache. */
  private static final int DEPTH = 256;

  /** The largest scale whose factor is a float32. */
  private static final int MAX_SCALE = 254 - GateLoops.E4M3_EXPONENT;

  private enum Element {
    F32(4),
    BF16(2),
    FP8(1);

    final int bytes;

    Element(int bytes) {
      this.bytes = bytes;
    }

    /** Whether the loops cannot read it and it has to be widened. */
    boolean isNarrow() {
      return this == BF16 || this == FP8;
    }
  }

  private final PreparedLayer layer;
  private final GateLoops loops;
  private final int rowWidth;
  private final int panelWidth;
  private final OutputGroups groups;
  private final Element element;
  private final MemorySegment weights;

  /** F32 [groups, PANELS, blocks of a row, panelWidth]: of FP8, as the loops want them. */
  private final MemorySegment factors;

  /** Made when it is needed first. */
  private Refresh refresh;

  PackedProjection(PreparedLayer layer, GateLoops loops) {
    this.layer = layer;
    this.loops = loops;
    this.rowWidth = layer.rowWidth;
    this.panelWidth = layer.inDouble() ? loops.doublePanelWidth() : loops.panelWidth();
    this.groups =
        new OutputGroups(
            layer.gate.streams() + 1, layer.gate.width(), GateLoops.PANELS * panelWidth);
    this.element = element(layer);
    this.weights = Arena.ofAuto().allocate(groupBytes() * groups.count(), 64);
    long factorBytes = element == Element.FP8 ? panelFactorBytes() * GateLoops.PANELS : 0;
    this.factors = Arena.ofAuto().allocate(factorBytes * groups.count(), 64);
    float[] row = new float[rowWidth];
    short[] shorts = new short[rowWidth];
    for (int item = 0; item < groups.count(); item++) {
      store(item, shorts, row);
    }
  }

  /** Packs one group of outputs. */
  private void store(int item, short[] shorts, float[] row) {
    for (int c = 0; c < groups.columns(item); c++) {
      int output = groups.output(item) + c;
      int panel = item * GateLoops.PANELS + c / panelWidth;
      if (element == Element.FP8) {
        storeCodes(panel, c % panelWidth, output);
      } else {
        layer.readProjection(output, 1, shorts, row);
        store(panel * panelBytes(), c % panelWidth, row);
      }
    }
  }

  /**
   * Packs the weights again, after they have changed, if they are numbers.
   *
   * @throws IllegalArgumentException if one is not; then nothing has changed
   */
  void refresh(int maxWorkers) {
    if (refresh == null) {
      refresh = new Refresh(maxWorkers);
    }
    refresh.run();
  }

  /** Done after each step of an optimiser, so by all threads, and without garbage. */
  private final class Refresh {
    private final Workers crew;
    private final int maxWorkers;
    private final float[][] rows;
    private final short[][] shorts;
    private final Workers.Body check = this::check;
    private final Workers.Body pack = this::pack;

    Refresh(int maxWorkers) {
      this.maxWorkers = maxWorkers;
      crew = new Workers(maxWorkers);
      rows = new float[maxWorkers][rowWidth];
      shorts = new short[maxWorkers][rowWidth];
    }

    void run() {
      int workers = Memory.isShared(layer.projection) ? maxWorkers : 1;
      crew.begin();
      try {
        crew.forEach(workers, groups.count(), check);
        crew.forEach(workers, groups.count(), pack);
      } finally {
        crew.end();
      }
    }

    private void check(int worker, int item) {
      for (int c = 0; c < groups.columns(item); c++) {
        layer.checkProjectionRow(groups.output(item) + c, shorts[worker], rows[worker]);
      }
    }

    private void pack(int worker, int item) {
      if (element == Element.BF16) {
        // Halves are put into their ints one by one.
        for (long at = 0; at < groupBytes(); at += Integer.BYTES) {
          weights.set(ValueLayout.JAVA_INT, item * groupBytes() + at, 0);
        }
      }
      store(item, shorts[worker], rows[worker]);
    }
  }

  private static Element element(PreparedLayer layer) {
    LayerWeights stored = layer.weights;
    return switch (stored.projection().dtype()) {
      case BF16 -> Element.BF16;
      // Factors beyond the range of float32 are as good as never seen.
      case F8_E4M3 -> largest(stored.projectionScales()) <= MAX_SCALE ? Element.FP8 : Element.BF16;
      default -> Element.F32;
    };
  }

  private static int largest(Optional<Tensor> scales) {
    int largest = 0;
    for (byte code : scales.orElseThrow().data().toArray(ValueLayout.JAVA_BYTE)) {
      largest = Math.max(largest, Byte.toUnsignedInt(code));
    }
    return largest;
  }

  private void store(long panel, int column, float[] row) {
    for (int k = 0; k < rowWidth; k++) {
      long index = (long) k * panelWidth + column;
      switch (element) {
        case F32 -> weights.set(ValueLayout.JAVA_FLOAT, panel + index * Float.BYTES, row[k]);
        case BF16 -> storeHalf(panel, index, Bfloat16.toBits(row[k]));
        case FP8 -> throw new IllegalStateException("FP8 is stored by its codes");
      }
    }
  }

  /** Puts the codes of one output into their quarters of ints: {@link GateLoops#quadsToF32}. */
  private void storeCodes(int panel, int column, int output) {
    MemorySegment codes = layer.weights.projection().data();
    Tensor scales = layer.weights.projectionScales().orElseThrow();
    int lanes = loops.pairLanes();
    for (int k = 0; k < rowWidth; k++) {
      long index = (long) k * panelWidth + column;
      long inBlock = index % block();
      long at = index - inBlock + inBlock % lanes * Integer.BYTES;
      int shift = (int) (inBlock / lanes) * Byte.SIZE;
      byte code = codes.get(ValueLayout.JAVA_BYTE, (long) output * rowWidth + k);
      long quad = panel * panelBytes() + at;
      int others = weights.get(ValueLayout.JAVA_INT, quad);
      weights.set(ValueLayout.JAVA_INT, quad, others | (code & 0xFF) << shift);
    }
    int blocks = scaleBlocks();
    for (int b = 0; b < blocks; b++) {
      long scaleAt = (long) (output / LayerWeights.SCALE_BLOCK) * blocks + b;
      int scale = Byte.toUnsignedInt(scales.data().get(ValueLayout.JAVA_BYTE, scaleAt));
      long to = panel * panelFactorBytes() + ((long) b * panelWidth + column) * Float.BYTES;
      float factor = Float.intBitsToFloat((scale + GateLoops.E4M3_EXPONENT) << 23);
      factors.set(ValueLayout.JAVA_FLOAT, to, factor);
    }
  }

  /** Puts a weight into its half of an int: {@link GateLoops#pairLanes}. */
  private void storeHalf(long panel, long index, short bits) {
    int lanes = loops.pairLanes();
    long pair = index / block() * lanes + index % lanes;
    int shift = index % block() < lanes ? 0 : Short.SIZE;
    long at = panel + pair * Integer.BYTES;
    int other = weights.get(ValueLayout.JAVA_INT, at);
    weights.set(ValueLayout.JAVA_INT, at, other | (bits & 0xFFFF) << shift);
  }

  /** Weights whose places in a few ints depend on each other. */
  private int block() {
    return (element == Element.FP8 ? 4 : 2) * loops.pairLanes();
  }

  private int scaleBlocks() {
    return Math.ceilDiv(rowWidth, LayerWeights.SCALE_BLOCK);
  }

  private long panelFactorBytes() {
    return (long) scaleBlocks() * panelWidth * Float.BYTES;
  }

  private long panelBytes() {
    // Whole blocks, also where a row of a panel is only part of one.
    return Math.ceilDiv((long) rowWidth * panelWidth, block()) * block() * element.bytes;
  }

  private long groupBytes() {
    return GateLoops.PANELS * panelBytes();
  }

  private long widePanelBytes() {
    return (long) DEPTH * panelWidth * Float.BYTES;
  }

  @Override
  public OutputGroups groups() {
    return groups;
  }

  @Override
  public BlockProduct forRun(int workers) {
    return layer.inDouble() ? new InDouble(workers) : new InFloat(workers);
  }

  /** Memory of one worker, and the panels that it multiplies by now. */
  private final class Panels {
    private final MemorySegment wide =
        Arena.ofAuto().allocate(element.isNarrow() ? GateLoops.PANELS * widePanelBytes() : 0, 64);
    private final double[] sums =
        new double[layer.inDouble() ? GateRun.BLOCK * groups.groupWidth() : 0];
    private MemorySegment memory;
    private long at;
    private long bytes;

    /** Finds a piece of the panels of a group, or widens it: some summands from one on. */
    void prepare(int item, int from, int depth) {
      long stored = item * groupBytes() + (long) from * panelWidth * element.bytes;
      if (!element.isNarrow()) {
        memory = weights;
        at = stored;
        bytes = panelBytes();
        return;
      }
      memory = wide;
      at = 0;
      bytes = widePanelBytes();
      for (int p = 0; p < GateLoops.PANELS; p++) {
        if (element == Element.FP8) {
          widenCodes(
              item * GateLoops.PANELS + p, stored + p * panelBytes(), from, depth, p * bytes);
        } else {
          loops.pairsToF32(weights, stored + p * panelBytes(), wide, p * bytes, whole(depth));
        }
      }
    }

    /** Weights of some rows of a panel, and of the rest of their last block. */
    private int whole(int rows) {
      return Math.ceilDiv(rows * panelWidth, block()) * block();
    }

    private void widenCodes(int panel, long in, int from, int depth, long out) {
      int vectors = panelWidth / loops.pairLanes();
      for (int k = 0; k < depth; k += LayerWeights.SCALE_BLOCK) {
        int count = whole(Math.min(LayerWeights.SCALE_BLOCK, depth - k));
        long done = (long) k * panelWidth;
        long factor =
            panel * panelFactorBytes()
                + (long) (from + k) / LayerWeights.SCALE_BLOCK * panelWidth * Float.BYTES;
        long to = out + done * Float.BYTES;
        loops.quadsToF32(weights, in + done, factors, factor, vectors, wide, to, count);
      }
    }
  }

  /** Summed in float32. */
  private final class InFloat implements BlockProduct {
    private final Panels[] panels;

    /** [tokens / 4, rowWidth, 4], then the rest one by one. */
    private float[] x = {};

    private int tokens;

    InFloat(int workers) {
      panels = new Panels[workers];
    }

    @Override
    public void start(int tokens) {
      this.tokens = tokens;
      if (x.length < tokens * rowWidth) {
        x = new float[tokens * rowWidth];
      }
    }

    @Override
    public void put(int token, int count, float[] rows) {
      int to = token * rowWidth;
      if (count < GateLoops.TOKENS) {
        System.arraycopy(rows, 0, x, to, count * rowWidth);
        return;
      }
      for (int k = 0; k < rowWidth; k++) {
        for (int t = 0; t < GateLoops.TOKENS; t++) {
          x[to++] = rows[t * rowWidth + k];
        }
      }
    }

    @Override
    public void group(int worker, int item, float[] out) {
      if (element == Element.BF16 && tokens < GateLoops.TOKENS) {
        multiplyPairs(item, out);
      } else {
        multiply(worker, item, out);
      }
      int columns = layer.bias == null ? 0 : groups.columns(item);
      int output = groups.output(item);
      for (int n = 0; columns > 0 && n < tokens; n++) {
        for (int c = 0; c < columns; c++) {
          out[n * groups.groupWidth() + c] += layer.bias[output + c];
        }
      }
    }

    /** For so few tokens that each may widen the weights for itself. */
    private void multiplyPairs(int item, float[] out) {
      for (int from = 0; from < rowWidth; from += DEPTH) {
        int depth = Math.min(DEPTH, rowWidth - from);
        long at = item * groupBytes() + (long) from * panelWidth * Short.BYTES;
        for (int t = 0; t < tokens; t++) {
          int xFrom = t * rowWidth + from;
          int outFrom = t * groups.groupWidth();
          loops.rowOfPairs(x, xFrom, weights, at, panelBytes(), depth, out, outFrom, from > 0);
        }
      }
    }

    private void multiply(int worker, int item, float[] out) {
      if (panels[worker] == null) {
        panels[worker] = new Panels();
      }
      Panels w = panels[worker];
      int inFours = tokens - tokens % GateLoops.TOKENS;
      int stride = groups.groupWidth();
      for (int from = 0; from < rowWidth; from += DEPTH) {
        int depth = Math.min(DEPTH, rowWidth - from);
        boolean add = from > 0;
        w.prepare(item, from, depth);
        for (int p = 0; inFours > 0 && p < GateLoops.PANELS; p++) {
          for (int t = 0; t < inFours; t += GateLoops.TOKENS) {
            int xFrom = t * rowWidth + from * GateLoops.TOKENS;
            int to = t * stride + p * panelWidth;
            loops.tile(x, xFrom, w.memory, w.at + p * w.bytes, depth, out, to, stride, add);
          }
        }
        for (int t = inFours; t < tokens; t++) {
          int xFrom = t * rowWidth + from;
          loops.row(x, xFrom, w.memory, w.at, w.bytes, depth, out, t * stride, add);
        }
      }
    }
  }

  /** Summed in double precision and rounded once to bfloat16. */
  private final class InDouble implements BlockProduct {
    private final Panels[] panels;
    private double[] x = {};
    private int tokens;

    InDouble(int workers) {
      panels = new Panels[workers];
    }

    @Override
    public void start(int tokens) {
      this.tokens = tokens;
      if (x.length < tokens * rowWidth) {
        x = new double[tokens * rowWidth];
      }
    }

    @Override
    public void put(int token, int count, float[] rows) {
      int to = token * rowWidth;
      if (count < GateLoops.TOKENS) {
        for (int i = 0; i < count * rowWidth; i++) {
          x[to + i] = rows[i];
        }
        return;
      }
      for (int k = 0; k < rowWidth; k++) {
        for (int t = 0; t < GateLoops.TOKENS; t++) {
          x[to++] = rows[t * rowWidth + k];
        }
      }
    }

    @Override
    public void group(int worker, int item, float[] out) {
      if (panels[worker] == null) {
        panels[worker] = new Panels();
      }
      Panels w = panels[worker];
      multiply(w, item);
      int output = groups.output(item);
      for (int n = 0; n < tokens; n++) {
        for (int c = 0; c < groups.columns(item); c++) {
          int at = n * groups.groupWidth() + c;
          float bias = layer.bias == null ? 0 : layer.bias[output + c];
          out[at] = Bfloat16.round(w.sums[at] + bias);
        }
      }
    }

    private void multiply(Panels w, int item) {
      int inFours = tokens - tokens % GateLoops.TOKENS;
      int stride = groups.groupWidth();
      for (int from = 0; from < rowWidth; from += DEPTH) {
        int depth = Math.min(DEPTH, rowWidth - from);
        boolean add = from > 0;
        w.prepare(item, from, depth);
        for (int p = 0; inFours > 0 && p < GateLoops.PANELS; p++) {
          for (int t = 0; t < inFours; t += GateLoops.TOKENS) {
            int xFrom = t * rowWidth + from * GateLoops.TOKENS;
            int to = t * stride + p * panelWidth;
            loops.tile(x, xFrom, w.memory, w.at + p * w.bytes, depth, w.sums, to, stride, add);
          }
        }
        for (int t = inFours; t < tokens; t++) {
          int xFrom = t * rowWidth + from;
          loops.row(x, xFrom, w.memory, w.at, w.bytes, depth, w.sums, t * stride, add);
        }
      }
    }
  }
}
