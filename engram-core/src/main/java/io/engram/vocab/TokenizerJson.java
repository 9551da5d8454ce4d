// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.MalformedJsonException;
import io.engram.EngramFormatException;
import java.io.EOFException;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * A HuggingFace {@code tokenizer.json} with a byte-level BPE model, parsed as a stream: memory
 * follows the size of the file, whatever numbers it holds.
 *
 * @param tokens all tokens by id, none null
 * @param modelVocabulary the ids of the model's own tokens
 * @param merges left and right token of each merge in the order of their rank; empty unless asked
 *     for
 * @param ignoreMerges whether a whole word that is a token is not built from merges
 * @param added added tokens in the order of the file
 * @param sections the other parts of the file by name
 */
record TokenizerJson(
    List<String> tokens,
    Map<String, Integer> modelVocabulary,
    List<String> merges,
    boolean ignoreMerges,
    List<AddedToken> added,
    Map<String, JsonElement> sections) {

  private static final Set<String> SECTIONS =
      Set.of(
          "version",
          "truncation",
          "padding",
          "normalizer",
          "pre_tokenizer",
          "post_processor",
          "decoder");

  static TokenizerJson read(Path file, boolean withMerges) throws IOException {
    return parse(file, in -> new Parser(file, in, withMerges).parse());
  }

  /** Reads an object from texts to ids. */
  static Map<String, Integer> readIds(Path file) throws IOException {
    return parse(file, in -> new Parser(file, in, false).ids("the id of a special token"));
  }

  private interface Parse<T> {
    T from(JsonReader in) throws IOException;
  }

  private static <T> T parse(Path file, Parse<T> parse) throws IOException {
    try (JsonReader in = new JsonReader(Files.newBufferedReader(file, StandardCharsets.UTF_8))) {
      in.setStrictness(Strictness.STRICT);
      T parsed = parse.from(in);
      if (in.peek() != JsonToken.END_DOCUMENT) {
        throw new EngramFormatException(file, "there is more behind the end of the JSON value");
      }
      return parsed;
    } catch (MalformedJsonException | EOFException | JsonParseException e) {
      throw new EngramFormatException(file, "not JSON: " + e.getMessage(), e);
    } catch (CharacterCodingException e) {
      throw new EngramFormatException(file, "not UTF-8: " + e.getMessage(), e);
    }
  }

  /** The id that a string of digits writes, or -1 if it is none: too large, or not plain digits. */
  static int parseId(String digits) {
    if (digits.isEmpty()
        || digits.length() > 10
        || (digits.length() > 1 && digits.charAt(0) == '0')) {
      return -1;
    }
    long id = 0;
    for (int i = 0; i < digits.length(); i++) {
      char c = digits.charAt(i);
      if (c < '0' || c > '9') {
        return -1;
      }
      id = id * 10 + c - '0';
    }
    return id <= Integer.MAX_VALUE ? (int) id : -1;
  }

  private static final class Parser {
    private final Path file;
    private final JsonReader in;
    private final boolean withMerges;
    private final Map<String, JsonElement> sections = new HashMap<>();
    private final List<AddedToken> added = new ArrayList<>();
    private final List<String> merges = new ArrayList<>();
    private Map<String, Integer> vocabulary;
    private boolean ignoreMerges;
    private boolean model;

    Parser(Path file, JsonReader in, boolean withMerges) {
      this.file = file;
      this.in = in;
      this.withMerges = withMerges;
    }

    TokenizerJson parse() throws IOException {
      Set<String> seen = new HashSet<>();
      expect(JsonToken.BEGIN_OBJECT);
      in.beginObject();
      while (in.hasNext()) {
        String name = in.nextName();
        if (!seen.add(name)) {
          throw problem(name + " is there twice");
        }
        switch (name) {
          case "added_tokens" -> addedTokens();
          case "model" -> model();
          default -> {
            if (!SECTIONS.contains(name)) {
              throw problem("'" + name + "' is not a part of tokenizer.json that is known");
            }
            sections.put(name, element());
          }
        }
      }
      in.endObject();
      if (!model || vocabulary == null) {
        throw problem("model" + (model ? ".vocab" : "") + " is missing");
      }
      check("version", sections.get("version"), "1.0");
      checkDecoder();
      return new TokenizerJson(
          List.of(tokens()), vocabulary, merges, ignoreMerges, List.copyOf(added), sections);
    }

    private void checkDecoder() {
      JsonElement decoder = sections.get("decoder");
      String type =
          decoder instanceof JsonObject object && object.get("type") != null
              ? object.get("type").toString()
              : String.valueOf(decoder);
      if (!type.equals("\"ByteLevel\"")) {
        throw problem("decoder is " + type + ", expected \"ByteLevel\"");
      }
    }

    private void check(String name, JsonElement found, String expected) {
      if (found != null && !(found.isJsonPrimitive() && found.getAsString().equals(expected))) {
        throw problem(name + " is " + found + ", expected \"" + expected + "\"");
      }
    }

    private void model() throws IOException {
      model = true;
      Set<String> seen = new HashSet<>();
      String type = null;
      expect(JsonToken.BEGIN_OBJECT);
      in.beginObject();
      while (in.hasNext()) {
        String name = in.nextName();
        if (!seen.add(name)) {
          throw problem("model." + name + " is there twice");
        }
        switch (name) {
          case "type" -> {
            type = string();
            if (!type.equals("BPE")) {
              throw problem("model.type is '" + type + "', which is not supported: expected 'BPE'");
            }
          }
          case "vocab" -> vocabulary = ids("a token's id");
          case "merges" -> merges();
          case "ignore_merges" -> ignoreMerges = bool();
          case "fuse_unk" -> bool();
          case "byte_fallback" -> {
            if (bool()) {
              throw problem("model.byte_fallback is true: only byte-level BPE is supported");
            }
          }
          case "dropout", "unk_token" -> unused(name, false);
          case "continuing_subword_prefix", "end_of_word_suffix" -> unused(name, true);
          default -> throw problem("model." + name + " is not known for a BPE model");
        }
      }
      in.endObject();
      if (type == null) {
        throw problem("model.type is missing, expected 'BPE'");
      }
    }

    /** What byte-level BPE has no use for must be absent, null, or (if allowed) empty. */
    private void unused(String name, boolean mayBeEmpty) throws IOException {
      JsonElement value = element();
      boolean empty =
          value.isJsonNull()
              || (mayBeEmpty && value.isJsonPrimitive() && value.getAsString().isEmpty());
      if (!empty) {
        throw problem("model." + name + " is " + value + ", which is not supported: expected null");
      }
    }

    Map<String, Integer> ids(String what) throws IOException {
      Map<String, Integer> ids = new LinkedHashMap<>();
      expect(JsonToken.BEGIN_OBJECT);
      in.beginObject();
      while (in.hasNext()) {
        String token = wellFormed(in.nextName());
        if (token.isEmpty()) {
          throw problem("an empty token at " + in.getPath());
        }
        if (ids.put(token, id(what)) != null) {
          throw problem("the token '" + token + "' is there twice");
        }
      }
      in.endObject();
      return ids;
    }

    private void merges() throws IOException {
      if (!withMerges) {
        in.skipValue();
        return;
      }
      expect(JsonToken.BEGIN_ARRAY);
      in.beginArray();
      while (in.hasNext()) {
        if (in.peek() == JsonToken.BEGIN_ARRAY) {
          in.beginArray();
          merges.add(string());
          merges.add(string());
          expect(JsonToken.END_ARRAY);
          in.endArray();
        } else {
          String pair = string();
          int space = pair.indexOf(' ');
          if (space < 0 || pair.indexOf(' ', space + 1) >= 0) {
            throw problem("merge " + merges.size() / 2 + " is '" + pair + "', expected two tokens");
          }
          merges.add(pair.substring(0, space));
          merges.add(pair.substring(space + 1));
        }
      }
      in.endArray();
    }

    private void addedTokens() throws IOException {
      if (in.peek() == JsonToken.NULL) {
        in.nextNull();
        return;
      }
      expect(JsonToken.BEGIN_ARRAY);
      in.beginArray();
      while (in.hasNext()) {
        added.add(addedToken());
      }
      in.endArray();
    }

    private AddedToken addedToken() throws IOException {
      int id = -1;
      String content = null;
      Map<String, Boolean> flags = new HashMap<>();
      expect(JsonToken.BEGIN_OBJECT);
      in.beginObject();
      while (in.hasNext()) {
        String name = in.nextName();
        switch (name) {
          case "id" -> id = id("the id of an added token");
          case "content" -> content = string();
          case "single_word", "lstrip", "rstrip", "normalized", "special" ->
              flags.put(name, bool());
          default -> throw problem("added token with an unknown field '" + name + "'");
        }
      }
      in.endObject();
      if (id < 0 || content == null || content.isEmpty() || flags.size() < 5) {
        throw problem(
            "added token "
                + added.size()
                + " (id "
                + id
                + ", content '"
                + content
                + "') needs id, content, single_word, lstrip, rstrip, normalized and special");
      }
      return new AddedToken(
          id,
          content,
          flags.get("single_word"),
          flags.get("lstrip"),
          flags.get("rstrip"),
          flags.get("normalized"));
    }

    /**
     * Tokens by id. The model's ids must be 0 to n - 1. An added token that is no token of the
     * model gets the next id, as in the reference, which ignores the id in the file.
     */
    private String[] tokens() {
      int modelSize = vocabulary.size();
      List<String> beyond = new ArrayList<>();
      Set<String> seen = new HashSet<>();
      for (AddedToken token : added) {
        if (!seen.add(token.content())) {
          throw problem("the added token '" + token.content() + "' is there twice");
        }
        Integer inModel = vocabulary.get(token.content());
        int id = inModel != null ? inModel : modelSize + beyond.size();
        if (token.id() != id) {
          throw problem(
              "the added token '"
                  + token.content()
                  + "' has the id "
                  + token.id()
                  + ", expected "
                  + id
                  + (inModel != null
                      ? " as in model.vocab"
                      : ": the next one behind the model's and the added tokens before it"));
        }
        if (inModel == null) {
          beyond.add(token.content());
        }
      }
      String[] tokens = new String[modelSize + beyond.size()];
      if (tokens.length == 0) {
        throw problem("there is no token");
      }
      vocabulary.forEach((token, id) -> {
        if (id >= modelSize) {
          throw problem(
              "the token '"
                  + token
                  + "' has the id "
                  + id
                  + ", but model.vocab has "
                  + modelSize
                  + " tokens: each id from 0 to "
                  + (modelSize - 1)
                  + " must be there once");
        }
        if (tokens[id] != null) {
          throw problem(
              "the tokens '" + tokens[id] + "' and '" + token + "' have the same id " + id);
        }
        tokens[id] = token;
      });
      for (int i = 0; i < beyond.size(); i++) {
        tokens[modelSize + i] = beyond.get(i);
      }
      return tokens;
    }

    private JsonElement element() throws IOException {
      if (in.peek() == JsonToken.NULL) {
        in.nextNull();
        return JsonNull.INSTANCE;
      }
      return JsonParser.parseReader(in);
    }

    private int id(String what) throws IOException {
      expect(JsonToken.NUMBER);
      String path = in.getPath();
      String digits = in.nextString();
      int id = parseId(digits);
      if (id < 0) {
        throw problem(
            what + " is " + digits + " at " + path + ", expected 0 to " + Integer.MAX_VALUE);
      }
      return id;
    }

    private String string() throws IOException {
      expect(JsonToken.STRING);
      return wellFormed(in.nextString());
    }

    private String wellFormed(String text) {
      try {
        FrozenUnicode.requireWellFormed(text);
      } catch (IllegalArgumentException e) {
        throw new EngramFormatException(file, e.getMessage() + " at " + in.getPath(), e);
      }
      return text;
    }

    private boolean bool() throws IOException {
      expect(JsonToken.BOOLEAN);
      return in.nextBoolean();
    }

    private void expect(JsonToken expected) throws IOException {
      JsonToken found = in.peek();
      if (found != expected) {
        throw problem("found " + found + " at " + in.getPath() + ", expected " + expected);
      }
    }

    private EngramFormatException problem(String what) {
      return new EngramFormatException(file, what);
    }
  }
}
