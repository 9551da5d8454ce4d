// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import io.engram.testkit.Seeds;
import io.lettuce.core.cluster.SlotHash;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.MethodOrderer;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestMethodOrder;
import org.junit.jupiter.api.Timeout;

/**
 * A cluster of three masters and three replicas that loses nodes. The tests run in order, each on
 * what the one before left of it, because a cluster takes seconds to make.
 */
@Tag("once")
@Timeout(180)
@TestMethodOrder(MethodOrderer.OrderAnnotation.class)
class ClusterFaultsTest {
  private static final int COUNT = 20_000;
  private static RedisServers servers;
  private static RedisTables tables;
  private static final TableIdentity IDENTITY = RedisTablesTest.identity(COUNT);
  private static final Rows ROWS = new Rows(COUNT, 4);

  @BeforeAll
  static void start() throws IOException {
    servers = RedisServers.cluster();
    // The slowest read across a lost master takes about 5 s; a busy machine may take longer.
    tables =
        RedisTables.connect(
            RedisOptions.builder(servers.uri(0), servers.uri(5))
                .timeouts(Duration.ofSeconds(2), Duration.ofSeconds(30))
                .build());
    RedisPublisher.Published published =
        tables.publisher("load", IDENTITY, ROWS).rowsPerValue(100).publish();
    assertEquals(200, published.values());
  }

  @AfterAll
  static void stop() throws IOException {
    if (tables != null) {
      tables.close();
    }
    if (servers != null) {
      servers.close();
    }
  }

  /** Four threads that read and compare until they are told to stop. */
  private static final class Load implements AutoCloseable {
    final AtomicLong reads = new AtomicLong();
    private final AtomicBoolean stop = new AtomicBoolean();
    private final ExecutorService pool = Executors.newFixedThreadPool(4);
    private final List<Future<?>> threads = new ArrayList<>();
    private long slowest;

    Load(RowStore store) {
      RandomGenerator seeds = Seeds.random("ClusterFaultsTest.Load");
      for (int t = 0; t < 4; t++) {
        SplittableRandom random = new SplittableRandom(seeds.nextLong());
        threads.add(
            pool.submit(() -> {
              while (!stop.get()) {
                long start = System.nanoTime();
                ROWS.check(store, random.longs(1 + random.nextInt(600), 0, COUNT).toArray());
                took(System.nanoTime() - start);
                reads.incrementAndGet();
              }
            }));
      }
    }

    private synchronized void took(long nanos) {
      slowest = Math.max(slowest, nanos);
    }

    void awaitReads(int more) throws Exception {
      long goal = reads.get() + more;
      while (reads.get() < goal) {
        for (Future<?> thread : threads) {
          if (thread.isDone()) {
            thread.get();
          }
        }
        Thread.sleep(5);
      }
    }

    @Override
    public void close() throws IOException {
      stop.set(true);
      pool.shutdown();
      try {
        for (Future<?> thread : threads) {
          thread.get();
        }
      } catch (InterruptedException | ExecutionException e) {
        throw new IOException(e);
      } finally {
        pool.shutdownNow();
        System.out.printf(
            Locale.ROOT,
            "%d reads, the slowest %.1f s%n",
            reads.get(),
            slowest / (double) TimeUnit.SECONDS.toNanos(1));
      }
    }
  }

  private interface Condition {
    boolean holds() throws IOException;
  }

