// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.EngramFormatException;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class CheckpointTensorsTest {
  @TempDir Path directory;

  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  /** A shard with tensors of one byte each. */
  private Path shard(String file, String... names) throws IOException {
    SafetensorsWriter writer = new SafetensorsWriter();
    for (String name : names) {
      java.lang.foreign.MemorySegment one =
          java.lang.foreign.MemorySegment.ofArray(new byte[] {(byte) name.charAt(0)});
      writer.add(name, Dtype.U8, new long[] {1}, List.of(one));
    }
    Path path = directory.resolve(file);
    writer.write(path);
    return path;
  }

  private void index(String weightMap) throws IOException {
    Files.writeString(
        directory.resolve(CheckpointTensors.INDEX),
        "{\"metadata\":{\"total_size\":1,\"more\":[[{}]]},\"weight_map\":{"
            + weightMap.replace('\'', '"')
            + "}}");
  }

  private String refusedToOpen(Path path) {
    return assertThrows(EngramFormatException.class, () -> CheckpointTensors.open(path, arena))
        .getMessage();
  }

  private static byte first(CheckpointTensors tensors, String name) {
    return tensors.tensor(name).data().get(ValueLayout.JAVA_BYTE, 0);
  }

  @Test
  void readsTheGoldenCheckpoints() {
    CheckpointTensors v41 = CheckpointTensors.open(Golden.path("v41_mini"), arena);
    assertEquals(12, v41.names().size());
    assertTrue(v41.tensor("layers.5.engram.embed.weight").hasShape(7464, 64));
    assertEquals(
        "model-00002-of-00002.safetensors",
        v41.file("layers.5.engram.embed.scale").getFileName().toString());
    CheckpointTensors qwen = CheckpointTensors.open(Golden.path("qwen_mini"), arena);
    assertEquals(26, qwen.names().size());
    for (String name : qwen.names()) {
      assertEquals(name, qwen.info(name).name());
    }
    CheckpointTensors demo = CheckpointTensors.open(Golden.path("demo_mini"), arena);
    assertTrue(demo.contains("layers.15.engram.value_proj.bias"));
    assertFalse(demo.contains("layers.15.engram.value_proj"));
    assertEquals(Dtype.F32, demo.load("layers.15.engram.value_proj.bias", arena).dtype());
    demo.checkUnchanged();
  }

  @Test
  void opensOnlyTheShardsThatAreNeeded() throws IOException {
    shard("1.safetensors", "a", "b");
    shard("2.safetensors", "c");
    index("'a':'1.safetensors','b':'1.safetensors','c':'2.safetensors','d':'3.safetensors'");
    CheckpointTensors tensors = CheckpointTensors.open(directory, arena);
    assertEquals(List.of("a", "b", "c", "d"), List.copyOf(tensors.names()));
    assertEquals('b', first(tensors, "b"));
    Files.delete(directory.resolve("2.safetensors"));
    assertEquals(directory.resolve("2.safetensors"), tensors.file("c"));
    String message =
        assertThrows(EngramFormatException.class, () -> tensors.tensor("c")).getMessage();
    assertTrue(message.contains("2.safetensors: is missing, but"), message);
    shard("2.safetensors", "c");
    assertEquals('c', first(tensors, "c"));
    Files.delete(directory.resolve("1.safetensors"));
    assertThrows(EngramFormatException.class, tensors::checkUnchanged);
  }

  @Test
  void saysWhichTensorIsMissingFromWhichFile() throws IOException {
    shard("1.safetensors", "a");
    index("'a':'1.safetensors','b':'1.safetensors'");
    CheckpointTensors tensors = CheckpointTensors.open(directory, arena);
    String unlisted =
        assertThrows(EngramFormatException.class, () -> tensors.tensor("x")).getMessage();
    assertTrue(unlisted.contains(CheckpointTensors.INDEX + ": the tensor 'x' is not"), unlisted);
    assertThrows(EngramFormatException.class, () -> tensors.file("x"));
    // A shard that lacks one of its tensors is refused as a whole.
    String absent =
        assertThrows(EngramFormatException.class, () -> tensors.tensor("a")).getMessage();
    assertTrue(absent.contains("1.safetensors: the tensor 'b' is missing"), absent);
  }

  @Test
  void refusesATensorInTwoShards() throws IOException {
    shard("1.safetensors", "a");
    shard("2.safetensors", "a", "b");
    index("'a':'1.safetensors','b':'2.safetensors'");
    CheckpointTensors tensors = CheckpointTensors.open(directory, arena);
    assertEquals('a', first(tensors, "a"));
    String message =
        assertThrows(EngramFormatException.class, () -> tensors.tensor("b")).getMessage();
    assertTrue(message.contains("2.safetensors: holds the tensor 'a', which"), message);
    index("'a':'1.safetensors','a':'2.safetensors'");
    assertTrue(refusedToOpen(directory).contains("'a' occurs twice"));
  }

  @Test
  void tensorsThatTheIndexDoesNotListAreNoError() throws IOException {
    shard("1.safetensors", "a", "z");
    index("'a':'1.safetensors'");
    CheckpointTensors tensors = CheckpointTensors.open(directory, arena);
    assertEquals('a', first(tensors, "a"));
    assertThrows(EngramFormatException.class, () -> tensors.tensor("z"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        ".",
        "..",
        "../1.safetensors",
        "/etc/passwd",
        "a/1.safetensors",
        "a\\\\1.safetensors",
        "C:1.safetensors",
        "./1.safetensors",
        "1.safetensors/",
        "1\\u0000.safetensors",
        "1\\n.safetensors"
      })
  void refusesShardsOutsideTheDirectory(String name) throws IOException {
    shard("1.safetensors", "a");
    index("'a':'" + name + "'");
    assertTrue(refusedToOpen(directory).contains("is not the plain name of a file"));
  }

  @Test
  void followsLinksAsInTheCacheOfTheHub() throws IOException {
    Path blobs = Files.createDirectories(directory.resolve("blobs"));
    Path snapshot = Files.createDirectories(directory.resolve("snapshots").resolve("main"));
    Files.move(shard("1.safetensors", "a"), blobs.resolve("0123"));
    index("'a':'1.safetensors'");
    Files.move(directory.resolve(CheckpointTensors.INDEX), blobs.resolve("4567"));
    Files.createSymbolicLink(snapshot.resolve("1.safetensors"), Path.of("../../blobs/0123"));
    Files.createSymbolicLink(
        snapshot.resolve(CheckpointTensors.INDEX), Path.of("../../blobs/4567"));
    assertEquals('a', first(CheckpointTensors.open(snapshot, arena), "a"));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{}|has no weight_map",
        "[]|expected BEGIN_OBJECT",
        "{\"weight_map\":[]}|expected BEGIN_OBJECT",
        "{\"weight_map\":{\"a\":1}}|expected STRING",
        "{\"weight_map\":{},\"weight_map\":{}}|weight_map twice",
        "{\"weight_map\":{}} x|is not the JSON",
        "{\"weight_map\":{}|is not the JSON",
      })
  void refusesBadIndexes(String json, String expected) throws IOException {
    Files.writeString(directory.resolve(CheckpointTensors.INDEX), json);
    String message = refusedToOpen(directory);
    assertTrue(message.contains(CheckpointTensors.INDEX) && message.contains(expected), message);
  }

  @Test
  void refusesNestingAndBytesThatNobodyMeans() throws IOException {
    String deep = "[".repeat(100_000);
    Files.writeString(
        directory.resolve(CheckpointTensors.INDEX),
        "{\"metadata\":" + deep + ",\"weight_map\":{}}");
    assertTrue(refusedToOpen(directory).contains("is not the JSON"));
    byte[] bytes = "{\"metadata\":\"?\",\"weight_map\":{}}".getBytes(StandardCharsets.UTF_8);
    bytes[13] = (byte) 0xFF;
    Files.write(directory.resolve(CheckpointTensors.INDEX), bytes);
    assertTrue(refusedToOpen(directory).contains("is not UTF-8"));
  }

  @Test
  void aDirectoryHoldsOneCheckpoint() throws IOException {
    assertTrue(refusedToOpen(directory).contains("holds neither"));
    assertTrue(refusedToOpen(directory.resolve("absent.json")).contains("there is no such file"));
    assertTrue(
        refusedToOpen(directory.resolve("absent.safetensors")).contains("there is no such file"));
    Path single = shard(CheckpointTensors.SINGLE, "a");
    assertEquals('a', first(CheckpointTensors.open(directory, arena), "a"));
    index("'b':'2.safetensors'");
    shard("2.safetensors", "b");
    assertTrue(refusedToOpen(directory).contains("holds both"));
    assertEquals('a', first(CheckpointTensors.open(single, arena), "a"));
    assertEquals(
        'b', first(CheckpointTensors.open(directory.resolve(CheckpointTensors.INDEX), arena), "b"));
  }
}
