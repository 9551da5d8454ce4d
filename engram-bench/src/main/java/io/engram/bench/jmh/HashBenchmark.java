// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.EngramConfig;
import io.engram.bench.jmh.rival.CRival;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Row ids of a real text: nanoseconds a token, all columns, one thread.
 *
 * <pre>java --add-modules=jdk.incubator.vector -jar engram-bench/target/benchmarks.jar Hash</pre>
 *
 * <p>{@code layout} is V4.1's with 24 columns or the paper's with 16. All hash the same {@value
 * #TOKENS} compressed ids, from the start of a sequence, into memory that is there: {@link #java}
 * is {@link NgramHasher}, checks included; {@link #decode} the same one position at a time, as
 * decoding calls it, with the look-back ready; {@link #c} is {@code hash.c} on this machine; {@link
 * #numpy} writes each column in one piece and hashes each order once; {@link #demo} does it as
 * published demonstration code does, a new array for each step. The rivals' row ids are compared
 * with the library's first.
 *
 * <p>A rival's score divided by that of {@code java} is how many times as fast the library is.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 4, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class HashBenchmark {
  /** Tokens of the text. */
  public static final int TOKENS = 4096;

  /** Rounds that Python does in its own loop. */
  private static final int ROUNDS = 20;

  @Param({"v41", "paper"})
  String layout;

  HashLayout columns;
  int[] ids;
  int fill;
  NgramHasher hasher;
  Lookback[] pasts;
  long[] out;

  /** For JMH. */
  public HashBenchmark() {}

  /** Tokenises the text and makes the layout. */
  @Setup
  public void prepare() {
    EngramConfig config =
        switch (layout) {
          case "v41" -> EngramConfig.v41Flash().build();
          case "paper" -> EngramConfig.paper().build();
          default -> throw new IllegalArgumentException("layout is " + layout);
        };
    columns = HashLayout.derive(config.hashing()).getFirst();
    ids = RealText.of(TOKENS).compressed();
    fill = config.fillTokenId();
    hasher = new NgramHasher(columns, new WindowRule(fill, WindowRule.NO_BOUNDARY, config.dead()));
    out = new long[TOKENS * columns.columns()];
    pasts = new Lookback[TOKENS];
    for (int t = 0; t < TOKENS; t++) {
      pasts[t] = t == 0 ? Lookback.start() : pasts[t - 1].advance(ids[t - 1]);
    }
  }

  /**
   * The library, the whole text in one call.
   *
   * @return row ids
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS)
  public long[] java() {
    hasher.hash(ids, 0, TOKENS, pasts[0], out, 0);
    return out;
  }

  /**
   * The library, one position in a call.
   *
   * @return row ids
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS)
  public long[] decode() {
    int at = 0;
    for (int t = 0; t < TOKENS; t++) {
      hasher.hash(ids[t], pasts[t], out, at);
      at += hasher.columns();
    }
    return out;
  }

  /**
   * C, the whole text in one call.
   *
   * @param rival the compiled source
   * @return row ids
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS)
  @Needs(Rival.C)
  public MemorySegment c(InC rival) {
    return rival.hash();
  }

  /**
   * NumPy, columns in one piece.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS * ROUNDS)
  @Needs(Rival.NUMPY)
  public String numpy(InNumpy rival) {
    return rival.python.run(ROUNDS);
  }

  /**
   * NumPy, as published demonstrations do it.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS * ROUNDS)
  @Needs(Rival.NUMPY)
  public String demo(AsDemo rival) {
    return rival.python.run(ROUNDS);
  }

  private MemorySegment expected() {
    return MemorySegment.ofArray(hasher.hash(ids));
  }

  private PythonRival python(String kind) {
    PythonRival python = PythonRival.start(1);
    python.write("ids", ids);
    python.write("orders", columns.orders().stream().mapToInt(o -> o).toArray());
    python.write("multipliers", columns.multipliers());
    python.write("moduli", columns.moduli());
    python.write("offsets", columns.offsets());
    python.setup("hash-%s heads=%d fill=%d".formatted(kind, columns.headsPerOrder(), fill));
    Disagreement.check("numpy, " + kind, expected(), python.result());
    return python;
  }

  /** {@code hash.c} on the same ids. */
  @State(Scope.Benchmark)
  public static class InC {
    private Arena arena;
    private CRival library;
    private MethodHandle function;
    private MemorySegment ids;
    private MemorySegment multipliers;
    private MemorySegment moduli;
    private MemorySegment offsets;
    private MemorySegment out;
    private int fill;
    private int orders;
    private int heads;

    /** For JMH. */
    public InC() {}

    /**
     * Compiles, and compares row ids.
     *
     * @param base the text and the layout
     */
    @Setup
    public void compile(HashBenchmark base) {
      arena = Arena.ofShared();
      library = CRival.compile("hash.c");
      function =
          library.function(
              "engram_hash",
              FunctionDescriptor.ofVoid(
                  ValueLayout.ADDRESS,
                  ValueLayout.JAVA_LONG,
                  ValueLayout.ADDRESS,
                  ValueLayout.JAVA_INT,
                  ValueLayout.JAVA_INT,
                  ValueLayout.ADDRESS,
                  ValueLayout.ADDRESS,
                  ValueLayout.JAVA_INT,
                  ValueLayout.ADDRESS));
      HashLayout layout = base.columns;
      fill = base.fill;
      heads = layout.headsPerOrder();
      ids = arena.allocateFrom(ValueLayout.JAVA_INT, base.ids);
      orders = layout.maxOrder();
      multipliers = arena.allocateFrom(ValueLayout.JAVA_LONG, layout.multipliers());
      moduli = arena.allocateFrom(ValueLayout.JAVA_LONG, layout.moduli());
      offsets = arena.allocateFrom(ValueLayout.JAVA_LONG, layout.offsets());
      out = arena.allocate(ValueLayout.JAVA_LONG, (long) TOKENS * layout.columns());
      Disagreement.check("c", base.expected(), hash());
    }

    MemorySegment hash() {
      try {
        function.invokeExact(
            ids, (long) TOKENS, multipliers, orders, heads, moduli, offsets, fill, out);
        return out;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      library.close();
      arena.close();
    }
  }

  /** A process with NumPy on the same ids. */
  @State(Scope.Benchmark)
  public static class InNumpy {
    private PythonRival python;

    /** For JMH. */
    public InNumpy() {}

    /**
     * Starts it, and compares row ids.
     *
     * @param base the text and the layout
     */
    @Setup
    public void start(HashBenchmark base) {
      python = base.python("contiguous");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }

  /** The same in the manner of demonstration code. */
  @State(Scope.Benchmark)
  public static class AsDemo {
    private PythonRival python;

    /** For JMH. */
    public AsDemo() {}

    /**
     * Starts it, and compares row ids.
     *
     * @param base the text and the layout
     */
    @Setup
    public void start(HashBenchmark base) {
      python = base.python("demo");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }
}
