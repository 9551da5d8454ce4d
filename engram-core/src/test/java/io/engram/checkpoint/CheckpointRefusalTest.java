// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramException;
import io.engram.EngramMemory;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * A checkpoint that does not agree with itself is not opened, and the message says what differs.
 */
@Tag("once")
class CheckpointRefusalTest {
  @TempDir Path copy;

  private void copyOf(String name) throws IOException {
    try (Stream<Path> files = Files.list(Golden.path(name))) {
      for (Path file : files.toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
  }

  private void edit(String key, String value) throws IOException {
    Path file = copy.resolve("config.json");
    JsonObject root = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
    JsonObject object = root;
    String[] path = key.split("/", -1);
    for (int i = 0; i < path.length - 1; i++) {
      object = object.getAsJsonObject(path[i]);
    }
    if (value == null) {
      object.remove(path[path.length - 1]);
    } else {
      JsonElement element = JsonParser.parseString(value);
      object.add(path[path.length - 1], element);
    }
    Files.writeString(file, root.toString());
  }

  private String refusal() {
    String message =
        assertThrows(EngramException.class, () -> EngramMemory.open(copy).close()).getMessage();
    assertTrue(message.contains(copy.toString()), message);
    return message;
  }

  private static void assertContains(String part, String message) {
    assertTrue(message.contains(part), () -> "expected \"" + part + "\" in: " + message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "v41_mini | text_config/vocab_size | 645 | vocabulary size: expected 645, found 644",
        "v41_mini | text_config/engram_compressed_vocab_size | 544 | compressed vocabulary size: expected 544, found 543",
        "v41_mini | text_config/engram_num_embeddings | [6568, 7465] | layer 5 sum of the moduli",
        "v41_mini | text_config/engram_num_embeddings | [6568] | engram_num_embeddings has 1 values",
        "v41_mini | text_config/engram_layer_ids | [1, 6] | layers.6.engram.embed.weight: expected F8_E4M3",
        "v41_mini | text_config/engram_layer_ids | [1, 1] | names a layer twice",
        "v41_mini | text_config/engram_layer_ids | 1 | expected a list of integers",
        "v41_mini | text_config/engram_max_ngram_size | 3 | embed.weight",
        "v41_mini | text_config/engram_max_ngram_size | 1000000 | expected an order from 2 to 64",
        "v41_mini | text_config/engram_max_ngram_size | 2147483647 | expected an order from 2 to 64",
        "v41_mini | text_config/engram_n_heads | 1000000 | columns in all layers together",
        "qwen_mini | text_config/ngram_size | 2147483647 | expected an order from 2 to 64",
        "v41_mini | text_config/engram_vocab_size | 504 | embed.weight",
        "v41_mini | text_config/engram_head_dim | 32 | found F8_E4M3[6568, 64]",
        "v41_mini | text_config/engram_n_heads | 0 | headsPerOrder is 0",
        "v41_mini | text_config/engram_pad_token_id | 644 | fillTokenId is 644",
        "v41_mini | text_config/hidden_size | 128 | wkv.weight: expected F8_E4M3[640, 768], found F8_E4M3[480, 768]",
        "v41_mini | text_config/hc_mult | 3 | q_weight",
        "v41_mini | text_config/vocab_size | 644.5 | expected a 64-bit integer",
        "v41_mini | text_config/vocab_size | \"644\" | expected an integer",
        "v41_mini | text_config/vocab_size |  | vocab_size is missing",
        "v41_mini | quantization_config/fmt | \"e5m2\" | fmt is e5m2",
        "v41_mini | quantization_config/weight_block_size | [128, 128] | weight_block_size is [128, 128]",
        "qwen_mini | text_config/seed | 1235 | layer 1 stored multipliers, moduli and offsets",
        "qwen_mini | text_config/ngram_vocab_size_base | 102 | stored multipliers",
        "qwen_mini | text_config/split_ngram_parts | 5 | shard_4.weight",
        "qwen_mini | text_config/split_ngram_parts | 2 | shard_0.weight",
        "qwen_mini | text_config/ple_embed_dim | 47 | heads do not divide",
        "qwen_mini | text_config/ple_layer_ids | [0, 3] | expected layers counted from 1",
        "qwen_mini | text_config/ple_layer_ids | [2] | 0 tensors of the checkpoint end in",
        "qwen_mini | text_config/eos_token_id | 300 | 300",
        "demo_mini | compressed_vocab_size | 98626 | compressed vocabulary size: expected 98626, found 98627",
        "demo_mini | seed | -1 | seed is -1",
        "demo_mini | token_map | \"../token_map.i32le.bin\" | expected a file name in this directory",
        "demo_mini | token_map | \"absent.bin\" | absent.bin",
        "demo_mini | engram_vocab_size | [211] | slotsPerHead [211] must have one value",
        "demo_mini | engram_vocab_size | [211, 240] | embedding.weight",
        "demo_mini | kernel_size | 3 | conv.weight: expected F32 or BF16 or F16[72, 1, 3]",
        "demo_mini | layer_ids | [] | layer_ids is empty",
      })
  void namesWhatDiffers(String name, String key, String value, String message) throws IOException {
    copyOf(name);
    edit(key, value);
    assertContains(message, refusal());
  }

  @Test
  void namesAllThatDiffersAtOnce() throws IOException {
    copyOf("v41_mini");
    edit("text_config/vocab_size", "645");
    edit("text_config/engram_num_embeddings", "[1, 2]");
    assertContains("3 things do not fit", refusal());
  }

  @Test
  void storedOffsetsThatAreNotSumsOfModuliAreRefused() throws IOException {
    copyOf("demo_mini");
    Path file = copy.resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    int payload =
        8 + java.nio.ByteBuffer.wrap(bytes).order(java.nio.ByteOrder.LITTLE_ENDIAN).getInt(0);
    bytes[payload + 16] ^= 1;
    Files.write(file, bytes);
    assertContains("layer 1 stored multipliers, moduli and offsets", refusal());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "wkv.scale | 7 | 255 | layers.1.engram.wkv.scale has a NaN as the scale of block 7",
        "wkv.weight | 1541 | 127 | layers.1.engram.wkv.weight row 2 column 5 is not a number",
        "wkv.weight | 1541 | 255 | layers.1.engram.wkv.weight row 2 column 5 is not a number",
        "wkv.scale | 25 | 254 | layers.1.engram.wkv.weight row 32 column 32 is",
      })
  void aProjectionThatIsNoNumberIsRefusedWhenTheWeightsAreRead(
      String tensor, int at, int code, String message) throws IOException {
    copyOf("v41_mini");
    Path file = copy.resolve("model-00001-of-00002.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    String header = new String(bytes, 8, 560, StandardCharsets.UTF_8);
    JsonObject entry =
        JsonParser.parseString(header)
            .getAsJsonObject()
            .getAsJsonObject("layers.1.engram." + tensor);
    bytes[8 + 560 + entry.getAsJsonArray("data_offsets").get(0).getAsInt() + at] = (byte) code;
    Files.write(file, bytes);
    try (EngramMemory memory = EngramMemory.open(copy)) {
      assertContains(
          message, assertThrows(EngramException.class, () -> memory.weights(1)).getMessage());
    }
  }

  @Test
  void aFileThatChangesUnderAnOpenMemoryIsNoticedWhenAsked() throws IOException {
    copyOf("qwen_mini");
    Path file = copy.resolve("model-00002-of-00004.safetensors");
    try (EngramMemory memory = EngramMemory.open(copy)) {
      memory.checkUnchanged();
      Path other = copy.resolve("other");
      Files.write(other, Files.readAllBytes(file));
      Files.move(other, file, StandardCopyOption.REPLACE_EXISTING);
      assertContains(
          file.getFileName().toString(),
          assertThrows(EngramException.class, memory::checkUnchanged).getMessage());
    }
  }

  @Test
  void anotherTokenizerIsRefused() throws IOException {
    copyOf("v41_mini");
    Path file = copy.resolve("tokenizer.json");
    JsonObject root = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
    JsonObject last =
        root.getAsJsonArray("added_tokens")
            .remove(root.getAsJsonArray("added_tokens").size() - 1)
            .getAsJsonObject();
    root.getAsJsonObject("model")
        .getAsJsonObject("vocab")
        .remove(last.get("content").getAsString());
    Files.writeString(file, root.toString());
    assertContains("vocabulary size: expected 644, found 643", refusal());
  }

  @Test
  void missingFilesAreNamed() throws IOException {
    copyOf("v41_mini");
    Files.delete(copy.resolve("tokenizer.json"));
    assertContains("tokenizer.json: is missing", refusal());
    Files.delete(copy.resolve("model-00002-of-00002.safetensors"));
    copyAgain("tokenizer.json");
    assertContains("model-00002-of-00002.safetensors", refusal());
    Files.delete(copy.resolve("config.json"));
    assertContains("config.json: is missing", refusal());
  }

  private void copyAgain(String file) throws IOException {
    Files.copy(Golden.path("v41_mini").resolve(file), copy.resolve(file));
  }

  @Test
  void configurationsOfOtherModelsAreRefused() throws IOException {
    copyOf("v41_mini");
    Files.writeString(copy.resolve("config.json"), "{\"model_type\": \"deepseek_v4\"}");
    assertContains("describes no memory", refusal());
    Files.writeString(copy.resolve("config.json"), "[1, 2");
    assertContains("not the JSON it should be", refusal());
    Files.writeString(copy.resolve("config.json"), "{\"a\": 1, \"a\": 2}");
    assertContains("twice", refusal());
    Files.writeString(copy.resolve("config.json"), "{} junk");
    assertContains("config.json", refusal());
    Files.writeString(copy.resolve("config.json"), "");
    assertContains("JSON", refusal());
  }

  @Test
  void anAbsentDirectoryIsNamed() {
    Path absent = copy.resolve("absent");
    assertEquals(
        absent + ": is not a directory",
        assertThrows(EngramException.class, () -> EngramMemory.open(absent)).getMessage());
  }
}
