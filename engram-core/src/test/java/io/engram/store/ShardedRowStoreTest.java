// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.EngramException;
import io.engram.shard.ShardLayout;
import io.engram.shard.ShardedRowStore;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class ShardedRowStoreTest {
  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void unmap() {
    arena.close();
  }

  private static byte[][] rowsOf(ShardLayout layout, int shard, byte[][] rows) {
    byte[][] own = new byte[(int) layout.rows(shard)][];
    Arrays.setAll(own, local -> rows[(int) layout.tableRow(shard, local)]);
    return own;
  }

  private static RowStore inMemory(String name, byte[][] rows, int rowBytes) {
    RamRowStore store = RamRowStore.create(name, rows.length, rowBytes);
    for (int i = 0; i < rows.length; i++) {
      store.write(i, 1, MemorySegment.ofArray(rows[i]), 0);
    }
    return store;
  }

  private static RowStore inFile(
      String name, Path file, byte[][] rows, int rowBytes, int scaleBytes, Arena arena)
      throws IOException {
    Files.createDirectories(file.getParent());
    int valueBytes = rowBytes - scaleBytes;
    byte[] bytes = new byte[rows.length * rowBytes];
    for (int i = 0; i < rows.length; i++) {
      System.arraycopy(rows[i], 0, bytes, i * valueBytes, valueBytes);
      System.arraycopy(
          rows[i], valueBytes, bytes, rows.length * valueBytes + i * scaleBytes, scaleBytes);
    }
    Files.write(file, bytes);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      MemorySegment all = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena);
      long values = (long) rows.length * valueBytes;
      FileRegion scales = new FileRegion(file, values, all.asSlice(values));
      RowPart part =
          new RowPart(
              new FileRegion(file, 0, all.asSlice(0, values)),
              scaleBytes == 0 ? Optional.empty() : Optional.of(scales));
      return MappedRowStore.of(name, valueBytes, scaleBytes, List.of(part));
    }
  }

  /** Blocks in turn for most tables, whole heads for those that have enough rows. */
  private static ShardLayout layout(long rows, int shards, boolean heads) {
    if (heads && rows > 2L * shards) {
      long head = rows / (2L * shards);
      StringBuilder text = new StringBuilder("strided-heads shards=" + shards + " heads=");
      for (int i = 1; i < 2 * shards; i++) {
        text.append(head).append(',');
      }
      return ShardLayout.parse(text.append(rows - (2L * shards - 1) * head).toString());
    }
    return ShardLayout.rowWise(rows, (int) Math.max(1, Math.min(shards, rows)));
  }

  abstract static class Shards extends RowStoreContract {
    @TempDir Path directory;

    private final Arena arena = Arena.ofShared();
    private final int shards;
    private final boolean heads;
    private final int memoryEvery;
    private final int threads;
    private int stores;

    Shards(int shards, boolean heads, int memoryEvery, int threads) {
      this.shards = shards;
      this.heads = heads;
      this.memoryEvery = memoryEvery;
      this.threads = threads;
    }

    @AfterEach
    void unmap() {
      arena.close();
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) throws IOException {
      ShardLayout layout = layout(rows.length, shards, heads);
      List<RowStore> list = new ArrayList<>();
      stores++;
      for (int s = 0; s < layout.shards(); s++) {
        byte[][] own = rowsOf(layout, s, rows);
        Path file = directory.resolve("disk" + s).resolve(stores + ".bin");
        list.add(
            (s + 1) % memoryEvery == 0
                ? inMemory(name + "." + s, own, rowBytes)
                : inFile(name + "." + s, file, own, rowBytes, scaleBytes, arena));
      }
      return ShardedRowStore.of(name, layout, list, threads);
    }
  }

  /** Mapped files in four directories, and their own threads. */
  @Nested
  class Directories extends Shards {
    Directories() {
      super(4, false, Integer.MAX_VALUE, 3);
    }
  }

  /** Memory and files, whole heads, fewer threads than shards. */
  @Nested
  class MixedTiers extends Shards {
    MixedTiers() {
      super(5, true, 2, 2);
    }
  }

  @Nested
  class InTurn extends Shards {
    InTurn() {
      super(3, true, 3, 0);
    }
  }

  @Nested
  class OneShard extends Shards {
    OneShard() {
      super(1, false, 2, 7);
    }
  }

  /** More shards than a round of a small read has rows. */
  @Nested
  class ManyShards extends Shards {
    ManyShards() {
      super(60, false, 1, 4);
    }
  }

  /** A row says which row it is. */
  private static byte[][] numbered(int rows) {
    byte[][] bytes = new byte[rows][];
    Arrays.setAll(bytes, row -> ByteBuffer.allocate(8).putLong(row).array());
    return bytes;
  }

  private static List<RowStore> numberedShards(ShardLayout layout) {
    byte[][] rows = numbered((int) layout.rowCount());
    List<RowStore> list = new ArrayList<>();
    for (int s = 0; s < layout.shards(); s++) {
      list.add(inMemory("part" + s, rowsOf(layout, s, rows), 8));
    }
    return list;
  }

  private static long number(RowStore store, long row) {
    return ByteBuffer.wrap(RowStoreContract.read(store, row)).getLong();
  }

  /**
   * The classic mistake: all ranks read the rows of the first. With it, and with a layout that is
   * not the one of the files, other rows come out; with the right one, none.
   */
  @Test
  void theOffsetOfAShardIsNotLost() {
    ShardLayout layout = ShardLayout.rowWise(4 * 64 * 5, 4, 64);
    List<RowStore> shards = numberedShards(layout);
    try (ShardedRowStore right = ShardedRowStore.of("t", layout, shards, 2)) {
      ShardedRowStore lost =
          ShardedRowStore.of(
              "t", layout, List.of(shards.get(0), shards.get(0), shards.get(0), shards.get(0)));
      ShardedRowStore other =
          ShardedRowStore.of("t", ShardLayout.rowWise(4 * 64 * 5, 4, 1), shards);
      int lostRows = 0;
      int otherRows = 0;
      for (long row = 0; row < layout.rowCount(); row++) {
        assertEquals(row, number(right, row));
        boolean first = layout.shardOf(row) == 0;
        assertEquals(first, number(lost, row) == row, "row " + row);
        lostRows += first ? 0 : 1;
        otherRows += number(other, row) == row ? 0 : 1;
      }
      assertEquals(3 * 64 * 5, lostRows);
      assertTrue(otherRows > 1000, otherRows + " rows differ");
    }
  }

  @Test
  void storesThatDoNotFitTheLayoutAreRefused() {
    ShardLayout layout = ShardLayout.rowWise(10, 3, 1);
    List<RowStore> shards = numberedShards(layout);
    record Case(String expected, List<RowStore> stores, int threads) {}
    RowStore wide = inMemory("wide", new byte[3][9], 9);
    for (Case wrong :
        List.of(
            new Case("2 stores, expected the 3", shards.subList(0, 2), 0),
            new Case("0 stores", List.of(), 0),
            new Case(
                "shard 0 of 3 (part1) has 3 rows, expected 4",
                List.of(shards.get(1), shards.get(0), shards.get(2)),
                0),
            new Case(
                "shard 2 of 3 (wide) has rows of 9 bytes, expected 8",
                List.of(shards.get(0), shards.get(1), wide),
                0),
            new Case("-1 threads", shards, -1))) {
      String message =
          assertThrows(
                  IllegalArgumentException.class,
                  () -> ShardedRowStore.of("t", layout, wrong.stores, wrong.threads))
              .getMessage();
      assertTrue(message.contains(wrong.expected), message);
    }
    // They are still ours.
    assertEquals(3, number(shards.get(0), 1));
    shards.forEach(RowStore::close);
    wide.close();
  }

  @Test
  void aFailureNamesShardAndRow() throws IOException {
    byte[][] rows = RowStoreContract.rows(Seeds.random("Sharded.aFailureNames"), 4000, 100);
    ShardLayout layout = ShardLayout.rowWise(4000, 4, 64);
    List<RowStore> shards = new ArrayList<>();
    for (int s = 0; s < 4; s++) {
      Path file = directory.resolve("disk" + s).resolve("t.bin");
      shards.add(inFile("part" + s, file, rowsOf(layout, s, rows), 100, 0, arena));
    }
    try (ShardedRowStore store = ShardedRowStore.of("table", layout, shards)) {
      try (FileChannel channel =
          FileChannel.open(directory.resolve("disk2/t.bin"), StandardOpenOption.WRITE)) {
        channel.truncate(50_000);
      }
      long gone = layout.tableRow(2, 700);
      long here = layout.tableRow(2, 3);
      for (long[] ids : new long[][] {{gone}, {0, 64, gone, 5}, {here, 1, gone}}) {
        String message =
            assertThrows(EngramException.class, () -> RowStoreContract.read(store, ids))
                .getMessage();
        assertTrue(message.startsWith("table: shard 2 of 4 (part2), row " + gone + " "), message);
        assertTrue(message.contains("row 700 of the shard: "), message);
        assertTrue(message.contains("disk2"), message);
      }
      // The other shards are whole, and nothing of the failure stays.
      long[] whole = {0, 64, 192, 3999 - 64};
      for (int i = 0; i < 100; i++) {
        assertArrayEquals(
            RowStoreContract.expected(rows, whole), RowStoreContract.read(store, whole));
      }
    }
  }

  /** A store that is waited for, over one that is in memory. */
  private static class Behind implements RowStore {
    private final RowStore rows;

    Behind(RowStore rows) {
      this.rows = rows;
    }

    @Override
    public String name() {
      return rows.name();
    }

    @Override
    public long rowCount() {
      return rows.rowCount();
    }

    @Override
    public int rowBytes() {
      return rows.rowBytes();
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      rows.read(rowIds, from, count, out, outOffset);
    }

    @Override
    public void close() {
      rows.close();
    }
  }

  /** Each shard's read ends only when all four have begun. */
  @Test
  @Timeout(60)
  void shardsAreReadAtTheSameTime() {
    ShardLayout layout = ShardLayout.rowWise(400, 4, 1);
    CyclicBarrier all = new CyclicBarrier(4);
    List<RowStore> shards = new ArrayList<>();
    for (RowStore shard : numberedShards(layout)) {
      shards.add(
          new Behind(shard) {
            @Override
            public void read(long[] ids, int from, int count, MemorySegment out, long at) {
              try {
                all.await(30, TimeUnit.SECONDS);
              } catch (Exception e) {
                throw new EngramException("the others did not come", e);
              }
              super.read(ids, from, count, out, at);
            }
          });
    }
    try (ShardedRowStore store = ShardedRowStore.of("t", layout, shards)) {
      assertEquals(4 * 64, store.preferredBatch());
      byte[][] rows = numbered(400);
      for (int i = 0; i < 200; i++) {
        long[] ids = {4L * i % 400, 1, 6, 399, 17};
        assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
        // The readers must be back for the next round; until then a read has too few.
        while (readers("t").stream().anyMatch(t -> t.getState() != Thread.State.WAITING)) {
          Thread.onSpinWait();
        }
      }
    }
  }

  private static List<Thread> readers(String table) {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.getName().startsWith("engram-shards-" + table + "-"))
        .toList();
  }

  @Test
  @Timeout(60)
  void threadsComeAndGoWithTheStore() throws Exception {
    ShardLayout layout = ShardLayout.rowWise(40, 4, 1);
    ShardedRowStore memory = ShardedRowStore.of("quiet", layout, numberedShards(layout));
    assertEquals(1, memory.preferredBatch());
    assertTrue(readers("quiet").isEmpty());
    memory.close();
    ShardedRowStore store = ShardedRowStore.of("busy", layout, numberedShards(layout), 9);
    List<Thread> readers = readers("busy");
    assertEquals(3, readers.size());
    assertTrue(readers.stream().allMatch(Thread::isDaemon));
    store.close();
    for (Thread reader : readers) {
      reader.join(30_000);
      assertFalse(reader.isAlive());
    }
    for (RowStore shard : store.shards()) {
      assertThrows(IllegalStateException.class, () -> RowStoreContract.read(shard, 0));
    }
  }

  /** The first shard cannot be closed the first time; the others are. */
  @Test
  void aShardThatCannotBeClosedIsTriedAgain() {
    ShardLayout layout = ShardLayout.rowWise(40, 2, 1);
    List<RowStore> shards = numberedShards(layout);
    IllegalStateException busy = new IllegalStateException("in use");
    int[] calls = {0};
    RowStore first =
        new Behind(shards.get(0)) {
          @Override
          public void close() {
            if (calls[0]++ == 0) {
              throw busy;
            }
            super.close();
          }
        };
    ShardedRowStore store = ShardedRowStore.of("t", layout, List.of(first, shards.get(1)));
    assertSame(busy, assertThrows(IllegalStateException.class, store::close));
    assertThrows(IllegalStateException.class, () -> RowStoreContract.read(store, 0));
    assertThrows(IllegalStateException.class, () -> RowStoreContract.read(shards.get(1), 0));
    assertEquals(0, number(shards.get(0), 0));
    store.close();
    assertThrows(IllegalStateException.class, () -> RowStoreContract.read(shards.get(0), 0));
    store.close();
  }

  @Test
  void aShardThatSomebodyElseClosedIsNamed() {
    ShardLayout layout = ShardLayout.rowWise(40, 2, 1);
    List<RowStore> shards = numberedShards(layout);
    try (ShardedRowStore store = ShardedRowStore.of("t", layout, shards)) {
      shards.get(1).close();
      assertEquals(4, number(store, 4));
      String message =
          assertThrows(IllegalStateException.class, () -> number(store, 5)).getMessage();
      assertTrue(message.startsWith("t: shard 1 of 2 (part1), row 5 of the table"), message);
    }
  }

  /** Rounds of 4 MiB: 20,000 rows of 700 bytes are four. */
  @Test
  void readsLargerThanARound() {
    RandomGenerator random = Seeds.random("Sharded.readsLargerThanARound");
    byte[][] rows = RowStoreContract.rows(random, 500, 700);
    ShardLayout layout = layout(500, 3, true);
    List<RowStore> shards = new ArrayList<>();
    for (int s = 0; s < 3; s++) {
      shards.add(inMemory("part" + s, rowsOf(layout, s, rows), 700));
    }
    try (ShardedRowStore store = ShardedRowStore.of("t", layout, shards, 2)) {
      long[] ids = random.longs(20_000, 0, 500).toArray();
      assertArrayEquals(RowStoreContract.expected(rows, ids), RowStoreContract.read(store, ids));
      // A row larger than a round is a round.
      assertArrayEquals(rows[77], RowStoreContract.read(store, 77));
    }
  }

  @Test
  void readersAllocateNothing() {
    ShardLayout layout = ShardLayout.rowWise(4000, 3, 1);
    try (ShardedRowStore store = ShardedRowStore.of("lean", layout, numberedShards(layout), 2)) {
      long[] threads = readers("lean").stream().mapToLong(Thread::threadId).toArray();
      assertEquals(2, threads.length);
      long[] ids = Seeds.random("Sharded.readersAllocateNothing").longs(300, 0, 4000).toArray();
      MemorySegment out = Arena.ofAuto().allocate(300 * 8);
      ThreadMXBean beans = (ThreadMXBean) ManagementFactory.getThreadMXBean();
      long least = Long.MAX_VALUE;
      for (int round = 0; round < 30; round++) {
        long before = Arrays.stream(beans.getThreadAllocatedBytes(threads)).sum();
        for (int i = 0; i < 1000; i++) {
          store.read(ids, 0, 300, out, 0);
        }
        long after = Arrays.stream(beans.getThreadAllocatedBytes(threads)).sum();
        least = Math.min(least, after - before);
      }
      assertTrue(least < 1000, least + " bytes for 1000 reads");
    }
  }

  /** Row ids beyond 32 bits, in memory of which a few pages exist. */
  @Test
  @EnabledOnOs(OS.LINUX)
  void moreThanTwoToThe32Rows() {
    long rows = (1L << 32) + 12_345;
    ShardLayout layout = ShardLayout.rowWise(rows, 3);
    List<RamRowStore> shards = new ArrayList<>();
    for (int s = 0; s < 3; s++) {
      shards.add(RamRowStore.create("part" + s, layout.rows(s), 1));
    }
    try (ShardedRowStore store = ShardedRowStore.of("wide", layout, shards)) {
      long[] ids = {0, 4096, (1L << 31) - 1, 1L << 31, 1L << 32, rows - 1};
      byte[] wanted = new byte[ids.length];
      for (int i = 0; i < ids.length; i++) {
        wanted[i] = (byte) (i + 1);
        shards
            .get(layout.shardOf(ids[i]))
            .write(layout.localRow(ids[i]), 1, MemorySegment.ofArray(wanted), i);
      }
      assertArrayEquals(wanted, RowStoreContract.read(store, ids));
      assertThrows(IndexOutOfBoundsException.class, () -> RowStoreContract.read(store, rows));
    }
  }
}
