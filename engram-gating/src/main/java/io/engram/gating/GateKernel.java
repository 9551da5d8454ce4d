// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.hash.kernel.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import java.util.concurrent.ArrayBlockingQueue;

/**
 * One layer's memory let into its residual streams, on memory segments and the CPU: projection,
 * gate and convolution as {@link GateConfig} and {@link ConvConfig} describe them (paper, section
 * 2.3; {@code Engram} of the demo; {@code engram.py} of DeepSeek-V4.1; the PLE of Qwen). It needs
 * no tensor library.
 *
 * <p>The projection is summed in float32, or in double precision and rounded once to bfloat16, as
 * the configuration says; norms and dot products are summed in double precision. A token's result
 * does not depend on how many tokens or sequences a call has, nor on the number of threads: a
 * sequence cut into calls with {@link ConvState} gives the same bits as the whole.
 *
 * <p>The system property {@code engram.projection} chooses who multiplies in float32: {@code auto}
 * (the default), {@code scalar} or {@code vector}, all of this library, or {@code onednn} or {@code
 * openblas}, if that is on the class path (docs/projection.md). With one of the latter two numbers
 * stay within float32's accuracy, but the promise above does not hold: such a library may sum in
 * another order for another number of tokens. A projection summed in double precision is always
 * computed here.
 *
 * <p>Thread-safe. Large calls use the common pool beside the calling thread; once warm, a call
 * allocates nothing. Scratch for each thread that is inside {@code forward} at the same time is
 * kept for the next call: about 128 * (rowWidth + width) floats, 3 * 128 * streams doubles for each
 * 64 outputs, and some tens of kilobytes for each thread that helps.
 */
public final class GateKernel {
  /** Callers at once whose scratch is kept. */
  private static final int KEPT = 64;

  private final PreparedLayer layer;
  private final BlockProduct.Maker product;
  private final GateLoops loops;
  private final int maxWorkers;
  private final ArrayBlockingQueue<GateRun> idle = new ArrayBlockingQueue<>(KEPT);

  private GateKernel(
      PreparedLayer layer, BlockProduct.Maker product, GateLoops loops, int maxWorkers) {
    this.layer = layer;
    this.product = product;
    this.loops = loops;
    this.maxWorkers = maxWorkers;
  }

  /**
   * A kernel for one layer.
   *
   * @param gate the gate
   * @param conv the convolution, where the variant has one
   * @param rowWidth values that one token retrieves: columns * head dim
   * @param weights the weights; copied, the projection into the order in which it is read, at the
   *     same number of bytes for each value
   * @return the kernel
   * @throws IllegalArgumentException if a tensor is missing, has another shape or dtype than the
   *     configuration says, or holds a NaN or an infinity
   */
  public static GateKernel of(
      GateConfig gate, Optional<ConvConfig> conv, int rowWidth, LayerWeights weights) {
    PreparedLayer layer = new PreparedLayer(gate, conv, rowWidth, weights);
    BlockProduct.Maker product = product(layer, weights, ProjectionChoice.get());
    return new GateKernel(layer, product, GateLoops.CHOSEN, Workers.AVAILABLE);
  }

  /** What a library sums in float32 could round to another bfloat16 than the exact sum does. */
  static BlockProduct.Maker product(
      PreparedLayer layer, LayerWeights weights, ProjectionChoice choice) {
    ProjectionChoice possible =
        layer.inDouble() && choice != ProjectionChoice.SCALAR ? ProjectionChoice.VECTOR : choice;
    return switch (possible) {
      case SCALAR -> new PackedProjection(layer, new ScalarGateLoops());
      case VECTOR -> new PackedProjection(layer, GateLoops.CHOSEN);
      case ONEDNN ->
          new LibraryProduct.Maker(
              layer, OneDnn.pack(weights.widenedProjection(Arena.ofAuto()), Workers.AVAILABLE));
      case OPENBLAS ->
          new LibraryProduct.Maker(
              layer, OpenBlas.pack(weights.widenedProjection(Arena.ofAuto()), Workers.AVAILABLE));
    };
  }

  static GateKernel of(
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      LayerWeights weights,
      GateLoops loops,
      int maxWorkers) {
    PreparedLayer layer = new PreparedLayer(gate, conv, rowWidth, weights);
    return new GateKernel(layer, new PackedProjection(layer, loops), loops, maxWorkers);
  }

