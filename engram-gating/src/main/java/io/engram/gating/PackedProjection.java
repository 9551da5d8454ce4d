// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * A layer's projection in the order in which the loops read it, copied once into anonymous memory:
 * for each section (the keys of one stream, or the value) and group of outputs, {@link
 * GateLoops#PANELS} panels one after the other, each [rowWidth, panel width], padded with zeros
 * where a section has no more outputs.
 *
 * <p>Weights keep the bytes they were given: bfloat16 is widened piece by piece in cache, once for
 * all tokens of a block, or in registers for one token. Only float32 weights of a layer that sums
 * in double precision are widened beforehand.
 *
 * <p>The sum of one output is made of chains of {@link #DEPTH} additions, added up in their order:
 * the same bits for any number of tokens. Immutable, safe to share.
 */
final class PackedProjection {
  /** Summands of one chain: a piece of four panels stays in the second cache. */
  static final int DEPTH = 256;

  private enum Element {
    F32(4),
    F64(8),
    BF16(2);

    final int bytes;

    Element(int bytes) {
      this.bytes = bytes;
    }
  }

  private final GateLoops loops;
  private final int rowWidth;
  private final int width;
  private final int panelWidth;
  private final int groups;
  private final boolean inDouble;
  private final Element element;
  private final MemorySegment weights;

  PackedProjection(PreparedLayer layer, GateLoops loops) {
    this.loops = loops;
    this.rowWidth = layer.rowWidth;
    this.width = layer.gate.width();
    this.inDouble = layer.inDouble();
    this.panelWidth = inDouble ? loops.doublePanelWidth() : loops.panelWidth();
    this.groups = Math.ceilDiv(width, groupWidth());
    if (layer.projectionType == Dtype.BF16) {
      this.element = Element.BF16;
    } else {
      this.element = inDouble ? Element.F64 : Element.F32;
    }
    int sections = layer.gate.streams() + 1;
    this.weights = Arena.ofAuto().allocate(groupBytes() * sections * groups, 64);
    float[] row = new float[rowWidth];
    short[] shorts = new short[rowWidth];
    for (int output = 0; output < layer.outputs; output++) {
      layer.readProjection(output, 1, shorts, row);
      store(output, row);
    }
  }

  private void store(int output, float[] row) {
    int section = output / width;
    int column = output % width;
    int panel = column % groupWidth() / panelWidth;
    long at = (section * groups + column / groupWidth()) * groupBytes() + panel * panelBytes();
    for (int k = 0; k < rowWidth; k++) {
      long index = (long) k * panelWidth + column % panelWidth;
      switch (element) {
        case F32 -> weights.set(ValueLayout.JAVA_FLOAT, at + index * 4, row[k]);
        case F64 -> weights.set(ValueLayout.JAVA_DOUBLE, at + index * 8, row[k]);
        case BF16 -> storeHalf(at, index, Bfloat16.toBits(row[k]));
      }
    }
  }

  /** Puts a weight into its half of an int: {@link GateLoops#pairLanes}. */
  private void storeHalf(long panel, long index, short bits) {
    int lanes = loops.pairLanes();
    long block = index / (2L * lanes);
    int inBlock = (int) (index % (2L * lanes));
    long at = panel + (block * lanes + inBlock % lanes) * Integer.BYTES;
    int shift = inBlock < lanes ? 0 : Short.SIZE;
    int before = weights.get(ValueLayout.JAVA_INT, at);
    weights.set(ValueLayout.JAVA_INT, at, before | (bits & 0xFFFF) << shift);
  }

  /** Groups of outputs of one section. */
  int groups() {
    return groups;
  }

  /** Outputs of a group, the last one's padding included. */
  int groupWidth() {
    return GateLoops.PANELS * panelWidth;
  }

  /** Outputs of a group that are real. */
  int columns(int group) {
    return Math.min(groupWidth(), width - group * groupWidth());
  }

  private long panelBytes() {
    // Whole blocks of pairs, also where a panel in double precision has an odd number of halves.
    long weights = Math.ceilDiv((long) rowWidth * panelWidth, block()) * block();
    return weights * element.bytes;
  }

  private int block() {
    return 2 * loops.pairLanes();
  }

  private long groupBytes() {
    return GateLoops.PANELS * panelBytes();
  }

  /** Memory of one worker, and the panels that it multiplies by now. */
  static final class Scratch {
    private final MemorySegment wide;
    private MemorySegment panels;
    private long at;
    private long panelBytes;

    private Scratch(long bytes) {
      wide = Arena.ofAuto().allocate(bytes, 64);
    }
  }

  Scratch scratch() {
    return new Scratch(element == Element.BF16 ? GateLoops.PANELS * widePanelBytes() : 0);
  }

  private long widePanelBytes() {
    return (long) DEPTH * panelWidth * (inDouble ? Double.BYTES : Float.BYTES);
  }

  /** Finds a piece of the panels of a group, or widens it: {@code depth} summands from one on. */
  private void prepare(int item, int from, int depth, Scratch scratch) {
    long at = item * groupBytes() + (long) from * panelWidth * element.bytes;
    if (element != Element.BF16) {
      scratch.panels = weights;
      scratch.at = at;
      scratch.panelBytes = panelBytes();
      return;
    }
    scratch.panels = scratch.wide;
    scratch.at = 0;
    scratch.panelBytes = widePanelBytes();
    for (int p = 0; p < GateLoops.PANELS; p++) {
      long in = at + p * panelBytes();
      long out = p * scratch.panelBytes;
      int count = Math.ceilDiv(depth * panelWidth, block()) * block();
      if (inDouble) {
        loops.pairsToF64(weights, in, scratch.wide, out, count);
      } else {
        loops.pairsToF32(weights, in, scratch.wide, out, count);
      }
    }
  }

  /**
   * The outputs of one group for all tokens of a block.
   *
   * @param item section * groups + group
   * @param x the tokens in fours, [tokens / 4, rowWidth, 4], then the rest one by one
   * @param out receives [tokens, groupWidth]
   */
  void multiply(int item, float[] x, int tokens, Scratch scratch, float[] out) {
    if (element == Element.BF16 && tokens < GateLoops.TOKENS) {
      multiplyPairs(item, x, tokens, out);
      return;
    }
    int inFours = tokens - tokens % GateLoops.TOKENS;
    int stride = groupWidth();
    for (int from = 0; from < rowWidth; from += DEPTH) {
      int depth = Math.min(DEPTH, rowWidth - from);
      boolean add = from > 0;
      prepare(item, from, depth, scratch);
      for (int p = 0; inFours > 0 && p < GateLoops.PANELS; p++) {
        long panel = scratch.at + p * scratch.panelBytes;
        for (int t = 0; t < inFours; t += GateLoops.TOKENS) {
          int xFrom = t * rowWidth + from * GateLoops.TOKENS;
          int outFrom = t * stride + p * panelWidth;
          loops.tile(x, xFrom, scratch.panels, panel, depth, out, outFrom, stride, add);
        }
      }
      for (int t = inFours; t < tokens; t++) {
        int xFrom = t * rowWidth + from;
        loops.row(
            x, xFrom, scratch.panels, scratch.at, scratch.panelBytes, depth, out, t * stride, add);
      }
    }
  }

  /** For so few tokens that each may widen the weights for itself. */
  private void multiplyPairs(int item, float[] x, int tokens, float[] out) {
    for (int from = 0; from < rowWidth; from += DEPTH) {
      int depth = Math.min(DEPTH, rowWidth - from);
      long at = item * groupBytes() + (long) from * panelWidth * Short.BYTES;
      for (int t = 0; t < tokens; t++) {
        int xFrom = t * rowWidth + from;
        int outFrom = t * groupWidth();
        loops.rowOfPairs(x, xFrom, weights, at, panelBytes(), depth, out, outFrom, from > 0);
      }
    }
  }

  /** The same in double precision. */
  void multiply(int item, double[] x, int tokens, Scratch scratch, double[] out) {
    int inFours = tokens - tokens % GateLoops.TOKENS;
    int stride = groupWidth();
    for (int from = 0; from < rowWidth; from += DEPTH) {
      int depth = Math.min(DEPTH, rowWidth - from);
      boolean add = from > 0;
      prepare(item, from, depth, scratch);
      for (int p = 0; inFours > 0 && p < GateLoops.PANELS; p++) {
        long panel = scratch.at + p * scratch.panelBytes;
        for (int t = 0; t < inFours; t += GateLoops.TOKENS) {
          int xFrom = t * rowWidth + from * GateLoops.TOKENS;
          int outFrom = t * stride + p * panelWidth;
          loops.tile(x, xFrom, scratch.panels, panel, depth, out, outFrom, stride, add);
        }
      }
      for (int t = inFours; t < tokens; t++) {
        int xFrom = t * rowWidth + from;
        loops.row(
            x, xFrom, scratch.panels, scratch.at, scratch.panelBytes, depth, out, t * stride, add);
      }
    }
  }
}
