// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.Tensor;
import io.engram.gating.OneDnnFunctions.Handles;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.List;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * Projections by oneDNN, called through its C interface. Weights are packed once into the layout
 * that the library prefers, so that the tensor is not needed any longer.
 *
 * <p>F32 weights stay F32. BF16 weights stay BF16 too:
 *
 * <ul>
 *   <li>where the processor multiplies bfloat16 numbers itself, x is rounded to bfloat16 as well.
 *       Nothing is lost by that if the table's rows are BF16 or FP8, whose values are bfloat16
 *       numbers already; with an F32 table it is.
 *   <li>elsewhere weights are widened on their way into registers, and x is used as it is;
 *   <li>a part whose number of outputs the library has no fast way for (not a multiple of 8) is
 *       widened to F32 when it is packed.
 * </ul>
 *
 * <p>The library works on the calling thread alone.
 */
final class OneDnn {
  private static final BundledLibrary BUNDLE =
      new BundledLibrary(
          "oneDNN",
          "org.bytedeco:dnnl:3.11-1.5.13",
          "org/bytedeco/dnnl",
          "libdnnl.so.3",
          List.of(),
          // Opened by the library itself, which looks beside itself first.
          List.of("libgomp.so.1"));

  /** Tokens of one call of the library: more of them are no faster. */
  private static final int BLOCK = 128;

  /** Weights are laid out for this many tokens; one token is as fast with them. */
  private static final int TYPICAL_BLOCK = 64;

  /** Threads at once whose scratch is kept. */
  private static final int SEATS = 64;

  private static final Cleaner CLEANER = Cleaner.create();

  private OneDnn() {}

  /** The library, or why it cannot be had. */
  private static final class Library {
    private static final SymbolLookup SYMBOLS;
    private static final IllegalStateException FAILURE;

    static {
      SymbolLookup symbols = null;
      IllegalStateException failure = null;
      try {
        symbols = BUNDLE.open();
      } catch (IllegalStateException e) {
        failure = e;
      }
      SYMBOLS = symbols;
      FAILURE = failure;
    }
  }

  /**
   * The library, opened on first use.
   *
   * @return its functions and those of its OpenMP
   * @throws IllegalStateException if it cannot be had; the message says what to add
   */
  static SymbolLookup library() {
    if (Library.FAILURE != null) {
      throw new IllegalStateException(Library.FAILURE.getMessage(), Library.FAILURE);
    }
    return Library.SYMBOLS;
  }

  /**
   * Whether x is rounded to bfloat16 where weights are BF16.
   *
   * @throws IllegalStateException if the library cannot be had
   */
  static boolean roundsRows() {
    library();
    return OneDnnFunctions.multipliesBfloat16();
  }

  /**
   * Makes a projection.
   *
   * @param weights F32 or BF16 [outputs, rowWidth]
   * @param parts ranges of outputs that are wanted
   * @return the projection
   * @throws IllegalStateException if the library cannot be had; the message says what to add
   */
  static Projection pack(Tensor weights, int parts) {
    library();
    DenseWeights dense = DenseWeights.of(weights);
    return alone(() -> new Product(dense, OutputParts.of(dense.outputs(), parts)));
  }

  private interface Work<T> {
    T get();
  }

  /** Does something with the library while it takes no thread but this one. */
  private static <T> T alone(Work<T> work) {
    int threads = OneDnnFunctions.threads();
    OneDnnFunctions.setThreads(1);
    try {
      return work.get();
    } finally {
      OneDnnFunctions.setThreads(threads);
    }
  }

  /** Types that a product is computed with. */
  private enum Types {
    F32(OneDnnFunctions.F32, OneDnnFunctions.F32),
    WIDENING(OneDnnFunctions.F32, OneDnnFunctions.BF16),
    BF16(OneDnnFunctions.BF16, OneDnnFunctions.BF16);

    final int x;
    final int weights;

