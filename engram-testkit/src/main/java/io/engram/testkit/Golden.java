// SPDX-License-Identifier: Apache-2.0
package io.engram.testkit;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Reads the golden files, which the reference implementations made: see {@code golden/README.md}.
 */
public final class Golden {
  private Golden() {}

  /**
   * A golden file or directory.
   *
   * @param name its name below {@code golden}, such as {@code v41_mini}
   * @return its path
   */
  public static Path path(String name) {
    Path path = Path.of(System.getProperty("engram.root", ".."), "golden", name);
    if (!Files.exists(path)) {
      throw new IllegalStateException(
          path.toAbsolutePath() + " is missing: set -Dengram.root to the project's top directory");
    }
    return path;
  }

  /**
   * A golden JSON file.
   *
   * @param name its name below {@code golden}
   * @return its top object
   */
  public static JsonObject json(String name) {
    try (Reader reader = Files.newBufferedReader(path(name))) {
      return JsonParser.parseReader(reader).getAsJsonObject();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * All numbers of a JSON value, nested arrays flattened in order. Numbers and numeric strings
   * alike, so that 64-bit integers stay exact.
   *
   * @param element an array of any depth
   * @return its numbers
   */
  public static long[] longs(JsonElement element) {
    List<JsonElement> leaves = new ArrayList<>();
    flatten(element, leaves);
    return leaves.stream().mapToLong(e -> Long.parseLong(e.getAsString())).toArray();
  }

  /**
   * As {@link #longs}, for values that fit an int.
   *
   * @param element an array of any depth
   * @return its numbers
   */
  public static int[] ints(JsonElement element) {
    List<JsonElement> leaves = new ArrayList<>();
    flatten(element, leaves);
    return leaves.stream().mapToInt(e -> Integer.parseInt(e.getAsString())).toArray();
  }

  /**
   * All numbers of a JSON value as floats; each is read as a double first, as the reference wrote
   * it.
   *
   * @param element an array of any depth, or a tensor object with a {@code data} array
   * @return its numbers
   */
  public static float[] floats(JsonElement element) {
    List<JsonElement> leaves = new ArrayList<>();
    flatten(element.isJsonObject() ? element.getAsJsonObject().get("data") : element, leaves);
    float[] floats = new float[leaves.size()];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = (float) leaves.get(i).getAsDouble();
    }
    return floats;
  }

  /**
   * All booleans of a JSON value, nested arrays flattened in order.
   *
   * @param element an array of any depth
   * @return its values
   */
  public static boolean[] booleans(JsonElement element) {
    List<JsonElement> leaves = new ArrayList<>();
    flatten(element, leaves);
    boolean[] booleans = new boolean[leaves.size()];
    for (int i = 0; i < booleans.length; i++) {
      booleans[i] = leaves.get(i).getAsBoolean();
    }
    return booleans;
  }

  private static void flatten(JsonElement element, List<JsonElement> leaves) {
    if (element instanceof JsonArray array) {
      array.forEach(e -> flatten(e, leaves));
    } else {
      leaves.add(element);
    }
  }
}
