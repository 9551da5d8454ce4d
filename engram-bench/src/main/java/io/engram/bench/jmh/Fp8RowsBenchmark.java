// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.bench.jmh.rival.CRival;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.Rival;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
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
 * Cold rows of 256 values to float32, every row equally likely, one thread: nanoseconds a row.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar Fp8Rows -p rows=4000000</pre>
 *
 * <p>{@link #java} is {@link EngramTable#gather} from a table in V4.1's format, 264 bytes a row;
 * {@link #c} the same in {@code rows.c} on the same memory, with software prefetch; {@link #copy}
 * reads as many rows of float32, 1,024 bytes each, from a table of the same number of rows: the
 * same output bytes without decoding. Every page is written; {@code memory.hugePages} says how they
 * lie. Results of {@code c} are compared first. The score of {@code java} divided by that of
 * another is the share of the other's time that the library takes.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class Fp8RowsBenchmark {
  /** Rows of one call. */
  public static final int BATCH = 2048;

  private static final int HEAD_DIM = 256;
  private static final int PICKED = 1 << 19;

  @Param("2000000")
  int rows;

  private final Arena arena = Arena.ofShared();
  long[] ids;
  MemorySegment nativeIds;
  MemorySegment out;
  private int at;

  /** For JMH. */
  public Fp8RowsBenchmark() {}

  /** Draws ids. */
  @Setup
  public void prepare() {
    ids = TableRows.uniform(1, PICKED, rows);
    nativeIds = arena.allocateFrom(ValueLayout.JAVA_LONG, ids);
    out = arena.allocate((long) BATCH * HEAD_DIM * Float.BYTES, 64);
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    arena.close();
  }

  private int next() {
    int from = at;
    at = (at + BATCH) % PICKED;
    return from;
  }

  /**
   * The library.
   *
   * @param table the table
   * @return float32
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment java(Fp8 table) {
    table.table.gather(ids, next(), BATCH, out, 0, Dtype.F32);
    return out;
  }

  /**
   * Rows of float32.
   *
   * @param table the table
   * @return float32
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment copy(Wide table) {
    table.table.gather(ids, next(), BATCH, out, 0, Dtype.F32);
    return out;
  }

  /**
   * C with software prefetch.
   *
   * @param table the table
   * @param rival the compiled source
   * @return float32
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Needs(Rival.C)
  public MemorySegment c(Fp8 table, InC rival) {
    return rival.read(table.memory, nativeIds.asSlice((long) next() * Long.BYTES), out);
  }

  /** The table in V4.1's format. */
  @State(Scope.Benchmark)
  public static class Fp8 {
    private EngramTable table;
    private MemorySegment memory;

    /** For JMH. */
    public Fp8() {}

    /**
     * Writes every page.
     *
     * @param base number of rows
     */
    @Setup
    public void fill(Fp8RowsBenchmark base) {
      RamRowStore store = new TableRows(RowFormat.FP8_BLOCK32, HEAD_DIM).inMemory(base.rows);
      memory = store.shards().getFirst();
      table = new EngramTable(store, RowFormat.FP8_BLOCK32, HEAD_DIM);
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      table.close();
    }
  }

  /** The table in float32. */
  @State(Scope.Benchmark)
  public static class Wide {
    private EngramTable table;

    /** For JMH. */
    public Wide() {}

    /**
     * Writes every page.
     *
     * @param base number of rows
     */
    @Setup
    public void fill(Fp8RowsBenchmark base) {
      RamRowStore store = new TableRows(RowFormat.F32, HEAD_DIM).inMemory(base.rows);
      table = new EngramTable(store, RowFormat.F32, HEAD_DIM);
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      table.close();
    }
  }

  /** {@code rows.c}. */
  @State(Scope.Benchmark)
  public static class InC {
    private CRival library;
    private MethodHandle function;

    /** For JMH. */
    public InC() {}

    /**
     * Compiles, and compares results.
     *
     * @param base ids
     * @param table the table
     */
    @Setup
    public void compile(Fp8RowsBenchmark base, Fp8 table) {
      library = CRival.compile("rows.c");
      function =
          library.function(
              "engram_fp8_rows",
              FunctionDescriptor.of(
                  ValueLayout.JAVA_LONG,
                  ValueLayout.ADDRESS,
                  ValueLayout.ADDRESS,
                  ValueLayout.JAVA_LONG,
                  ValueLayout.JAVA_LONG,
                  ValueLayout.ADDRESS));
      MemorySegment expected = Arena.ofAuto().allocate(base.out.byteSize(), 64);
      table.table.gather(base.ids, 0, BATCH, expected, 0, Dtype.F32);
      Disagreement.check("c", expected, read(table.memory, base.nativeIds, base.out));
    }

    private MemorySegment read(MemorySegment table, MemorySegment ids, MemorySegment out) {
      try {
        long refused = (long) function.invokeExact(table, ids, (long) BATCH, (long) HEAD_DIM, out);
        if (refused >= 0) {
          throw new IllegalStateException("C refuses the scale of id " + refused);
        }
        return out;
      } catch (Throwable e) {
        throw new IllegalStateException(e);
      }
    }

    /** Gives the library back. */
    @TearDown
    public void close() {
      library.close();
    }
  }
}
