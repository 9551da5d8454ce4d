// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.VectorSpecies;

/** Copies with the Vector API. */
final class VectorRowCopy extends RowCopy {
  private static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;

  /** Wider ones gain nothing: memory is what is waited for. */
  private static final VectorSpecies<Byte> BYTES =
      ByteVector.SPECIES_PREFERRED.vectorBitSize() > 256
          ? ByteVector.SPECIES_256
          : ByteVector.SPECIES_PREFERRED;

  private static final int LANES = BYTES.length();
  private static final int GROUP = 8 * LANES;

  /**
   * Not constants, so that the loops below are not taken for long ones: what a compiler sets up for
   * a loop of known stride costs more than the few turns that a row takes.
   */
  private final int step;

  private final int groupStep;

  VectorRowCopy() {
    step = LANES;
    groupStep = GROUP;
  }

  @Override
  void rows(
      MemorySegment memory,
      int rowBytes,
      long[] rowIds,
      int from,
      int count,
      MemorySegment out,
      long outAt) {
    if (rowBytes < LANES) {
      plainly(memory, rowBytes, rowIds, from, count, out, outAt);
      return;
    }
    long at = outAt;
    for (int i = from; i < from + count; i++) {
      row(memory, rowIds[i] * rowBytes, out, at, rowBytes);
      at += rowBytes;
    }
  }

  private void row(MemorySegment in, long inAt, MemorySegment out, long outAt, int bytes) {
    int done = 0;
    while (done <= bytes - GROUP) {
      group(in, inAt + done, out, outAt + done);
      done += groupStep;
    }
    while (done <= bytes - LANES) {
      vector(in, inAt + done, out, outAt + done);
      done += step;
    }
    if (done < bytes) {
      // Some of these bytes are there already.
      vector(in, inAt + bytes - LANES, out, outAt + bytes - LANES);
    }
  }

  private static void group(MemorySegment in, long inAt, MemorySegment out, long outAt) {
    ByteVector a = ByteVector.fromMemorySegment(BYTES, in, inAt, LE);
    ByteVector b = ByteVector.fromMemorySegment(BYTES, in, inAt + LANES, LE);
    ByteVector c = ByteVector.fromMemorySegment(BYTES, in, inAt + 2L * LANES, LE);
    ByteVector d = ByteVector.fromMemorySegment(BYTES, in, inAt + 3L * LANES, LE);
    a.intoMemorySegment(out, outAt, LE);
    b.intoMemorySegment(out, outAt + LANES, LE);
    c.intoMemorySegment(out, outAt + 2L * LANES, LE);
    d.intoMemorySegment(out, outAt + 3L * LANES, LE);
    ByteVector e = ByteVector.fromMemorySegment(BYTES, in, inAt + 4L * LANES, LE);
    ByteVector f = ByteVector.fromMemorySegment(BYTES, in, inAt + 5L * LANES, LE);
    ByteVector g = ByteVector.fromMemorySegment(BYTES, in, inAt + 6L * LANES, LE);
    ByteVector h = ByteVector.fromMemorySegment(BYTES, in, inAt + 7L * LANES, LE);
    e.intoMemorySegment(out, outAt + 4L * LANES, LE);
    f.intoMemorySegment(out, outAt + 5L * LANES, LE);
    g.intoMemorySegment(out, outAt + 6L * LANES, LE);
    h.intoMemorySegment(out, outAt + 7L * LANES, LE);
  }

  private static void vector(MemorySegment in, long inAt, MemorySegment out, long outAt) {
    ByteVector.fromMemorySegment(BYTES, in, inAt, LE).intoMemorySegment(out, outAt, LE);
  }
}
