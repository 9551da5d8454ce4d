// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTimeoutPreemptively;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramFormatException;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Files with random damage are refused, or read as what they say. */
@Tag("once")
class SafetensorsMutationTest {
  private static final int ROUNDS = 3000;

  private static final String[] PIECES = {
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "0",
    "-1",
    "9",
    "18446744073709551616",
    "1e3",
    "null",
    "true",
    "\"__metadata__\":{}",
    "\"shape\":[0]",
    "\"dtype\":\"F4\"",
    "\u00e9",
    "\\ud800",
    " "
  };

  @TempDir Path directory;

  private static byte[] base(RandomGenerator random) {
    StringBuilder header = new StringBuilder("{\"__metadata__\":{\"format\":\"pt\"}");
    int at = 0;
    String[] types = {"F32", "BF16", "U8", "F8_E5M2", "I64", "F8_E4M3"};
    int[] bytes = {4, 2, 1, 1, 8, 1};
    for (int i = 0, n = 1 + random.nextInt(4); i < n; i++) {
      int type = random.nextInt(types.length);
      int rows = random.nextInt(4);
      int end = at + rows * 3 * bytes[type];
      header
          .append(",\"layers.")
          .append(i)
          .append("\":{\"dtype\":\"")
          .append(types[type])
          .append("\",\"shape\":[")
          .append(rows)
          .append(",3],\"data_offsets\":[")
          .append(at)
          .append(',')
          .append(end)
          .append("]}");
      at = end;
    }
    return SafetensorsTest.file(header.append("}").toString(), at);
  }

  private static byte[] mutate(byte[] bytes, RandomGenerator random) {
    byte[] result = bytes.clone();
    int headerEnd = 8 + (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    for (int i = 0, n = 1 + random.nextInt(3); i < n; i++) {
      int at = random.nextInt(result.length);
      switch (random.nextInt(6)) {
        case 0 -> result[at] ^= (byte) (1 << random.nextInt(8));
        case 1 -> result[at] = (byte) random.nextInt(256);
        case 2 -> result = Arrays.copyOf(result, at + 1);
        case 3 -> {
          byte[] piece = PIECES[random.nextInt(PIECES.length)].getBytes(StandardCharsets.UTF_8);
          result = splice(result, Math.min(headerEnd, Math.max(8, at)), 0, piece);
        }
        case 4 -> {
          int length = random.nextInt(Math.min(20, result.length - at));
          result = splice(result, at, length, new byte[0]);
        }
        default -> {
          int length = random.nextInt(Math.min(60, result.length - at));
          result = splice(result, at, 0, Arrays.copyOfRange(result, at, at + length));
        }
      }
      if (result.length < 9) {
        return result;
      }
    }
    if (random.nextBoolean()) {
      // Let the length agree again, so that the damage behind it is met.
      long length = headerEnd - 8L + result.length - bytes.length;
      ByteBuffer.wrap(result).order(ByteOrder.LITTLE_ENDIAN).putLong(length);
    }
    return result;
  }

  private static byte[] splice(byte[] bytes, int at, int removed, byte[] inserted) {
    return ByteBuffer.allocate(bytes.length - removed + inserted.length)
        .put(bytes, 0, at)
        .put(inserted)
        .put(bytes, at + removed, bytes.length - at - removed)
        .array();
  }

  @Test
  void damagedFilesAreRefusedOrReadAsTheySay() {
    RandomGenerator random = Seeds.random("SafetensorsMutationTest");
    int[] readable = new int[1];
    assertTimeoutPreemptively(
        Duration.ofSeconds(60),
        () -> {
          for (int i = 0; i < ROUNDS; i++) {
            byte[] bytes = mutate(base(random), random);
            Path path = Files.write(directory.resolve("m.safetensors"), bytes);
            try (Arena arena = Arena.ofConfined()) {
              Safetensors file = Safetensors.open(path, arena);
              readable[0]++;
              check(bytes, file);
            } catch (EngramFormatException e) {
              assertTrue(e.getMessage().startsWith(path.toString()), e::getMessage);
            } catch (RuntimeException | Error e) {
              fail("file in hexadecimal: " + java.util.HexFormat.of().formatHex(bytes), e);
            }
          }
        });
    // Damage to the payload alone is not noticed, so a good part must have been readable.
    assertTrue(readable[0] > ROUNDS / 50, () -> readable[0] + " of " + ROUNDS + " were readable");
    assertTrue(readable[0] < ROUNDS * 3 / 4, () -> readable[0] + " of " + ROUNDS);
  }

  /** Against a parser of the whole header into a tree, which is not the one under test. */
  private static void check(byte[] bytes, Safetensors file) throws IOException {
    int length = (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong();
    String text = new String(bytes, 8, length, StandardCharsets.UTF_8);
    JsonObject tree = JsonParser.parseString(text).getAsJsonObject();
    Set<String> names = new HashSet<>(tree.keySet());
    names.remove("__metadata__");
    long covered = 8L + length;
    List<String> found = new ArrayList<>();
    for (TensorInfo info : file.tensors()) {
      JsonObject entry = tree.getAsJsonObject(info.name());
      found.add(info.name());
      assertEquals(entry.get("dtype").getAsString(), info.dtype());
      assertEquals(
          entry.getAsJsonArray("shape").asList().stream().map(e -> e.getAsLong()).toList(),
          info.shape());
      assertEquals(
          8 + length + entry.getAsJsonArray("data_offsets").get(0).getAsLong(), info.begin());
      assertEquals(
          8 + length + entry.getAsJsonArray("data_offsets").get(1).getAsLong(), info.end());
      assertEquals(covered, info.begin());
      covered = info.end();
      if (info.knownDtype().isPresent()) {
        Tensor tensor = file.tensor(info.name());
        for (long i = 0; i < tensor.data().byteSize(); i++) {
          assertEquals(
              bytes[(int) (info.begin() + i)],
              tensor.data().get(java.lang.foreign.ValueLayout.JAVA_BYTE, i));
        }
      }
    }
    assertEquals(bytes.length, covered);
    assertEquals(names, new HashSet<>(found));
  }
}
