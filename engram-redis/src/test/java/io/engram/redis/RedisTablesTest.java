// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.checkpoint.Checkpoint;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import java.util.stream.LongStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Publishing, opening, deleting and everything that can be wrong with a table, on one server. */
@Tag("once")
@Timeout(120)
class RedisTablesTest {
  private static final int COUNT = 2000;
  private static RedisServers servers;
  private static RedisTables tables;
  private static RedisOptions options;

  private final Rows rows = new Rows(COUNT, 1);
  private final TableIdentity identity = identity(COUNT);

  static TableIdentity identity(long count) {
    return new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, count, "layout", Optional.empty());
  }

  @BeforeAll
  static void start() throws IOException {
    servers = RedisServers.standalone();
    options =
        RedisOptions.builder(servers.uri(0))
            .timeouts(Duration.ofSeconds(2), Duration.ofSeconds(20))
            .build();
    tables = RedisTables.connect(options);
  }

  @AfterAll
  static void stop() throws IOException {
    if (servers != null) {
      tables.close();
      servers.close();
    }
  }

  private RedisPublisher publisher(String name) {
    return tables.publisher(name, identity, rows).rowsPerValue(100);
  }

  private static String message(Class<? extends Exception> type, Runnable code) {
    return assertThrows(type, code::run).getMessage();
  }

  private static void assertSays(String message, String... parts) {
    for (String part : parts) {
      assertTrue(message.contains(part), message + "\nexpected: " + part);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void aReleasedCheckpointHasTheSameBytes(String golden) {
    RandomGenerator random = Seeds.random("RedisTablesTest.aReleasedCheckpoint");
    try (Checkpoint checkpoint = Checkpoint.open(Golden.path(golden))) {
      for (int layer : checkpoint.config().layerIds()) {
        try (EngramTable table = checkpoint.table(layer)) {
          String name = golden + "." + layer;
          TableIdentity mine = TableIdentity.of(checkpoint.layout(layer), table);
          RedisPublisher.Published published =
              tables.publisher(name, mine, table.store()).rowsPerValue(37).publish();
          assertEquals(published.values(), published.written());
          assertTrue(published.table().identity().contentDigest().isPresent());
          try (RowStore remote = tables.open(name, mine)) {
            EngramTable bound = table.over(remote);
            long[] ids = random.longs(3000, 0, table.rowCount()).toArray();
            assertArrayEquals(table.gather(ids), bound.gather(ids));
          }
        }
      }
    }
  }

  @Test
  void aTableIsThereOnceAndUntilItIsDeleted() {
    assertEquals(Optional.empty(), tables.find("once"));
    assertSays(
        message(EngramException.class, () -> tables.open("once", identity)),
        "once",
        "engram publish");
    RedisTable table = publisher("once").publish().table();
    assertEquals(Optional.of(table), tables.find("once"));
    assertSays(message(EngramException.class, publisher("once")::publish), "already", "unpublish");
    try (RowStore store = tables.open("once", identity)) {
      rows.checkAll(store);
      assertTrue(tables.unpublish("once"));
      assertFalse(tables.unpublish("once"));
      assertSays(
          message(EngramException.class, () -> rows.check(store, 7)),
          "row 7",
          "127.0.0.1:" + servers.port(0),
          "deleted since it was opened");
    }
  }

  @Test
  void aReaderNeverSeesTheTableThatReplacedItsOwn() {
    publisher("replaced").publish();
    Rows others = new Rows(COUNT, 2);
    try (RowStore store = tables.open("replaced", identity)) {
      tables.unpublish("replaced");
      tables.publisher("replaced", identity, others).rowsPerValue(100).publish();
      assertSays(
          message(EngramException.class, () -> rows.check(store, 5)),
          "replaced since it was opened");
      try (RowStore again = tables.open("replaced", identity)) {
        others.checkAll(again);
      }
    }
  }

  @Test
  void tablesUnderDifferentNamesAreApart() {
    Rows others = new Rows(COUNT, 3);
    publisher("one").publish();
    tables.publisher("two", identity, others).publish();
    try (RowStore one = tables.open("one", identity);
        RowStore two = tables.open("two", identity)) {
      rows.checkAll(one);
      others.checkAll(two);
    }
  }

  @Test
  void anotherTableUnderTheNameIsRefused() {
    RedisTable table = publisher("known").publish().table();
    List<TableIdentity> others =
        List.of(
            new TableIdentity(2, RowFormat.FP8_BLOCK32, 256, COUNT, "layout", Optional.empty()),
            new TableIdentity(1, RowFormat.BF16, 132, COUNT, "layout", Optional.empty()),
            identity(COUNT + 1),
            new TableIdentity(1, RowFormat.FP8_BLOCK32, 256, COUNT, "other", Optional.empty()),
            identity.withContent("00"));
    for (TableIdentity other : others) {
      assertSays(
          message(EngramException.class, () -> tables.open("known", other)),
          "known",
          "is another one",
          "expected",
          "found");
    }
    tables.open("known", table.identity()).close();
  }

  @Test
  void aHalfLoadedTableCannotBeOpenedAndIsResumed() {
    Rows broken =
        new Rows(
            COUNT,
            1,
            row -> {
              if (row == 1200) {
                throw new EngramException("the disk is gone");
              }
            });
    assertThrows(
        EngramException.class,
        tables.publisher("half", identity, broken).rowsPerValue(100)::publish);
    assertSays(
        message(EngramException.class, () -> tables.open("half", identity)),
        "half",
        "not complete",
        "loading");
    // Another number of rows in a value is ignored: what is there decides.
    RedisPublisher.Published published =
        tables.publisher("half", identity, rows).rowsPerValue(64).publish();
    assertEquals(20, published.values());
    assertTrue(published.written() <= 8, published.toString());
    try (RowStore store = tables.open("half", identity)) {
      rows.checkAll(store);
    }
  }

  @Test
  void aSourceThatChangedBetweenTwoSittingsIsNoticed() {
    Rows broken =
        new Rows(
            COUNT,
            1,
            row -> {
              if (row == 1200) {
                throw new EngramException("the disk is gone");
              }
            });
    assertThrows(
        EngramException.class,
        tables.publisher("changed", identity, broken).rowsPerValue(100)::publish);
    RedisPublisher other = tables.publisher("changed", identity, new Rows(COUNT, 9));
    assertSays(message(EngramException.class, other::publish), "not those of the source", "row");
    assertSays(
        message(
            EngramException.class,
            tables.publisher("changed", identity(COUNT / 2), new Rows(COUNT / 2, 1))::publish),
        "half loaded from another table",
        "rows: expected 1000, found 2000");
    assertTrue(tables.unpublish("changed"));
    publisher("changed").publish();
  }

  @Test
  void rowsThatDoNotFitTheDigestAreRefused() {
    RedisPublisher publisher =
        tables.publisher("digest", identity.withContent("0123"), rows).rowsPerValue(100);
    assertSays(message(EngramException.class, publisher::publish), "digest", "expected 0123");
    assertThrows(EngramException.class, () -> tables.open("digest", identity));
  }

  @Test
  void aValueThatIsGoneOrShortOrOfAnotherKindIsNamed() throws IOException {
    RedisTable table = publisher("damaged").publish().table();
    String prefix = "engram:damaged:" + table.generation() + ":0000000";
    try (RowStore store = tables.open("damaged", identity)) {
      rows.checkAll(store);
      assertEquals("1", servers.ask(0, "del", prefix + "3"));
      assertSays(
          message(EngramException.class, () -> rows.check(store, 1, 345, 2)),
          "row 345",
          prefix + "3",
          "0 of its 264 bytes",
          "127.0.0.1:" + servers.port(0));
      assertEquals("OK", servers.ask(0, "set", prefix + "4", "short"));
      assertSays(
          message(EngramException.class, () -> rows.check(store, 1, 400)),
          "row 400",
          "5 of its 264 bytes");
      servers.ask(0, "del", prefix + "5");
      servers.ask(0, "rpush", prefix + "5", "list");
      assertSays(
          message(EngramException.class, () -> rows.check(store, 500)), "row 500", "WRONGTYPE");
      // One row less than whole, at the end.
      servers.ask(
          0,
          "eval",
          "local v = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1],"
              + " string.sub(v, 1, -2))",
          "1",
          prefix + "6");
      rows.check(store, 600, 698);
      assertSays(
          message(EngramException.class, () -> rows.check(store, 699)),
          "row 699",
          "263 of its 264");
      rows.check(store, 0, 299, 700, 1999);
    }
  }

  @Test
  void aDescriptionThatIsNoneIsRefused() throws IOException {
    for (String text :
        List.of("hello", "{}", "[1]", "{\"format\":\"engram-rows\",\"version\":2}")) {
      servers.ask(0, "set", "engram:{strange}:manifest", text);
      assertSays(message(EngramException.class, () -> tables.find("strange")), "strange");
    }
    RedisTable table = publisher("moved").publish().table();
    servers.ask(0, "rename", "engram:{moved}:manifest", "engram:{stolen}:manifest");
    assertSays(message(EngramException.class, () -> tables.open("stolen", identity)), table.name());
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "a b", "a:b", "{a}", "a/b", "\u00e9"})
  void aNameHasFewKindsOfCharacters(String name) {
    assertThrows(IllegalArgumentException.class, () -> tables.find(name));
    assertThrows(IllegalArgumentException.class, () -> publisher(name));
    assertThrows(IllegalArgumentException.class, () -> tables.unpublish(name));
  }

  @Test
  void twoPublishersOfOneNameAreKeptApart() throws Exception {
    CountDownLatch begun = new CountDownLatch(1);
    CountDownLatch go = new CountDownLatch(1);
    Rows waiting =
        new Rows(
            COUNT,
            1,
            row -> {
              begun.countDown();
              try {
                go.await();
              } catch (InterruptedException e) {
                throw new IllegalStateException(e);
              }
            });
    try (ExecutorService pool = Executors.newSingleThreadExecutor()) {
      Future<RedisPublisher.Published> first =
          pool.submit(tables.publisher("twice", identity, waiting).rowsPerValue(100)::publish);
      begun.await();
      assertSays(
          message(
              EngramException.class, publisher("twice").lockTime(Duration.ofMillis(200))::publish),
          "being published");
      go.countDown();
      assertEquals(20, first.get().written());
    }
  }

  @Test
  void aPublisherThatLostItsLockDoesNotAnnounce() throws IOException {
    Rows stealing =
        new Rows(
            COUNT,
            1,
            row -> {
              if (row == 1900) {
                try {
                  servers.ask(0, "set", "engram:{stolen-lock}:lock", "thief");
                } catch (IOException e) {
                  throw new IllegalStateException(e);
                }
              }
            });
    assertSays(
        message(
            EngramException.class,
            tables.publisher("stolen-lock", identity, stealing).rowsPerValue(100)::publish),
        "lock");
    assertThrows(EngramException.class, () -> tables.open("stolen-lock", identity));
    assertEquals("thief", servers.ask(0, "get", "engram:{stolen-lock}:lock"));
    servers.ask(0, "del", "engram:{stolen-lock}:lock");
    assertEquals(0, publisher("stolen-lock").publish().written());
  }

  @Test
  void aDeletionThatWasInterruptedIsFinishedByTheNext() throws IOException {
    RedisTable table = publisher("deleted").publish().table();
    String json = servers.ask(0, "get", "engram:{deleted}:manifest");
    servers.ask(0, "del", "engram:{deleted}:manifest");
    servers.ask(0, "set", "engram:{deleted}:loading", json.replace("\"complete\"", "\"deleting\""));
    assertSays(message(EngramException.class, publisher("deleted")::publish), "being deleted");
    assertTrue(tables.unpublish("deleted"));
    assertEquals("", servers.ask(0, "keys", "engram:deleted:" + table.generation() + "*"));
    assertEquals(20, publisher("deleted").publish().written());
  }

  @Test
  void serversThatAreTooSmallOrForgetAreRefused() throws IOException {
    try (RedisServers small = RedisServers.standalone("--maxmemory", "8mb");
        RedisTables there = RedisTables.connect(RedisOptions.of(small.uri(0)))) {
      TableIdentity large = identity(40_000);
      Rows source = new Rows(40_000, 1);
      assertSays(
          message(EngramException.class, there.publisher("t", large, source)::publish),
          "beyond its maxmemory of 8388608");
      small.ask(0, "config", "set", "maxmemory-policy", "allkeys-lru");
      assertSays(
          message(EngramException.class, there.publisher("u", identity, rows)::publish),
          "allkeys-lru",
          "noeviction");
      assertEquals(
          2, there.publisher("u", identity, rows).evictionAllowed().publish().warnings().size());
    }
  }

  @Test
  void memoryThatRunsOutInMidLoadLeavesAResumableTable() throws IOException {
    try (RedisServers small = RedisServers.standalone();
        RedisTables there = RedisTables.connect(RedisOptions.of(small.uri(0)))) {
      Rows source =
          new Rows(
              COUNT,
              1,
              row -> {
                if (row == 1000) {
                  try {
                    small.ask(0, "config", "set", "maxmemory", "1");
                  } catch (IOException e) {
                    throw new IllegalStateException(e);
                  }
                }
              });
      assertSays(
          message(
              EngramException.class,
              there.publisher("oom", identity, source).rowsPerValue(100)::publish),
          "OOM",
          "resume");
      assertThrows(EngramException.class, () -> there.open("oom", identity));
      small.ask(0, "config", "set", "maxmemory", "0");
      RedisPublisher.Published published = there.publisher("oom", identity, rows).publish();
      assertNotEquals(0, published.written());
      assertTrue(published.written() <= 10, published.toString());
      try (RowStore store = there.open("oom", identity)) {
        rows.checkAll(store);
      }
    }
  }

  @Test
  void manyReadersStayWithinTheBoundOfOutstandingRows() throws Exception {
    publisher("bounded").publish();
    RedisOptions narrow =
        RedisOptions.builder(servers.uri(0))
            .windows(16, 4)
            .maxOutstanding(32)
            .connections(2)
            .build();
    try (RowStore store = RedisRowStore.open(narrow, "bounded", identity);
        ExecutorService pool = Executors.newFixedThreadPool(6)) {
      List<Future<?>> readers = new ArrayList<>();
      for (int t = 0; t < 6; t++) {
        long[] ids = LongStream.range(0, 700).map(i -> i * 13 % COUNT).toArray();
        readers.add(pool.submit(() -> rows.check(store, ids)));
      }
      for (Future<?> reader : readers) {
        reader.get();
      }
    }
  }

  @Test
  void aSilentServerEndsAReadAtItsDeadline() throws Exception {
    try (RedisServers silent = RedisServers.standalone();
        RedisTables there =
            RedisTables.connect(
                RedisOptions.builder(silent.uri(0))
                    .timeouts(Duration.ofMillis(200), Duration.ofMillis(800))
                    .build())) {
      there.publisher("t", identity, rows).publish();
      RowStore store = there.open("t", identity);
      rows.check(store, 3);
      silent.signal(0, "STOP");
      assertSays(
          message(EngramException.class, () -> rows.check(store, 4)),
          "row 4",
          "127.0.0.1:" + silent.port(0),
          "PT0.8S");
      Thread reader =
          Thread.ofPlatform()
              .unstarted(() -> {
                assertSays(
                    message(EngramException.class, () -> rows.check(store, 4)), "interrupted");
                assertTrue(Thread.currentThread().isInterrupted());
                interrupted.complete(null);
              });
      reader.setUncaughtExceptionHandler((_, e) -> interrupted.completeExceptionally(e));
      reader.start();
      reader.interrupt();
      interrupted.get();
      silent.signal(0, "CONT");
      boolean back = false;
      while (!back) {
        try {
          rows.check(store, 4);
          back = true;
        } catch (EngramException e) {
          // A deadline this short may pass before the client has connected again.
          assertSays(e.getMessage(), "PT0.8S");
        }
      }
    }
  }

  private final java.util.concurrent.CompletableFuture<Void> interrupted =
      new java.util.concurrent.CompletableFuture<>();

  @Test
  void closingEndsAReadThatWaits() throws Exception {
    try (RedisServers silent = RedisServers.standalone()) {
      RedisOptions patient = RedisOptions.of(silent.uri(0));
      try (RedisTables there = RedisTables.connect(patient)) {
        there.publisher("t", identity, rows).publish();
      }
      RowStore store = RedisRowStore.open(patient, "t", identity);
      silent.signal(0, "STOP");
      try (ExecutorService pool = Executors.newSingleThreadExecutor()) {
        Future<?> reader = pool.submit(() -> rows.check(store, 4));
        Thread.sleep(100);
        store.close();
        Throwable cause = assertThrows(ExecutionException.class, reader::get).getCause();
        assertEquals(IllegalStateException.class, cause.getClass(), cause::toString);
      } finally {
        silent.signal(0, "CONT");
      }
    }
  }

  @Test
  void aServerThatComesBackIsReadAgain() throws Exception {
    publisher("dropped").publish();
    try (RowStore store = tables.open("dropped", identity)) {
      for (int i = 0; i < 5; i++) {
        servers.ask(0, "client", "kill", "type", "normal");
        rows.check(store, i, 1999 - i);
      }
    }
  }

  @Test
  void anEmptyRangeOfIdsAndTheLastShortValueAreRead() {
    TableIdentity odd = identity(1001);
    Rows few = new Rows(1001, 5);
    tables.publisher("odd", odd, few).rowsPerValue(250).publish();
    try (RedisRowStore store = tables.open("odd", odd)) {
      assertEquals(250, store.table().rowsPerValue());
      few.check(store, 1000, 999, 750, 749, 0, 1000);
      store.read(new long[0], 0, 0, MemorySegment.ofArray(new byte[0]), 0);
    }
  }

  @Test
  void nobodyThereIsSaidSo() {
    String message =
        message(
            EngramException.class,
            () -> RedisTables.connect(RedisOptions.of("redis://:secret@127.0.0.1:1")));
    assertSays(message, "127.0.0.1:1", "no connection");
    assertFalse(message.contains("secret"), message);
    assertThrows(IllegalArgumentException.class, () -> RedisOptions.of());
    assertThrows(IllegalArgumentException.class, () -> RedisOptions.of("http://x"));
    assertThrows(
        IllegalArgumentException.class, RedisOptions.builder("redis://x").windows(0, 1)::build);
    assertThrows(
        IllegalArgumentException.class, RedisOptions.builder("redis://x").maxOutstanding(7)::build);
  }
}