  /**
   * A kernel for one layer of a memory.
   *
   * @param memory the memory; its weights are copied
   * @param layer a layer of its configuration
   * @return the kernel
   * @throws IllegalArgumentException if the memory has no such layer
   * @throws io.engram.EngramException if its weights cannot be read
   */
  public static GateKernel load(EngramMemory memory, int layer) {
    EngramConfig config = memory.config();
    return of(config.gate(), config.conv(), config.rowWidth(), memory.weights(layer));
  }

  /**
   * A new state for one sequence, at its start.
   *
   * @param rollBack how many of the last positions can be taken back, at least 0
   * @return the state
   * @throws IllegalStateException if the layer has no convolution and so nothing to carry
   */
  public ConvState newState(int rollBack) {
    ConvConfig conv =
        layer.conv.orElseThrow(
            () -> new IllegalStateException("a layer without convolution carries no state"));
    return ConvState.start(layer.gate, conv, rollBack);
  }

  /**
   * Lets memory into the streams.
   *
   * <p>If the call is refused, nothing was written and no state has moved. Finite inputs so large
   * that a product overflows give NaN or infinity, as they do in the reference.
   *
   * @param call the memory to work on
   * @throws IllegalArgumentException if memory has another size than the shapes say, results
   *     overlap inputs (streams written in place may be out itself), out or gates cannot be
   *     written, states are given to a layer without convolution or are of another shape, or a live
   *     token's rows or streams hold a NaN or an infinity (the message says where)
   * @throws IllegalStateException if memory is closed or a state is in use by another call
   */
  public void forward(GateCall call) {
    check(call);
    int claimed = 0;
    try {
      for (; claimed < call.states().size(); claimed++) {
        call.states().get(claimed).claim();
      }
      GateRun run = idle.poll();
      if (run == null) {
        run = new GateRun(layer, product, loops, maxWorkers);
      }
      try {
        run.forward(call);
      } finally {
        idle.offer(run);
      }
    } finally {
      for (int i = 0; i < claimed; i++) {
        call.states().get(i).release();
      }
    }
  }

  /**
   * One sequence from its start, on arrays.
   *
   * @param rows [T, E], row-major
   * @param streams [T, S, W], row-major
   * @return [T, S, W]: the new streams, or what is added to them, as the configuration says
   * @throws IllegalArgumentException as {@link #forward(GateCall)}
   */
  public float[] forward(float[] rows, float[] streams) {
    int tokens = streams.length / layer.channels;
    float[] out = new float[streams.length];
    forward(GateCall.of(1, tokens, rows, streams, out));
    return out;
  }

  private void check(GateCall call) {
    int streams = layer.gate.streams();
    int streamBytes = call.dtype().bytes();
    Memory.check("rows", call.rows(), call, layer.rowWidth, Float.BYTES);
    Memory.check("streams", call.streams(), call, layer.channels, streamBytes);
    Memory.check("out", call.out(), call, layer.channels, streamBytes);
    Memory.checkWritable("out", call.out());
    boolean inPlace =
        layer.gate.residual() == GateConfig.Residual.IN_PLACE
            && call.out().address() == call.streams().address();
    if (!inPlace) {
      Memory.checkApart("out", call.out(), "streams", call.streams());
    }
    Memory.checkApart("out", call.out(), "rows", call.rows());
    if (call.live().isPresent()) {
      MemorySegment live = call.live().get();
      Memory.check("live", live, call, 1, Byte.BYTES);
      Memory.checkApart("out", call.out(), "live", live);
    }
    if (call.gates().isPresent()) {
      MemorySegment gates = call.gates().get();
      Memory.check("gates", gates, call, streams, Float.BYTES);
      Memory.checkWritable("gates", gates);
      Memory.checkApart("gates", gates, "rows", call.rows());
      Memory.checkApart("gates", gates, "streams", call.streams());
      Memory.checkApart("gates", gates, "out", call.out());
      if (call.live().isPresent()) {
        Memory.checkApart("gates", gates, "live", call.live().get());
      }
    }
    for (int i = 0; i < call.states().size(); i++) {
      if (layer.conv.isEmpty()) {
        throw new IllegalArgumentException(
            "states are given, but the layer has no convolution to carry them");
      }
      call.states().get(i).check(layer.conv.get(), layer.channels);
    }
  }
}
