// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * One layer's memory on ND4J arrays: rows and a hidden state in, a hidden state out.
 *
 * <p>B is sequences, T tokens, S streams, W width and E the row width. Streams are FLOAT or
 * BFLOAT16 [B, T, S, W] and rows FLOAT [B, T, E]; arrays of any order and any view are taken, those
 * in contiguous 'c' order without a copy.
 *
 * <p>Thread-safe, as far as the ND4J backend is.
 */
public final class EngramLayer {
  /** Who does the arithmetic. */
  public enum Engine {
    /**
     * ND4J operations only, on whatever backend is on the class path. Holds a copy of the
     * projection in FLOAT, or in DOUBLE where its output is rounded to bfloat16.
     */
    ND4J,
    /** {@link GateKernel} on the arrays' own host memory: the faster one where that is the CPU. */
    CPU
  }

  /**
   * What a forward works on.
   *
   * @param streams FLOAT or BFLOAT16 [B, T, S, W]: the hidden state, left as it is
   * @param rows FLOAT [B, T, E]: the retrieved rows of each token, side by side
   * @param live [B, T] of any type, 0 where a position has no token (padding, an image): its gate
   *     is 0, and neither its rows nor its streams are looked at; without it, all are live
   * @param states one for each sequence, advanced by T positions; if empty, every sequence is at
   *     its start and nothing is kept
   */
  public record Input(
      INDArray streams, INDArray rows, Optional<INDArray> live, List<ConvState> states) {

    /** Refuses null. */
    public Input {
      Objects.requireNonNull(streams, "streams");
      Objects.requireNonNull(rows, "rows");
      Objects.requireNonNull(live, "live");
      states = List.copyOf(states);
    }

    /**
     * All tokens live, every sequence at its start.
     *
     * @param streams [B, T, S, W]
     * @param rows [B, T, E]
     * @return the input
     */
    public static Input of(INDArray streams, INDArray rows) {
      return new Input(streams, rows, Optional.empty(), List.of());
    }

    /**
     * The input with a mask.
     *
     * @param live [B, T], 0 where a position has no token
     * @return a changed copy
     */
    public Input withLive(INDArray live) {
      return new Input(streams, rows, Optional.of(live), states);
    }

    /**
     * The input with the states of its sequences.
     *
     * @param states one for each sequence
     * @return a changed copy
     */
    public Input withStates(List<ConvState> states) {
      return new Input(streams, rows, live, states);
    }
  }

  /**
   * What a forward gives.
   *
   * @param streams [B, T, S, W] in the type of the input: the new streams, or what the caller adds
   *     to them, as {@link GateConfig.Residual} says
   * @param gates FLOAT [B, T, S], from 0 (nothing let in) to 1
   */
  public record Output(INDArray streams, INDArray gates) {}

  /**
   * The gradients of what went into a forward.
   *
   * @param streams FLOAT [B, T, S, W]; under {@link GateConfig.Residual#DELTA} without the way past
   *     the layer, for it is the caller who adds the output to the streams
   * @param rows FLOAT [B, T, E]: of the retrieved rows, to be added up by row id
   */
  public record Gradients(INDArray streams, INDArray rows) {}

  /**
   * A forward that remembers what the way back needs: copies of what went in, the projection's
   * output and, with a convolution, two more arrays of the size of the streams.
   *
   * <p>Not thread-safe. It is of the weights as they were: go back before {@link #refresh}.
   */
  public final class Recorded {
    private final Output output;
    private final long[] rowsShape;

    /** Null where there is no token. */
    private final Tape tape;

    private Recorded(Output output, long[] rowsShape, Tape tape) {
      this.output = output;
      this.rowsShape = rowsShape;
      this.tape = tape;
    }

    /**
     * What the forward gave.
     *
     * @return the output
     */
    public Output output() {
      return output;
    }

