// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.Tensor;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class SafetensorsWriterTest {
  @TempDir Path directory;

  private static Tensor tensor(Dtype dtype, RandomGenerator random, long... shape) {
    byte[] bytes = new byte[(int) Tensor.byteSize(dtype, shape)];
    random.nextBytes(bytes);
    return new Tensor(dtype, shape, MemorySegment.ofArray(bytes));
  }

  private static byte[] bytes(Tensor tensor) {
    return tensor.data().toArray(ValueLayout.JAVA_BYTE);
  }

  private List<String> files() throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      return files.map(p -> p.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void whatIsWrittenIsRead() throws IOException {
    RandomGenerator random = Seeds.random("SafetensorsWriterTest.whatIsWrittenIsRead");
    Path path = directory.resolve("w.safetensors");
    List<Dtype> types = List.of(Dtype.values());
    for (int round = 0; round < 50; round++) {
      SafetensorsWriter writer = new SafetensorsWriter().metadata("\"\u00e9\n", "<\uD83D\uDE00>");
      Map<String, Tensor> tensors = new LinkedHashMap<>();
      for (int i = 0, n = random.nextInt(12); i < n; i++) {
        Dtype dtype = types.get(random.nextInt(types.size()));
        long[] shape = random.longs(random.nextInt(4), 0, 7).toArray();
        Tensor tensor = tensor(dtype, random, shape);
        tensors.put("t\"\u4e2d/" + i, tensor);
        writer.add("t\"\u4e2d/" + i, tensor);
      }
      writer.write(path);
      try (Arena arena = Arena.ofConfined()) {
        Safetensors file = Safetensors.open(path, arena);
        assertEquals(Map.of("\"\u00e9\n", "<\uD83D\uDE00>"), file.metadata());
        assertEquals(tensors.size(), file.tensors().size());
        tensors.forEach((name, tensor) -> {
          Tensor read = file.tensor(name);
          assertEquals(tensor.dtype(), read.dtype());
          assertArrayEquals(tensor.shape(), read.shape());
          assertArrayEquals(bytes(tensor), bytes(read));
          assertEquals(0, file.info(name).begin() % tensor.dtype().bytes(), "alignment");
        });
      }
      assertEquals(List.of("w.safetensors"), files());
    }
  }

  @Test
  void largerElementsComeFirst() {
    RandomGenerator random = Seeds.random("SafetensorsWriterTest.largerElementsComeFirst");
    Path path = directory.resolve("o.safetensors");
    new SafetensorsWriter()
        .add("u", tensor(Dtype.U8, random, 3))
        .add("h", tensor(Dtype.BF16, random, 3))
        .add("l", tensor(Dtype.I64, random, 1))
        .add("e", tensor(Dtype.F8_E4M3, random, 5))
        .add("f", tensor(Dtype.F32, random, 3))
        .add("g", tensor(Dtype.F16, random, 3))
        .write(path);
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      assertEquals(
          List.of("l", "f", "h", "g", "u", "e"),
          file.tensors().stream().map(TensorInfo::name).toList());
      assertEquals(0, file.info("l").begin() % 8);
    }
  }

  @Test
  void joinsTheShardsOfATable() {
    RandomGenerator random = Seeds.random("SafetensorsWriterTest.joinsTheShardsOfATable");
    Path path = directory.resolve("p.safetensors");
    try (Arena arena = Arena.ofConfined()) {
      byte[] all = new byte[3 << 20];
      random.nextBytes(all);
      MemorySegment heap = MemorySegment.ofArray(all);
      MemorySegment off = arena.allocate(all.length).copyFrom(heap);
      List<MemorySegment> parts =
          List.of(
              off.asSlice(0, 5),
              off.asSlice(5, 0),
              heap.asSlice(5, (2 << 20) + 1),
              off.asSlice((2 << 20) + 6));
      new SafetensorsWriter().add("t", Dtype.U8, new long[] {3, 1 << 20}, parts).write(path);
      assertArrayEquals(all, bytes(Safetensors.open(path, arena).tensor("t")));
    }
  }

  @Test
  void writesArraysOfAnyType() {
    Path path = directory.resolve("h.safetensors");
    float[] floats = {1.5f, -0f, Float.NaN};
    long[] longs = {1L << 62, -7};
    short[] shorts = {0x3F80, (short) 0xC000};
    new SafetensorsWriter()
        .add("f", new Tensor(Dtype.F32, new long[] {3}, MemorySegment.ofArray(floats)))
        .add("l", new Tensor(Dtype.I64, new long[] {2}, MemorySegment.ofArray(longs)))
        .add("s", new Tensor(Dtype.BF16, new long[] {2, 1}, MemorySegment.ofArray(shorts)))
        .write(path);
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      assertArrayEquals(floats, file.tensor("f").data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
      assertArrayEquals(longs, file.tensor("l").data().toArray(ValueLayout.JAVA_LONG_UNALIGNED));
      assertArrayEquals(shorts, file.tensor("s").data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED));
    }
  }

  @Test
  void aMappedTensorWhoseFileIsCutIsNotWritten() throws IOException {
    Path path = directory.resolve("from.safetensors");
    RandomGenerator random = Seeds.random("SafetensorsWriterTest.aMappedTensorWhoseFileIsCut");
    new SafetensorsWriter().add("t", tensor(Dtype.U8, random, 100_000)).write(path);
    try (Arena arena = Arena.ofConfined()) {
      Tensor mapped = Safetensors.open(path, arena).tensor("t");
      try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
        channel.truncate(50_000);
      }
      SafetensorsWriter writer = new SafetensorsWriter().add("t", mapped);
      Path to = directory.resolve("to.safetensors");
      assertThrows(EngramException.class, () -> writer.write(to));
      assertEquals(List.of("from.safetensors"), files());
    }
  }

  @Test
  void copiesAGoldenCheckpoint() {
    Path path = directory.resolve("g.safetensors");
    try (Arena arena = Arena.ofConfined()) {
      Safetensors golden =
          Safetensors.open(Golden.path("v41_mini").resolve("expected.safetensors"), arena);
      SafetensorsWriter writer = new SafetensorsWriter();
      golden.tensors().forEach(t -> writer.add(t.name(), golden.tensor(t.name())));
      writer.write(path);
      Safetensors copy = Safetensors.open(path, arena);
      assertEquals(golden.tensors().size(), copy.tensors().size());
      for (TensorInfo info : golden.tensors()) {
        assertEquals(
            -1, golden.region(info.name()).bytes().mismatch(copy.region(info.name()).bytes()));
        assertEquals(info.shape(), copy.info(info.name()).shape());
      }
    }
  }

  @Test
  void anOldFileStaysUntilTheNewOneIsWhole() throws IOException {
    RandomGenerator random = Seeds.random("SafetensorsWriterTest.anOldFileStays");
    Path path = directory.resolve("a.safetensors");
    Tensor first = tensor(Dtype.F32, random, 5);
    new SafetensorsWriter().add("t", first).write(path);
    Arena closed = Arena.ofConfined();
    Tensor gone = new Tensor(Dtype.U8, new long[] {8}, closed.allocate(8));
    closed.close();
    SafetensorsWriter failing =
        new SafetensorsWriter().add("x", tensor(Dtype.F64, random, 9)).add("t", gone);
    assertThrows(IllegalStateException.class, () -> failing.write(path));
    assertEquals(List.of("a.safetensors"), files());
    try (Arena arena = Arena.ofConfined()) {
      Safetensors old = Safetensors.open(path, arena);
      assertArrayEquals(bytes(first), bytes(old.tensor("t")));
      new SafetensorsWriter().add("u", tensor(Dtype.F32, random, 2)).write(path);
      assertArrayEquals(
          bytes(first), bytes(old.tensor("t")), "the mapped file is still the old one");
      assertTrue(Safetensors.open(path, arena).contains("u"));
    }
  }

  @Test
  void aNewFileIsReadableByWhoeverTheProcessLets() throws IOException {
    Path path = directory.resolve("m.safetensors");
    new SafetensorsWriter().write(path);
    Path plain = Files.write(directory.resolve("plain"), new byte[0]);
    if (Files.getFileStore(path).supportsFileAttributeView("posix")) {
      assertEquals(Files.getPosixFilePermissions(plain), Files.getPosixFilePermissions(path));
    }
  }

  @Test
  void refusesWhatNoFileCanHold() {
    SafetensorsWriter writer = new SafetensorsWriter().metadata("k", "v");
    MemorySegment four = MemorySegment.ofArray(new byte[4]);
    writer.add("t", Dtype.F32, new long[] {1}, List.of(four));
    List<Runnable> wrong = new ArrayList<>();
    wrong.add(() -> writer.metadata("k", "w"));
    wrong.add(() -> writer.metadata("\ud800", "w"));
    wrong.add(() -> writer.metadata("l", "\udc00"));
    wrong.add(() -> writer.add("t", Dtype.F32, new long[] {1}, List.of(four)));
    wrong.add(() -> writer.add("__metadata__", Dtype.F32, new long[] {1}, List.of(four)));
    wrong.add(() -> writer.add("\udc00\ud800", Dtype.F32, new long[] {1}, List.of(four)));
    wrong.add(() -> writer.add("s", Dtype.F32, new long[] {2}, List.of(four)));
    wrong.add(() -> writer.add("s", Dtype.F32, new long[] {-1}, List.of(four)));
    wrong.add(() -> writer.add("s", Dtype.U8, new long[65], List.of()));
    for (Runnable run : wrong) {
      assertThrows(IllegalArgumentException.class, run::run);
    }
    String message =
        assertThrows(
                EngramException.class, () -> writer.write(directory.resolve("no").resolve("file")))
            .getMessage();
    assertTrue(message.contains("cannot be written"), message);
  }
}
