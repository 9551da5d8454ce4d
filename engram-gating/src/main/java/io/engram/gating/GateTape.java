// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * What one forward of a {@link GateKernel} leaves to its backward: copies of the rows and the
 * streams, the projections, and the sums of the gates and norms. The caller's memory may be written
 * to as soon as the forward has returned.
 *
 * <p>Made by {@link GateKernel#newTape}, it belongs to that kernel. Each forward replaces what was
 * remembered, in the same memory where it is large enough: E + 2 * S * W + W floats and 3 * S + 1
 * doubles a token, S streams of width W and rows of E. A backward leaves it as it is.
 *
 * <p>Not thread-safe.
 */
public final class GateTape {
  /** Sums of a gate: key * key, stream * stream, key * stream * weight. */
  static final int SUMS = 3;

  final PreparedLayer layer;

  /** Which weights were used: how often the kernel has read them. */
  int version;

  private boolean recorded;
  private int sequences;
  private int tokens;

  /** [N]: not 0 where the position has a token. */
  byte[] live = {};

  /** [N, E]. */
  float[] rows = {};

  /** [N, S, W]; of tokens that are not live, anything. */
  float[] streams = {};

  /** [N, S, W]; of tokens that are not live, anything. */
  float[] keys = {};

  /** [N, W]. */
  float[] values = {};

  /** [N, S]. */
  float[] gates = {};

  /** [N, S]: what makes of a value its normalised memory, the norm's weight apart. */
  float[] factors = {};

  /** [N, S, SUMS]; of tokens that are not live, anything. */
  double[] sums = {};

  /** [N]: of the value, where there is a convolution. */
  double[] meanSquares = {};

  GateTape(PreparedLayer layer) {
    this.layer = layer;
  }

  /** Makes room; whatever was remembered is lost. */
  void start(GateCall call) {
    recorded = false;
    sequences = call.sequences();
    tokens = call.tokens();
    int all = sequences * tokens;
    int gateCount = layer.gate.streams();
    if (live.length < all) {
      live = new byte[all];
      rows = new float[Math.multiplyExact(all, layer.rowWidth)];
      streams = new float[Math.multiplyExact(all, layer.channels)];
      keys = new float[streams.length];
      values = new float[Math.multiplyExact(all, layer.gate.width())];
      gates = new float[Math.multiplyExact(all, gateCount)];
      factors = new float[gates.length];
      sums = new double[Math.multiplyExact(gates.length, SUMS)];
      meanSquares = new double[all];
    }
    if (call.live().isPresent()) {
      MemorySegment.copy(call.live().get(), ValueLayout.JAVA_BYTE, 0, live, 0, all);
    } else {
      Arrays.fill(live, 0, all, (byte) 1);
    }
  }

  /** The forward is complete, with the weights as they were read last. */
  void complete(int version) {
    this.version = version;
    recorded = true;
  }

  /** The forward that is to come may fail half way. */
  void forget() {
    recorded = false;
  }

  void keepSums(int token, int stream, double keys, double queries, double dot) {
    int at = (token * layer.gate.streams() + stream) * SUMS;
    sums[at] = keys;
    sums[at + 1] = queries;
    sums[at + 2] = dot;
  }

  boolean isLive(int token) {
    return live[token] != 0;
  }

  /**
   * Whether a forward is remembered.
   *
   * @return false before the first one and after one that failed
   */
  public boolean isRecorded() {
    return recorded;
  }

  /**
   * Sequences of the forward that is remembered.
   *
   * @return B, or 0
   */
  public int sequences() {
    return recorded ? sequences : 0;
  }

  /**
   * Tokens of each sequence of the forward that is remembered.
   *
   * @return T, or 0
   */
  public int tokens() {
    return recorded ? tokens : 0;
  }
}