    /**
     * The way back: the gradients of a loss by what went in, from its gradient by what came out.
     * The rounding to bfloat16 that a variant has counts as if it were none; a gate does not move
     * where the dot product lies below the least that its square root takes, nor for tokens that
     * are not live.
     *
     * @param outGradient FLOAT [B, T, S, W], left as it is
     * @param weightGradients of the layer's shape ({@link Nd4jWeights#zeros}): the gradients of the
     *     weights are added to what it holds
     * @return new arrays
     * @throws IllegalArgumentException if an array has another shape or type, or outGradient holds
     *     a NaN or an infinity (the message says where)
     * @throws IllegalStateException if the weights were read again since
     */
    public Gradients backward(INDArray outGradient, Nd4jWeights weightGradients) {
      if (outGradient.dataType() != DataType.FLOAT) {
        throw new IllegalArgumentException(
            "outGradient is " + outGradient.dataType() + ", expected FLOAT");
      }
      checkShape("outGradient", outGradient, output.streams().shape());
      weightGradients.weights().check(gate, conv, rowWidth);
      Gradients gradients =
          new Gradients(
              Nd4j.create(DataType.FLOAT, outGradient.shape(), 'c'),
              Nd4j.create(DataType.FLOAT, rowsShape, 'c'));
      if (tape != null) {
        tape.backward(outGradient, gradients.streams(), gradients.rows(), weightGradients);
      }
      return gradients;
    }
  }

  /** What both engines do, on arguments that have been checked. */
  interface Forward {
    /**
     * Computes.
     *
     * @param streams [B, T, S, W], B and T at least 1
     * @param rows [B, T, E]
     * @param live one for each token, or null
     * @param states one for each sequence, or none
     * @param output receives the result: new arrays in 'c' order
     */
    void forward(
        INDArray streams, INDArray rows, boolean[] live, List<ConvState> states, Output output);

    /** The same for whole sequences, remembered. */
    Tape record(INDArray streams, INDArray rows, boolean[] live, Output output);

    /** Reads the weights again. */
    void refresh();
  }

  /** What an engine remembers of a forward. */
  interface Tape {
    /**
     * Goes back.
     *
     * @param outGradient FLOAT [B, T, S, W]
     * @param streamsGradient receives FLOAT [B, T, S, W] in 'c' order
     * @param rowsGradient receives FLOAT [B, T, E] in 'c' order
     * @param weightGradients are added to
     */
    void backward(
        INDArray outGradient,
        INDArray streamsGradient,
        INDArray rowsGradient,
        Nd4jWeights weightGradients);
  }

  private final GateConfig gate;
  private final Optional<ConvConfig> conv;
  private final int rowWidth;
  private final Forward engine;

  private EngramLayer(GateConfig gate, Optional<ConvConfig> conv, int rowWidth, Forward engine) {
    this.gate = gate;
    this.conv = conv;
    this.rowWidth = rowWidth;
    this.engine = engine;
  }

  /**
   * A layer.
   *
   * @param gate the gate
   * @param conv the convolution, where the variant has one
   * @param rowWidth E: values that one token retrieves, columns * head dim
   * @param weights the weights; copied, and read again by {@link #refresh}
   * @param engine who does the arithmetic
   * @return the layer
   * @throws IllegalArgumentException if a tensor is missing, has another shape or dtype than the
   *     configuration says, or holds a NaN or an infinity
   */
  public static EngramLayer of(
      GateConfig gate,
      Optional<ConvConfig> conv,
      int rowWidth,
      LayerWeights weights,
      Engine engine) {
    Forward forward =
        switch (engine) {
          case ND4J -> new Nd4jForward(new PreparedLayer(gate, conv, rowWidth, weights));
          case CPU -> new CpuForward(GateKernel.of(gate, conv, rowWidth, weights));
        };
    return new EngramLayer(gate, conv, rowWidth, forward);
  }

  /**
   * A layer of a memory, computed by the CPU engine.
   *
   * @param memory the memory, which must outlive the layer
   * @param layer a layer of its configuration
   * @return the layer
   * @throws IllegalArgumentException if the memory has no such layer
   * @throws io.engram.EngramException if its weights cannot be read
   */
  public static EngramLayer load(EngramMemory memory, int layer) {
    return load(memory, layer, Engine.CPU);
  }