    Types(int x, int weights) {
      this.x = x;
      this.weights = weights;
    }
  }

  /** Parts with equally many outputs: what they share. */
  private static final class Shape {
    private final Handles handles;
    private final int outputs;
    private final int rowWidth;
    private final int resultStride;
    final Types types;

    /** The layout of weights. */
    final long weights;

    /** By tokens. */
    private final AtomicReferenceArray<Plan> plans = new AtomicReferenceArray<>(BLOCK + 1);

    Shape(Handles handles, int outputs, int rowWidth, int resultStride, Dtype dtype) {
      this.handles = handles;
      this.outputs = outputs;
      this.rowWidth = rowWidth;
      this.resultStride = resultStride;
      List<Types> candidates =
          dtype == Dtype.F32
              ? List.of(Types.F32)
              : OneDnnFunctions.multipliesBfloat16()
                  ? List.of(Types.BF16, Types.WIDENING, Types.F32)
                  : List.of(Types.WIDENING, Types.F32);
      for (Types candidate : candidates) {
        long product = typical(candidate);
        // What the library calls a reference is a plain loop, some hundred times as slow.
        if (product != 0
            && (candidate == Types.F32
                || !OneDnnFunctions.implementation(product).startsWith("ref"))) {
          types = candidate;
          weights = handles.weightsLayout(product);
          Logger log = System.getLogger("io.engram");
          log.log(
              Level.DEBUG,
              "oneDNN {0}: {1} for {2} outputs of {3} weights, {4}",
              OneDnnFunctions.version(),
              OneDnnFunctions.implementation(product),
              outputs,
              dtype,
              candidate == Types.BF16 ? "x rounded to bfloat16" : "x in float32");
          return;
        }
      }
      throw new IllegalStateException(
          "oneDNN has no matrix product for " + dtype + " weights on this processor");
    }

    private long typical(Types candidate) {
      return handles.product(
          handles.layout(TYPICAL_BLOCK, rowWidth, candidate.x, rowWidth, 1),
          handles.anyLayout(rowWidth, outputs, candidate.weights),
          handles.layout(TYPICAL_BLOCK, outputs, OneDnnFunctions.F32, resultStride, 1));
    }

    Plan plan(int tokens) {
      Plan plan = plans.get(tokens);
      return plan != null ? plan : make(tokens);
    }

    private synchronized Plan make(int tokens) {
      Plan plan = plans.get(tokens);
      if (plan == null) {
        long x = handles.layout(tokens, rowWidth, types.x, rowWidth, 1);
        long result = handles.layout(tokens, outputs, OneDnnFunctions.F32, resultStride, 1);
        long product = handles.product(x, weights, result);
        if (product == 0) {
          throw new IllegalStateException("oneDNN has no matrix product for " + tokens + " tokens");
        }
        plan = new Plan(handles.primitive(product), x, result, handles.scratchLayout(product));
        plans.set(tokens, plan);
      }
      return plan;
    }
  }

  /**
   * A product of a number of tokens.
   *
   * @param primitive what is executed
   * @param x its layout
   * @param result its layout
   * @param scratch its layout
   */
  private record Plan(long primitive, long x, long result, long scratch) {}

  /** The arguments of a plan for one thread, whose addresses are set at each call. */
  private static final class Arguments {
    private static final int COUNT = 4;
    private static final int BYTES = 16;

    final Plan plan;
    private final MemorySegment memory;
    private final long x;
    private final long result;
    private final long scratch;

    Arguments(Plan plan, Handles handles) {
      this.plan = plan;
      this.memory = Arena.ofAuto().allocate((long) COUNT * BYTES, Long.BYTES);
      this.x = handles.memory(plan.x, 0);
      this.result = handles.memory(plan.result, 0);
      this.scratch = handles.memory(plan.scratch, 0);
      set(0, OneDnnFunctions.SOURCE, x);
      set(1, OneDnnFunctions.RESULT, result);
      set(2, OneDnnFunctions.SCRATCH, scratch);
    }

