// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Anonymous memory for staged rows, up to a bound: pieces of equal size, each halved as often as
 * needed (buddies). A region has a power of two bytes; what is given back is handed out again.
 *
 * <p>Guarded by the lock of its {@link Prefetcher}.
 */
final class StagingMemory {
  /** The smallest region: a decoded token's rows take a few. */
  static final int UNIT = 1 << 10;

  private static final long PIECE = 1 << 20;

  /** NaN in every row format: what is read from a region by mistake is not a plausible row. */
  private static final byte POISON = (byte) 0xFF;

  private final long pieceBytes;
  private final int maxPieces;
  private final int topOrder;
  private final boolean poison;
  private final List<Piece> pieces = new ArrayList<>();
  private Arena arena;
  private boolean closed;
  private long inUse;
  private long peak;

  StagingMemory(long bytes, boolean poison) {
    this.poison = poison;
    if (bytes < UNIT) {
      pieceBytes = 0;
      topOrder = -1;
      maxPieces = 0;
    } else {
      pieceBytes = Math.min(PIECE, Long.highestOneBit(bytes));
      topOrder = Long.numberOfTrailingZeros(pieceBytes / UNIT);
      maxPieces = (int) Math.min(Integer.MAX_VALUE, bytes / pieceBytes);
    }
  }

  /** Free parts of one piece: a bit for each region of each order. */
  private final class Piece {
    private final MemorySegment memory;
    private final long[][] free = new long[topOrder + 1][];
    private final int[] generations = new int[1 << topOrder];
    private int freeOrders;

    Piece(MemorySegment memory) {
      this.memory = memory;
      for (int order = 0; order <= topOrder; order++) {
        free[order] = new long[((1 << (topOrder - order)) + 63) / 64];
      }
      set(topOrder, 0);
    }

    private void set(int order, int index) {
      free[order][index >> 6] |= 1L << index;
      freeOrders |= 1 << order;
    }

    private void clear(int order, int index) {
      free[order][index >> 6] &= ~(1L << index);
      for (long word : free[order]) {
        if (word != 0) {
          return;
        }
      }
      freeOrders &= ~(1 << order);
    }

    private boolean isFree(int order, int index) {
      return (free[order][index >> 6] & 1L << index) != 0;
    }

    private int first(int order) {
      int word = 0;
      while (free[order][word] == 0) {
        word++;
      }
      return (word << 6) + Long.numberOfTrailingZeros(free[order][word]);
    }

    /** A region, or null if none of this order or above is free. */
    Region take(int order) {
      int fitting = freeOrders >>> order << order;
      if (fitting == 0) {
        return null;
      }
      int from = Integer.numberOfTrailingZeros(fitting);
      int index = first(from);
      clear(from, index);
      for (int o = from - 1; o >= order; o--) {
        index <<= 1;
        set(o, index + 1);
      }
      return new Region(this, order, index, ++generations[index << order]);
    }

    void give(int order, int index) {
      generations[index << order]++;
      int o = order;
      int i = index;
      while (o < topOrder && isFree(o, i ^ 1)) {
        clear(o, i ^ 1);
        i >>= 1;
        o++;
      }
      set(o, i);
    }
  }

  /** Part of a piece, owned by who took it until it is given back. */
  static final class Region {
    private final Piece piece;
    private final int order;
    private final int index;
    private final int generation;

    private Region(Piece piece, int order, int index, int generation) {
      this.piece = piece;
      this.order = order;
      this.index = index;
      this.generation = generation;
    }

    /** The piece's memory, of which this region is a part. */
    MemorySegment memory() {
      return piece.memory;
    }

    long offset() {
      return (long) index << order << 10;
    }

    long bytes() {
      return (long) UNIT << order;
    }

    /** Makes sure that the region has not been given back: it would be somebody else's. */
    void check() {
      if (piece.generations[index << order] != generation) {
        throw new IllegalStateException(
            "a staging buffer was given back while its rows were still being used");
      }
    }
  }

  /** The largest region that can be taken, 0 if none can. */
  long largest() {
    return pieceBytes;
  }

  /** Bytes that are not taken; how much of it lies together is another matter. */
  long available() {
    return limit() - inUse;
  }

  long limit() {
    return maxPieces * pieceBytes;
  }

  long inUse() {
    return inUse;
  }

  long peak() {
    return peak;
  }

  /** A region of at least so many bytes with arbitrary contents, or null if there is no room. */
  Region take(long bytes) {
    if (bytes > pieceBytes || closed) {
      return null;
    }
    long units = (bytes + UNIT - 1) / UNIT;
    int order = units <= 1 ? 0 : Long.SIZE - Long.numberOfLeadingZeros(units - 1);
    Region region = null;
    for (int i = 0; i < pieces.size() && region == null; i++) {
      region = pieces.get(i).take(order);
    }
    if (region == null) {
      if (pieces.size() == maxPieces) {
        return null;
      }
      MemorySegment memory;
      try {
        if (arena == null) {
          arena = Arena.ofShared();
        }
        memory = arena.allocate(pieceBytes, 4096);
      } catch (OutOfMemoryError e) {
        // The limit of the JVM is below ours. Rows are then read when they are asked for.
        return null;
      }
      if (poison) {
        memory.fill(POISON);
      }
      Piece piece = new Piece(memory);
      pieces.add(piece);
      region = piece.take(order);
    }
    inUse += region.bytes();
    peak = Math.max(peak, inUse);
    return region;
  }

  void give(Region region) {
    region.check();
    if (poison && !closed) {
      region.memory().asSlice(region.offset(), region.bytes()).fill(POISON);
    }
    region.piece.give(region.order, region.index);
    inUse -= region.bytes();
  }

  /** Frees the memory, which nobody may be using. */
  void close() {
    if (!closed) {
      closed = true;
      if (arena != null) {
        arena.close();
      }
    }
  }
}
