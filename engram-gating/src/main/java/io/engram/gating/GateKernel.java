// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.kernel.Workers;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;

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
  private final ProjectionChoice choice;
  private final GateLoops loops;
  private final int maxWorkers;
  private final ArrayBlockingQueue<GateRun> idle = new ArrayBlockingQueue<>(KEPT);
  private final ArrayBlockingQueue<GateBackward> idleBackward = new ArrayBlockingQueue<>(KEPT);
  private volatile BlockProduct.Maker product;

  /** How often the weights have been read. */
  private final AtomicInteger version = new AtomicInteger();

  /** An FP8 projection as the backward wants it, once it has been asked for. */
  private volatile Tensor widened;

  private GateKernel(
      PreparedLayer layer,
      ProjectionChoice choice,
      BlockProduct.Maker product,
      GateLoops loops,
      int maxWorkers) {
    this.layer = layer;
    this.choice = choice;
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
   *     same number of bytes for each value. {@link #refresh} and {@link #backward} read them again
   *     where they are; a forward does not
   * @return the kernel
   * @throws IllegalArgumentException if a tensor is missing, has another shape or dtype than the
   *     configuration says, or holds a NaN or an infinity
   */
  public static GateKernel of(
      GateConfig gate, Optional<ConvConfig> conv, int rowWidth, LayerWeights weights) {
    return of(gate, conv, rowWidth, weights, ProjectionChoice.get());
  }

  static GateKernel of(
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      LayerWeights weights,
      ProjectionChoice choice) {
    PreparedLayer layer = new PreparedLayer(gate, conv, rowWidth, weights);
    BlockProduct.Maker product = product(layer, weights, choice);
    return new GateKernel(layer, choice, product, GateLoops.CHOSEN, Workers.AVAILABLE);
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
    BlockProduct.Maker product = new PackedProjection(layer, loops);
    return new GateKernel(layer, ProjectionChoice.get(), product, loops, maxWorkers);
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
      run(call, null);
    } finally {
      for (int i = 0; i < claimed; i++) {
        call.states().get(i).release();
      }
    }
  }

  private void run(GateCall call, GateTape tape) {
    GateRun run = idle.poll();
    if (run == null) {
      run = new GateRun(layer, product, loops, maxWorkers);
    }
    try {
      run.forward(call, tape);
    } finally {
      idle.offer(run);
    }
  }

  // --- training -------------------------------------------------------------------------------

  /**
   * A new tape for this kernel, empty.
   *
   * @return the tape
   */
  public GateTape newTape() {
    return new GateTape(layer);
  }

  /**
   * Lets memory into the streams and remembers what {@link #backward} needs: the same bits as
   * {@link #forward(GateCall)}.
   *
   * @param call the memory to work on: whole sequences, without states
   * @param tape receives what is remembered; holds nothing if the call is refused
   * @throws IllegalArgumentException as {@link #forward(GateCall)}, if the call has states, or if
   *     the tape is of another kernel
   * @throws IllegalStateException if memory is closed
   */
  public void forward(GateCall call, GateTape tape) {
    checkOwn(tape);
    tape.forget();
    if (!call.states().isEmpty()) {
      throw new IllegalArgumentException(
          "the call has states, but only whole sequences can be remembered for a backward");
    }
    check(call);
    int read = version.get();
    run(call, tape);
    tape.complete(read);
  }

  /**
   * The way back: from the gradient of a loss by the result of a forward to that by its rows, its
   * streams and the weights.
   *
   * <p>Rows and streams get what falls on them through this layer. Where the layer returns a delta,
   * the caller's own path, streams + delta, is the caller's; where it writes the streams in place,
   * that path is included. Results that the forward rounded to bfloat16, the projection under
   * {@link GateConfig.Rounding#BF16} and streams of that type, are treated as if they had not been
   * (straight-through). The clamp of {@link GateConfig.Shape#SIGNED_SQRT} lets no gradient through
   * where it holds the root, nor does a dot product of zero, as in automatic differentiation. A
   * position without a token has no gradient of its rows, none through its gate, and a gradient of
   * its streams only where they are written in place.
   *
   * <p>Sums over tokens are added up in one order: the same bits for any number of threads; the
   * gradients of a token's rows and streams have the same bits whatever other sequences are in the
   * call. The projection is read where the caller has it, and has to be as it was at the forward.
   *
   * <p>Scratch is kept for the next call as that of a forward is: 3 * S * W + 2 * W + 2 * E floats
   * for each of up to 512 tokens, 256 * E floats, and some hundreds of kilobytes for each thread
   * that helps.
   *
   * @param tape what a forward has left; it stays as it is
   * @param outGradient F32 [B, T, S, W]
   * @param rowsGradient F32 [B, T, E]: written
   * @param streamsGradient F32 [B, T, S, W]: written
   * @param gradients the weights' gradients, all F32: added to, so that several calls sum up; those
   *     of {@link LayerWeights#zeros} to begin with. Norm weights are those as stored
   * @throws IllegalArgumentException if memory has another size than the tape says, results overlap
   *     anything else or cannot be written, gradients have another shape or type, the tape is of
   *     another kernel, or outGradient holds a NaN or an infinity (the message says where); then
   *     nothing was written
   * @throws IllegalStateException if memory is closed, the tape is empty, or the weights were read
   *     again after its forward
   */
  public void backward(
      GateTape tape,
      MemorySegment outGradient,
      MemorySegment rowsGradient,
      MemorySegment streamsGradient,
      LayerWeights gradients) {
    checkOwn(tape);
    if (!tape.isRecorded()) {
      throw new IllegalStateException(
          "the tape is empty: a backward comes after a forward that was given the tape");
    }
    if (tape.version != version.get()) {
      throw new IllegalStateException(
          "the weights were read again after the tape's forward, which has to be done once more");
    }
    GateBackward run = idleBackward.poll();
    if (run == null) {
      run = new GateBackward(layer, loops, maxWorkers);
    }
    try {
      run.check(tape, outGradient, rowsGradient, streamsGradient, gradients);
      run.backward(
          tape, outGradient, rowsGradient, streamsGradient, gradients, projectionToMultiply());
    } finally {
      idleBackward.offer(run);
    }
  }

  private void checkOwn(GateTape tape) {
    if (tape.layer != layer) {
      throw new IllegalArgumentException("the tape is of another kernel: newTape makes one");
    }
  }

  private Tensor projectionToMultiply() {
    if (layer.weights.projection().dtype() != Dtype.F8_E4M3) {
      return layer.weights.projection();
    }
    Tensor known = widened;
    if (known == null) {
      known = layer.weights.widenedProjection(Arena.ofAuto());
      widened = known;
    }
    return known;
  }

  /**
   * Reads again the weights that this kernel was made of, after an optimiser has changed them in
   * place. Tapes of forwards before it are of no use afterwards. Not while a forward or a backward
   * is running.
   *
   * @throws IllegalArgumentException if a weight is a NaN or an infinity (the message says which);
   *     the kernel then keeps the weights it had
   * @throws IllegalStateException if the projection is stored in FP8, whose scales belong to its
   *     numbers, or the weights' memory is closed
   */
  public synchronized void refresh() {
    if (layer.weights.projection().dtype() == Dtype.F8_E4M3) {
      throw new IllegalStateException(
          "the projection is F8_E4M3, which is not changed in place: make a new kernel");
    }
    layer.checkSmall();
    if (product instanceof PackedProjection packed) {
      packed.refresh(maxWorkers);
    } else {
      layer.checkProjection();
      product = product(layer, layer.weights, choice);
      idle.clear();
    }
    layer.readSmall();
    version.incrementAndGet();
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
