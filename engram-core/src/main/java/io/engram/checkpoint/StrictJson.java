// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import java.io.Closeable;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * JSON of an untrusted file, token by token: RFC 8259 to the letter, UTF-8 to the letter, and whole
 * numbers that are written as such. Nothing is built in memory but what the caller keeps.
 */
final class StrictJson implements Closeable {
  /** Deeper than anything that is read here. */
  private static final int NESTING = 32;

  private final Path file;
  private final JsonReader json;

  /** What is done with the tokens. */
  @FunctionalInterface
  interface Body<T> {
    T read(StrictJson json) throws IOException;
  }

  private StrictJson(Path file, InputStream in) {
    this.file = file;
    json =
        new JsonReader(
            new InputStreamReader(
                in,
                StandardCharsets.UTF_8
                    .newDecoder()
                    .onMalformedInput(CodingErrorAction.REPORT)
                    .onUnmappableCharacter(CodingErrorAction.REPORT)));
    json.setStrictness(Strictness.STRICT);
    json.setNestingLimit(NESTING);
  }

  /**
   * Reads one value that fills the stream.
   *
   * @param what what the JSON is, for messages
   * @throws EngramFormatException if it is not what the body expects, or not JSON
   * @throws EngramException if the stream fails
   */
  static <T> T read(Path file, String what, InputStream in, Body<T> body) {
    try (StrictJson json = new StrictJson(file, in)) {
      try {
        T value = body.read(json);
        if (json.json.peek() != JsonToken.END_DOCUMENT) {
          throw json.bad("something follows " + what);
        }
        return value;
      } catch (MalformedJsonException
          | EOFException
          | IllegalStateException
          | NumberFormatException e) {
        throw new EngramFormatException(
            file, what + " is not the JSON it should be, at " + json.path(), e);
      }
    } catch (CharacterCodingException e) {
      throw new EngramFormatException(file, what + " is not UTF-8", e);
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read: " + e, e);
    }
  }

  EngramFormatException bad(String problem) {
    return new EngramFormatException(file, problem + " (JSON path " + path() + ")");
  }

  private String path() {
    return Names.quote(json.getPath());
  }

  void beginObject(String what) throws IOException {
    expect(JsonToken.BEGIN_OBJECT, what);
    json.beginObject();
  }

  void endObject() throws IOException {
    json.endObject();
  }

  void beginArray(String what) throws IOException {
    expect(JsonToken.BEGIN_ARRAY, what);
    json.beginArray();
  }

  void endArray() throws IOException {
    json.endArray();
  }

  boolean hasNext() throws IOException {
    return json.hasNext();
  }

  String name() throws IOException {
    return wellFormed(json.nextName());
  }

  String string(String what) throws IOException {
    expect(JsonToken.STRING, what);
    return wellFormed(json.nextString());
  }

  /** A number from 0 to 2^63 - 1, written in digits alone. */
  long size(String what) throws IOException {
    expect(JsonToken.NUMBER, what);
    String literal = json.nextString();
    if (literal.chars().allMatch(c -> c >= '0' && c <= '9')) {
      try {
        return Long.parseLong(literal);
      } catch (NumberFormatException e) {
        throw bad(what + " is " + Names.quote(literal) + ", which is 2^63 or more");
      }
    }
    throw bad(what + " is " + Names.quote(literal) + ", expected a whole number from 0 on");
  }

  /** Any value, as a tree. Numbers never pass through a double; a key twice is refused. */
  JsonElement tree() throws IOException {
    return switch (json.peek()) {
      case BEGIN_OBJECT -> objectTree();
      case BEGIN_ARRAY -> {
        JsonArray array = new JsonArray();
        json.beginArray();
        while (json.hasNext()) {
          array.add(tree());
        }
        json.endArray();
        yield array;
      }
      case STRING -> new JsonPrimitive(wellFormed(json.nextString()));
      case NUMBER -> new JsonPrimitive(new BigDecimal(json.nextString()));
      case BOOLEAN -> new JsonPrimitive(json.nextBoolean());
      default -> {
        json.nextNull();
        yield JsonNull.INSTANCE;
      }
    };
  }

  private JsonObject objectTree() throws IOException {
    JsonObject object = new JsonObject();
    json.beginObject();
    while (json.hasNext()) {
      String name = name();
      if (object.has(name)) {
        throw bad("the key " + Names.quote(name) + " stands there twice");
      }
      object.add(name, tree());
    }
    json.endObject();
    return object;
  }

  void skip() throws IOException {
    json.skipValue();
  }

  private void expect(JsonToken token, String what) throws IOException {
    JsonToken found = json.peek();
    if (found != token) {
      throw bad(what + " is a JSON " + found + ", expected " + token);
    }
  }

  private String wellFormed(String text) {
    if (!Names.isWellFormed(text)) {
      throw bad("the text " + Names.quote(text) + " has half a surrogate pair");
    }
    return text;
  }

  @Override
  public void close() throws IOException {
    json.close();
  }
}
