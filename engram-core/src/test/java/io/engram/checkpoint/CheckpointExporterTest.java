// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramMemory;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.CheckpointExporter.Layout;
import io.engram.table.NarrowFloat;
import io.engram.table.RowFormat;
import io.engram.testkit.Golden;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

@Tag("once")
class CheckpointExporterTest {
  private static final int[] IDS = {1, 2, 3, 49, 0, 17, 17};

  @TempDir Path directory;

  private static EngramConfig.Builder small(EngramConfig.Builder builder) {
    return builder
        .vocabulary(50, 40)
        .layers(1, 3)
        .slotsPerHead(31)
        .headsPerOrder(2)
        .streams(2)
        .width(40);
  }

  private static TokenMap map() {
    return TokenMap.of(IntStream.range(0, 50).map(i -> i % 40).toArray());
  }

  private static EngramMemory demo(RowFormat format) {
    EngramMemory memory =
        EngramMemory.create(
            small(EngramConfig.paper())
                .headDim(12)
                .rowFormat(format)
                .seed(11)
                .slotsPerHead(List.of(31L, 53L))
                .build(),
            map(),
            5);
    for (int layer : memory.config().layerIds()) {
      // As trained: the convolution starts at zero, and would hide that it was lost.
      MemorySegment taps = memory.weights(layer).conv().orElseThrow().data();
      for (long at = 0; at < taps.byteSize(); at += 4) {
        taps.set(ValueLayout.JAVA_FLOAT, at, at * 0.125f - 3);
      }
    }
    return memory;
  }

  private static EngramMemory v41(RowFormat format, int headDim) {
    return EngramMemory.create(
        small(EngramConfig.v41Flash()).headDim(headDim).rowFormat(format).build(), map(), 5);
  }

  private static long[] allRows(EngramMemory memory, int layer) {
    return LongStream.range(0, memory.table(layer).rowCount()).toArray();
  }

  private static void assertSameBits(Tensor expected, Tensor found) {
    assertEquals(expected.toString(), found.toString());
    assertEquals(-1, expected.data().mismatch(found.data()));
  }

