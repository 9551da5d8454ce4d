// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.EngramMemory;
import io.engram.Tensor;
import io.engram.checkpoint.SaveManifest;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
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
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

@Tag("once")
class TrainingCheckpointTest {
  @TempDir Path directory;

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void aRunIsRestoredToTheBit(RowFormat format) {
    try (Runs saved = Runs.of(format, 31, 1000, 1);
        Runs restored = Runs.of(format, 31, 1000, 2)) {
      saved.train(77);
      restored.train(5);
      List<Long> written = new ArrayList<>();
      Path save = TrainingCheckpoint.save(directory, saved.state(), 1, written::add);
      assertEquals(saved.state().byteSize(), written.getLast());
      List<Long> verified = new ArrayList<>();
      TrainingCheckpoint.Restored result =
          TrainingCheckpoint.restore(directory, restored.state(), verified::add);
      assertEquals(saved.state().byteSize(), verified.getLast());
      assertEquals(save, result.directory());
      restored.take(result);
      assertEquals(saved.fingerprint(), restored.fingerprint());
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void aRestoredRunGoesOnAsIfNothingHadHappened(RowFormat format) {
    try (Runs straight = Runs.of(format, 31, 10, 1);
        Runs resumed = Runs.of(format, 31, 10, 9)) {
      straight.steps(20);
      TrainingCheckpoint.save(directory, straight.state());
      straight.steps(20);
      resumed.steps(3);
      resumed.take(TrainingCheckpoint.restore(directory, resumed.state()));
      assertEquals(20, resumed.optimizer.steps());
      resumed.steps(20);
      assertEquals(straight.fingerprint(), resumed.fingerprint());
    }
  }

  @Test
  void theOptimizerOfAnotherTableIsRefused() {
    try (Runs run = Runs.of(RowFormat.F32, 31, 10, 1)) {
      TrainingState.Builder builder =
          TrainingState.builder().memory(run.memory).optimizer(3, run.optimizer);
      assertThrows(IllegalArgumentException.class, builder::build);
    }
  }

  @Test
  void aSaveIsOpenedAsAMemory() {
    try (Runs saved = Runs.of(RowFormat.BF16, 31, 10, 1)) {
      saved.train(3);
      Path save = TrainingCheckpoint.save(directory, saved.state());
      for (Path path : List.of(directory, save)) {
        try (EngramMemory opened = EngramMemory.open(path)) {
          assertEquals(saved.memory.config(), opened.config());
          for (int layer : opened.config().layerIds()) {
            int[] ids = {1, 2, 3, 49, 0};
            assertArrayEquals(saved.memory.rowIds(layer, ids), opened.rowIds(layer, ids));
            assertArrayEquals(saved.memory.lookup(layer, ids), opened.lookup(layer, ids));
            assertEquals(
                -1,
                saved
                    .memory
                    .weights(layer)
                    .projection()
                    .data()
                    .mismatch(opened.weights(layer).projection().data()));
          }
        }
      }
    }
  }

  @Test
  void aRunWithoutAMemoryIsSavedAsWell() {
    float[] values = {1, 2, 3};
    TrainingState state = ofTensor("w", values, 1);
    TrainingCheckpoint.save(directory, state);
    float[] into = new float[3];
    TrainingCheckpoint.restore(directory, ofTensor("w", into, 1));
    assertArrayEquals(values, into);
    EngramException refused =
        assertThrows(
            EngramFormatException.class,
            () -> {
              try (Runs other = Runs.of(RowFormat.F32, 31, 3, 1)) {
                TrainingCheckpoint.restore(directory, other.state());
              }
            });
    assertTrue(refused.getMessage().contains("has no memory"), refused.getMessage());
  }

  private static TrainingState ofTensor(String name, float[] values, int rows) {
    return TrainingState.builder()
        .tensor(
            name,
            new Tensor(
                Dtype.F32, new long[] {rows, values.length / rows}, MemorySegment.ofArray(values)))
        .build();
  }

  @Test
  void anotherShapeIsRefusedWithAllThatDiffers() {
    try (Runs saved = Runs.of(RowFormat.F32, 31, 10, 1);
        Runs other = Runs.of(RowFormat.BF16, 37, 12, 1)) {
      saved.train(3);
      other.train(4);
      TrainingCheckpoint.save(directory, saved.state());
      int before = other.fingerprint();
      TrainingState into =
          TrainingState.builder()
              .memory(other.memory)
              .tensor(
                  "embedding",
                  new Tensor(Dtype.F32, new long[] {12}, MemorySegment.ofArray(other.heap)))
              .tensor(
                  "head",
                  new Tensor(Dtype.F32, new long[] {1}, MemorySegment.ofArray(new float[1])))
              .bytes("place", new byte[1])
              .build();
      String refused =
          assertThrows(
                  EngramFormatException.class, () -> TrainingCheckpoint.restore(directory, into))
              .getMessage();
      for (String part :
          List.of(
              "hashing.slots_per_head is [\"31\",\"31\"], expected [\"37\",\"37\"]",
              "row_format is \"F32\", expected \"BF16\"",
              "table-1.safetensors layers.1.engram.table is F32[",
              "tensors.safetensors embedding is F32[10], expected F32[12]",
              "tensors.safetensors head is missing, expected F32[1]",
              "the bytes place are missing",
              "layer 1 has an optimiser adam, expected none")) {
        assertTrue(refused.contains(part), () -> part + " is not in: " + refused);
      }
      assertEquals(before, other.fingerprint());
    }
  }

  @Test
  void anotherTokenMapIsRefused() {
    try (Runs saved = Runs.of(RowFormat.F32, 31, 10, 1);
        EngramMemory other =
            EngramMemory.create(
                Runs.config(RowFormat.F32, 31),
                TokenMap.of(IntStream.range(0, 50).map(i -> Math.min(i, 39)).toArray()),
                1)) {
      TrainingCheckpoint.save(directory, TrainingState.builder().memory(saved.memory).build());
      EngramException refused =
          assertThrows(
              EngramFormatException.class,
              () ->
                  TrainingCheckpoint.restore(
                      directory, TrainingState.builder().memory(other).build()));
      assertTrue(
          refused.getMessage().contains("has 0 for token id 40, expected 39"),
          refused.getMessage());
    }
  }

  @Test
  void everyByteIsCovered() throws IOException {
    RandomGenerator random = Seeds.random("TrainingCheckpointTest");
    try (Runs saved = Runs.of(RowFormat.F32, 31, 50, 1);
        Runs into = Runs.of(RowFormat.F32, 31, 50, 2)) {
      saved.train(3);
      into.train(4);
      Path save = TrainingCheckpoint.save(directory, saved.state());
      int before = into.fingerprint();
      List<Path> files;
      try (Stream<Path> list = Files.list(save)) {
        files = list.sorted().toList();
      }
      assertEquals(9, files.size(), files::toString);
      for (Path file : files) {
        byte[] good = Files.readAllBytes(file);
        for (int trial = 0; trial < 25; trial++) {
          byte[] bad = good.clone();
          // The header first: that is where a byte does not look like data.
          int at = trial < 5 ? trial * 2 : random.nextInt(bad.length);
          bad[at] ^= (byte) (1 << random.nextInt(8));
          Files.write(file, bad);
          EngramException refused =
              assertThrows(
                  EngramException.class,
                  () -> TrainingCheckpoint.restore(directory, into.state()),
                  () -> file + " byte " + at);
          assertTrue(
              refused.getMessage().contains(file.getFileName().toString()), refused.getMessage());
        }
        Files.write(file, Arrays.copyOf(good, good.length - 1));
        assertThrows(
            EngramException.class, () -> TrainingCheckpoint.restore(directory, into.state()));
        Files.delete(file);
        assertThrows(
            EngramException.class, () -> TrainingCheckpoint.restore(directory, into.state()));
        Files.write(file, good);
      }
      assertEquals(before, into.fingerprint());
      into.take(TrainingCheckpoint.restore(directory, into.state()));
      assertEquals(saved.fingerprint(), into.fingerprint());
    }
  }

  @Test
  void aDamagedTensorIsNamedWithItsChecksums() throws IOException {
    try (Runs saved = Runs.of(RowFormat.F32, 31, 50, 1)) {
      Path save = TrainingCheckpoint.save(directory, saved.state());
      Path file = save.resolve("table-3.safetensors");
      byte[] bytes = Files.readAllBytes(file);
      bytes[bytes.length - 1] ^= 1;
      Files.write(file, bytes);
      String refused =
          assertThrows(
                  EngramFormatException.class,
                  () -> TrainingCheckpoint.verify(directory, done -> {}))
              .getMessage();
      assertTrue(
          refused.matches(
              ".*table-3.safetensors: the crc32c of the tensor layers.3.engram.table is"
                  + " [0-9a-f]{8}, expected [0-9a-f]{8}: .*"),
          refused);
    }
  }

  @Test
  void theLastSavesStay() {
    try (Runs run = Runs.of(RowFormat.F32, 31, 50, 1)) {
      List<Path> saves = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        run.train(i);
        saves.add(TrainingCheckpoint.save(directory, run.state(), 2, done -> {}));
      }
      assertEquals(saves.subList(2, 4), TrainingCheckpoint.saves(directory));
      assertEquals(3, TrainingCheckpoint.restore(directory, run.state()).step());
      assertEquals(2, TrainingCheckpoint.restore(saves.get(2), run.state()).step());
    }
  }

  @Test
  void aSaveThatIsEndedLeavesTheOneBefore() throws IOException {
    try (Runs run = Runs.of(RowFormat.F32, 31, 50, 1)) {
      run.train(1);
      int first = run.fingerprint();
      TrainingCheckpoint.save(directory, run.state());
      run.train(2);
      IllegalStateException ended =
          assertThrows(
              IllegalStateException.class,
              () ->
                  TrainingCheckpoint.save(
                      directory,
                      run.state(),
                      1,
                      done -> {
                        throw new IllegalStateException("enough");
                      }));
      assertEquals("enough", ended.getMessage());
      Thread.currentThread().interrupt();
      EngramException interrupted =
          assertThrows(
              EngramException.class, () -> TrainingCheckpoint.save(directory, run.state()));
      assertTrue(Thread.interrupted());
      assertTrue(
          interrupted.getMessage().contains("the last complete save, save-00000001, is as it was"),
          interrupted.getMessage());
      Thread.currentThread().interrupt();
      assertThrows(EngramException.class, () -> TrainingCheckpoint.restore(directory, run.state()));
      assertTrue(Thread.interrupted());
      try (Stream<Path> left = Files.list(directory)) {
        assertEquals(
            List.of(".lock", "save-00000001"),
            left.map(p -> p.getFileName().toString()).sorted().toList());
      }
      run.take(TrainingCheckpoint.restore(directory, run.state()));
      assertEquals(first, run.fingerprint());
    }
  }

  @Test
  void twoSavesAtOnceAreRefused() {
    try (Runs run = Runs.of(RowFormat.F32, 31, 50, 1)) {
      List<String> messages = new ArrayList<>();
      TrainingCheckpoint.save(
          directory,
          run.state(),
          1,
          done -> {
            if (messages.isEmpty()) {
              messages.add(
                  assertThrows(
                          EngramException.class,
                          () -> TrainingCheckpoint.save(directory, run.state()))
                      .getMessage());
            }
          });
      assertTrue(messages.getFirst().contains("another process or thread"), messages::toString);
      assertEquals(1, TrainingCheckpoint.saves(directory).size());
    }
  }

  @Test
  void whatAnEndedProcessLeftIsRemoved() throws IOException {
    try (Runs run = Runs.of(RowFormat.F32, 31, 50, 1)) {
      Path left = directory.resolve("save-00000007.partial");
      Files.createDirectory(left);
      Files.writeString(left.resolve("manifest.json"), "{");
      assertThrows(
          EngramFormatException.class, () -> TrainingCheckpoint.restore(directory, run.state()));
      Path mine = directory.resolve("notes");
      Files.createDirectory(mine);
      TrainingCheckpoint.save(directory, run.state());
      assertFalse(Files.exists(left));
      assertTrue(Files.exists(mine));
    }
  }

  @Test
  void emptyTensorsAndOddNamesAreKept() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment native3 = arena.allocate(3);
      native3.set(ValueLayout.JAVA_BYTE, 1, (byte) 9);
      TrainingState state =
          TrainingState.builder()
              .tensor("leer", new Tensor(Dtype.F32, new long[] {0, 4}, arena.allocate(0)))
              .tensor("größe/\"1\"", new Tensor(Dtype.U8, new long[] {3}, native3))
              .tensor("scalar", new Tensor(Dtype.F64, new long[0], arena.allocate(8, 8)))
              .bytes("none", new byte[0])
              .step(Long.MAX_VALUE)
              .build();
      TrainingCheckpoint.save(directory, state);
      native3.fill((byte) 0);
      TrainingCheckpoint.Restored restored = TrainingCheckpoint.restore(directory, state);
      assertEquals(9, native3.get(ValueLayout.JAVA_BYTE, 1));
      assertEquals(0, restored.bytes().get("none").length);
      assertEquals(Long.MAX_VALUE, restored.step());
      SaveManifest manifest = TrainingCheckpoint.verify(directory, done -> {});
      assertEquals(Long.MAX_VALUE, manifest.step());
    }
  }

  @Test
  void wrongArgumentsAreRefused() {
    TrainingState state = TrainingState.builder().build();
    assertThrows(
        IllegalArgumentException.class,
        () -> TrainingCheckpoint.save(directory, state, 0, done -> {}));
    TrainingState.Builder builder = TrainingState.builder().bytes("a", new byte[1]);
    assertThrows(IllegalArgumentException.class, () -> builder.bytes("a", new byte[1]));
    assertThrows(IllegalArgumentException.class, () -> builder.step(-1));
    assertThrows(
        EngramFormatException.class,
        () -> TrainingCheckpoint.restore(directory.resolve("nowhere"), state));
  }
}
