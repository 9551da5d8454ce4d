// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** A product that a {@link Projection} computes, group by group out of its results. */
final class LibraryProduct implements BlockProduct {
  /** Values of a vector are summed up alike, so any width will do that keeps a group in cache. */
  private static final int GROUP = 64;

  /** Tokens that a thread hands over at once. */
  private static final int TOKENS_AT_ONCE = 64;

  private final PreparedLayer layer;
  private final Projection projection;
  private final OutputGroups groups;
  private final MemorySegment x;
  private final MemorySegment out;

  /** Of the tokens that are handed over together; a slice made at each call would be garbage. */
  private final MemorySegment[] xSlices;

  private final MemorySegment[] outSlices;
  private int tokens;

  /** Of a kernel. */
  record Maker(PreparedLayer layer, Projection projection) implements BlockProduct.Maker {
    @Override
    public OutputGroups groups() {
      return new OutputGroups(layer.gate.streams() + 1, layer.gate.width(), GROUP);
    }

    @Override
    public BlockProduct forRun(int workers) {
      return new LibraryProduct(layer, projection, groups());
    }
  }

  private LibraryProduct(PreparedLayer layer, Projection projection, OutputGroups groups) {
    this.layer = layer;
    this.projection = projection;
    this.groups = groups;
    Arena arena = Arena.ofAuto();
    x = arena.allocate((long) GateRun.BLOCK * layer.rowWidth * Float.BYTES, 64);
    out = arena.allocate((long) GateRun.BLOCK * layer.outputs * Float.BYTES, 64);
    xSlices = slices(x);
    outSlices = slices(out);
  }

  private static MemorySegment[] slices(MemorySegment memory) {
    long bytes = memory.byteSize() / GateRun.BLOCK * TOKENS_AT_ONCE;
    MemorySegment[] slices = new MemorySegment[GateRun.BLOCK / TOKENS_AT_ONCE];
    for (int i = 0; i < slices.length; i++) {
      slices[i] = memory.asSlice(i * bytes, bytes);
    }
    return slices;
  }

  @Override
  public void start(int tokens) {
    this.tokens = tokens;
  }

  @Override
  public void put(int token, int count, float[] rows) {
    long at = (long) token * layer.rowWidth * Float.BYTES;
    MemorySegment.copy(rows, 0, x, Memory.NATIVE_FLOAT, at, count * layer.rowWidth);
  }

  private int chunks() {
    return Math.ceilDiv(tokens, TOKENS_AT_ONCE);
  }

  @Override
  public int pieces() {
    return projection.parts() * chunks();
  }

  @Override
  public void piece(int piece) {
    int chunk = piece % chunks();
    int count = Math.min(TOKENS_AT_ONCE, tokens - chunk * TOKENS_AT_ONCE);
    projection.multiply(piece / chunks(), xSlices[chunk], count, outSlices[chunk]);
  }

  @Override
  public void group(int worker, int item, float[] to) {
    int columns = groups.columns(item);
    int output = groups.output(item);
    for (int n = 0; n < tokens; n++) {
      long at = ((long) n * layer.outputs + output) * Float.BYTES;
      int first = n * groups.groupWidth();
      MemorySegment.copy(out, Memory.NATIVE_FLOAT, at, to, first, columns);
      for (int c = 0; layer.bias != null && c < columns; c++) {
        to[first + c] += layer.bias[output + c];
      }
    }
  }
}