    private void set(int at, int name, long object) {
      memory.set(ValueLayout.JAVA_INT, (long) at * BYTES, name);
      memory.set(ValueLayout.JAVA_LONG, (long) at * BYTES + Long.BYTES, object);
    }

    void execute(long stream, long xAt, long weights, long resultAt, MemorySegment scratchMemory) {
      try {
        OneDnnFunctions.setAddress(x, xAt);
        OneDnnFunctions.setAddress(result, resultAt);
        OneDnnFunctions.setAddress(scratch, scratchMemory.address());
        set(3, OneDnnFunctions.WEIGHTS, weights);
        OneDnnFunctions.execute(plan.primitive, stream, COUNT, memory.address());
      } finally {
        Reference.reachabilityFence(memory);
        Reference.reachabilityFence(scratchMemory);
      }
    }
  }

  /** What one thread needs while it multiplies. */
  private static final class Seat {
    private final Handles handles = new Handles();
    private final long stream = handles.stream();

    /** By shape and tokens. */
    private final Arguments[][] arguments;

    private MemorySegment scratch = MemorySegment.NULL;

    /** For rows rounded to bfloat16, or empty. */
    private MemorySegment rounded = MemorySegment.NULL;

    private float[] row = {};
    private short[] roundedRow = {};

    Seat(int shapes) {
      arguments = new Arguments[shapes][BLOCK + 1];
      CLEANER.register(this, handles);
    }

    void multiply(
        Shape[] shapes,
        int shape,
        long weights,
        MemorySegment x,
        int from,
        int tokens,
        long result) {
      Arguments call = arguments[shape][tokens];
      if (call == null) {
        call = new Arguments(shapes[shape].plan(tokens), handles);
        arguments[shape][tokens] = call;
        long bytes = OneDnnFunctions.bytes(call.plan.scratch);
        if (bytes > scratch.byteSize()) {
          scratch = Arena.ofAuto().allocate(bytes, 64);
        }
      }
      int rowWidth = shapes[shape].rowWidth;
      long rows = x.address() + (long) from * rowWidth * Float.BYTES;
      if (shapes[shape].types.x == OneDnnFunctions.BF16) {
        round(x, from, tokens, rowWidth);
        rows = rounded.address();
      }
      call.execute(stream, rows, weights, result, scratch);
    }

    private void round(MemorySegment x, int from, int tokens, int rowWidth) {
      long rowBytes = (long) rowWidth * Short.BYTES;
      if (rounded.byteSize() < tokens * rowBytes) {
        rounded = Arena.ofAuto().allocate(tokens * rowBytes, 64);
        row = new float[rowWidth];
        roundedRow = new short[rowWidth];
      }
      for (int t = 0; t < tokens; t++) {
        MemorySegment.copy(x, Memory.FLOAT, 2 * rowBytes * (from + t), row, 0, rowWidth);
        GateLoops.CHOSEN.narrow(row, roundedRow, rowWidth);
        MemorySegment.copy(roundedRow, 0, rounded, Memory.SHORT, t * rowBytes, rowWidth);
      }
    }
  }

  private static final class Product implements Projection {
    private final OutputParts ranges;
    private final int rowWidth;

    /** That of all parts, and that of the last if it is shorter. */
    private final Shape[] shapes;

    /** By part: the library's memory object. */
    private final long[] weights;

    /** By part: where the packed weights are. */
    private final MemorySegment[] packed;

    private final AtomicReferenceArray<Seat> seats = new AtomicReferenceArray<>(SEATS);

