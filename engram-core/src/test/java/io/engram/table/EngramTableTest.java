// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.sun.management.ThreadMXBean;
import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.checkpoint.CheckpointTensors;
import io.engram.checkpoint.Safetensors;
import io.engram.stats.MeteredRowStore;
import io.engram.store.MappedRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class EngramTableTest {
  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  private static RamRowStore ram(String name, int rowBytes, byte[] stored) {
    RamRowStore store = RamRowStore.create(name, stored.length / rowBytes, rowBytes, 64);
    store.write(0, store.rowCount(), MemorySegment.ofArray(stored), 0);
    return store;
  }

  private static EngramTable table(RowStore store, RowFormat format, int headDim, float scale) {
    return format == RowFormat.FP8_TENSOR
        ? EngramTable.ofScaledFp8(store, headDim, scale)
        : new EngramTable(store, format, headDim);
  }

  private static short[] bf16(EngramTable table, long... ids) {
    short[] out = new short[ids.length * table.headDim()];
    table.gather(ids, 0, ids.length, MemorySegment.ofArray(out), 0, Dtype.BF16);
    return out;
  }

  /** The demo's table and the rows that its own embedding returned for its own ids. */
  @ParameterizedTest
  @ValueSource(strings = {"1", "15"})
  void gathersWhatTheDemoGathers(String layer) {
    JsonObject golden =
        Golden.json("demo_engram_forward_small_f32.json")
            .getAsJsonObject("layers")
            .getAsJsonObject(layer);
    float[] weight =
        Golden.floats(
            golden.getAsJsonObject("params").get("multi_head_embedding.embedding.weight"));
    long[] offsets = Golden.longs(golden.get("offsets"));
    long[] ids = Golden.longs(golden.get("hash_ids_without_offset"));
    for (int i = 0; i < ids.length; i++) {
      ids[i] += offsets[i % offsets.length];
    }
    byte[] stored = new byte[weight.length * 4];
    MemorySegment.copy(
        weight, 0, MemorySegment.ofArray(stored), ScalarRowKernels.FLOAT, 0, weight.length);
    try (EngramTable table = new EngramTable(ram("demo", 32, stored), RowFormat.F32, 8)) {
      float[] expected = Golden.floats(golden.get("embeddings"));
      assertEquals(ids.length * 8, expected.length);
      assertArrayEquals(expected, table.gather(ids));
    }
  }

  /** Stored bytes of a small V4.1 table, and the bfloat16 rows of the released code. */
  @ParameterizedTest
  @CsvSource({"1, 0", "5, 1"})
  void decodesWhatTheReleasedCodeDecodes(String layer, int index) {
    JsonObject golden = Golden.json("v41_engram_forward_small.json");
    JsonObject weights = golden.getAsJsonObject("layers").getAsJsonObject(layer);
    byte[] values = HexFormat.of().parseHex(weights.get("embed.weight_hex").getAsString());
    byte[] scales = HexFormat.of().parseHex(weights.get("embed.scale_hex").getAsString());
    int rows = values.length / 64;
    byte[] stored = new byte[rows * 66];
    for (int i = 0; i < rows; i++) {
      System.arraycopy(values, 64 * i, stored, 66 * i, 64);
      System.arraycopy(scales, 2 * i, stored, 66 * i + 64, 2);
    }
    long[] all = Golden.longs(golden.get("hash_ids"));
    long[] ids = new long[all.length / 2];
    for (int position = 0; position < ids.length / 6; position++) {
      System.arraycopy(all, (position * 2 + index) * 6, ids, position * 6, 6);
    }
    float[] expected = Golden.floats(weights.get("rows_bf16"));
    assertEquals(ids.length * 64, expected.length);
    try (EngramTable table = new EngramTable(ram("small", 66, stored), RowFormat.FP8_BLOCK32, 64)) {
      assertArrayEquals(expected, table.gather(ids));
      short[] narrow = bf16(table, ids);
      for (int i = 0; i < expected.length; i++) {
        assertEquals(expected[i], NarrowFloat.bf16(narrow[i]));
      }
    }
    // The scales are not decoration: without them the numbers are others.
    byte[] unscaled = stored.clone();
    for (int i = 0; i < rows; i++) {
      unscaled[66 * i + 64] = 127;
      unscaled[66 * i + 65] = 127;
    }
    try (EngramTable table =
        new EngramTable(ram("small", 66, unscaled), RowFormat.FP8_BLOCK32, 64)) {
      assertFalse(java.util.Arrays.equals(expected, table.gather(ids)));
    }
  }

  private EngramTable v41(CheckpointTensors tensors, int layer) {
    String prefix = "layers." + layer + ".engram.embed.";
    MappedRowStore store =
        MappedRowStore.of(
            prefix + "weight",
            64,
            2,
            List.of(
                new RowPart(
                    tensors.region(prefix + "weight"),
                    Optional.of(tensors.region(prefix + "scale")))));
    return new EngramTable(store, RowFormat.FP8_BLOCK32, 64);
  }

  /** The released layout in place: values and scales in separate tensors of a shard. */
  @ParameterizedTest
  @CsvSource({"1, 0", "5, 1"})
  void readsTheReleasedLayoutOfV41InPlace(int layer, int index) {
    CheckpointTensors tensors = CheckpointTensors.open(Golden.path("v41_mini"), arena);
    Safetensors expected =
        Safetensors.open(Golden.path("v41_mini").resolve("expected.safetensors"), arena);
    long[] all = expected.tensor("row_ids").data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
    long[] ids = new long[all.length / 2];
    for (int position = 0; position < 48; position++) {
      System.arraycopy(all, (position * 2 + index) * 12, ids, position * 12, 12);
    }
    short[] rows =
        expected.tensor("L" + layer + ".rows").data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
    try (EngramTable table = v41(tensors, layer)) {
      assertArrayEquals(rows, bf16(table, ids));
      float[] wide = table.gather(ids);
      for (int i = 0; i < rows.length; i++) {
        assertEquals(NarrowFloat.bf16(rows[i]), wide[i]);
      }
    }
  }

  /** The released layout in place: a table in parts that lie in two files, out of order. */
  @ParameterizedTest
  @CsvSource({"1, 0, 192", "3, 2, 224"})
  void readsTheReleasedLayoutOfQwenInPlace(int layer, int index, int rowsPerPart) {
    CheckpointTensors tensors = CheckpointTensors.open(Golden.path("qwen_mini"), arena);
    Safetensors expected =
        Safetensors.open(Golden.path("qwen_mini").resolve("expected.safetensors"), arena);
    long[] ids =
        expected.tensor("L" + layer + ".row_ids").data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
    String prefix = "model.layers." + index + ".ple.ple_embedding.ngram_embedding.shard_";
    List<RowPart> parts = new ArrayList<>();
    float[][] values = new float[4][];
    for (int i = 0; i < 4; i++) {
      String name = prefix + i + ".weight";
      parts.add(new RowPart(tensors.region(name), Optional.empty()));
      values[i] = tensors.tensor(name).data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    }
    MappedRowStore store = MappedRowStore.of(prefix, 32, 0, parts);
    assertEquals(4L * rowsPerPart, store.rowCount());
    try (EngramTable table = new EngramTable(store, RowFormat.F32, 8)) {
      float[] rows = table.gather(ids);
      boolean[] seen = new boolean[4];
      for (int i = 0; i < rows.length; i++) {
        long id = ids[i / 8];
        int part = (int) (id / rowsPerPart);
        seen[part] = true;
        assertEquals(values[part][(int) (id % rowsPerPart) * 8 + i % 8], rows[i], "row " + id);
      }
      assertArrayEquals(new boolean[] {true, true, true, true}, seen);
    }
  }

  /** A value of a stored row, by the definition of its format, in double precision. */
  private static double reference(
      RowFormat format, MemorySegment stored, long row, int i, int headDim, float scale) {
    long at = row * format.rowBytes(headDim);
    return switch (format) {
      case F32 -> stored.get(ScalarRowKernels.FLOAT, at + 4L * i);
      case BF16 -> NarrowFloat.bf16(stored.get(ScalarRowKernels.SHORT, at + 2L * i));
      case F16 -> Float.float16ToFloat(stored.get(ScalarRowKernels.SHORT, at + 2L * i));
      case FP8_BLOCK32 -> {
        int code = stored.get(ValueLayout.JAVA_BYTE, at + headDim + i / 32) & 0xFF;
        double value = NarrowFloat.e4m3(stored.get(ValueLayout.JAVA_BYTE, at + i));
        yield NarrowFloat.bf16(NarrowFloat.toBf16((float) (value * Math.pow(2, code - 127))));
      }
      case FP8_TENSOR ->
          (float) ((double) NarrowFloat.e4m3(stored.get(ValueLayout.JAVA_BYTE, at + i)) * scale);
    };
  }

  /** Every format, with head dims that fit neither a block nor a vector, to every output. */
  @ParameterizedTest
  @EnumSource(RowFormat.class)
  void everyFormatIsDecodedToEveryOutput(RowFormat format) throws IOException {
    RandomGenerator random = Seeds.random("EngramTableTest.everyFormatIsDecoded " + format);
    for (int headDim : new int[] {1, 2, 7, 16, 31, 32, 33, 63, 64, 80, 100, 160, 256, 8192}) {
      int rowBytes = format.rowBytes(headDim);
      byte[] stored = new byte[rowBytes * 150];
      random.nextBytes(stored);
      if (format == RowFormat.FP8_BLOCK32) {
        for (int i = 0; i < stored.length; i++) {
          if (i % rowBytes >= headDim && stored[i] == -1) {
            stored[i] = 1;
          }
        }
      }
      MemorySegment memory = MemorySegment.ofArray(stored);
      float scale = 0.37f;
      long[] ids = random.longs(headDim > 1000 ? 20 : 150, 0, 150).toArray();
      int from = 5;
      int count = ids.length - 11;
      try (EngramTable table = table(ram("t", rowBytes, stored), format, headDim, scale)) {
        float[] wide = new float[count * headDim];
        short[] narrow = new short[count * headDim];
        for (int i = 0; i < wide.length; i++) {
          wide[i] =
              (float)
                  reference(format, memory, ids[from + i / headDim], i % headDim, headDim, scale);
          narrow[i] = NarrowFloat.toBf16(wide[i]);
        }
        float[] array = new float[wide.length + 3];
        table.gather(ids, from, count, array, 2);
        assertEquals(0, array[0] + array[1] + array[wide.length + 2]);
        for (int i = 0; i < wide.length; i++) {
          assertEquals(wide[i], array[i + 2]);
        }
        Path file = directory.resolve("out.bin");
        try (Arena own = Arena.ofShared();
            FileChannel channel =
                FileChannel.open(
                    file,
                    StandardOpenOption.CREATE,
                    StandardOpenOption.READ,
                    StandardOpenOption.WRITE)) {
          long bytes = 4L * wide.length + 9;
          for (MemorySegment out :
              List.of(
                  own.allocate(bytes),
                  MemorySegment.ofArray(new byte[(int) bytes]),
                  MemorySegment.ofArray(new float[wide.length + 3]),
                  channel.map(FileChannel.MapMode.READ_WRITE, 0, bytes, own))) {
            check(table, ids, from, count, out, 5, wide, narrow);
          }
        }
        Files.delete(file);
      }
    }
  }

  private static void check(
      EngramTable table,
      long[] ids,
      int from,
      int count,
      MemorySegment out,
      long at,
      float[] wide,
      short[] narrow) {
    out.fill((byte) 0x55);
    table.gather(ids, from, count, out, at, Dtype.F32);
    for (int i = 0; i < wide.length; i++) {
      float found = out.get(ScalarRowKernels.FLOAT, at + 4L * i);
      assertEquals(wide[i], found);
    }
    assertEquals(0x55, out.get(ValueLayout.JAVA_BYTE, at - 1));
    assertEquals(0x55, out.get(ValueLayout.JAVA_BYTE, at + 4L * wide.length));
    out.fill((byte) 0x55);
    table.gather(ids, from, count, out, at, Dtype.BF16);
    for (int i = 0; i < wide.length; i++) {
      short found = out.get(ScalarRowKernels.SHORT, at + 2L * i);
      if (Float.isNaN(wide[i])) {
        assertTrue(Float.isNaN(NarrowFloat.bf16(found)));
      } else {
        assertEquals(narrow[i], found);
      }
    }
    assertEquals(0x55, out.get(ValueLayout.JAVA_BYTE, at - 1));
    assertEquals(0x55, out.get(ValueLayout.JAVA_BYTE, at + 2L * wide.length));
  }

  @Test
  void aNanScaleIsAnErrorAndANanValueIsNot() {
    byte[] stored = new byte[10 * 66];
    java.util.Arrays.fill(stored, (byte) 127);
    stored[3 * 66 + 65] = (byte) 255;
    try (EngramTable table = new EngramTable(ram("t", 66, stored), RowFormat.FP8_BLOCK32, 64)) {
      for (float value : table.gather(0, 2, 4, 9)) {
        assertTrue(Float.isNaN(value));
      }
      for (short value : bf16(table, 0, 2, 4, 9)) {
        assertTrue(Float.isNaN(NarrowFloat.bf16(value)));
      }
      String message =
          assertThrows(EngramException.class, () -> table.gather(0, 3, 9)).getMessage();
      assertTrue(message.startsWith("t: row 3, block 1:"), message);
      assertThrows(EngramException.class, () -> bf16(table, 0, 3));
      assertEquals(64, table.gather(9).length);
    }
  }

  @Test
  void rowIdsAreNeverClamped() {
    try (EngramTable table = new EngramTable(ram("t", 64, new byte[640]), RowFormat.BF16, 32)) {
      for (long id : new long[] {-1, 10, 1L << 32, Long.MAX_VALUE}) {
        assertThrows(IndexOutOfBoundsException.class, () -> table.gather(0, id));
        assertThrows(IndexOutOfBoundsException.class, () -> bf16(table, id));
      }
    }
  }

  @Test
  void wrongArgumentsAreRefused() {
    RamRowStore store = ram("t", 64, new byte[640]);
    assertThrows(IllegalArgumentException.class, () -> new EngramTable(store, RowFormat.F32, 32));
    assertThrows(
        IllegalArgumentException.class, () -> new EngramTable(store, RowFormat.FP8_BLOCK32, 64));
    assertThrows(IllegalArgumentException.class, () -> new EngramTable(store, RowFormat.BF16, 0));
    assertThrows(
        IllegalArgumentException.class, () -> new EngramTable(store, RowFormat.FP8_TENSOR, 64));
    for (float scale : new float[] {0, -1, Float.NaN, Float.POSITIVE_INFINITY}) {
      String message =
          assertThrows(
                  IllegalArgumentException.class, () -> EngramTable.ofScaledFp8(store, 64, scale))
              .getMessage();
      assertTrue(message.contains("scale is " + scale), message);
    }
    EngramTable table = new EngramTable(store, RowFormat.BF16, 32);
    long[] ids = {1, 2, 3};
    MemorySegment out = MemorySegment.ofArray(new byte[384]);
    assertThrows(IllegalArgumentException.class, () -> table.gather(ids, 0, 3, out, 0, Dtype.F16));
    assertThrows(IllegalArgumentException.class, () -> table.gather(ids, 0, 3, out, 1, Dtype.F32));
    assertThrows(IllegalArgumentException.class, () -> table.gather(ids, 0, 1, out, -1, Dtype.F32));
    assertThrows(
        IllegalArgumentException.class,
        () -> table.gather(ids, 0, 3, out.asReadOnly(), 0, Dtype.F32));
    assertThrows(IndexOutOfBoundsException.class, () -> table.gather(ids, 1, 3, out, 0, Dtype.F32));
    assertThrows(IndexOutOfBoundsException.class, () -> table.gather(ids, 1, 3, new float[96], 0));
    assertThrows(IllegalArgumentException.class, () -> table.gather(ids, 0, 3, new float[96], 1));
    assertThrows(IllegalArgumentException.class, () -> table.gather(ids, 0, 3, new float[99], -1));
    assertEquals(0, table.gather().length);
    table.gather(ids, 3, 0, out, 384, Dtype.BF16);
    table.close();
    table.close();
    assertThrows(IllegalStateException.class, () -> table.gather(1));
    assertThrows(IllegalStateException.class, () -> bf16(table, 1));
  }

  @ParameterizedTest
  @EnumSource(RowFormat.class)
  void gatheringAllocatesNothing(RowFormat format) {
    int headDim = 64;
    byte[] stored = new byte[format.rowBytes(headDim) * 100];
    try (EngramTable table =
        table(ram("t", format.rowBytes(headDim), stored), format, headDim, 1f)) {
      long[] ids = new long[300];
      MemorySegment out = arena.allocate(4L * 300 * headDim);
      float[] array = new float[300 * headDim];
      ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
      long least = Long.MAX_VALUE;
      // Vectors are objects until C2 has compiled the loops, which on a busy machine takes long.
      for (int round = 0; round < 2_000 && least >= 1000; round++) {
        long before = threads.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < 200; i++) {
          ids[i] = i % 100;
          table.gather(ids, 0, 300, out, 0, Dtype.F32);
          table.gather(ids, 0, 300, out, 0, Dtype.BF16);
          table.gather(ids, 0, 300, array, 0);
        }
        least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
      }
      assertTrue(least < 1000, least + " bytes for 600 gathers");
    }
  }

  /** Would rather be asked for many rows at once, as a disk would, and counts the reads. */
  private record Batched(RowStore store, int preferredBatch, AtomicInteger reads)
      implements RowStore {
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
      reads.incrementAndGet();
      store.read(rowIds, from, count, out, outOffset);
    }

    @Override
    public void close() {
      store.close();
    }
  }

  @ParameterizedTest
  @CsvSource({"1,44", "60,12", "101,7", "700,1", "1000000,1"})
  void asksForAsManyRowsAtOnceAsTheStorePrefers(int preferred, int reads) {
    RandomGenerator random = Seeds.random("EngramTableTest.asksForAsManyRows");
    int headDim = 256;
    byte[] stored = new byte[264 * 1000];
    random.nextBytes(stored);
    for (int row = 0; row < 1000; row++) {
      Arrays.fill(stored, row * 264 + 256, row * 264 + 264, (byte) (120 + row % 9));
    }
    long[] ids = random.longs(700, 0, 1000).toArray();
    AtomicInteger asked = new AtomicInteger();
    try (EngramTable plain =
            new EngramTable(ram("t", 264, stored), RowFormat.FP8_BLOCK32, headDim);
        EngramTable table = plain.over(new Batched(ram("t", 264, stored), preferred, asked));
        Arena arena = Arena.ofConfined()) {
      float[] wanted = plain.gather(ids);
      assertArrayEquals(wanted, table.gather(ids));
      assertEquals(reads, asked.get());
      for (Dtype type : List.of(Dtype.F32, Dtype.BF16)) {
        long bytes = 700L * headDim * type.bytes();
        MemorySegment expected = arena.allocate(bytes);
        MemorySegment found = arena.allocate(bytes);
        plain.gather(ids, 0, 700, expected, 0, type);
        table.gather(ids, 0, 700, found, 0, type);
        assertEquals(-1, expected.mismatch(found));
        MemorySegment heap = MemorySegment.ofArray(new byte[(int) bytes]);
        table.gather(ids, 0, 700, heap, 0, type);
        assertEquals(-1, expected.mismatch(heap));
      }
    }
  }

  /** Fails at some reads, after it has written some rows, as a disk may. */
  private record Failing(RowStore store, AtomicInteger reads) implements RowStore {
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
      if (reads.getAndIncrement() % 5 == 1) {
        store.read(rowIds, from, count / 2, out, outOffset);
        throw new EngramException(name() + ": the disk failed");
      }
      store.read(rowIds, from, count, out, outOffset);
    }

    @Override
    public void close() {
      store.close();
    }
  }

  /** Buffers are used again, and so hold what was read before: it must never come out. */
  @Test
  void aFailedReadLeavesNoOldRowsBehind() {
    RandomGenerator random = Seeds.random("EngramTableTest.aFailedReadLeavesNoOldRows");
    byte[] stored = new byte[4 * 100 * 1000];
    random.nextBytes(stored);
    MemorySegment memory = MemorySegment.ofArray(stored);
    RowStore store = new Failing(ram("t", 200, stored), new AtomicInteger());
    int failed = 0;
    try (EngramTable table = new EngramTable(store, RowFormat.F16, 100)) {
      for (int i = 0; i < 300; i++) {
        long[] ids = random.longs(90, 0, 1000).toArray();
        try {
          float[] rows = table.gather(ids);
          for (int k = 0; k < rows.length; k++) {
            assertEquals(
                (float) reference(RowFormat.F16, memory, ids[k / 100], k % 100, 100, 1f), rows[k]);
          }
        } catch (EngramException e) {
          failed++;
        }
      }
    }
    assertTrue(failed > 100 && failed < 300, failed + " failed");
  }

  @Test
  void manyThreadsGatherAtOnce() throws Exception {
    RandomGenerator seeds = Seeds.random("EngramTableTest.manyThreadsGatherAtOnce");
    byte[] stored = new byte[160 * 1000];
    seeds.nextBytes(stored);
    MemorySegment memory = MemorySegment.ofArray(stored);
    try (EngramTable table = new EngramTable(ram("t", 160, stored), RowFormat.F16, 80);
        ExecutorService pool = Executors.newVirtualThreadPerTaskExecutor()) {
      List<Future<?>> all = new ArrayList<>();
      for (int t = 0; t < 200; t++) {
        SplittableRandom random = new SplittableRandom(seeds.nextLong());
        all.add(
            pool.submit(() -> {
              for (int i = 0; i < 5; i++) {
                long[] ids = random.longs(100, 0, 1000).toArray();
                float[] rows = table.gather(ids);
                for (int k = 0; k < rows.length; k++) {
                  assertEquals(
                      (float) reference(RowFormat.F16, memory, ids[k / 80], k % 80, 80, 1f),
                      rows[k]);
                }
              }
            }));
      }
      for (Future<?> one : all) {
        one.get();
      }
    }
  }

  /** Rows decoded where they are: of them nothing is copied that a counting store would see. */
  @ParameterizedTest
  @EnumSource(RowFormat.class)
  void whatIsDecodedInPlaceIsCountedAndTheSameAsByWayOfABuffer(RowFormat format) {
    RandomGenerator random = Seeds.random("EngramTableTest.decodedInPlace " + format);
    int headDim = 256;
    int rowBytes = format.rowBytes(headDim);
    byte[] stored = new byte[rowBytes * 500];
    for (int i = 0; i < stored.length; i++) {
      boolean scale = i % rowBytes >= headDim;
      stored[i] = (byte) (scale ? random.nextInt(255) : random.nextInt(256));
    }
    long[] ids = random.longs(700, 0, 500).toArray();
    MeteredRowStore meter = new MeteredRowStore(ram("t", rowBytes, stored), "RAM");
    try (EngramTable inPlace = table(meter, format, headDim, 0.7f);
        EngramTable copied =
            table(
                new Batched(ram("t", rowBytes, stored), 1, new AtomicInteger()),
                format,
                headDim,
                0.7f)) {
      long asked = 0;
      for (Dtype type : List.of(Dtype.F32, Dtype.BF16)) {
        long bytes = 690L * headDim * type.bytes();
        MemorySegment expected = arena.allocate(bytes);
        MemorySegment found = arena.allocate(bytes + 3);
        copied.gather(ids, 7, 690, expected, 0, type);
        inPlace.gather(ids, 7, 690, found, 3, type);
        assertEquals(-1, expected.mismatch(found.asSlice(3)), type.toString());
        asked += 690;
        assertEquals(asked, meter.statistics().rows());
      }
      assertEquals(0, meter.statistics().failures());
      ids[600] = 500;
      MemorySegment out = arena.allocate(4L * 700 * headDim);
      assertThrows(
          IndexOutOfBoundsException.class, () -> inPlace.gather(ids, 0, 700, out, 0, Dtype.F32));
      assertEquals(1, meter.statistics().failures());
    }
  }

  /** Rows of zeros on purpose: a gather that gave up silently is seen in the poisoned output. */
  @Test
  void closingWhileOthersGatherIsSafe() throws Exception {
    try (ExecutorService pool = Executors.newFixedThreadPool(3)) {
      for (int round = 0; round < 20; round++) {
        EngramTable table =
            new EngramTable(ram("t", 512, new byte[512 * 300]), RowFormat.BF16, 256);
        List<Future<Long>> readers = new ArrayList<>();
        CountDownLatch running = new CountDownLatch(3);
        for (int t = 0; t < 3; t++) {
          MemorySegment out = arena.allocate(4L * 256 * 200);
          readers.add(
              pool.submit(() -> {
                long[] ids = new SplittableRandom(7).longs(200, 0, 300).toArray();
                MemorySegment zeros = MemorySegment.ofArray(new float[256 * 200]);
                for (long gathers = 0; ; gathers++) {
                  out.fill((byte) 1);
                  try {
                    table.gather(ids, 0, 200, out, 0, Dtype.F32);
                  } catch (IllegalStateException e) {
                    assertTrue(e.getMessage().contains("t: the row store is closed"), e::toString);
                    assertFalse(Thread.interrupted(), "nobody interrupted this thread");
                    return gathers;
                  }
                  assertEquals(-1, zeros.mismatch(out));
                  if (gathers == 20) {
                    running.countDown();
                  }
                }
              }));
        }
        running.await();
        table.close();
        for (Future<Long> reader : readers) {
          assertTrue(reader.get() >= 20);
        }
      }
    }
  }

  /** Vector instructions on this mapping would kill the JVM. */
  @Test
  void aTruncatedTableRaisesAnErrorAndTheJvmLives() throws IOException {
    Path copy = directory.resolve("v41");
    Files.createDirectories(copy);
    try (var files = Files.list(Golden.path("v41_mini"))) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
    CheckpointTensors tensors = CheckpointTensors.open(copy, arena);
    try (EngramTable table = v41(tensors, 1)) {
      long[] ids = new SplittableRandom(3).longs(500, 0, 6568).toArray();
      MemorySegment out = arena.allocate(500 * 64 * 4);
      float[] expected = table.gather(ids);
      for (int i = 0; i < 500; i++) {
        table.gather(ids, 0, 500, out, 0, Dtype.BF16);
        table.gather(ids, 0, 500, out, 0, Dtype.F32);
      }
      assertArrayEquals(expected, table.gather(ids));
      try (FileChannel channel =
          FileChannel.open(
              tensors.file("layers.1.engram.embed.weight"), StandardOpenOption.WRITE)) {
        channel.truncate(100_000);
      }
      for (int i = 0; i < 200; i++) {
        for (Dtype type : List.of(Dtype.F32, Dtype.BF16)) {
          String message =
              assertThrows(EngramException.class, () -> table.gather(ids, 0, 500, out, 0, type))
                  .getMessage();
          assertTrue(message.contains("model-00001-of-00002.safetensors"), message);
        }
      }
    }
  }
}