  private static void await(String what, Condition condition) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (!condition.holds()) {
      assertTrue(System.nanoTime() < deadline, what);
      Thread.sleep(50);
    }
  }

  private static int ownerOf(int slot) throws IOException {
    for (int node : servers.masters()) {
      for (String line : servers.ask(node, "cluster", "nodes").lines().toList()) {
        if (line.contains("myself,master")) {
          // Eight fields about the node come before its slots.
          for (String range : line.split(" ", 9)[8].split(" ", -1)) {
            if (range.matches("\\d+(-\\d+)?")) {
              String[] ends = range.split("-", -1);
              if (slot >= Integer.parseInt(ends[0])
                  && slot <= Integer.parseInt(ends[ends.length - 1])) {
                return node;
              }
            }
          }
        }
      }
    }
    throw new AssertionError("nobody owns slot " + slot);
  }

  @Test
  @Order(1)
  void rowsAreSpreadOverAllMastersAndReadFromAllCopies() throws Exception {
    for (int node = 0; node < servers.size(); node++) {
      int keys = Integer.parseInt(servers.ask(node, "dbsize"));
      assertTrue(keys > 30 && keys < 120, "node " + node + " has " + keys + " of 201 keys");
    }
    for (RedisOptions.ReadFrom copies : RedisOptions.ReadFrom.values()) {
      for (int node = 0; node < servers.size(); node++) {
        servers.ask(node, "config", "resetstat");
      }
      RedisOptions options =
          RedisOptions.builder(servers.uri(3)).readFrom(copies).connections(2).build();
      try (RowStore store = RedisRowStore.open(options, "load", IDENTITY)) {
        ROWS.checkAll(store);
      }
      List<Integer> masters = servers.masters();
      for (int node = 0; node < servers.size(); node++) {
        boolean read = servers.ask(node, "info", "commandstats").contains("cmdstat_getrange");
        boolean expected =
            switch (copies) {
              case MASTER -> masters.contains(node);
              case REPLICAS -> !masters.contains(node);
              case ANY -> true;
            };
        assertEquals(expected, read, copies + ", node " + node);
      }
    }
  }

  @Test
  @Order(2)
  void aSlotThatMovesIsFollowed() throws Exception {
    Chunks chunks = tables.find("load").orElseThrow().chunks();
    byte[] key = chunks.key(17);
    int slot = SlotHash.getSlot(key);
    String text = new String(key, java.nio.charset.StandardCharsets.US_ASCII);
    int from = ownerOf(slot);
    int to = servers.masters().stream().filter(n -> n != from).findFirst().orElseThrow();
    String fromId = servers.ask(from, "cluster", "myid");
    String toId = servers.ask(to, "cluster", "myid");
    try (RowStore store = tables.open("load", IDENTITY)) {
      ROWS.check(store, 1700, 1799);
      servers.ask(to, "cluster", "setslot", "" + slot, "importing", fromId);
      servers.ask(from, "cluster", "setslot", "" + slot, "migrating", toId);
      ROWS.check(store, 1700, 1799);
      assertEquals(
          "OK",
          servers.ask(from, "migrate", "127.0.0.1", "" + servers.port(to), text, "0", "5000"));
      // Now the old owner says ASK.
      ROWS.check(store, 3, 1700, 1701, 1799, 19_999);
      for (int node : servers.masters()) {
        servers.ask(node, "cluster", "setslot", "" + slot, "node", toId);
      }
      // And now MOVED, until the client has looked again.
      ROWS.check(store, 3, 1700, 1701, 1799, 19_999);
      ROWS.checkAll(store);
    }
  }

  @Test
  @Order(3)
  void aNodeThatStopsForAWhileCostsTimeAndNothingElse() throws Exception {
    int node = servers.masters().getFirst();
    try (RowStore store = tables.open("load", IDENTITY);
        Load load = new Load(store)) {
      load.awaitReads(50);
      servers.signal(node, "STOP");
      Thread.sleep(1000);
      servers.signal(node, "CONT");
      load.awaitReads(50);
    }
  }

  @Test
  @Order(4)
  void aMasterKilledUnderLoadLosesNothing() throws Exception {
    int victim = ownerOf(0);
    try (RowStore store = tables.open("load", IDENTITY);
        Load load = new Load(store)) {
      load.awaitReads(50);
      List<Integer> before = servers.masters();
      servers.kill(victim);
      await("no replica takes over", () -> servers.masters().size() == 3);
      assertNotEquals(before, servers.masters());
      load.awaitReads(100);
    }
    try (RowStore store = tables.open("load", IDENTITY)) {
      ROWS.checkAll(store);
    }
  }

  @Test
  @Order(5)
  void aShardWithoutAReplicaIsMissedByName() throws Exception {
    int last = ownerOf(0);
    servers.kill(last);
    RedisOptions impatient =
        RedisOptions.builder(servers.uri(servers.masters().getFirst()))
            .timeouts(Duration.ofSeconds(1), Duration.ofSeconds(2))
            .build();
    Chunks chunks = tables.find("load").orElseThrow().chunks();
    int lost = 0;
    while (SlotHash.getSlot(chunks.key(lost)) > 5000) {
      lost++;
    }
    long row = chunks.firstRow(lost);
    try (RowStore store = RedisRowStore.open(impatient, "load", IDENTITY)) {
      String message =
          assertThrows(EngramException.class, () -> ROWS.check(store, row)).getMessage();
      assertTrue(message.contains("row " + row), message);
      assertTrue(
          message.contains("127.0.0.1:" + servers.port(last))
              || message.contains("CLUSTERDOWN")
              || message.contains("no node owns"),
          message);
      assertTrue(message.contains("check the servers"), message);
    }
  }
}