    Product(DenseWeights dense, OutputParts ranges) {
      this.ranges = ranges;
      this.rowWidth = dense.rowWidth();
      int last = ranges.count() - 1;
      Handles handles = new Handles();
      CLEANER.register(this, handles);
      this.shapes = new Shape[ranges.size(last) == ranges.size() ? 1 : 2];
      for (int shape = 0; shape < shapes.length; shape++) {
        int outputs = shape == 0 ? ranges.size() : ranges.size(last);
        shapes[shape] = new Shape(handles, outputs, rowWidth, ranges.outputs(), dense.dtype());
      }
      this.packed = new MemorySegment[ranges.count()];
      this.weights = new long[ranges.count()];
      for (int part = 0; part < weights.length; part++) {
        Shape shape = shapes[shapeOf(part)];
        packed[part] = Arena.ofAuto().allocate(OneDnnFunctions.bytes(shape.weights), 64);
        weights[part] = handles.memory(shape.weights, packed[part].address());
        pack(dense, part, shape);
      }
    }

    /** Copies the rows of a part into the library's layout. */
    private void pack(DenseWeights dense, int part, Shape shape) {
      Handles handles = new Handles();
      try (Arena arena = Arena.ofConfined()) {
        int first = ranges.first(part);
        int count = ranges.size(part);
        boolean asIs = dense.dtype() == Dtype.F32 || shape.types.weights == OneDnnFunctions.BF16;
        MemorySegment rows =
            asIs ? dense.rows(first, count, arena) : dense.floats(first, count, arena);
        // [rowWidth, outputs], as the library sees it: a column of weights is a row of the tensor.
        long layout = handles.layout(rowWidth, count, shape.types.weights, 1, rowWidth);
        long reorder = handles.reorder(layout, shape.weights);
        if (reorder == 0) {
          throw new IllegalStateException(
              "oneDNN cannot pack " + dense.dtype() + " weights on this processor");
        }
        long stream = handles.stream();
        MemorySegment arguments = arena.allocate(32, Long.BYTES);
        arguments.set(ValueLayout.JAVA_INT, 0, OneDnnFunctions.SOURCE);
        arguments.set(ValueLayout.JAVA_LONG, 8, handles.memory(layout, rows.address()));
        arguments.set(ValueLayout.JAVA_INT, 16, OneDnnFunctions.RESULT);
        arguments.set(ValueLayout.JAVA_LONG, 24, weights[part]);
        OneDnnFunctions.execute(handles.primitive(reorder), stream, 2, arguments.address());
      } finally {
        handles.run();
        Reference.reachabilityFence(dense);
      }
    }

    private int shapeOf(int part) {
      return part == ranges.count() - 1 ? shapes.length - 1 : 0;
    }

    @Override
    public int parts() {
      return ranges.count();
    }

    @Override
    public void multiply(int part, MemorySegment x, int tokens, MemorySegment out) {
      ranges.check(part, x, rowWidth, tokens, out);
      int threads = OneDnnFunctions.threads();
      OneDnnFunctions.setThreads(1);
      Seat seat = takeSeat();
      try {
        for (int from = 0; from < tokens; from += BLOCK) {
          long at = (long) from * ranges.outputs() + ranges.first(part);
          seat.multiply(
              shapes,
              shapeOf(part),
              weights[part],
              x,
              from,
              Math.min(BLOCK, tokens - from),
              out.address() + at * Float.BYTES);
        }
      } finally {
        leaveSeat(seat);
        OneDnnFunctions.setThreads(threads);
        Reference.reachabilityFence(x);
        Reference.reachabilityFence(out);
        // What is released with this object is in use until here.
        Reference.reachabilityFence(this);
      }
    }

    private Seat takeSeat() {
      int start = (int) Thread.currentThread().threadId();
      for (int i = 0; i < SEATS; i++) {
        Seat seat = seats.getAndSet((start + i) & (SEATS - 1), null);
        if (seat != null) {
          return seat;
        }
      }
      return new Seat(shapes.length);
    }

    private void leaveSeat(Seat seat) {
      int start = (int) Thread.currentThread().threadId();
      for (int i = 0; i < SEATS; i++) {
        if (seats.compareAndSet((start + i) & (SEATS - 1), null, seat)) {
          return;
        }
      }
    }
  }
}
