// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.hash.kernel.Workers;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.train.AdamOptions;
import io.engram.train.TableGradients;
import io.engram.train.TableOptimizer;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
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
 * A step of Adam on a table: {@value #TOKENS} tokens of {@value #HEADS} heads, every row equally
 * likely, whatever the size of the table; milliseconds a step with all processors.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar TableStepBenchmark
 * java ... TableStepBenchmark -p headDim=8 -p rows=100000,10000000,100000000</pre>
 *
 * <p>{@link #step} is the optimiser alone, its gradients summed before; {@link #addAndStep} sums
 * them too: all that a table costs a training step. Batches of {@value #BATCHES} kinds follow each
 * other, so that rows and states are cold where the table is larger than the caches.
 *
 * <p>{@link #copyRows} moves exactly the bytes that a step has to move, and computes nothing: each
 * distinct row and its state are read and written where they lie, from the table's beginning to its
 * end and fetched in batches as the library does it, and as many bytes of gradients are read in one
 * stream. {@link #copyStream} moves as many bytes in long runs. The score of {@code step} divided
 * by these says how far the step is from the memory's bandwidth. {@link #torch} is {@code
 * torch.optim.SparseAdam} with a gradient of the same ids, in a process of its own with as many
 * threads; two of its steps are compared first.
 *
 * <p>All pages of table and state exist before the first step. {@code memory.resident} beside each
 * score says what is in memory: rows times (4 * headDim + 8 * headDim + 8) bytes are the table and
 * its state, and what is left must not grow with the rows.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 5, time = 800, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 600, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class TableStepBenchmark {
  /** Tokens of a step. */
  public static final int TOKENS = 2048;

  /** Rows of a token. */
  public static final int HEADS = 16;

  /** Batches that follow each other. */
  public static final int BATCHES = 16;

  private static final int COUNT = TOKENS * HEADS;
  private static final int ROUNDS = 4;
  private static final int THREADS = Workers.AVAILABLE;

  /** Bytes that a thread copies in one run, there and back: half a second level cache. */
  private static final int RUN_BYTES = 1 << 17;

  @Param({"100000", "10000000"})
  long rows;

  @Param("64")
  int headDim;

  private long[][] ids;
  private MemorySegment values;
  private Arena arena;

  /** For JMH. */
  public TableStepBenchmark() {}

  /** Draws rows and gradients. */
  @Setup
  public void prepare() {
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(7);
    ids = new long[BATCHES][];
    for (int i = 0; i < BATCHES; i++) {
      ids[i] = random.longs(COUNT, 0, rows).toArray();
    }
    arena = Arena.ofShared();
    values = arena.allocate((long) COUNT * headDim * Float.BYTES, 64);
    for (long i = 0; i < (long) COUNT * headDim; i++) {
      values.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
    }
  }

  /** Gives the gradients back. */
  @TearDown
  public void close() {
    arena.close();
  }

  /**
   * The optimiser.
   *
   * @param trained the table
   * @return the optimiser
   */
  @Benchmark
  public TableOptimizer step(Trained trained) {
    trained.optimizer.step(trained.summed[trained.next()]);
    return trained.optimizer;
  }

  /**
   * Sums and optimiser.
   *
   * @param trained the table
   * @return the optimiser
   */
  @Benchmark
  public TableOptimizer addAndStep(Trained trained) {
    trained.gradients.clear();
    trained.gradients.add(ids[trained.next()], 0, COUNT, values);
    trained.optimizer.step(trained.gradients);
    return trained.optimizer;
  }

  /**
   * The bytes of a step, row by row.
   *
   * @param trained the table
   * @return something of the gradients
   */
  @Benchmark
  public double copyRows(Trained trained) {
    return trained.copyRows();
  }

  /**
   * The bytes of a step in long runs.
   *
   * @param trained the table
   * @return something of the gradients
   */
  @Benchmark
  public double copyStream(Trained trained) {
    return trained.copyStream();
  }

  /**
   * PyTorch.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(ROUNDS)
  @Needs(Rival.TORCH)
  public String torch(InTorch rival) {
    return rival.python.run(ROUNDS);
  }

  private static EngramTable table(long rows, int headDim) {
    return new EngramTable(
        RamRowStore.create("trained", rows, headDim * Float.BYTES), RowFormat.F32, headDim);
  }

  /** A table, its optimiser, and gradients of all batches. */
  @State(Scope.Benchmark)
  public static class Trained {
    private EngramTable table;
    private TableOptimizer optimizer;
    private TableGradients gradients;
    private TableGradients[] summed;
    private long[][] distinct;
    private List<RamRowStore> stores;
    private MemorySegment values;
    private int batch;
    private final Workers workers = new Workers(THREADS);
    private final byte[][] rows = new byte[THREADS][];
    private final float[][] buffers = new float[THREADS][RUN_BYTES / Float.BYTES];
    private final int[] touched = new int[THREADS << 3];
    private final double[] sums = new double[THREADS << 3];
    private long[] walked;
    private int headDim;

    /** For JMH. */
    public Trained() {}

    /**
     * Makes table and state, all pages of them, and sums gradients.
     *
     * @param base size and batches
     */
    @Setup
    public void prepare(TableStepBenchmark base) {
      headDim = base.headDim;
      values = base.values;
      table = table(base.rows, headDim);
      optimizer = TableOptimizer.adam(table, AdamOptions.DEFAULT);
      RamRowStore weights = (RamRowStore) table.store();
      RamRowStore state = optimizer.state().get("adam");
      stores = List.of(weights, state);
      stores.forEach(store -> store.populate(THREADS));
      gradients = new TableGradients(table);
      summed = new TableGradients[BATCHES];
      distinct = new long[BATCHES][];
      for (int i = 0; i < BATCHES; i++) {
        summed[i] = new TableGradients(table);
        summed[i].add(base.ids[i], 0, COUNT, values);
        distinct[i] = Arrays.stream(base.ids[i]).distinct().sorted().toArray();
      }
      long moved = 2L * (weights.rowBytes() + state.rowBytes()) + 4L * headDim;
      System.out.printf(
          "# a step moves %.1f MB: %d distinct rows, %d bytes each%n",
          moved * distinct[0].length / 1e6, distinct[0].length, moved);
      for (int i = 0; i < THREADS; i++) {
        rows[i] = new byte[Math.max(weights.rowBytes(), state.rowBytes())];
      }
    }

    private int next() {
      batch = (batch + 1) % BATCHES;
      return batch;
    }

    private static final int BLOCK = 256;
    private static final int ROWS_AT_ONCE = 16;
    private static final long LINE = 64;

    private double copyRows() {
      walked = distinct[next()];
      workers.begin();
      workers.forEach(THREADS, Math.ceilDiv(walked.length, BLOCK), this::copyBlock);
      workers.end();
      return sums[0];
    }

    private void copyBlock(int worker, int block) {
      int begin = block * BLOCK;
      int end = Math.min(begin + BLOCK, walked.length);
      for (int i = begin; i < end; i += ROWS_AT_ONCE) {
        int some = Math.min(ROWS_AT_ONCE, end - i);
        for (RamRowStore store : stores) {
          touched[worker << 3] += touch(store.whole(), store.rowBytes(), i, some);
        }
        for (RamRowStore store : stores) {
          int rowBytes = store.rowBytes();
          MemorySegment whole = store.whole();
          for (int j = i; j < i + some; j++) {
            long at = walked[j] * rowBytes;
            MemorySegment.copy(whole, ValueLayout.JAVA_BYTE, at, rows[worker], 0, rowBytes);
            MemorySegment.copy(rows[worker], 0, whole, ValueLayout.JAVA_BYTE, at, rowBytes);
          }
        }
      }
      readGradients(worker, begin, end);
    }

    /** A byte of each cache line, so that the copies find them all. */
    private int touch(MemorySegment whole, int rowBytes, int from, int count) {
      int bits = 0;
      for (int i = from; i < from + count; i++) {
        long at = walked[i] * rowBytes;
        long end = at + rowBytes;
        for (; at <= end - 4 * LINE; at += 4 * LINE) {
          bits ^= whole.get(ValueLayout.JAVA_BYTE, at);
          bits ^= whole.get(ValueLayout.JAVA_BYTE, at + LINE);
          bits ^= whole.get(ValueLayout.JAVA_BYTE, at + 2 * LINE);
          bits ^= whole.get(ValueLayout.JAVA_BYTE, at + 3 * LINE);
        }
        for (; at < end; at += LINE) {
          bits ^= whole.get(ValueLayout.JAVA_BYTE, at);
        }
      }
      return bits;
    }

    private void readGradients(int worker, int begin, int end) {
      float[] buffer = buffers[worker];
      int perRun = buffer.length / headDim;
      for (int i = begin; i < end; i += perRun) {
        int some = Math.min(perRun, end - i) * headDim;
        MemorySegment.copy(
            values, ValueLayout.JAVA_FLOAT, (long) i * headDim * Float.BYTES, buffer, 0, some);
        sums[worker << 3] += buffer[some - 1];
      }
    }

    private double copyStream() {
      walked = distinct[next()];
      workers.begin();
      for (RamRowStore store : stores) {
        long storeBytes = (long) walked.length * store.rowBytes();
        // Another stretch of the table each time, as far as there is more of it.
        long room = store.whole().byteSize() - storeBytes;
        long from = (room / BATCHES * batch) & -RUN_BYTES;
        MemorySegment part = store.whole().asSlice(from, storeBytes);
        workers.forEach(
            THREADS,
            Math.toIntExact(Math.ceilDiv(storeBytes, RUN_BYTES)),
            (worker, run) -> {
              long at = (long) run * RUN_BYTES;
              int count = (int) (Math.min(RUN_BYTES, storeBytes - at) / Float.BYTES);
              float[] buffer = buffers[worker];
              MemorySegment.copy(part, ValueLayout.JAVA_FLOAT, at, buffer, 0, count);
              MemorySegment.copy(buffer, 0, part, ValueLayout.JAVA_FLOAT, at, count);
            });
      }
      workers.forEach(
          THREADS,
          Math.ceilDiv(walked.length, BLOCK),
          (worker, block) ->
              readGradients(worker, block * BLOCK, Math.min((block + 1) * BLOCK, walked.length)));
      workers.end();
      return sums[0];
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      optimizer.close();
      table.close();
    }
  }

  /** The table in PyTorch's process. */
  @State(Scope.Benchmark)
  public static class InTorch {
    private PythonRival python;

    /** For JMH. */
    public InTorch() {}

    /**
     * Starts it, and compares rows after two steps.
     *
     * @param base size and batches
     */
    @Setup
    public void start(TableStepBenchmark base) {
      python = PythonRival.start(THREADS);
      python.write("ids", Arrays.stream(base.ids).flatMapToLong(Arrays::stream).toArray());
      python.write("values", base.values);
      String about =
          python.setup(
              "sparse-adam threads=%d rows=%d width=%d batch=%d rate=%s"
                  .formatted(
                      THREADS, base.rows, base.headDim, COUNT, AdamOptions.DEFAULT.learningRate()));
      System.out.println("# " + about);
      Disagreement.check("PyTorch", expected(base), python.result(), 1e-4);
    }

    /**
     * Rows of the first batch after two steps from zero, the second of half the gradient,
     * backwards.
     */
    private static MemorySegment expected(TableStepBenchmark base) {
      // The rows' own numbers do not matter, and a small table has room for them.
      long[] distinct = Arrays.stream(base.ids[0]).distinct().sorted().toArray();
      long[] renamed =
          Arrays.stream(base.ids[0]).map(id -> Arrays.binarySearch(distinct, id)).toArray();
      try (EngramTable table = table(distinct.length, base.headDim);
          TableOptimizer optimizer = TableOptimizer.adam(table, AdamOptions.DEFAULT)) {
        TableGradients gradients = new TableGradients(table);
        for (double share : new double[] {1, -0.5}) {
          gradients.clear();
          gradients.add(renamed, 0, COUNT, base.values);
          gradients.scale(share);
          optimizer.step(gradients);
        }
        return MemorySegment.ofArray(table.gather(renamed));
      }
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }
}
