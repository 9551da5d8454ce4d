// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Little-endian memory of others to and from heap arrays, and the checks that come before. */
final class Memory {
  static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfFloat NATIVE_FLOAT = ValueLayout.JAVA_FLOAT;
  static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Never started: stands for any thread but the caller's. */
  private static final Thread ANOTHER = new Thread(() -> {}, "never started");

  private Memory() {}

  /** Whether pool threads may touch this memory, which those of a confined arena may not. */
  static boolean isShared(MemorySegment memory) {
    return memory.isAccessibleBy(ANOTHER);
  }

  /**
   * Reads F32 or BF16.
   *
   * @param memory where from
   * @param dtype F32 or BF16
   * @param index first element
   * @param shorts room for count elements, for BF16
   * @param out receives the values
   * @param count number of elements
   */
  static void read(
      GateLoops loops,
      MemorySegment memory,
      Dtype dtype,
      long index,
      short[] shorts,
      float[] out,
      int count) {
    if (dtype == Dtype.F32) {
      MemorySegment.copy(memory, FLOAT, index * Float.BYTES, out, 0, count);
    } else {
      MemorySegment.copy(memory, SHORT, index * Short.BYTES, shorts, 0, count);
      loops.widen(shorts, out, count);
    }
  }

  /** Writes F32 or BF16, rounded to nearest even. */
  static void write(
      GateLoops loops,
      float[] values,
      int count,
      short[] shorts,
      MemorySegment memory,
      Dtype dtype,
      long index) {
    if (dtype == Dtype.F32) {
      MemorySegment.copy(values, 0, memory, FLOAT, index * Float.BYTES, count);
    } else {
      loops.narrow(values, shorts, count);
      MemorySegment.copy(shorts, 0, memory, SHORT, index * Short.BYTES, count);
    }
  }

  /**
   * Checks memory before anything is computed.
   *
   * @param name what it is called in a message
   * @param memory the memory
   * @param call how many sequences and tokens it is for
   * @param perToken its elements for each token
   * @param elementBytes bytes of one element
   * @throws IllegalArgumentException if the size is another
   * @throws IllegalStateException if the memory is closed
   */
  static void check(
      String name, MemorySegment memory, GateCall call, int perToken, int elementBytes) {
    check(name, memory, call.sequences(), call.tokens(), perToken, elementBytes);
  }

  /** The same for some sequences of some tokens. */
  static void check(
      String name,
      MemorySegment memory,
      int sequences,
      int tokens,
      int perToken,
      int elementBytes) {
    if (!memory.scope().isAlive()) {
      throw new IllegalStateException("the memory of " + name + " is already closed");
    }
    long elements = (long) sequences * tokens * perToken;
    if (memory.byteSize() / elementBytes != elements || memory.byteSize() % elementBytes != 0) {
      throw new IllegalArgumentException(
          name
              + " has "
              + memory.byteSize()
              + " bytes, expected "
              + sequences
              + " sequences * "
              + tokens
              + " tokens * "
              + perToken
              + " elements * "
              + elementBytes
              + " bytes");
    }
  }

  /** Refuses memory that results cannot be written to. */
  static void checkWritable(String name, MemorySegment memory) {
    if (memory.isReadOnly()) {
      throw new IllegalArgumentException("the memory of " + name + " is read-only");
    }
  }

  /** Refuses a result that shares a byte with something else. */
  static void checkApart(String name, MemorySegment memory, String otherName, MemorySegment other) {
    if (memory.asOverlappingSlice(other).isPresent()) {
      throw new IllegalArgumentException(
          "the memory of " + name + " overlaps that of " + otherName);
    }
  }
}