  /**
   * A layer of a memory.
   *
   * @param memory the memory, which must outlive the layer
   * @param layer a layer of its configuration
   * @param engine who does the arithmetic
   * @return the layer
   * @throws IllegalArgumentException if the memory has no such layer
   * @throws io.engram.EngramException if its weights cannot be read
   */
  public static EngramLayer load(EngramMemory memory, int layer, Engine engine) {
    EngramConfig config = memory.config();
    return of(config.gate(), config.conv(), config.rowWidth(), memory.weights(layer), engine);
  }

  /**
   * A new state for one sequence, at its start.
   *
   * @param rollBack how many of the last positions can be taken back, at least 0
   * @return the state, good for either engine
   * @throws IllegalStateException if the layer has no convolution and so nothing to carry
   */
  public ConvState newState(int rollBack) {
    return ConvState.start(
        gate,
        conv.orElseThrow(
            () -> new IllegalStateException("a layer without convolution carries no state")),
        rollBack);
  }

  /**
   * Whole sequences, all tokens live.
   *
   * @param streams FLOAT or BFLOAT16 [B, T, S, W], left as it is
   * @param rows FLOAT [B, T, E]
   * @return [B, T, S, W]: the new streams, or what the caller adds to them, as {@link
   *     GateConfig.Residual} says
   * @throws IllegalArgumentException as {@link #forward(Input)}
   */
  public INDArray forward(INDArray streams, INDArray rows) {
    return forward(Input.of(streams, rows)).streams();
  }

  /**
   * As {@link #forward(INDArray, INDArray)}, on rows as they come from a retrieval: {@code
   * layer.forward(streams, retrieval.rows(1))}.
   *
   * @param streams FLOAT or BFLOAT16 [B, T, S, W], left as it is
   * @param rows F32, little-endian, [B, T, E]; copied
   * @return [B, T, S, W]: the new streams, or what the caller adds to them, as {@link
   *     GateConfig.Residual} says
   * @throws IllegalArgumentException as {@link #forward(Input)}
   */
  public INDArray forward(INDArray streams, MemorySegment rows) {
    return forward(input(streams, rows)).streams();
  }

  /**
   * An input of rows as they come from a retrieval, all tokens live, every sequence at its start.
   *
   * @param streams FLOAT or BFLOAT16 [B, T, S, W]
   * @param rows F32, little-endian, [B, T, E]; copied
   * @return the input, to which a mask or states can be added
   * @throws IllegalArgumentException if the streams have another rank, or the rows are not as many
   */
  public Input input(INDArray streams, MemorySegment rows) {
    if (streams.rank() != 4) {
      throw new IllegalArgumentException(
          "streams are " + Arrays.toString(streams.shape()) + ", expected [B, T, S, W]");
    }
    long[] shape = {streams.size(0), streams.size(1), rowWidth};
    long bytes = shape[0] * shape[1] * rowWidth * Float.BYTES;
    if (rows.byteSize() != bytes) {
      throw new IllegalArgumentException(
          "rows have "
              + rows.byteSize()
              + " bytes, expected "
              + bytes
              + " of F32 "
              + Arrays.toString(shape));
    }
    return Input.of(
        streams,
        bytes == 0
            ? Nd4j.create(DataType.FLOAT, shape)
            : Nd4j.create(rows.toArray(Memory.FLOAT), shape, 'c'));
  }

  /**
   * Lets memory into the streams.
   *
   * <p>If the call is refused, no state has moved.
   *
   * @param input what to work on
   * @return new arrays
   * @throws IllegalArgumentException if an array has another shape or type than the configuration
   *     says, states are not one for each sequence or do not fit the layer, or a live token's rows
   *     or streams hold a NaN or an infinity (the message says where)
   * @throws IllegalStateException if a state is in use by another call
   */
  public Output forward(Input input) {
    check(input);
    Output output = output(input);
    if (!output.streams().isEmpty()) {
      engine.forward(input.streams(), input.rows(), live(input), input.states(), output);
    }
    return output;
  }

