// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/**
 * One object of a {@code config.json}, read key by key: a key that is missing or of the wrong type
 * is an error that names file and key. Integers never pass through a double.
 */
final class ConfigJson {
  private static final long MAX_BYTES = 16L << 20;

  private final Path file;
  private final String prefix;
  private final JsonObject object;

  private ConfigJson(Path file, String prefix, JsonObject object) {
    this.file = file;
    this.prefix = prefix;
    this.object = object;
  }

  static ConfigJson read(Path file) {
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw new EngramFormatException(
            file, "has " + size + " bytes, more than a configuration may have (" + MAX_BYTES + ")");
      }
      try (InputStream in = Files.newInputStream(file)) {
        JsonElement top = StrictJson.read(file, "the configuration", in, StrictJson::tree);
        if (!top.isJsonObject()) {
          throw new EngramFormatException(file, "is not a JSON object");
        }
        return new ConfigJson(file, "", top.getAsJsonObject());
      }
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read: " + e, e);
    }
  }

  Path file() {
    return file;
  }

  boolean has(String key) {
    return object.has(key) && !object.get(key).isJsonNull();
  }

  Optional<ConfigJson> object(String key) {
    if (!has(key)) {
      return Optional.empty();
    }
    JsonElement element = object.get(key);
    if (!element.isJsonObject()) {
      throw wrong(key, "an object", element);
    }
    return Optional.of(new ConfigJson(file, prefix + key + ".", element.getAsJsonObject()));
  }

  int integer(String key) {
    return toInt(key, required(key));
  }

  int integer(String key, int absent) {
    return has(key) ? integer(key) : absent;
  }

  long integer64(String key) {
    return toLong(key, required(key));
  }

  long integer64(String key, long absent) {
    return has(key) ? integer64(key) : absent;
  }

  float real(String key) {
    JsonElement element = required(key);
    if (!(element instanceof JsonPrimitive p) || !p.isNumber()) {
      throw wrong(key, "a number", element);
    }
    return element.getAsFloat();
  }

  double real64(String key) {
    JsonElement element = required(key);
    if (!(element instanceof JsonPrimitive p) || !p.isNumber()) {
      throw wrong(key, "a number", element);
    }
    return element.getAsDouble();
  }

  float real(String key, float absent) {
    return has(key) ? real(key) : absent;
  }

  String string(String key) {
    JsonElement element = required(key);
    if (!(element instanceof JsonPrimitive p) || !p.isString()) {
      throw wrong(key, "a string", element);
    }
    return element.getAsString();
  }

  boolean bool(String key) {
    JsonElement element = required(key);
    if (!(element instanceof JsonPrimitive p) || !p.isBoolean()) {
      throw wrong(key, "true or false", element);
    }
    return element.getAsBoolean();
  }

  /** A constant of an enum, by its name. */
  <E extends Enum<E>> E constant(String key, Class<E> type) {
    String name = string(key);
    for (E constant : type.getEnumConstants()) {
      if (constant.name().equals(name)) {
        return constant;
      }
    }
    throw problem(
        key,
        "is "
            + Names.quote(name)
            + ", expected one of "
            + Arrays.toString(type.getEnumConstants()));
  }

  /** A 64-bit integer that is written as a string. */
  long decimal64(String key) {
    return toDecimal(key, required(key));
  }

  List<Long> decimals64(String key) {
    List<Long> values = new ArrayList<>();
    for (JsonElement element : array(key)) {
      values.add(toDecimal(key, element));
    }
    return values;
  }

  private long toDecimal(String key, JsonElement element) {
    if (element instanceof JsonPrimitive p && p.isString()) {
      try {
        return Long.parseLong(p.getAsString());
      } catch (NumberFormatException _) {
        // Said below.
      }
    }
    throw wrong(key, "a 64-bit integer in decimal digits, as a string", element);
  }

  List<ConfigJson> objects(String key) {
    List<ConfigJson> values = new ArrayList<>();
    JsonArray array = array(key, "a list of objects");
    for (int i = 0; i < array.size(); i++) {
      if (!array.get(i).isJsonObject()) {
        throw wrong(key, "a list of objects", array.get(i));
      }
      values.add(
          new ConfigJson(file, prefix + key + "[" + i + "].", array.get(i).getAsJsonObject()));
    }
    return values;
  }

  List<Integer> integers(String key) {
    List<Integer> values = new ArrayList<>();
    for (JsonElement element : array(key)) {
      values.add(toInt(key, element));
    }
    return values;
  }

  List<Long> integers64(String key) {
    List<Long> values = new ArrayList<>();
    for (JsonElement element : array(key)) {
      values.add(toLong(key, element));
    }
    return values;
  }

  /** A list, or one number that stands for a list of one. */
  List<Integer> integerOrIntegers(String key) {
    return required(key).isJsonArray() ? integers(key) : List.of(integer(key));
  }

  EngramFormatException problem(String key, String problem) {
    return new EngramFormatException(file, prefix + key + " " + problem);
  }

  private JsonArray array(String key) {
    return array(key, "a list of integers");
  }

  private JsonArray array(String key, String expected) {
    JsonElement element = required(key);
    if (!element.isJsonArray()) {
      throw wrong(key, expected, element);
    }
    return element.getAsJsonArray();
  }

  private JsonElement required(String key) {
    if (!has(key)) {
      throw problem(key, "is missing");
    }
    return object.get(key);
  }

  private int toInt(String key, JsonElement element) {
    long value = toLong(key, element);
    if (value != (int) value) {
      throw wrong(key, "a 32-bit integer", element);
    }
    return (int) value;
  }

  private long toLong(String key, JsonElement element) {
    if (element instanceof JsonPrimitive p && p.isNumber()) {
      try {
        return new BigDecimal(p.getAsString()).longValueExact();
      } catch (ArithmeticException | NumberFormatException e) {
        throw wrong(key, "a 64-bit integer", element);
      }
    }
    throw wrong(key, "an integer", element);
  }

  private EngramFormatException wrong(String key, String expected, JsonElement found) {
    String text = found.toString();
    return problem(
        key,
        "is "
            + (text.length() > 80 ? text.substring(0, 80) + "..." : text)
            + ", expected "
            + expected);
  }
}
