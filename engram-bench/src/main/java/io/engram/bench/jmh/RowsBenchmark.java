// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.CRival;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.store.RamRowStore;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
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
import org.openjdk.jmh.infra.BenchmarkParams;

/**
 * Cold rows of 256 bytes from a table in memory, every row equally likely: nanoseconds a row of
 * each thread.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar RowsBenchmark -t 1</pre>
 *
 * <p>{@code tableMiB} is the size of the table, of which every page is written (untouched zeros
 * would share one page); {@code -t N} the number of threads, each of which reads {@value #BATCH}
 * rows a call, in an order of its own that repeats after 2^20 rows: 256 MiB, more than any cache.
 * {@link #java} is {@link RamRowStore#read}, checks included; {@link #segments} a loop of {@link
 * MemorySegment#copy} and {@link #c} is {@code rows.c} with software prefetch, both on that same
 * memory in one piece; {@link #arrays} is a loop of {@link System#arraycopy} on heap arrays of the
 * same size; {@link #torch} is {@code torch.nn.functional.embedding} of float32 [rows, 64] in a
 * process of its own with as many threads and with huge pages asked for; {@link #nd4j} its row
 * gather, from a table of at most 256 MiB, for it is slow. Which rows came is compared first.
 *
 * <p>{@code memory.hugePages} beside each score says how much of the process lay in huge pages;
 * PyTorch's process prints its own. With {@code -t N} a score is the time of one thread, for
 * PyTorch too: divide by N for the time of all together. A rival's score divided by that of {@code
 * java} is how many times as fast the library is.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class RowsBenchmark {
  /** Rows of one call. */
  public static final int BATCH = 4096;

  private static final int ROUNDS = 10;
  private static final int HEAD_DIM = 64;
  private static final int ROW_BYTES = HEAD_DIM * Float.BYTES;
  private static final int PICKED = 1 << 20;
  private static final long ND4J_MIB = 256;

  @Param("4096")
  int tableMiB;

  TableRows content;

  /** For JMH. */
  public RowsBenchmark() {}

  /** Draws the rows that repeat. */
  @Setup
  public void prepare() {
    content = new TableRows(RowFormat.F32, HEAD_DIM);
  }

  long rows() {
    return ((long) tableMiB << 20) / ROW_BYTES;
  }

  /**
   * The library.
   *
   * @param table the table
   * @param thread ids and output
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment java(Native table, Reader thread) {
    table.store.read(thread.ids, thread.next(), BATCH, thread.out, 0);
    return thread.out;
  }

  /**
   * {@link MemorySegment#copy} row by row.
   *
   * @param table the table
   * @param thread ids and output
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment segments(Native table, Reader thread) {
    int from = thread.next();
    for (int i = 0; i < BATCH; i++) {
      MemorySegment.copy(
          table.memory,
          thread.ids[from + i] * ROW_BYTES,
          thread.out,
          (long) i * ROW_BYTES,
          ROW_BYTES);
    }
    return thread.out;
  }

  /**
   * {@link System#arraycopy} row by row.
   *
   * @param table the table
   * @param thread ids and output
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Fork(
      value = 2,
      jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE, "-Xmx8g"})
  public byte[] arrays(Heap table, Reader thread) {
    int from = thread.next();
    for (int i = 0; i < BATCH; i++) {
      long row = thread.ids[from + i];
      System.arraycopy(
          table.arrays[(int) (row / Heap.ROWS)],
          (int) (row % Heap.ROWS) * ROW_BYTES,
          thread.array,
          i * ROW_BYTES,
          ROW_BYTES);
    }
    return thread.array;
  }

  /**
   * C with software prefetch.
   *
   * @param table the table
   * @param rival the compiled source
   * @param thread ids and output
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Needs(Rival.C)
  public MemorySegment c(Native table, InC rival, Reader thread) {
    return rival.read(table.memory, thread);
  }

  /**
   * PyTorch.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(BATCH * ROUNDS)
  @Needs(Rival.TORCH)
  public String torch(InTorch rival) {
    return rival.run();
  }

  /**
   * ND4J.
   *
   * @param rival the table
   * @param thread which rows
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Needs(Rival.ND4J)
  public INDArray nd4j(InNd4j rival, Reader thread) {
    return rival.read(thread);
  }

  /** Row ids and output of one thread. */
  @State(Scope.Thread)
  public static class Reader {
    private static final AtomicInteger SEEDS = new AtomicInteger();

    private final Arena arena = Arena.ofShared();
    private long[] ids;
    private MemorySegment nativeIds;
    private MemorySegment out;
    private byte[] array;
    private int at;

    /** For JMH. */
    public Reader() {}

    /**
     * Draws ids.
     *
     * @param base size of the table
     */
    @Setup
    public void draw(RowsBenchmark base) {
      ids = TableRows.uniform(SEEDS.incrementAndGet(), PICKED, base.rows());
      nativeIds = arena.allocateFrom(ValueLayout.JAVA_LONG, ids);
      out = arena.allocate((long) BATCH * ROW_BYTES, 64);
      array = new byte[BATCH * ROW_BYTES];
    }

    private int next() {
      int from = at;
      at = (at + BATCH) % PICKED;
      return from;
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      arena.close();
    }
  }

  /** The table outside the heap. */
  @State(Scope.Benchmark)
  public static class Native {
    private RamRowStore store;
    private MemorySegment memory;

    /** For JMH. */
    public Native() {}

    /**
     * Writes every page.
     *
     * @param base size and content
     */
    @Setup
    public void fill(RowsBenchmark base) {
      store = base.content.inMemory(base.rows());
      memory = store.shards().getFirst();
      long[] ids = TableRows.uniform(0, BATCH, base.rows());
      MemorySegment out = Arena.ofAuto().allocate((long) BATCH * ROW_BYTES);
      store.read(ids, 0, BATCH, out, 0);
      Disagreement.check("java", base.content.expected(ids, 0, BATCH), out);
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      store.close();
    }
  }

  /** The table in heap arrays of up to 1 GiB. */
  @State(Scope.Benchmark)
  public static class Heap {
    private static final int ROWS = 1 << 22;

    private byte[][] arrays;

    /** For JMH. */
    public Heap() {}

    /**
     * Writes every page.
     *
     * @param base size and content
     */
    @Setup
    public void fill(RowsBenchmark base) {
      arrays = new byte[(int) Math.ceilDiv(base.rows(), ROWS)][];
      byte[] block = base.content.block().toArray(ValueLayout.JAVA_BYTE);
      for (int a = 0; a < arrays.length; a++) {
        long first = (long) a * ROWS;
        arrays[a] = new byte[(int) Math.min(ROWS, base.rows() - first) * ROW_BYTES];
        for (int i = 0; i < arrays[a].length / ROW_BYTES; i++) {
          int from = (int) ((first + i) % TableRows.PERIOD) * ROW_BYTES;
          System.arraycopy(block, from, arrays[a], i * ROW_BYTES, ROW_BYTES);
        }
      }
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
     * Compiles, and compares rows.
     *
     * @param base size and content
     * @param table the table
     */
    @Setup
    public void compile(RowsBenchmark base, Native table) {
      library = CRival.compile("rows.c");
      function =
          library.function(
              "engram_rows",
              FunctionDescriptor.ofVoid(
                  ValueLayout.ADDRESS,
                  ValueLayout.ADDRESS,
                  ValueLayout.JAVA_LONG,
                  ValueLayout.JAVA_LONG,
                  ValueLayout.ADDRESS));
      Reader reader = new Reader();
      reader.draw(base);
      Disagreement.check(
          "c", base.content.expected(reader.ids, 0, BATCH), read(table.memory, reader));
      reader.close();
    }

    private MemorySegment read(MemorySegment table, Reader reader) {
      MemorySegment ids = reader.nativeIds.asSlice((long) reader.next() * Long.BYTES);
      try {
        function.invokeExact(table, ids, (long) BATCH, (long) ROW_BYTES, reader.out);
        return reader.out;
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

  /** The table in PyTorch's process. */
  @State(Scope.Benchmark)
  public static class InTorch {
    private PythonRival python;

    /** For JMH. */
    public InTorch() {}

    /**
     * Starts it, which writes every page, and compares rows.
     *
     * @param base size and content
     * @param params number of threads
     */
    @Setup
    public void start(RowsBenchmark base, BenchmarkParams params) {
      int threads = params.getThreads();
      long[] ids = TableRows.uniform(1, PICKED, base.rows());
      python = PythonRival.start(threads);
      python.write("ids", ids);
      python.write("block", base.content.block());
      String about =
          python.setup(
              "embedding threads=%d rows=%d width=%d batch=%d"
                  .formatted(threads, base.rows(), HEAD_DIM, BATCH));
      System.out.println("# " + about);
      Disagreement.check("PyTorch", base.content.expected(ids, 0, BATCH), python.result());
    }

    /** All of JMH's threads ask one process, which has as many of its own. */
    private synchronized String run() {
      return python.run(ROUNDS);
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }

  /** A small table as an array of ND4J. */
  @State(Scope.Benchmark)
  public static class InNd4j {
    private INDArray table;
    private int rows;

    /** For JMH. */
    public InNd4j() {}

    /**
     * Makes the table, and compares rows.
     *
     * @param base size and content
     */
    @Setup
    public void fill(RowsBenchmark base) {
      rows = (int) Math.min(base.rows(), (ND4J_MIB << 20) / ROW_BYTES);
      float[] block = base.content.block().toArray(ValueLayout.JAVA_FLOAT);
      float[] values = new float[rows * HEAD_DIM];
      for (int at = 0; at < values.length; at += block.length) {
        System.arraycopy(block, 0, values, at, Math.min(block.length, values.length - at));
      }
      table = Nd4j.create(values, new long[] {rows, HEAD_DIM}, 'c');
      Reader reader = new Reader();
      reader.draw(base);
      long[] ids = new long[BATCH];
      for (int i = 0; i < BATCH; i++) {
        ids[i] = reader.ids[i] % rows;
      }
      float[] found = read(reader).ravel().toFloatVector();
      Disagreement.check(
          "ND4J", base.content.expected(ids, 0, BATCH), MemorySegment.ofArray(found));
      reader.close();
    }

    private INDArray read(Reader reader) {
      int from = reader.next();
      int[] ids = new int[BATCH];
      for (int i = 0; i < BATCH; i++) {
        ids[i] = (int) (reader.ids[from + i] % rows);
      }
      return Nd4j.pullRows(table, 1, ids);
    }
  }
}