  private static void assertSameWeights(LayerWeights expected, LayerWeights found) {
    Map<String, Tensor> wanted = MemoryDescriptor.weights(0, expected);
    Map<String, Tensor> had = MemoryDescriptor.weights(0, found);
    assertEquals(wanted.keySet(), had.keySet());
    wanted.forEach((name, tensor) -> assertSameBits(tensor, had.get(name)));
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void theDemosLayoutHoldsEverythingAsItIs(RowFormat format) {
    try (EngramMemory memory = demo(format)) {
      List<Long> written = new ArrayList<>();
      CheckpointExporter exporter =
          CheckpointExporter.of(memory, Layout.DEMO).progress(written::add);
      Path target = exporter.write(directory.resolve("demo"));
      assertEquals(exporter.byteSize(), written.getLast());
      try (EngramMemory opened = EngramMemory.open(target)) {
        assertEquals(memory.config(), opened.config());
        for (int layer : memory.config().layerIds()) {
          assertArrayEquals(memory.rowIds(layer, IDS), opened.rowIds(layer, IDS));
          long[] rows = allRows(memory, layer);
          assertArrayEquals(memory.table(layer).gather(rows), opened.table(layer).gather(rows));
          assertSameWeights(memory.weights(layer), opened.weights(layer));
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void theReleasedLayoutHoldsFp8(RowFormat format) {
    try (EngramMemory memory = v41(format, 48)) {
      Path target = CheckpointExporter.of(memory, Layout.V41).write(directory.resolve("v41"));
      try (EngramMemory opened = EngramMemory.open(target)) {
        for (int layer : memory.config().layerIds()) {
          assertArrayEquals(memory.rowIds(layer, IDS), opened.rowIds(layer, IDS));
          long[] rows = allRows(memory, layer);
          assertWithinFp8(
              memory.table(layer).gather(rows), opened.table(layer).gather(rows), 48, 1);
          try (Arena arena = Arena.ofConfined()) {
            LayerWeights quantised = opened.weights(layer);
            assertEquals("F8_E4M3[120, 288]", quantised.projection().toString());
            assertWithinFp8(
                floats(memory.weights(layer).projection()),
                floats(quantised.widenedProjection(arena)),
                288,
                32);
          }
          assertSameBits(memory.weights(layer).keyNorm(), opened.weights(layer).keyNorm());
        }
        // What is FP8 now goes on as it is.
        Path again = CheckpointExporter.of(opened, Layout.V41).write(directory.resolve("again"));
        assertEquals(
            -1, mismatch(target.resolve("model.safetensors"), again.resolve("model.safetensors")));
      }
    }
  }

  private static long mismatch(Path a, Path b) {
    try {
      return Files.mismatch(a, b);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  private static float[] floats(Tensor tensor) {
    float[] values = new float[(int) tensor.count()];
    for (int i = 0; i < values.length; i++) {
      values[i] =
          switch (tensor.dtype()) {
            case BF16 ->
                NarrowFloat.bf16(tensor.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i));
            default -> tensor.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i);
          };
    }
    return values;
  }

  /** Half a step of three mantissa bits, or of the smallest step of the block. */
  private static void assertWithinFp8(float[] expected, float[] found, int columns, int height) {
    assertEquals(expected.length, found.length);
    int rows = expected.length / columns;
    for (int row = 0; row < rows; row++) {
      int top = row / height * height;
      for (int column = 0; column < columns; column++) {
        int left = column / 32 * 32;
        float amax = 0;
        for (int r = top; r < Math.min(top + height, rows); r++) {
          for (int c = left; c < Math.min(left + 32, columns); c++) {
            amax = Math.max(amax, Math.abs(expected[r * columns + c]));
          }
        }
        double smallest = 2 * amax / 448.0 * 0x1p-10;
        float want = expected[row * columns + column];
        float have = found[row * columns + column];
        assertTrue(
            Math.abs(want - have) <= Math.max(Math.abs(want) / 16, smallest),
            () -> want + " became " + have);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Layout.class)
  void releasedCheckpointsComeBack(Layout layout) throws IOException {
    Path golden = Golden.path(layout == Layout.DEMO ? "demo_mini" : "v41_mini");
    try (EngramMemory memory = EngramMemory.open(golden)) {
      CheckpointExporter exporter = CheckpointExporter.of(memory, layout).shardBytes(100_000);
      if (layout == Layout.V41) {
        exporter.tokenizer(golden.resolve("tokenizer.json"));
      }
      Path target = exporter.write(directory.resolve("target"));
      assertTrue(Files.exists(target.resolve(CheckpointTensors.INDEX)), "not divided");
      try (Arena arena = Arena.ofShared();
          EngramMemory opened = EngramMemory.open(target)) {
        assertEquals(memory.config(), opened.config());
        CheckpointTensors before = CheckpointTensors.open(golden, arena);
        CheckpointTensors after = CheckpointTensors.open(target, arena);
        for (String name : before.names()) {
          if (name.contains(".engram.")) {
            assertSameBits(before.tensor(name), after.tensor(name));
          }
        }
        try (Stream<Path> files = Files.list(target)) {
          assertEquals(
              layout == Layout.V41,
              files.noneMatch(f -> f.getFileName().toString().equals("token_map.i32le.bin")));
        }
      }
    }
  }

  @Test
  void rawIdsAreCompressedByTheIdentity() {
    EngramConfig config = small(EngramConfig.paper()).rawVocabulary(50).headDim(8).build();
    try (EngramMemory memory = EngramMemory.create(config, TokenMap.identity(50), 1)) {
      Path target = CheckpointExporter.of(memory, Layout.DEMO).write(directory.resolve("raw"));
      try (EngramMemory opened = EngramMemory.open(target)) {
        assertArrayEquals(memory.lookup(3, IDS), opened.lookup(3, IDS));
      }
    }
  }

  @Test
  void whatALayoutCannotSayIsRefusedByName() {
    try (EngramMemory demo = demo(RowFormat.F32);
        EngramMemory v41 = v41(RowFormat.F32, 32)) {
      String toV41 =
          assertThrows(
                  IllegalArgumentException.class, () -> CheckpointExporter.of(demo, Layout.V41))
              .getMessage();
      assertEquals(
          "the layout V41 cannot hold this memory: dead is REFUSED, expected BLOCKS;"
              + " hashing.slotsPerHead, different values is 2, expected 1; hashing.seed is 11,"
              + " expected 0; gate.bias is true, expected false; gate.zeroDot is SIGN_ZERO,"
              + " expected COPY_SIGN; gate.rounding is NONE, expected BF16; gate.residual is"
              + " DELTA, expected IN_PLACE; conv is there, expected absent",
          toV41);
      String toDemo =
          assertThrows(
                  IllegalArgumentException.class, () -> CheckpointExporter.of(v41, Layout.DEMO))
              .getMessage();
      for (String field : List.of("dead", "gate.bias", "gate.residual", "conv is absent")) {
        assertTrue(toDemo.contains(field), toDemo);
      }
    }
  }

  @Test
  void anotherTokenizerIsRefused() {
    try (EngramMemory memory = v41(RowFormat.F32, 32)) {
      String refused =
          assertThrows(
                  IllegalArgumentException.class,
                  () ->
                      CheckpointExporter.of(memory, Layout.V41)
                          .tokenizer(Golden.path("v41_mini").resolve("tokenizer.json")))
              .getMessage();
      assertTrue(refused.contains("it has 644 ids, the memory 50"), refused);
    }
  }

  @Test
  void valuesThatFp8CannotHoldAreNamed() throws IOException {
    try (EngramMemory memory = v41(RowFormat.F32, 32)) {
      MemorySegment projection = memory.weights(3).projection().data();
      projection.set(ValueLayout.JAVA_FLOAT, 4L * (192 * 3 + 5), Float.NaN);
      String refused =
          assertThrows(
                  EngramException.class,
                  () -> CheckpointExporter.of(memory, Layout.V41).write(directory.resolve("nan")))
              .getMessage();
      assertTrue(refused.contains("layers.3.engram.wkv.weight row 3 column 5 is NaN"), refused);
      assertNothingLeft();
    }
  }

  private void assertNothingLeft() throws IOException {
    try (Stream<Path> left = Files.list(directory)) {
      assertEquals(List.of(), left.toList());
    }
  }

  @Test
  void anExportThatIsEndedLeavesNothing() throws IOException {
    try (EngramMemory memory = demo(RowFormat.F32)) {
      Path target = directory.resolve("target");
      CheckpointExporter exporter = CheckpointExporter.of(memory, Layout.DEMO);
      Thread.currentThread().interrupt();
      assertThrows(EngramException.class, () -> exporter.write(target));
      assertTrue(Thread.interrupted());
      assertNothingLeft();
      exporter.progress(done -> {
        throw new IllegalStateException("enough");
      });
      assertThrows(IllegalStateException.class, () -> exporter.write(target));
      assertNothingLeft();
      // What a killed one left is no obstacle.
      Path left = Files.createDirectory(directory.resolve("target.partial"));
      Files.write(left.resolve("model.safetensors"), new byte[3]);
      exporter.progress(done -> {}).write(target);
      assertFalse(Files.exists(left));
      String again = assertThrows(EngramException.class, () -> exporter.write(target)).getMessage();
      assertTrue(again.contains("is there already"), again);
      try (EngramMemory opened = EngramMemory.open(target)) {
        assertArrayEquals(memory.lookup(1, IDS), opened.lookup(1, IDS));
      }
    }
  }

  /** Tables are written in batches of rows, and read in pieces that cut rows. */
  @Test
  void rowsOfAnyWidthAreStreamed() {
    int rowBytes = 12 * 4;
    byte[] all = new byte[100_003 * rowBytes];
    for (int i = 0; i < all.length; i++) {
      all[i] = (byte) (i * 31 + i / 977);
    }
    TableStream stream =
        new TableStream(
            100_003,
            rowBytes,
            (first, count, out) ->
                MemorySegment.copy(
                    MemorySegment.ofArray(all), first * rowBytes, out, 0, (long) count * rowBytes));
    byte[] read = new byte[all.length];
    for (int at = 0; at < read.length; ) {
      int some = Math.min(read.length - at, 1 + at % 700_001);
      stream.read(at, MemorySegment.ofArray(read).asSlice(at, some));
      at += some;
    }
    assertTrue(Arrays.equals(all, read));
  }
}
