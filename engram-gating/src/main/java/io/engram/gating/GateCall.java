// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * The memory of one forward: B sequences of T tokens each, all row-major and little-endian. S is
 * streams, W width and E the row width of the kernel.
 *
 * <p>An immutable value that holds no data of its own; it can be used again for as long as its
 * memory lives. Memory of a confined arena is worked on by the calling thread alone, other memory
 * by the common pool as well.
 *
 * @param sequences B, at least 1
 * @param tokens T, at least 0
 * @param dtype of streams and out: F32 or BF16
 * @param rows F32 [B, T, E]: the retrieved rows of each token, side by side
 * @param streams [B, T, S, W]: the hidden state
 * @param out [B, T, S, W]: receives the result; where the layer writes the streams in place it may
 *     be the memory of {@code streams} itself
 * @param live [B, T], one byte a token, 0 where a position has no token (padding, an image): its
 *     gate is 0, and neither its rows nor its streams are looked at; without it, all are live
 * @param gates F32 [B, T, S]: receives the gates, where wanted
 * @param states one for each sequence, advanced by T positions; if empty, every sequence is at its
 *     start and nothing is kept
 */
public record GateCall(
    int sequences,
    int tokens,
    Dtype dtype,
    MemorySegment rows,
    MemorySegment streams,
    MemorySegment out,
    Optional<MemorySegment> live,
    Optional<MemorySegment> gates,
    List<ConvState> states) {

  /**
   * Checks what can be checked without the kernel.
   *
   * @throws IllegalArgumentException if sequences or tokens is out of range, the dtype is neither
   *     F32 nor BF16, or there are states, but not one for each sequence
   */
  public GateCall {
    Objects.requireNonNull(rows, "rows");
    Objects.requireNonNull(streams, "streams");
    Objects.requireNonNull(out, "out");
    Objects.requireNonNull(live, "live");
    Objects.requireNonNull(gates, "gates");
    states = List.copyOf(states);
    if (sequences < 1 || tokens < 0) {
      throw new IllegalArgumentException(
          sequences + " sequences of " + tokens + " tokens, expected at least 1 of at least 0");
    }
    if ((long) sequences * tokens > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          sequences + " sequences of " + tokens + " tokens are more than 2^31 - 1 tokens");
    }
    if (dtype != Dtype.F32 && dtype != Dtype.BF16) {
      throw new IllegalArgumentException("streams of " + dtype + ", expected F32 or BF16");
    }
    if (!states.isEmpty() && states.size() != sequences) {
      throw new IllegalArgumentException(states.size() + " states for " + sequences + " sequences");
    }
  }

  /**
   * A call on memory segments: all tokens live, no gates, no states.
   *
   * @param sequences B
   * @param tokens T
   * @param dtype of streams and out
   * @param rows F32 [B, T, E]
   * @param streams [B, T, S, W]
   * @param out [B, T, S, W]
   * @return the call
   */
  public static GateCall of(
      int sequences,
      int tokens,
      Dtype dtype,
      MemorySegment rows,
      MemorySegment streams,
      MemorySegment out) {
    return new GateCall(
        sequences,
        tokens,
        dtype,
        rows,
        streams,
        out,
        Optional.empty(),
        Optional.empty(),
        List.of());
  }

  /**
   * The same on arrays.
   *
   * @param sequences B
   * @param tokens T
   * @param rows [B, T, E]
   * @param streams [B, T, S, W]
   * @param out [B, T, S, W]
   * @return the call
   */
  public static GateCall of(int sequences, int tokens, float[] rows, float[] streams, float[] out) {
    return of(
        sequences,
        tokens,
        Dtype.F32,
        MemorySegment.ofArray(rows),
        MemorySegment.ofArray(streams),
        MemorySegment.ofArray(out));
  }

  /**
   * The call with a mask.
   *
   * @param live [B, T], one byte a token, 0 where a position has no token
   * @return a changed copy
   */
  public GateCall withLive(MemorySegment live) {
    return new GateCall(
        sequences, tokens, dtype, rows, streams, out, Optional.of(live), gates, states);
  }

  /**
   * The call with gates.
   *
   * @param gates F32 [B, T, S]: receives the gates
   * @return a changed copy
   */
  public GateCall withGates(MemorySegment gates) {
    return new GateCall(
        sequences, tokens, dtype, rows, streams, out, live, Optional.of(gates), states);
  }

  /**
   * The call with the states of its sequences.
   *
   * @param states one for each sequence
   * @return a changed copy
   */
  public GateCall withStates(List<ConvState> states) {
    return new GateCall(sequences, tokens, dtype, rows, streams, out, live, gates, states);
  }
}
