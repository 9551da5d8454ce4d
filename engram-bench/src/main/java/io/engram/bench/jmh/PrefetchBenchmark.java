// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.prefetch.PrefetchOptions;
import io.engram.prefetch.Prefetcher;
import io.engram.prefetch.Retrieval;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;
import org.openjdk.jmh.infra.Blackhole;

/**
 * How much of the time that rows take is hidden behind the layers before them: microseconds a step.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -Dengram.bench.dir=/a/directory/on/the/disk \
 *   -jar engram-bench/target/benchmarks.jar Prefetch -p tier=RAM,MAPPED,BUFFERED,UNCACHED</pre>
 *
 * <p>A step is {@value #BLOCKS} blocks of a model, for which a fixed amount of arithmetic on the
 * calling thread stands in ({@code work}, of JMH's {@code Blackhole.consumeCPU}), and the rows of
 * {@code tokens} tokens of a real text for two memories of the paper's shape, in front of blocks 1
 * and 4. {@link #without} has no memories; {@link #onTheSpot} reads the rows of a memory where they
 * are wanted, distinct ones in one deep read; {@link #prefetched} asks for all at the start of the
 * step, and blocks run while they come. Reading ahead takes a processor of its own: where all are
 * busy with the model, nothing can be hidden.
 *
 * <p>What {@code prefetched} takes above {@code without}, divided by what {@code onTheSpot} takes
 * above it, is the share of the cost that is left.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class PrefetchBenchmark {
  /** Blocks of a step. */
  public static final int BLOCKS = 6;

  private static final int TEXT = 16_384;

  @Param({"RAM", "UNCACHED"})
  LookupBenchmark.Place tier;

  @Param("16")
  int tokens;

  @Param("500000")
  long work;

  @Param("100000")
  long slotsPerHead;

  private final Arena arena = Arena.ofShared();
  private final List<TableFile> files = new ArrayList<>();
  private final List<EngramTable> tables = new ArrayList<>();
  private EngramConfig config;
  private Prefetcher ahead;
  private Prefetcher now;
  private MemorySegment out;
  private int[] text;
  private int at;

  /** For JMH. */
  public PrefetchBenchmark() {}

  /** Makes tables in the given tier. */
  @Setup
  public void prepare() {
    RealText real = RealText.of(TEXT);
    text = real.raw();
    config =
        EngramConfig.paper()
            .vocabulary(real.map().size(), real.map().compressedSize())
            .slotsPerHead(slotsPerHead)
            .layers(1, 4)
            .build();
    WindowRule rule = WindowRule.padded(real.map().get(config.fillTokenId()));
    TableRows content = new TableRows(config.rowFormat(), config.headDim());
    List<Prefetcher.Layer> layers = new ArrayList<>();
    for (HashLayout layout : HashLayout.derive(config.hashing())) {
      EngramTable table =
          new EngramTable(store(content, layout.rowCount()), config.rowFormat(), config.headDim());
      tables.add(table);
      layers.add(new Prefetcher.Layer(new NgramHasher(layout, rule), table));
    }
    PrefetchOptions options = PrefetchOptions.defaults();
    ahead = new Prefetcher(real.map(), layers, options);
    now = new Prefetcher(real.map(), layers, options.withWorkers(0));
    out = arena.allocate((long) tokens * config.rowWidth() * Float.BYTES, 64);
  }

  private RowStore store(TableRows content, long rows) {
    if (tier == LookupBenchmark.Place.RAM) {
      return content.inMemory(rows);
    }
    TableFile file = TableFile.full(content, rows);
    files.add(file);
    return LookupBenchmark.open(tier, file);
  }

  /** Gives memory and disk back. */
  @TearDown
  public void close() {
    ahead.close();
    now.close();
    tables.forEach(EngramTable::close);
    files.forEach(TableFile::close);
    arena.close();
  }

  /** No memories. */
  @Benchmark
  public void without() {
    for (int block = 0; block < BLOCKS; block++) {
      Blackhole.consumeCPU(work);
    }
  }

  /**
   * Rows are read where they are wanted.
   *
   * @return rows of the last memory
   */
  @Benchmark
  public MemorySegment onTheSpot() {
    return step(now);
  }

  /**
   * Rows are read ahead.
   *
   * @return rows of the last memory
   */
  @Benchmark
  public MemorySegment prefetched() {
    return step(ahead);
  }

  private MemorySegment step(Prefetcher prefetcher) {
    int from = at;
    at = at + 2 * tokens > TEXT ? 0 : at + tokens;
    try (Retrieval retrieval = prefetcher.prefetch(text, from, tokens, Lookback.start())) {
      for (int block = 0; block < BLOCKS; block++) {
        if (config.layerIds().contains(block)) {
          retrieval.rows(block, out, 0, Dtype.F32);
        }
        Blackhole.consumeCPU(work);
      }
    }
    return out;
  }
}
