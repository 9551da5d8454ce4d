// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;

/** What one positional read needs: a buffer, and a place for the error number. */
final class ReadSeat {
  /** What buffer and positions are aligned to, enough for O_DIRECT on every common disk. */
  static final int ALIGNMENT = 4096;

  /** Bytes of the buffer that reads of rows need. */
  static final int BYTES = 64 << 10;

  private final MemorySegment buffer;
  private final ByteBuffer view;
  private final MemorySegment callState;

  ReadSeat(Arena arena, int bytes) {
    buffer = arena.allocate(bytes, ALIGNMENT);
    view = buffer.asByteBuffer();
    callState = arena.allocate(NativeFiles.CALL_STATE);
  }

  /** Receives what is read. */
  MemorySegment buffer() {
    return buffer;
  }

  /** Some bytes of the buffer, as channels want it. */
  ByteBuffer view(int at, int bytes) {
    return view.limit(at + bytes).position(at);
  }

  /** Where system calls leave their error number. */
  MemorySegment callState() {
    return callState;
  }
}
