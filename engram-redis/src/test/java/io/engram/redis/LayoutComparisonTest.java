// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import io.engram.store.RowStore;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.codec.ByteArrayCodec;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

/**
 * Rows per second and bytes per row of the layouts that a table may have, on one server on
 * loopback; the table in docs/redis.md. Run it with
 *
 * <pre>
 * mvn -pl engram-redis -am test -Plong -Dtest=LayoutComparisonTest -Dsurefire.failIfNoSpecifiedTests=false
 * </pre>
 */
@Tag("long")
@Tag("once")
class LayoutComparisonTest {
  private static final int ROW_BYTES = 264;
  private static final int ROWS = Integer.getInteger("engram.redis.rows", 300_000);
  private static final long NANOS = TimeUnit.MILLISECONDS.toNanos(700);
  private static final int ROUNDS = 8;

  /** A table's rows without a table: each is its id and noise. */
  private static final class Made implements RowStore {
    @Override
    public String name() {
      return "made";
    }

    @Override
    public long rowCount() {
      return ROWS;
    }

    @Override
    public int rowBytes() {
      return ROW_BYTES;
    }

    @Override
    public void read(long[] ids, int from, int count, MemorySegment out, long outOffset) {
      for (int i = 0; i < count; i++) {
        byte[] row = row(ids[from + i]);
        MemorySegment.copy(
            MemorySegment.ofArray(row), 0, out, outOffset + (long) i * ROW_BYTES, ROW_BYTES);
      }
    }

    @Override
    public void close() {}
  }

  private static byte[] row(long id) {
    byte[] row = new byte[ROW_BYTES];
    ByteBuffer.wrap(row).putLong(id).putLong(id * 0x9E3779B97F4A7C15L);
    return row;
  }

  private interface Reader {
    void read(long[] ids);
  }

  private static long[] ids(SplittableRandom random, int count) {
    return random.longs(count, 0, ROWS).toArray();
  }

  /** A way to read that is measured in every round, and the best that it came to. */
  private static final class Case {
    private final String layout;
    private final String how;
    private final double bytes;
    private final int batch;
    private final int threads;
    private final Reader reader;
    private double best;

    Case(String layout, String how, double bytes, int batch, int threads, Reader reader) {
      this.layout = layout;
      this.how = how;
      this.bytes = bytes;
      this.batch = batch;
      this.threads = threads;
      this.reader = reader;
    }

    void measure(int round) throws Exception {
      long start = System.nanoTime();
      long rows = 0;
      try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
        List<Future<Long>> parts = new ArrayList<>();
        for (int t = 0; t < threads; t++) {
          SplittableRandom random = new SplittableRandom(31L * round + t);
          parts.add(
              pool.submit(() -> {
                long done = 0;
                while (System.nanoTime() - start < NANOS) {
                  reader.read(ids(random, batch));
                  done += batch;
                }
                return done;
              }));
        }
        for (Future<Long> part : parts) {
          rows += part.get();
        }
      }
      best = Math.max(best, rows * 1e9 / (System.nanoTime() - start));
    }

