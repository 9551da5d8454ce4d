// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramFormatException;
import io.engram.EngramMemory;
import io.engram.Tensor;
import io.engram.checkpoint.Safetensors;
import io.engram.checkpoint.SafetensorsWriter;
import io.engram.gating.ConvState;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.hash.Lookback;
import io.engram.hash.WindowRule;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram forward}: one layer on tensors from a file, for comparison from outside. */
@Command(
    name = "forward",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Runs one layer on given token ids and hidden states.",
    footer = {
      "",
      "The input holds input_ids (I64 [B,T]), hidden_states (F32 or BF16 [B,T,streams,width] or"
          + " [B,T,streams*width]) and, where the variant knows dead positions, mask (U8 [B,T], 0 ="
          + " dead). The output holds row_ids (I64 [B,T,columns], offsets included), rows (F32"
          + " [B,T,columns*headDim]), gate (F32 [B,T,streams]) and output (shape and dtype of"
          + " hidden_states: the new streams where the variant writes them in place, elsewhere the"
          + " delta)."
    })
final class ForwardCommand implements Callable<Integer> {
  enum Engine {
    CPU,
    ND4J
  }

  /** Runs one chunk of all sequences; keeps the decode state between calls. */
  @FunctionalInterface
  interface Layer {
    void forward(GateCall call);
  }

  private static final ValueLayout.OfLong LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  @Mixin private LayerOptions options;

