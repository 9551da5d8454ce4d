// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
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
 * Stored rows to float32, both in the cache: nanoseconds a row of 256 values.
 *
 * <pre>java --add-modules=jdk.incubator.vector \
 *   -jar engram-bench/target/benchmarks.jar DecodeBenchmark</pre>
 *
 * <p>{@link #java} is {@link EngramTable#decode} of {@value #BATCH} rows that were read before, in
 * the given format; {@link #copy} is one plain copy of as many bytes as come out. The score of
 * {@code java} divided by that of {@code copy} is what decoding costs over having stored float32,
 * where memory costs nothing; {@link Fp8RowsBenchmark} says it where rows are cold.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class DecodeBenchmark {
  /** Rows of one call. */
  public static final int BATCH = 64;

  private static final int HEAD_DIM = 256;

  @Param({"FP8_BLOCK32", "BF16", "F16"})
  RowFormat format;

  private final Arena arena = Arena.ofShared();
  private EngramTable table;
  private long[] ids;
  private MemorySegment stored;
  private MemorySegment floats;
  private MemorySegment out;

  /** For JMH. */
  public DecodeBenchmark() {}

  /** Draws stored rows. */
  @Setup
  public void prepare() {
    TableRows rows = new TableRows(format, HEAD_DIM);
    RamRowStore store = rows.inMemory(TableRows.PERIOD);
    table = new EngramTable(store, format, HEAD_DIM);
    ids = TableRows.uniform(1, BATCH, TableRows.PERIOD);
    stored = arena.allocate((long) BATCH * rows.rowBytes(), 64);
    stored.copyFrom(rows.expected(ids, 0, BATCH));
    floats = arena.allocate((long) BATCH * HEAD_DIM * Float.BYTES, 64);
    out = arena.allocate(floats.byteSize(), 64);
    table.gather(ids, 0, BATCH, floats, 0, Dtype.F32);
    Disagreement.check("decode", floats, java());
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    table.close();
    arena.close();
  }

  /**
   * The library.
   *
   * @return float32
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment java() {
    table.decode(ids, 0, BATCH, stored, 0, out, 0, Dtype.F32);
    return out;
  }

  /**
   * A copy of the same output bytes.
   *
   * @return float32
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment copy() {
    return out.copyFrom(floats);
  }
}