    String line() {
      return String.format(
          Locale.ROOT, "| %s | %s | %,.0f k | %.1f |", layout, how, best / 1000, bytes);
    }
  }

  private final List<Case> cases = new ArrayList<>();
  private final List<AutoCloseable> opened = new ArrayList<>();

  private <T extends AutoCloseable> T keep(T resource) {
    opened.addFirst(resource);
    return resource;
  }

  private static long usedMemory(RedisServers servers) throws IOException {
    return servers
        .ask(0, "info", "memory")
        .lines()
        .filter(l -> l.startsWith("used_memory:"))
        .mapToLong(l -> Long.parseLong(l.substring(12).strip()))
        .findFirst()
        .orElseThrow();
  }

  /**
   * All layouts are loaded first and measured in turns, so that other work on the machine meets all
   * of them; the best round counts, since such work only ever takes away.
   */
  @Test
  void compare() throws Exception {
    try {
      oneKeyARow();
      hashes(128);
      for (int rows : new int[] {256, 1024, 4096, 16_384}) {
        values(rows, "");
      }
      values(248, ", a 64 KiB class");
      values(992, ", a 256 KiB class");
      values(Chunks.rowsPerValue(ROW_BYTES), ", a 1 MiB class");
      for (int round = 0; round < ROUNDS; round++) {
        for (Case each : cases) {
          each.measure(round);
        }
      }
    } finally {
      for (AutoCloseable resource : opened) {
        resource.close();
      }
    }
    System.out.println("| layout | read by | rows a second | bytes a row |");
    System.out.println("|---|---|---|---|");
    cases.forEach(each -> System.out.println(each.line()));
  }

  private StatefulRedisConnection<byte[], byte[]> connect(RedisServers servers) {
    RedisClient client = RedisClient.create(servers.uri(0));
    keep(client::shutdown);
    return client.connect(ByteArrayCodec.INSTANCE);
  }

  private void oneKeyARow() throws Exception {
    RedisServers servers = keep(RedisServers.standalone());
    long before = usedMemory(servers);
    StatefulRedisConnection<byte[], byte[]> connection = connect(servers);
    for (int from = 0; from < ROWS; from += 1000) {
      List<RedisFuture<String>> set = new ArrayList<>();
      for (int id = from; id < Math.min(ROWS, from + 1000); id++) {
        set.add(connection.async().set(key(id), row(id)));
      }
      for (RedisFuture<String> each : set) {
        each.get();
      }
    }
    double bytes = (double) (usedMemory(servers) - before) / ROWS;
    for (int batch : new int[] {64, 256, 1024}) {
      cases.add(
          new Case(
              "one key a row",
              "`MGET` of " + batch,
              bytes,
              batch,
              1,
              ids -> {
                byte[][] keys = Arrays.stream(ids).mapToObj(i -> key(i)).toArray(byte[][]::new);
                var rows = connection.sync().mget(keys);
                assertArrayEquals(row(ids[7]), rows.get(7).getValue());
              }));
    }
    StatefulRedisConnection<byte[], byte[]> piped = connect(servers);
    piped.setAutoFlushCommands(false);
    for (int batch : new int[] {64, 256, 1024}) {
      cases.add(
          new Case(
              "one key a row",
              "`GET`, pipelines of " + batch,
              bytes,
              batch,
              1,
              ids -> {
                List<RedisFuture<byte[]>> got = new ArrayList<>();
                for (long id : ids) {
                  got.add(piped.async().get(key(id)));
                }
                check(piped, ids, got);
              }));
    }
  }

  private static void check(
      StatefulRedisConnection<byte[], byte[]> piped, long[] ids, List<RedisFuture<byte[]>> got) {
    piped.flushCommands();
    for (RedisFuture<byte[]> each : got) {
      each.toCompletableFuture().join();
    }
    assertArrayEquals(row(ids[7]), got.get(7).toCompletableFuture().join());
  }

  private static byte[] key(long id) {
    byte[] key = new byte[12];
    ByteBuffer.wrap(key).putInt(0x656E673A).putLong(id);
    return key;
  }

  /** Small hashes, which the server packs into one allocation if it is told to. */
  private void hashes(int fields) throws Exception {
    RedisServers servers =
        keep(
            RedisServers.standalone(
                "--hash-max-listpack-entries", "" + fields, "--hash-max-listpack-value", "512"));
    long before = usedMemory(servers);
    StatefulRedisConnection<byte[], byte[]> connection = connect(servers);
    for (int from = 0; from < ROWS; from += 1024) {
      List<RedisFuture<Boolean>> set = new ArrayList<>();
      for (int id = from; id < Math.min(ROWS, from + 1024); id++) {
        set.add(connection.async().hset(key(id / fields), field(id % fields), row(id)));
      }
      for (RedisFuture<Boolean> each : set) {
        each.get();
      }
    }
    double bytes = (double) (usedMemory(servers) - before) / ROWS;
    connection.setAutoFlushCommands(false);
    cases.add(
        new Case(
            "hashes of " + fields + " fields",
            "`HGET`, pipelines of 256",
            bytes,
            256,
            1,
            ids -> {
              List<RedisFuture<byte[]>> got = new ArrayList<>();
              for (long id : ids) {
                got.add(connection.async().hget(key(id / fields), field((int) (id % fields))));
              }
              check(connection, ids, got);
            }));
  }

  private static byte[] field(int n) {
    return new byte[] {(byte) n};
  }

  private void values(int rowsPerValue, String note) throws Exception {
    TableIdentity identity =
        new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, ROWS, "layout", Optional.empty());
    RedisServers servers = keep(RedisServers.standalone());
    long before = usedMemory(servers);
    double bytes;
    try (RedisTables tables = RedisTables.connect(RedisOptions.of(servers.uri(0)))) {
      tables.publisher("t", identity, new Made()).rowsPerValue(rowsPerValue).publish();
    }
    bytes = (double) (usedMemory(servers) - before) / ROWS;
    String layout = String.format(Locale.ROOT, "values of %,d rows%s", rowsPerValue, note);
    for (int window : new int[] {64, 256, 1024}) {
      add(servers, identity, layout, bytes, window, 1, 1, 1);
    }
    if (note.contains("MiB")) {
      add(servers, identity, layout, bytes, 64, 4, 1, 1);
      add(servers, identity, layout, bytes, 256, 4, 1, 1);
      add(servers, identity, layout, bytes, 256, 4, 4, 1);
      add(servers, identity, layout, bytes, 256, 4, 4, 2);
    }
  }

  private void add(
      RedisServers servers,
      TableIdentity identity,
      String layout,
      double bytes,
      int window,
      int windows,
      int threads,
      int connections) {
    RedisOptions options =
        RedisOptions.builder(servers.uri(0))
            .windows(window, windows)
            .connections(connections)
            .build();
    RowStore store = keep(RedisRowStore.open(options, "t", identity));
    String how =
        "`GETRANGE`, pipelines of "
            + window
            + (windows > 1 ? ", " + windows + " under way" : "")
            + (threads > 1 ? ", " + threads + " threads" : "")
            + (connections > 1 ? ", " + connections + " connections" : "");
    cases.add(
        new Case(
            layout,
            how,
            bytes,
            window * windows,
            threads,
            ids -> {
              byte[] out = new byte[ids.length * ROW_BYTES];
              store.read(ids, 0, ids.length, MemorySegment.ofArray(out), 0);
              assertArrayEquals(row(ids[7]), Arrays.copyOfRange(out, 7 * ROW_BYTES, 8 * ROW_BYTES));
            }));
  }
}