  @Option(
      names = "--input",
      required = true,
      paramLabel = "IN",
      description = "A safetensors file with the inputs.")
  private Path input;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "OUT",
      description = "The safetensors file to write.")
  private Path output;

  @Option(
      names = "--engine",
      paramLabel = "cpu|nd4j",
      defaultValue = "cpu",
      description = "Fused CPU kernels, or ND4J operations (default: ${DEFAULT-VALUE}).")
  private Engine engine;

  @Option(
      names = "--chunks",
      split = ",",
      paramLabel = "N",
      description =
          "Cuts the sequences into chunks of these lengths, which must add up to T, and carries the"
              + " decode state from one to the next.")
  private int[] chunks;

  @Option(names = "--json", description = "Prints what was done as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    try (Arena arena = Arena.ofShared();
        EngramMemory memory = EngramMemory.open(options.checkpoint)) {
      EngramConfig config = memory.config();
      memory.layout(options.layer);
      ForwardInput in = ForwardInput.read(input, config, arena);
      int[] lengths = chunks == null ? new int[] {in.tokens} : chunks;
      checkChunks(lengths, in.tokens);
      Result result = new Result(in, config, arena);
      run(memory, in, lengths, result);
      result.writer(in).write(output);
      report(in, lengths);
    }
    return 0;
  }

  private void checkChunks(int[] lengths, int tokens) {
    long sum = 0;
    for (int length : lengths) {
      if (length < 0) {
        throw new ParameterException(
            spec.commandLine(),
            "--chunks " + Arrays.toString(lengths) + " holds a negative length");
      }
      sum += length;
    }
    if (sum != tokens) {
      throw new ParameterException(
          spec.commandLine(),
          "--chunks "
              + Arrays.toString(lengths)
              + " add up to "
              + sum
              + ", but the sequences of "
              + input
              + " have "
              + tokens
              + " tokens");
    }
  }

  private void run(EngramMemory memory, ForwardInput in, int[] lengths, Result result) {
    EngramConfig config = memory.config();
    int batch = in.batch;
    Layer layer = layer(memory);
    Lookback[] pasts = new Lookback[batch];
    Arrays.fill(pasts, Lookback.start());
    List<ConvState> states = new ArrayList<>();
    for (int b = 0; b < batch && config.conv().isPresent(); b++) {
      states.add(ConvState.start(config.gate(), config.conv().get(), 0));
    }
    int columns = config.hashing().columns();
    long streamBytes = in.streamBytes();
    int from = 0;
    for (int length : lengths) {
      if (length == 0) {
        continue;
      }
      try (Arena chunk = Arena.ofShared()) {
        long tokens = (long) batch * length;
        MemorySegment rows = chunk.allocate(tokens * config.rowWidth() * Float.BYTES, 64);
        MemorySegment streams = chunk.allocate(tokens * streamBytes, 64);
        MemorySegment out = chunk.allocate(tokens * streamBytes, 64);
        MemorySegment gates = chunk.allocate(tokens * config.gate().streams() * Float.BYTES, 64);
        MemorySegment live = chunk.allocate(tokens);
        long[] rowIds = new long[length * columns];
        for (int b = 0; b < batch; b++) {
          int first = b * in.tokens + from;
          memory.rowIds(options.layer, in.ids, first, length, pasts[b], rowIds, 0);
          long rowBytes = (long) length * config.rowWidth() * Float.BYTES;
          memory
              .table(options.layer)
              .gather(rowIds, 0, rowIds.length, rows, b * rowBytes, Dtype.F32);
          MemorySegment.copy(
              rowIds, 0, result.rowIds, LONG, (long) first * columns * 8, rowIds.length);
          pasts[b] = pasts[b].advance(in.ids, first, length);
          for (int t = 0; t < length; t++) {
            boolean dead = in.ids[first + t] == Lookback.DEAD;
            live.set(ValueLayout.JAVA_BYTE, (long) b * length + t, (byte) (dead ? 0 : 1));
          }
        }
        in.cut(in.hidden.data(), from, length, streamBytes, streams);
        GateCall call =
            GateCall.of(batch, length, in.hidden.dtype(), rows, streams, out)
                .withLive(live)
                .withGates(gates);
        layer.forward(states.isEmpty() ? call : call.withStates(states));
        gatesOfDead(layer, call, in, config.gate().streams());
        in.paste(rows, from, length, config.rowWidth() * 4L, result.rows);
        in.paste(gates, from, length, config.gate().streams() * 4L, result.gates);
        in.paste(out, from, length, streamBytes, result.output);
      }
      from += length;
    }
  }

  /**
   * A dead position lets nothing in, and the kernels do not compute its gate. The reference does
   * and drops it afterwards, so that its gate tensor has a number there: to be compared, it is
   * computed here, each dead position as a sequence of its own.
   */
  private static void gatesOfDead(Layer layer, GateCall call, ForwardInput in, int streams) {
    byte[] live = call.live().orElseThrow().toArray(ValueLayout.JAVA_BYTE);
    int tokens = call.sequences() * call.tokens();
    long rowBytes = call.rows().byteSize() / tokens;
    long streamBytes = in.streamBytes();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment scratch = arena.allocate(streamBytes, 64);
      for (int t = 0; t < tokens; t++) {
        if (live[t] != 0) {
          continue;
        }
        MemorySegment hidden = call.streams().asSlice(t * streamBytes, streamBytes);
        MemorySegment gates =
            call.gates()
                .orElseThrow()
                .asSlice((long) t * streams * Float.BYTES, (long) streams * Float.BYTES);
        MemorySegment rows = call.rows().asSlice(t * rowBytes, rowBytes);
        if (isFinite(hidden, call.dtype())) {
          layer.forward(GateCall.of(1, 1, call.dtype(), rows, hidden, scratch).withGates(gates));
        } else {
          for (int s = 0; s < streams; s++) {
            gates.set(FLOAT, (long) s * Float.BYTES, Float.NaN);
          }
        }
      }
    }
  }

  private static boolean isFinite(MemorySegment values, Dtype dtype) {
    for (long at = 0; at < values.byteSize(); at += dtype.bytes()) {
      float value =
          dtype == Dtype.F32
              ? values.get(FLOAT, at)
              : Float.intBitsToFloat(values.get(SHORT, at) << 16);
      if (!Float.isFinite(value)) {
        return false;
      }
    }
    return true;
  }

  private Layer layer(EngramMemory memory) {
    return switch (engine) {
      case CPU -> GateKernel.load(memory, options.layer)::forward;
      case ND4J -> Nd4jForward.layer(memory, options.layer);
    };
  }

  private void report(ForwardInput in, int[] lengths) {
    PrintWriter out = spec.commandLine().getOut();
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("layer", options.layer);
    facts.put("engine", engine.name().toLowerCase(Locale.ROOT));
    facts.put("sequences", in.batch);
    facts.put("tokens", in.tokens);
    facts.put("chunks", lengths);
    facts.put("output", output.toString());
    if (json) {
      out.println(new Gson().toJson(facts));
    } else {
      out.printf(
          "layer %d, %d sequences of %d tokens in chunks %s, engine %s: wrote %s%n",
          options.layer,
          in.batch,
          in.tokens,
          Arrays.toString(lengths),
          facts.get("engine"),
          output);
    }
  }

  /** The tensors to write. */
  private static final class Result {
    private final EngramConfig config;
    private final MemorySegment rowIds;
    private final MemorySegment rows;
    private final MemorySegment gates;
    private final MemorySegment output;

    Result(ForwardInput in, EngramConfig config, Arena arena) {
      this.config = config;
      long tokens = (long) in.batch * in.tokens;
      rowIds = arena.allocate(tokens * config.hashing().columns() * Long.BYTES, 8);
      rows = arena.allocate(tokens * config.rowWidth() * Float.BYTES, 8);
      gates = arena.allocate(tokens * config.gate().streams() * Float.BYTES, 8);
      output = arena.allocate(tokens * in.streamBytes(), 8);
    }

    SafetensorsWriter writer(ForwardInput in) {
      long b = in.batch;
      long t = in.tokens;
      return new SafetensorsWriter()
          .add(
              "row_ids",
              new Tensor(Dtype.I64, new long[] {b, t, config.hashing().columns()}, rowIds))
          .add("rows", new Tensor(Dtype.F32, new long[] {b, t, config.rowWidth()}, rows))
          .add("gate", new Tensor(Dtype.F32, new long[] {b, t, config.gate().streams()}, gates))
          .add("output", new Tensor(in.hidden.dtype(), in.hidden.shape(), output));
    }
  }

  /** The inputs, checked. */
  private static final class ForwardInput {
    private final int batch;
    private final int tokens;

    /** Raw ids [B, T], {@link Lookback#DEAD} where masked. */
    private final int[] ids;

    private final Tensor hidden;

    private ForwardInput(int batch, int tokens, int[] ids, Tensor hidden) {
      this.batch = batch;
      this.tokens = tokens;
      this.ids = ids;
      this.hidden = hidden;
    }

    static ForwardInput read(Path file, EngramConfig config, Arena arena) {
      Safetensors tensors = Safetensors.open(file, arena);
      Tensor ids = tensors.load("input_ids", arena);
      long[] shape = ids.shape();
      if (ids.dtype() != Dtype.I64 || shape.length != 2 || shape[0] < 1) {
        throw new EngramFormatException(
            file, "input_ids is " + ids + ", expected I64[B, T] with B at least 1");
      }
      int batch = Math.toIntExact(shape[0]);
      int tokens = Math.toIntExact(shape[1]);
      Tensor hidden = tensors.load("hidden_states", arena);
      long streams = config.gate().streams();
      long width = config.gate().width();
      if (!hidden.hasShape(batch, tokens, streams, width)
          && !hidden.hasShape(batch, tokens, streams * width)) {
        throw new EngramFormatException(
            file,
            "hidden_states is %s, expected [%d, %d, %d, %d]"
                .formatted(hidden, batch, tokens, streams, width));
      }
      if (hidden.dtype() != Dtype.F32 && hidden.dtype() != Dtype.BF16) {
        throw new EngramFormatException(
            file, "hidden_states is " + hidden + ", expected F32 or BF16");
      }
      Optional<Tensor> mask =
          tensors.contains("mask") ? Optional.of(tensors.load("mask", arena)) : Optional.empty();
      if (mask.isPresent()
          && (!mask.get().hasShape(batch, tokens)
              || (mask.get().dtype() != Dtype.U8 && mask.get().dtype() != Dtype.BOOL))) {
        throw new EngramFormatException(
            file, "mask is %s, expected U8[%d, %d]".formatted(mask.get(), batch, tokens));
      }
      int[] values = new int[batch * tokens];
      for (int i = 0; i < values.length; i++) {
        long id = ids.data().get(LONG, i * 8L);
        if (id < 0 || id >= config.vocabularySize()) {
          throw new EngramFormatException(
              file,
              "input_ids holds %d at sequence %d, position %d; expected 0 to %d"
                  .formatted(id, i / tokens, i % tokens, config.vocabularySize() - 1));
        }
        boolean dead = mask.isPresent() && mask.get().data().get(ValueLayout.JAVA_BYTE, i) == 0;
        if (dead && config.dead() == WindowRule.Dead.REFUSED) {
          throw new EngramFormatException(
              file,
              "mask is 0 at sequence %d, position %d, but this checkpoint's variant has no dead positions"
                  .formatted(i / tokens, i % tokens));
        }
        values[i] = dead ? Lookback.DEAD : (int) id;
      }
      return new ForwardInput(batch, tokens, values, hidden);
    }

    long streamBytes() {
      return tokens == 0 ? 0 : hidden.data().byteSize() / ((long) batch * tokens);
    }

    /** Positions {@code from} to {@code from + length} of every sequence, packed. */
    void cut(MemorySegment all, int from, int length, long tokenBytes, MemorySegment chunk) {
      for (int b = 0; b < batch; b++) {
        MemorySegment.copy(
            all,
            ((long) b * tokens + from) * tokenBytes,
            chunk,
            (long) b * length * tokenBytes,
            length * tokenBytes);
      }
    }

    /** The reverse of {@link #cut}. */
    void paste(MemorySegment chunk, int from, int length, long tokenBytes, MemorySegment all) {
      for (int b = 0; b < batch; b++) {
        MemorySegment.copy(
            chunk,
            (long) b * length * tokenBytes,
            all,
            ((long) b * tokens + from) * tokenBytes,
            length * tokenBytes);
      }
    }
  }
}
