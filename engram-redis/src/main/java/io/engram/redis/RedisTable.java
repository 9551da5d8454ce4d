// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import io.engram.EngramException;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.nio.charset.StandardCharsets;
import java.util.Objects;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * What a server says about a table: written once, when all of its rows are there and have been
 * compared with their source.
 *
 * @param name the table's name on the server: letters, digits, points, hyphens and underscores
 * @param identity which table it is, with the digest of its rows
 * @param generation part of the values' keys, new whenever a table is published, so that readers of
 *     a table that was deleted find nothing rather than rows of another
 * @param rowsPerValue rows of each value but the last
 */
public record RedisTable(String name, TableIdentity identity, String generation, int rowsPerValue) {
  private static final Pattern NAME = Pattern.compile("[A-Za-z0-9._-]{1,100}");
  private static final Pattern GENERATION = Pattern.compile("[0-9a-f]{16}");
  private static final int VERSION = 1;

  /** Checks the names and the number. */
  public RedisTable {
    Objects.requireNonNull(name, "name");
    Objects.requireNonNull(identity, "identity");
    checkName(name);
    if (!GENERATION.matcher(generation).matches() || rowsPerValue < 1) {
      throw new IllegalArgumentException(
          name
              + ": generation "
              + generation
              + " with "
              + rowsPerValue
              + " rows in a value, expected 16 hexadecimal digits and at least 1");
    }
  }

  static void checkName(String name) {
    if (!NAME.matcher(name).matches()) {
      throw new IllegalArgumentException(
          "a table's name has 1 to 100 letters, digits, points, hyphens and underscores; found "
              + name);
    }
  }

  /** Keys that are not rows share a slot, so that they change together. */
  static byte[] controlKey(String name, String what) {
    return ("engram:{" + name + "}:" + what).getBytes(StandardCharsets.US_ASCII);
  }

  Chunks chunks() {
    return new Chunks(name, generation, identity.rowCount(), identity.rowBytes(), rowsPerValue);
  }

  byte[] toJson(String state) {
    JsonObject json = new JsonObject();
    json.addProperty("format", "engram-rows");
    json.addProperty("version", VERSION);
    json.addProperty("state", state);
    json.addProperty("name", name);
    json.addProperty("generation", generation);
    json.addProperty("rowsPerValue", rowsPerValue);
    json.addProperty("values", chunks().count());
    json.addProperty("layer", identity.layer());
    json.addProperty("rowFormat", identity.format().name());
    json.addProperty("headDim", identity.headDim());
    json.addProperty("rowCount", identity.rowCount());
    json.addProperty("layoutDigest", identity.layoutDigest());
    identity.contentDigest().ifPresent(digest -> json.addProperty("contentDigest", digest));
    return new Gson().toJson(json).getBytes(StandardCharsets.UTF_8);
  }

  static String state(byte[] bytes) {
    return JsonParser.parseString(new String(bytes, StandardCharsets.UTF_8))
        .getAsJsonObject()
        .get("state")
        .getAsString();
  }

  static RedisTable fromJson(String name, byte[] bytes) {
    String text = new String(bytes, StandardCharsets.UTF_8);
    try {
      JsonObject json = JsonParser.parseString(text).getAsJsonObject();
      int version = json.get("version").getAsInt();
      if (!json.get("format").getAsString().equals("engram-rows") || version != VERSION) {
        throw new EngramException(
            "table " + name + ": format version " + version + ", expected " + VERSION);
      }
      RedisTable table =
          new RedisTable(
              json.get("name").getAsString(),
              new TableIdentity(
                  json.get("layer").getAsInt(),
                  RowFormat.valueOf(json.get("rowFormat").getAsString()),
                  json.get("headDim").getAsInt(),
                  json.get("rowCount").getAsLong(),
                  json.get("layoutDigest").getAsString(),
                  Optional.ofNullable(json.get("contentDigest")).map(d -> d.getAsString())),
              json.get("generation").getAsString(),
              json.get("rowsPerValue").getAsInt());
      if (!table.name.equals(name) || json.get("values").getAsInt() != table.chunks().count()) {
        throw new EngramException(
            "table "
                + name
                + ": its description is of "
                + table.name
                + " with "
                + json.get("values")
                + " values, expected "
                + table.chunks().count());
      }
      return table;
    } catch (JsonParseException
        | IllegalArgumentException
        | IllegalStateException
        | UnsupportedOperationException
        | NullPointerException e) {
      throw new EngramException("table " + name + ": no description of a table: " + text, e);
    }
  }
}
