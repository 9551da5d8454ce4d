// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.MemoryOptions;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.prefetch.PrefetchOptions;
import io.engram.prefetch.PrefetchStatistics;
import io.engram.prefetch.Prefetcher;
import io.engram.prefetch.Retrieval;
import io.engram.redis.RedisOptions;
import io.engram.redis.RedisRowStore;
import io.engram.redis.RedisTables;
import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.FileRegion;
import io.engram.store.MappedRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.LockSupport;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * What prefetching costs where rows are in memory, and what it hides where they are not.
 *
 * <p>The first part compares a lookup with a prefetch that is asked for at once: nothing is there
 * to be hidden, all of the difference is overhead. The second part runs steps of a stand-in for a
 * model, blocks of matrix products that take as long as asked, without any memory, with rows looked
 * up where they are needed, and with rows prefetched at the start of the step. Its rows come from
 * each tier that is asked for; {@code drive} is memory after a wait as long as a drive with the
 * given latency and rows a second would take, which sleeps, as a read does. The gate is left out:
 * it costs the same in both.
 *
 * <p>The ways take turns, so that a machine's moods meet all of them; medians are shown. On a busy
 * machine the calling thread's processor time says more than the clock.
 */
@Command(
    name = "prefetch",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Measures what prefetching costs and what it hides.")
final class BenchPrefetchCommand implements Callable<Integer> {
  private static final long SEED = 42;

  @Option(
      names = "--slots",
      defaultValue = "50000",
      description = "Slots for each head; each takes 4 kB in two layers. ${DEFAULT-VALUE}")
  private int slots;

  @Option(
      names = "--tokens",
      split = ",",
      defaultValue = "1,32,512",
      description = "Tokens of a chunk. ${DEFAULT-VALUE}")
  private int[] tokens;

  @Option(
      names = "--rounds",
      defaultValue = "60",
      description = "Turns of each way. ${DEFAULT-VALUE}")
  private int rounds;

  @Option(
      names = "--blocks",
      defaultValue = "18",
      description = "Blocks of the stand-in; 1 and 15 have a memory. ${DEFAULT-VALUE}")
  private int blocks;

  @Option(
      names = "--block-millis",
      defaultValue = "1",
      description = "Milliseconds of one block. ${DEFAULT-VALUE}")
  private double blockMillis;

  @Option(
      names = "--elsewhere",
      description = "Blocks take their time on another processor: the thread sleeps meanwhile.")
  private boolean elsewhere;

  /** Where the rows of the step come from. */
  enum Rows {
    /** Memory. */
    RAM,
    /** A mapped file, warm. */
    MAPPED,
    /** A file read through the page cache, warm. */
    BUFFERED,
    /** A file read past the page cache. */
    UNCACHED,
    /** Memory, after a wait as long as the drive that is described takes. */
    DRIVE,
    /** A server: see {@code --redis}. */
    REDIS
  }

  @Option(
      names = "--tiers",
      split = ",",
      defaultValue = "ram,mapped,uncached,drive",
      description = "Where rows come from: ${COMPLETION-CANDIDATES}. ${DEFAULT-VALUE}")
  private Rows[] tiers;

  @Option(
      names = "--directory",
      paramLabel = "DIR",
      description =
          "Where the tables' files are made, and deleted; by default that for temporary files.")
  private Path directory;

  @Option(
      names = "--redis",
      paramLabel = "URI",
      description =
          "A Redis or Valkey server for the tier redis: the tables are published there and deleted.")
  private String redis;

  @Option(
      names = "--latency-us",
      defaultValue = "100",
      description = "Latency of the drive. ${DEFAULT-VALUE}")
  private long latencyMicros;

  @Option(
      names = "--drive-rows",
      defaultValue = "500000",
      description = "Rows that the drive reads in a second. ${DEFAULT-VALUE}")
  private long driveRows;

  @Option(names = "--json", description = "Prints JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  /** Waits as long as a drive would take, one request at a time for each thread. */
  private record Drive(RowStore store, long latencyNanos, long rowsPerSecond) implements RowStore {
    @Override
    public String name() {
      return store.name();
    }

    @Override
    public long rowCount() {
      return store.rowCount();
    }

    @Override
    public int rowBytes() {
      return store.rowBytes();
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      store.read(rowIds, from, count, out, outOffset);
      sleep(latencyNanos + count * 1_000_000_000L / rowsPerSecond);
    }

    @Override
    public void close() {}
  }

  private static void sleep(long nanos) {
    long end = System.nanoTime() + nanos;
    for (long left = nanos; left > 0; left = end - System.nanoTime()) {
      LockSupport.parkNanos(left);
    }
  }

  /** Matrix products that take a given time. */
  private static final class Backbone {
    private static final int SIDE = 192;

    private final float[] a = new float[SIDE * SIDE];
    private final float[] b = new float[SIDE * SIDE];
    private final float[] c = new float[SIDE * SIDE];
    private final long rowsPerBlock;
    private final long sleepNanos;

    Backbone(double blockMillis, boolean elsewhere) {
      sleepNanos = elsewhere ? Math.round(blockMillis * 1e6) : 0;
      Arrays.fill(a, 1e-3f);
      Arrays.fill(b, 1e-3f);
      long best = Long.MAX_VALUE;
      for (int i = 0; i < 200; i++) {
        long start = System.nanoTime();
        rows(SIDE);
        best = Math.min(best, System.nanoTime() - start);
      }
      rowsPerBlock = Math.max(1, Math.round(blockMillis * 1e6 * SIDE / best));
    }

    private void rows(long count) {
      for (long r = 0; r < count; r++) {
        int at = (int) (r % SIDE) * SIDE;
        for (int k = 0; k < SIDE; k++) {
          float left = a[at + k];
          int from = k * SIDE;
          for (int j = 0; j < SIDE; j++) {
            c[at + j] += left * b[from + j];
          }
        }
      }
    }

    void block() {
      if (sleepNanos == 0) {
        rows(rowsPerBlock);
      } else {
        sleep(sleepNanos);
      }
    }
  }

  @Override
  public Integer call() throws IOException {
    boolean tooSmall = Arrays.stream(tokens).anyMatch(count -> count < 1);
    if (tooSmall || rounds < 1 || blocks < 16 || slots < 2 || driveRows < 1) {
      throw new ParameterException(
          spec.commandLine(),
          "--tokens, --rounds and --drive-rows must be at least 1, --slots 2, --blocks 16");
    }
    if (redis == null && Arrays.asList(tiers).contains(Rows.REDIS)) {
      throw new ParameterException(spec.commandLine(), "the tier redis needs --redis URI");
    }
    EngramConfig config =
        EngramConfig.paper().slotsPerHead(slots).rowFormat(RowFormat.BF16).build();
    int ids = config.hashing().vocabularySize();
    int[] map = new int[config.vocabularySize()];
    Arrays.setAll(map, i -> i % ids);
    List<Map<String, Object>> results = new ArrayList<>();
    MemoryOptions options =
        MemoryOptions.builder()
            .memoryBudget(256L << 20)
            .prefetch(PrefetchOptions.defaults().withStagingBytes(256L << 20))
            .build();
    try (EngramMemory memory =
            EngramMemory.create(config, TokenMap.of(map), SEED, options, rows -> {});
        Arena arena = Arena.ofShared();
        Progress progress =
            Progress.start("measuring", (tiers.length + 1L) * tokens.length, "runs")) {
      for (int count : tokens) {
        MemorySegment out = arena.allocate((long) count * config.rowWidth() * Float.BYTES);
        results.add(overhead(memory, count, out));
        progress.advance(1);
      }
      Backbone backbone = new Backbone(blockMillis, elsewhere);
      for (Rows tier : tiers) {
        Map<Integer, RowStore> stores = new LinkedHashMap<>();
        try {
          for (int layer : config.layerIds()) {
            stores.put(
                layer,
                tier == Rows.REDIS
                    ? published(memory, layer)
                    : store(tier, memory.table(layer).store(), arena));
          }
          for (int count : tokens) {
            MemorySegment out = arena.allocate((long) count * config.rowWidth() * Float.BYTES);
            results.add(overlap(tier, stores, memory, backbone, count, out));
            progress.advance(1);
          }
        } finally {
          stores.values().stream().filter(store -> tier != Rows.RAM).forEach(RowStore::close);
          if (tier == Rows.REDIS) {
            try (RedisTables tables = RedisTables.connect(RedisOptions.of(redis))) {
              stores.keySet().forEach(layer -> tables.unpublish(name(layer)));
            }
          }
        }
      }
    }
    PrintWriter out = spec.commandLine().getOut();
    if (json) {
      out.println(new GsonBuilder().setPrettyPrinting().create().toJson(results));
    } else {
      print(results, out);
    }
    return 0;
  }

  private void print(List<Map<String, Object>> results, PrintWriter out) {
    out.println("Rows in memory, asked for at once: nothing is hidden, the difference is overhead");
    out.printf("%8s %8s %16s %16s%n", "tokens", "rows", "lookup ns/row", "prefetch ns/row");
    results.stream()
        .filter(result -> result.containsKey("rows"))
        .forEach(result ->
            out.printf(
                "%8s %8s %16s %16s%n",
                result.get("tokens"),
                result.get("rows"),
                result.get("lookup ns/row"),
                result.get("prefetch ns/row")));
    out.println();
    out.printf(
        "A step of %d blocks of %s ms each, layers 1 and 15 with a memory; median of %d steps%n",
        blocks, blockMillis, rounds);
    out.printf(
        "%-10s %7s %12s %22s %22s   %s%n",
        "rows from", "tokens", "without ms", "synchronous ms", "prefetch ms", "layer 1");
    results.stream()
        .filter(result -> result.containsKey("rows from"))
        .forEach(result ->
            out.printf(
                "%-10s %7s %12s %12s (+%6s %%) %12s (+%6s %%)   %s%n",
                result.get("rows from"),
                result.get("tokens"),
                result.get("without ms"),
                result.get("synchronous ms"),
                result.get("synchronous +%"),
                result.get("prefetch ms"),
                result.get("prefetch +%"),
                result.get("layer 1")));
  }

  private static String name(int layer) {
    return "engram-bench-" + ProcessHandle.current().pid() + "." + layer;
  }

  private RowStore published(EngramMemory memory, int layer) {
    RedisOptions options = RedisOptions.of(redis);
    TableIdentity identity = TableIdentity.of(memory.layout(layer), memory.table(layer));
    try (RedisTables tables = RedisTables.connect(options)) {
      tables.publisher(name(layer), identity, memory.table(layer).store()).publish();
    }
    return RedisRowStore.open(options, name(layer), identity);
  }

  private RowStore store(Rows tier, RowStore source, Arena arena) throws IOException {
    if (tier == Rows.RAM) {
      return source;
    }
    if (tier == Rows.DRIVE) {
      return new Drive(source, latencyMicros * 1000, driveRows);
    }
    Path file =
        directory == null
            ? Files.createTempFile("engram", ".rows")
            : Files.createTempFile(directory, "engram", ".rows");
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      int batch = 4096;
      MemorySegment rows = arena.allocate((long) batch * source.rowBytes());
      long[] ids = new long[batch];
      for (long first = 0; first < source.rowCount(); first += batch) {
        int count = (int) Math.min(batch, source.rowCount() - first);
        for (int i = 0; i < count; i++) {
          ids[i] = first + i;
        }
        source.read(ids, 0, count, rows, 0);
        ByteBuffer bytes = rows.asSlice(0, (long) count * source.rowBytes()).asByteBuffer();
        while (bytes.hasRemaining()) {
          channel.write(bytes);
        }
      }
      channel.force(true);
      MemorySegment mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      RowPart part = new RowPart(new FileRegion(file, 0, mapped), Optional.empty());
      return switch (tier) {
        case BUFFERED -> direct(source, part, DirectReads.buffered());
        case UNCACHED -> direct(source, part, DirectReads.uncached());
        default -> MappedRowStore.of(source.name(), source.rowBytes(), 0, List.of(part));
      };
    } finally {
      // What is open stays readable.
      Files.delete(file);
    }
  }

  private static RowStore direct(RowStore source, RowPart part, DirectReads reads) {
    return DirectRowStore.of(source.name(), source.rowBytes(), 0, List.of(part), reads);
  }

  /** Ids as in a text: the few that are frequent make up most of it. */
  private static int[] text(SplittableRandom random, EngramConfig config, int count) {
    int[] text = new int[count];
    for (int i = 0; i < count; i++) {
      text[i] = (int) Math.exp(random.nextDouble() * Math.log(config.vocabularySize())) - 1;
    }
    return text;
  }

  private Map<String, Object> overhead(EngramMemory memory, int count, MemorySegment out) {
    SplittableRandom random = new SplittableRandom(SEED + count);
    List<Integer> layers = memory.config().layerIds();
    long rows = (long) layers.size() * count * memory.config().hashing().columns();
    int repeats = Math.max(1, 2048 / count);
    double[] lookups = new double[rounds];
    double[] prefetches = new double[rounds];
    double[] lookupCpu = new double[rounds];
    double[] prefetchCpu = new double[rounds];
    ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    // The first turns warm up.
    for (int round = -rounds; round < rounds; round++) {
      int[] text = text(random, memory.config(), count * repeats);
      long startCpu = threads.getCurrentThreadCpuTime();
      long start = System.nanoTime();
      for (int i = 0; i < repeats; i++) {
        for (int layer : layers) {
          memory.lookup(layer, text, i * count, count, Lookback.start(), out);
        }
      }
      long middle = System.nanoTime();
      long middleCpu = threads.getCurrentThreadCpuTime();
      for (int i = 0; i < repeats; i++) {
        try (Retrieval retrieval = memory.prefetch(text, i * count, count, Lookback.start())) {
          for (int layer : layers) {
            retrieval.rows(layer, out, 0, Dtype.F32);
          }
        }
      }
      long end = System.nanoTime();
      long endCpu = threads.getCurrentThreadCpuTime();
      if (round >= 0) {
        lookups[round] = (double) (middle - start) / repeats;
        prefetches[round] = (double) (end - middle) / repeats;
        lookupCpu[round] = (double) (middleCpu - startCpu) / repeats;
        prefetchCpu[round] = (double) (endCpu - middleCpu) / repeats;
      }
    }
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("measured", "overhead, rows in memory");
    result.put("tokens", count);
    result.put("rows", rows);
    result.put("lookup ns/row", rounded(median(lookups) / rows));
    result.put("prefetch ns/row", rounded(median(prefetches) / rows));
    result.put("lookup processor ns/row", rounded(median(lookupCpu) / rows));
    result.put("prefetch processor ns/row, caller", rounded(median(prefetchCpu) / rows));
    result.put("lookup us", rounded(median(lookups) / 1e3));
    result.put("prefetch us", rounded(median(prefetches) / 1e3));
    return result;
  }

  private Map<String, Object> overlap(
      Rows tier,
      Map<Integer, RowStore> stores,
      EngramMemory memory,
      Backbone backbone,
      int count,
      MemorySegment out) {
    SplittableRandom random = new SplittableRandom(SEED + count);
    EngramConfig config = memory.config();
    WindowRule window =
        new WindowRule(
            memory.tokenMap().get(config.fillTokenId()), WindowRule.NO_BOUNDARY, config.dead());
    List<Prefetcher.Layer> slow = new ArrayList<>();
    for (int layer : config.layerIds()) {
      slow.add(
          new Prefetcher.Layer(
              new NgramHasher(memory.layout(layer), window),
              memory.table(layer).over(stores.get(layer))));
    }
    double[][] times = new double[3][rounds];
    PrefetchStatistics statistics;
    PrefetchOptions options = PrefetchOptions.defaults().withStagingBytes(256L << 20);
    // Looked up on the spot, but as one deep read of distinct rows: the strongest rival.
    try (Prefetcher ahead = new Prefetcher(memory.tokenMap(), slow, options);
        Prefetcher onTheSpot = new Prefetcher(memory.tokenMap(), slow, options.withWorkers(0))) {
      int warmUp = Math.max(3, rounds / 10);
      for (int round = -warmUp; round < rounds; round++) {
        int[] text = text(random, config, count);
        for (int way = 0; way < times.length; way++) {
          long start = System.nanoTime();
          step(way == 0 ? null : way == 1 ? onTheSpot : ahead, backbone, text, config, out);
          if (round >= 0) {
            times[way][round] = (System.nanoTime() - start) / 1e6;
          }
        }
      }
      statistics = ahead.statistics();
    }
    double without = median(times[0]);
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("measured", "overlap with " + blocks + " blocks of " + blockMillis + " ms");
    result.put("rows from", tier.name().toLowerCase(Locale.ROOT));
    result.put("tokens", count);
    result.put("without ms", rounded(without));
    result.put("synchronous ms", rounded(median(times[1])));
    result.put("prefetch ms", rounded(median(times[2])));
    result.put("synchronous +%", rounded(100 * (median(times[1]) / without - 1)));
    result.put("prefetch +%", rounded(100 * (median(times[2]) / without - 1)));
    statistics
        .layers()
        .forEach((layer, l) ->
            result.put(
                "layer " + layer, "late " + l.late() + " of " + l.asks() + ", waits " + l.waits()));
    return result;
  }

  private void step(
      Prefetcher prefetcher,
      Backbone backbone,
      int[] text,
      EngramConfig config,
      MemorySegment out) {
    if (prefetcher == null) {
      for (int block = 0; block < blocks; block++) {
        backbone.block();
      }
      return;
    }
    try (Retrieval retrieval = prefetcher.prefetch(text, 0, text.length, Lookback.start())) {
      for (int block = 0; block < blocks; block++) {
        if (config.layerIds().contains(block)) {
          retrieval.rows(block, out, 0, Dtype.F32);
        }
        backbone.block();
      }
    }
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  private static double rounded(double value) {
    return Math.round(value * 100) / 100.0;
  }
}
