// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.store.DirectReads;
import io.engram.store.RowStore;
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
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Rows of some tokens to float32, by tier, row format, tokens and size of the table: nanoseconds a
 * call of {@code tokens} times 16 rows of 256 values.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -Dengram.bench.dir=/a/directory/on/the/disk -jar engram-bench/target/benchmarks.jar Lookup \
 *   -p tier=RAM,MAPPED,BUFFERED,UNCACHED -p format=FP8_BLOCK32,BF16,F16,F32 -p tokens=1,16,512 \
 *   -p rows=1000000 -t 1</pre>
 *
 * <p>What a lookup costs as the table grows, all else equal:
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar Lookup -p tier=MAPPED \
 *   -p rows=1000000,10000000,100000000,700000000</pre>
 *
 * <p>{@code RAM} is a table in memory of which every page is written, so it has to fit. The other
 * tiers read a file that is as long as the table and has only the rows that are asked for, {@value
 * #ASKED} of them and equally likely, the rest being hole: what a table of 7 * 10^8 rows costs can
 * so be seen without its 185 GB. As many rows are asked for of every size, on nearly as many pages,
 * so what grows is the address space and not the share of it in use. {@code MAPPED} and {@code
 * BUFFERED} are warm, which setup prints as the share of the asked pages that is resident; {@code
 * UNCACHED} bypasses the page cache by O_DIRECT and waits for the disk every time. Rows of each
 * tier are compared first.
 *
 * <p>The score of a size divided by that of 10^6 rows is what the size costs.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class LookupBenchmark {
  /** Different rows that are asked for. */
  public static final int ASKED = 1 << 16;

  private static final int HEAD_DIM = 256;
  private static final int COLUMNS = 16;

  /** A tier and, where it reads files, how. */
  public enum Place {
    /** In memory. */
    RAM,
    /** A mapped file. */
    MAPPED,
    /** Positional reads through the page cache. */
    BUFFERED,
    /** Positional reads that bypass the page cache. */
    UNCACHED
  }

  @Param({"RAM", "MAPPED"})
  Place tier;

  @Param("FP8_BLOCK32")
  RowFormat format;

  @Param("16")
  int tokens;

  @Param({"1000000", "10000000"})
  long rows;

  private TableFile file;
  private EngramTable table;
  private long[] asked;

  /** For JMH. */
  public LookupBenchmark() {}

  /** Makes the table, reads every row once, and compares. */
  @Setup
  public void prepare() {
    TableRows content = new TableRows(format, HEAD_DIM);
    asked = TableRows.uniform(1, ASKED, rows);
    RowStore store;
    if (tier == Place.RAM) {
      store = content.inMemory(rows);
    } else {
      file = TableFile.sparse(content, rows, asked);
      store = open(tier, file);
    }
    table = new EngramTable(store, format, HEAD_DIM);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment stored = arena.allocate((long) ASKED * content.rowBytes());
      store.read(asked, 0, ASKED, stored, 0);
      Disagreement.check(tier.name(), content.expected(asked, 0, ASKED), stored);
    }
    if (tier == Place.MAPPED || tier == Place.BUFFERED) {
      System.out.println(
          "# " + tier + ": of what was asked for, " + file.residency(asked) + " before the start");
    }
  }

  static RowStore open(Place tier, TableFile file) {
    return switch (tier) {
      case RAM -> throw new IllegalArgumentException("a table in memory has no file");
      case MAPPED -> file.mapped();
      case BUFFERED -> file.direct(DirectReads.buffered());
      case UNCACHED -> file.direct(DirectReads.uncached());
    };
  }

  /** Gives memory and disk back. */
  @TearDown
  public void close() {
    table.close();
    if (file != null) {
      file.close();
    }
  }

  /**
   * The library.
   *
   * @param thread ids and output
   * @return float32
   */
  @Benchmark
  public MemorySegment java(Reader thread) {
    table.gather(thread.ids, thread.next(), thread.count, thread.out, 0, Dtype.F32);
    return thread.out;
  }

  /** Row ids and output of one thread. */
  @State(Scope.Thread)
  public static class Reader {
    private static final int PICKED = 1 << 18;

    private final Arena arena = Arena.ofShared();
    private long[] ids;
    private MemorySegment out;
    private int count;
    private int at;

    /** For JMH. */
    public Reader() {}

    /**
     * Draws ids among those that are asked for.
     *
     * @param base the table
     */
    @Setup
    public void draw(LookupBenchmark base) {
      count = base.tokens * COLUMNS;
      ids = TableRows.uniform(Thread.currentThread().threadId(), PICKED, ASKED);
      for (int i = 0; i < ids.length; i++) {
        ids[i] = base.asked[(int) ids[i]];
      }
      out = arena.allocate((long) count * HEAD_DIM * Float.BYTES, 64);
    }

    private int next() {
      int from = at;
      at = at + 2 * count > PICKED ? 0 : at + count;
      return from;
    }

    /** Gives the memory back. */
    @TearDown
    public void close() {
      arena.close();
    }
  }
}
