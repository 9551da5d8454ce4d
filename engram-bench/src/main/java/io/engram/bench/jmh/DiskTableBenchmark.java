// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.RivalException;
import io.engram.store.DirectReads;
import io.engram.store.RowStore;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.lmdbjava.Dbi;
import org.lmdbjava.DbiFlags;
import org.lmdbjava.Env;
import org.lmdbjava.EnvFlags;
import org.lmdbjava.PutFlags;
import org.lmdbjava.Txn;
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
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.ByteBufferGetStatus;
import org.rocksdb.CompressionType;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;
import org.rocksdb.ReadOptions;
import org.rocksdb.RocksDB;
import org.rocksdb.RocksDBException;
import org.rocksdb.Status;
import org.rocksdb.WriteBatch;
import org.rocksdb.WriteOptions;

/**
 * Rows of 256 bytes from a table on disk, every row equally likely, one thread: nanoseconds a row.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -Dengram.bench.dir=/a/directory/on/the/disk \
 *   -jar engram-bench/target/benchmarks.jar DiskTable -p rows=1000000</pre>
 *
 * <p>All hold the same rows under the same ids and are asked for the same ones, {@value #BATCH} a
 * call, copied out packed. {@link #mapped}, {@link #buffered} and {@link #uncached} are the
 * library's tiers over one file; {@link #lmdb} has 8-byte integer keys and one read transaction for
 * all calls; {@link #rocksdb} has no compression, a 512 MiB block cache, Bloom filters and one
 * level after compaction, and is asked with {@code multiGetByteBuffers}. A table of a size that
 * fits memory is warm for all but {@code uncached}, which waits for the disk each time; name more
 * rows than fit to measure cold ones. Rows are compared first.
 *
 * <p>LMDB and RocksDB come with the jar that {@code -Pbenchmarks} builds, not with the command. A
 * rival's score divided by that of a tier is how many times as fast the tier is.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 3, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class DiskTableBenchmark {
  /** Rows of one call: those of 16 tokens. */
  public static final int BATCH = 256;

  private static final int HEAD_DIM = 64;
  private static final int ROW_BYTES = HEAD_DIM * Float.BYTES;
  private static final int PICKED = 1 << 18;
  private static final int ROWS_A_WRITE = 4096;

  @Param("1000000")
  int rows;

  private final Arena arena = Arena.ofShared();
  TableRows content;
  private long[] ids;
  private MemorySegment out;
  private int at;

  /** For JMH. */
  public DiskTableBenchmark() {}

  /** Draws ids. */
  @Setup
  public void prepare() {
    content = new TableRows(RowFormat.F32, HEAD_DIM);
    ids = TableRows.uniform(1, PICKED, rows);
    out = arena.allocate((long) BATCH * ROW_BYTES, 64);
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

  private void check(String name) {
    Disagreement.check(name, content.expected(ids, 0, BATCH), out);
  }

  /** Keys and values as direct buffers, in the order of the keys. */
  private interface Put {
    void row(ByteBuffer key, ByteBuffer value);
  }

  private void each(ByteBuffer key, ByteBuffer value, Put put) {
    ByteBuffer block = content.block().asByteBuffer();
    for (int row = 0; row < rows; row++) {
      key.clear().putLong(row).flip();
      int from = row % TableRows.PERIOD * ROW_BYTES;
      value.clear().put(0, block, from, ROW_BYTES);
      put.row(key, value.position(0).limit(ROW_BYTES));
    }
  }

  private static void delete(Path directory) {
    try (Stream<Path> files = Files.walk(directory)) {
      List<Path> all = files.sorted(Comparator.reverseOrder()).toList();
      for (Path file : all) {
        Files.delete(file);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * The library's mapped tier.
   *
   * @param table the tier
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment mapped(Tiers table) {
    table.mapped.read(ids, next(), BATCH, out, 0);
    return out;
  }

  /**
   * The library's positional reads through the page cache.
   *
   * @param table the tier
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment buffered(Tiers table) {
    table.buffered.read(ids, next(), BATCH, out, 0);
    return out;
  }

  /**
   * The library's positional reads past the page cache.
   *
   * @param table the tier
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  public MemorySegment uncached(Uncached table) {
    table.uncached.read(ids, next(), BATCH, out, 0);
    return out;
  }

  /**
   * LMDB.
   *
   * @param table the database
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Needs(Rival.LMDB)
  @Fork(
      value = 2,
      jvmArgsAppend = {
        Jvm.VECTOR,
        Jvm.NATIVE,
        Jvm.UNSAFE,
        "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"
      })
  public MemorySegment lmdb(InLmdb table) {
    table.read(this, next());
    return out;
  }

  /**
   * RocksDB.
   *
   * @param table the database
   * @return rows
   */
  @Benchmark
  @OperationsPerInvocation(BATCH)
  @Needs(Rival.ROCKSDB)
  public MemorySegment rocksdb(InRocksdb table) {
    table.read(this, next());
    return out;
  }

  /** The library's tiers that go by the page cache. */
  @State(Scope.Benchmark)
  public static class Tiers {
    private TableFile file;
    private RowStore mapped;
    private RowStore buffered;

    /** For JMH. */
    public Tiers() {}

    /**
     * Writes the file.
     *
     * @param base number of rows
     */
    @Setup
    public void write(DiskTableBenchmark base) {
      file = TableFile.full(base.content, base.rows);
      mapped = file.mapped();
      buffered = file.direct(DirectReads.buffered());
      mapped.read(base.ids, 0, BATCH, base.out, 0);
      base.check("mapped");
      System.out.println("# Of the file, " + file.residency(base.ids));
    }

    /** Deletes it. */
    @TearDown
    public void close() {
      mapped.close();
      buffered.close();
      file.close();
    }
  }

  /** The library's tier that does not, which not every file system can. */
  @State(Scope.Benchmark)
  public static class Uncached {
    private TableFile file;
    private RowStore uncached;

    /** For JMH. */
    public Uncached() {}

    /**
     * Writes the file.
     *
     * @param base number of rows
     */
    @Setup
    public void write(DiskTableBenchmark base) {
      file = TableFile.full(base.content, base.rows);
      uncached = file.direct(DirectReads.uncached());
      uncached.read(base.ids, 0, BATCH, base.out, 0);
      base.check("uncached");
    }

    /** Deletes it. */
    @TearDown
    public void close() {
      uncached.close();
      file.close();
    }
  }

  /** The table in LMDB. */
  @State(Scope.Benchmark)
  public static class InLmdb {
    private Path directory;
    private Env<ByteBuffer> environment;
    private Dbi<ByteBuffer> database;
    private Txn<ByteBuffer> reading;
    private ByteBuffer key;

    /** For JMH. */
    public InLmdb() {}

    /**
     * Writes it.
     *
     * @param base the rows
     * @throws IOException if there is no place for it
     */
    @Setup
    public void write(DiskTableBenchmark base) throws IOException {
      directory = TableFile.directory();
      environment =
          Env.create()
              .setMapSize(base.rows * (ROW_BYTES + 64L) * 2 + (64L << 20))
              .setMaxDbs(1)
              .open(directory.toFile(), EnvFlags.MDB_NORDAHEAD, EnvFlags.MDB_NOSYNC);
      database = environment.openDbi("rows", DbiFlags.MDB_CREATE, DbiFlags.MDB_INTEGERKEY);
      key = ByteBuffer.allocateDirect(Long.BYTES).order(ByteOrder.nativeOrder());
      ByteBuffer value = ByteBuffer.allocateDirect(ROW_BYTES);
      try (Txn<ByteBuffer> writing = environment.txnWrite()) {
        base.each(key, value, (k, v) -> database.put(writing, k, v, PutFlags.MDB_APPEND));
        writing.commit();
      }
      environment.sync(true);
      reading = environment.txnRead();
      read(base, 0);
      base.check("LMDB");
    }

    private void read(DiskTableBenchmark base, int from) {
      for (int i = 0; i < BATCH; i++) {
        key.clear().putLong(base.ids[from + i]).flip();
        ByteBuffer value = database.get(reading, key);
        MemorySegment.copy(
            MemorySegment.ofBuffer(value), 0, base.out, (long) i * ROW_BYTES, ROW_BYTES);
      }
    }

    /** Deletes it. */
    @TearDown
    public void close() {
      reading.close();
      environment.close();
      delete(directory);
    }
  }

  /** The table in RocksDB. */
  @State(Scope.Benchmark)
  public static class InRocksdb {
    private Path directory;
    private Options options;
    private ReadOptions reading;
    private RocksDB database;
    private final List<ByteBuffer> keys = new ArrayList<>();
    private final List<ByteBuffer> values = new ArrayList<>();

    /** For JMH. */
    public InRocksdb() {}

    /**
     * Writes it.
     *
     * @param base the rows
     * @throws IOException if there is no place for it
     * @throws RocksDBException if RocksDB refuses
     */
    @Setup
    public void write(DiskTableBenchmark base) throws IOException, RocksDBException {
      RocksDB.loadLibrary();
      directory = TableFile.directory();
      options =
          new Options()
              .setCreateIfMissing(true)
              .setCompressionType(CompressionType.NO_COMPRESSION)
              .setTableFormatConfig(
                  new BlockBasedTableConfig()
                      .setBlockCache(new LRUCache(512L << 20))
                      .setFilterPolicy(new org.rocksdb.BloomFilter(10)));
      reading = new ReadOptions().setVerifyChecksums(false);
      database = RocksDB.open(options, directory.toString());
      load(base);
      database.compactRange();
      for (int i = 0; i < BATCH; i++) {
        keys.add(ByteBuffer.allocateDirect(Long.BYTES));
        values.add(base.out.asSlice((long) i * ROW_BYTES, ROW_BYTES).asByteBuffer());
      }
      read(base, 0);
      base.check("RocksDB");
    }

    private void load(DiskTableBenchmark base) throws RocksDBException {
      ByteBuffer key = ByteBuffer.allocateDirect(Long.BYTES);
      ByteBuffer value = ByteBuffer.allocateDirect(ROW_BYTES);
      try (WriteOptions writing = new WriteOptions().setDisableWAL(true);
          WriteBatch batch = new WriteBatch()) {
        base.each(
            key,
            value,
            (k, v) -> {
              try {
                batch.put(k, v);
                if (batch.count() == ROWS_A_WRITE) {
                  database.write(writing, batch);
                  batch.clear();
                }
              } catch (RocksDBException e) {
                throw new RivalException("RocksDB refuses a row: " + e.getMessage(), e);
              }
            });
        database.write(writing, batch);
      }
    }

    private void read(DiskTableBenchmark base, int from) {
      for (int i = 0; i < BATCH; i++) {
        keys.get(i).clear().putLong(base.ids[from + i]).flip();
        values.get(i).clear();
      }
      try {
        for (ByteBufferGetStatus found : database.multiGetByteBuffers(reading, keys, values)) {
          if (found.status.getCode() != Status.Code.Ok) {
            throw new RivalException("RocksDB has not found a row: " + found.status.getCode());
          }
        }
      } catch (RocksDBException e) {
        throw new RivalException("RocksDB cannot read: " + e.getMessage(), e);
      }
    }

    /** Deletes it. */
    @TearDown
    public void close() {
      database.close();
      reading.close();
      options.close();
      delete(directory);
    }
  }
}