  /**
   * As {@link #forward(Input)}, remembered for the way back: the output has the same bits.
   *
   * @param input whole sequences, so without states
   * @return the output, and the way back
   * @throws IllegalArgumentException as {@link #forward(Input)}, or if there are states
   */
  public Recorded record(Input input) {
    check(input);
    if (!input.states().isEmpty()) {
      throw new IllegalArgumentException(
          "a forward with states cannot be taken back: train on whole sequences");
    }
    Output output = output(input);
    Tape tape =
        output.streams().isEmpty()
            ? null
            : engine.record(input.streams(), input.rows(), live(input), output);
    return new Recorded(output, input.rows().shape(), tape);
  }

  /**
   * Reads the weights again, from where {@link #of} read them, after an optimiser changed them.
   * Until then the layer computes with those that it copied. Not while another call is running.
   *
   * @throws IllegalArgumentException if a weight is a NaN or an infinity; the layer then keeps the
   *     weights it had
   * @throws IllegalStateException if the projection is stored in FP8, whose scales belong to its
   *     numbers
   */
  public void refresh() {
    engine.refresh();
  }

  private void check(Input input) {
    INDArray streams = input.streams();
    INDArray rows = input.rows();
    DataType type = streams.dataType();
    if (type != DataType.FLOAT && type != DataType.BFLOAT16) {
      throw new IllegalArgumentException("streams are " + type + ", expected FLOAT or BFLOAT16");
    }
    if (rows.dataType() != DataType.FLOAT) {
      throw new IllegalArgumentException("rows are " + rows.dataType() + ", expected FLOAT");
    }
    if (streams.rank() != 4
        || streams.size(2) != gate.streams()
        || streams.size(3) != gate.width()) {
      throw new IllegalArgumentException(
          "streams are "
              + Arrays.toString(streams.shape())
              + ", expected [B, T, "
              + gate.streams()
              + ", "
              + gate.width()
              + "]");
    }
    long sequences = streams.size(0);
    long tokens = streams.size(1);
    checkShape("rows", rows, sequences, tokens, rowWidth);
    input.live().ifPresent(live -> checkShape("live", live, sequences, tokens));
    List<ConvState> states = input.states();
    if (!states.isEmpty() && conv.isEmpty()) {
      throw new IllegalArgumentException(
          "states are given, but the layer has no convolution to carry them");
    }
    if (!states.isEmpty() && states.size() != sequences) {
      throw new IllegalArgumentException(states.size() + " states for " + sequences + " sequences");
    }
    states.forEach(s -> s.check(conv.orElseThrow(), ConvState.channels(gate)));
  }

  /** Room for the result, empty where there is no token. */
  private Output output(Input input) {
    DataType type = input.streams().dataType();
    long[] shape = input.streams().shape();
    long[] gates = {shape[0], shape[1], shape[2]};
    return input.streams().isEmpty()
        ? new Output(Nd4j.create(type, shape), Nd4j.create(DataType.FLOAT, gates))
        : new Output(
            Nd4j.createUninitialized(type, shape, 'c'),
            Nd4j.createUninitialized(DataType.FLOAT, gates, 'c'));
  }

  private static boolean[] live(Input input) {
    return input.live().map(EngramLayer::booleans).orElse(null);
  }

  private static void checkShape(String name, INDArray array, long... shape) {
    if (!Arrays.equals(array.shape(), shape)) {
      throw new IllegalArgumentException(
          name + " are " + Arrays.toString(array.shape()) + ", expected " + Arrays.toString(shape));
    }
  }

  private static boolean[] booleans(INDArray live) {
    int[] values = live.castTo(DataType.BOOL).castTo(DataType.INT32).ravel().toIntVector();
    boolean[] booleans = new boolean[values.length];
    for (int i = 0; i < values.length; i++) {
      booleans[i] = values[i] != 0;
    }
    return booleans;
  }
}
