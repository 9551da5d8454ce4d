// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import io.engram.EngramFormatException;
import java.io.IOException;
import java.nio.file.Path;
import java.text.Normalizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * Byte-level BPE as {@code tokenizer.json} describes it: added tokens are cut out, the rest is
 * normalised, split into words, and each word's bytes are merged by rank.
 */
final class BpeTokenizer implements Tokenizer {
  /** The splitting that ByteLevel does itself (GPT-2). */
  private static final String GPT2_WORDS =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

  /** Digits follows Unicode 17 in the reference: general category N, and what Unicode 16 lacks. */
  private static final Pattern NUMERIC =
      Pattern.compile("[\\p{N}\\x{11DE0}-\\x{11DE9}\\x{16FF4}-\\x{16FF6}]");

  private static final int MAX_SEQUENCE_DEPTH = 8;

  private final Vocabulary vocabulary;
  private final boolean nfc;
  private final AddedTokens added;
  private final AddedTokens addedToNormalized;
  private final List<TextSplitter> splitters;

  /** Whether ByteLevel puts a space before words that have none, and splits them itself. */
  private final boolean prefixSpace;

  private final List<TextSplitter> byteLevel;

  /** Ids of the tokens of a single byte. */
  private final int[] byteIds;

  private final MergeTable merges;

  /** Tokens by spelling, where whole words are looked up first; else empty. */
  private final Map<String, Integer> wholeWords;

  private BpeTokenizer(Vocabulary vocabulary, Reader reader) {
    this.vocabulary = vocabulary;
    this.nfc = reader.nfc;
    this.added = reader.addedTokens(false);
    this.addedToNormalized = reader.addedTokens(true);
    this.splitters = List.copyOf(reader.splitters);
    this.prefixSpace = reader.prefixSpace;
    this.byteLevel =
        reader.byteLevelWords
            ? List.of(
                new TextSplitter(
                    OnigurumaSyntax.compile(GPT2_WORDS), TextSplitter.Behavior.ISOLATED, false))
            : List.of();
    this.byteIds = reader.byteIds();
    this.merges = reader.merges();
    this.wholeWords = reader.json.ignoreMerges() ? reader.json.modelVocabulary() : Map.of();
  }

  static BpeTokenizer read(Path file) throws IOException {
    TokenizerJson json = TokenizerJson.read(file, true);
    Reader reader = new Reader(file, json);
    reader.checkUnused();
    reader.normalizer(json.sections().get("normalizer"), 0);
    reader.preTokenizer(json.sections().get("pre_tokenizer"), 0);
    reader.postProcessor(json.sections().get("post_processor"), 0);
    reader.requireByteLevel();
    return new BpeTokenizer(Vocabulary.of(json), reader);
  }

  static TextSplitter digits(boolean each) {
    return new TextSplitter(
        NUMERIC, each ? TextSplitter.Behavior.ISOLATED : TextSplitter.Behavior.CONTIGUOUS, false);
  }

  @Override
  public Vocabulary vocabulary() {
    return vocabulary;
  }

  @Override
  public int[] encode(String text) {
    FrozenUnicode.requireWellFormed(text);
    IntList out = new IntList();
    MergeTable.Word word = new MergeTable.Word();
    for (AddedTokens.Piece piece : added.split(text)) {
      if (piece.id() >= 0) {
        out.add(piece.id());
        continue;
      }
      String normal =
          nfc ? FrozenUnicode.normalize(piece.text(), Normalizer.Form.NFC) : piece.text();
      for (AddedTokens.Piece part : addedToNormalized.split(normal)) {
        if (part.id() >= 0) {
          out.add(part.id());
        } else {
          encode(part.text(), word, out);
        }
      }
    }
    return out.toArray();
  }

  private void encode(String text, MergeTable.Word word, IntList out) {
    IntList ranges = split(text, splitters);
    for (int i = 0; i < ranges.size(); i += 2) {
      String range = text.substring(ranges.get(i), ranges.get(i + 1));
      if (prefixSpace && !range.startsWith(" ")) {
        range = " " + range;
      }
      IntList words = split(range, byteLevel);
      for (int k = 0; k < words.size(); k += 2) {
        encodeWord(range.substring(words.get(k), words.get(k + 1)).getBytes(UTF_8), word, out);
      }
    }
  }

  private static IntList split(String text, List<TextSplitter> splitters) {
    IntList ranges = new IntList();
    ranges.add(0);
    ranges.add(text.length());
    for (TextSplitter splitter : splitters) {
      ranges = splitter.split(text, ranges);
    }
    return ranges;
  }

  private void encodeWord(byte[] bytes, MergeTable.Word word, IntList out) {
    if (!wholeWords.isEmpty()) {
      Integer id = wholeWords.get(ByteAlphabet.spell(bytes));
      if (id != null) {
        out.add(id);
        return;
      }
    }
    word.clear();
    for (byte b : bytes) {
      word.add(byteIds[b & 0xFF]);
    }
    merges.merge(word, out);
  }

  @Override
  public String toString() {
    return "Byte-level BPE with a " + vocabulary;
  }

  /** Turns the parts of a file into those of a tokenizer, or refuses it. */
  private static final class Reader {
    private final Path file;
    private final TokenizerJson json;
    private final List<TextSplitter> splitters = new ArrayList<>();
    private boolean nfc;
    private boolean byteLevel;
    private boolean prefixSpace;
    private boolean byteLevelWords;

    Reader(Path file, TokenizerJson json) {
      this.file = file;
      this.json = json;
    }

    void checkUnused() {
      for (String name : List.of("truncation", "padding")) {
        if (!isNull(json.sections().get(name))) {
          throw problem(name + " is " + json.sections().get(name) + ", expected null");
        }
      }
    }

    void normalizer(JsonElement element, int depth) {
      if (isNull(element)) {
        return;
      }
      JsonObject object = object("normalizer", element);
      switch (string("normalizer", object, "type")) {
        case "NFC" -> nfc = true;
        case "Sequence" ->
            elements("normalizer", object, "normalizers", depth)
                .forEach(e -> normalizer(e, depth + 1));
        case String type -> throw unsupported("normalizer", type, "NFC or none");
      }
    }

    void preTokenizer(JsonElement element, int depth) {
      if (isNull(element)) {
        return;
      }
      JsonObject object = object("pre_tokenizer", element);
      String type = string("pre_tokenizer", object, "type");
      if (byteLevel && !type.equals("Sequence")) {
        throw problem("pre_tokenizer has " + type + " behind ByteLevel, which must be the last");
      }
      switch (type) {
        case "Sequence" ->
            elements("pre_tokenizer", object, "pretokenizers", depth)
                .forEach(e -> preTokenizer(e, depth + 1));
        case "Split" -> splitters.add(split(object));
        case "Digits" -> {
          boolean each = bool("pre_tokenizer", object, "individual_digits");
          splitters.add(digits(each));
        }
        case "ByteLevel" -> {
          byteLevel = true;
          prefixSpace = bool("pre_tokenizer", object, "add_prefix_space");
          byteLevelWords = !object.has("use_regex") || bool("pre_tokenizer", object, "use_regex");
        }
        default -> throw unsupported("pre_tokenizer", type, "ByteLevel, Split, Digits or Sequence");
      }
    }

    private TextSplitter split(JsonObject object) {
      String name = string("pre_tokenizer", object, "behavior");
      TextSplitter.Behavior behavior =
          Arrays.stream(TextSplitter.Behavior.values())
              .filter(b -> b.jsonName.equals(name))
              .findFirst()
              .orElseThrow(() ->
                  problem(
                      "pre_tokenizer: the behavior of Split is '"
                          + name
                          + "', expected one of "
                          + Arrays.stream(TextSplitter.Behavior.values())
                              .map(b -> b.jsonName)
                              .toList()));
      return new TextSplitter(
          pattern(object.get("pattern")), behavior, bool("pre_tokenizer", object, "invert"));
    }

    private Pattern pattern(JsonElement element) {
      if (element instanceof JsonObject object && object.size() == 1) {
        if (object.has("String")) {
          String literal = string("pre_tokenizer.pattern", object, "String");
          if (literal.isEmpty()) {
            throw problem("pre_tokenizer: the pattern of Split is empty");
          }
          return Pattern.compile(literal, Pattern.LITERAL);
        }
        if (object.has("Regex")) {
          try {
            return OnigurumaSyntax.compile(string("pre_tokenizer.pattern", object, "Regex"));
          } catch (IllegalArgumentException e) {
            throw new EngramFormatException(file, "pre_tokenizer: " + e.getMessage(), e);
          }
        }
      }
      throw problem(
          "pre_tokenizer: the pattern of Split is " + element + ", expected String or Regex");
    }

    /** It adds nothing where no special tokens are asked for, but what it is must be known. */
    void postProcessor(JsonElement element, int depth) {
      if (isNull(element)) {
        return;
      }
      JsonObject object = object("post_processor", element);
      switch (string("post_processor", object, "type")) {
        case "ByteLevel", "TemplateProcessing" -> {}
        case "Sequence" ->
            elements("post_processor", object, "processors", depth)
                .forEach(e -> postProcessor(e, depth + 1));
        case String type ->
            throw unsupported("post_processor", type, "ByteLevel, TemplateProcessing or none");
      }
    }

    void requireByteLevel() {
      if (!byteLevel) {
        throw problem(
            "pre_tokenizer is "
                + json.sections().get("pre_tokenizer")
                + ", expected ByteLevel, alone or as the last of a Sequence");
      }
    }

    AddedTokens addedTokens(boolean normalized) {
      List<AddedToken> tokens =
          json.added().stream().filter(t -> t.normalized() == normalized).toList();
      List<String> patterns =
          tokens.stream()
              .map(t ->
                  normalized && nfc
                      ? FrozenUnicode.normalize(t.content(), Normalizer.Form.NFC)
                      : t.content())
              .toList();
      Set<String> seen = new HashSet<>();
      for (int i = 0; i < patterns.size(); i++) {
        if (!seen.add(patterns.get(i))) {
          throw problem(
              "the added token '"
                  + tokens.get(i).content()
                  + "' has the same normal form as another one");
        }
      }
      return new AddedTokens(tokens, patterns);
    }

    int[] byteIds() {
      int[] ids = new int[256];
      for (int b = 0; b < 256; b++) {
        Integer id = json.modelVocabulary().get(String.valueOf(ByteAlphabet.charOf(b)));
        boolean inUtf8 = b != 0xC0 && b != 0xC1 && b < 0xF5;
        if (id == null && inUtf8) {
          throw problem(
              String.format(
                  "model.vocab has no token '%c' for the byte 0x%02X", ByteAlphabet.charOf(b), b));
        }
        ids[b] = id == null ? -1 : id;
      }
      return ids;
    }

    MergeTable merges() {
      List<String> names = json.merges();
      MergeTable table = new MergeTable(names.size() / 2);
      for (int i = 0; i < names.size(); i += 2) {
        String left = names.get(i);
        String right = names.get(i + 1);
        int rank = i / 2;
        boolean added =
            table.add(mergeId(rank, left), mergeId(rank, right), mergeId(rank, left.concat(right)));
        if (!added) {
          throw problem("merge " + rank + " of '" + left + "' and '" + right + "' is there twice");
        }
      }
      return table;
    }

    private int mergeId(int rank, String token) {
      Integer id = json.modelVocabulary().get(token);
      if (id == null) {
        throw problem("merge " + rank + " needs the token '" + token + "', which is missing");
      }
      return id;
    }

    private static boolean isNull(JsonElement element) {
      return element == null || element.isJsonNull();
    }

    private JsonObject object(String where, JsonElement element) {
      if (element instanceof JsonObject object) {
        return object;
      }
      throw problem(where + " is " + element + ", expected an object");
    }

    private List<JsonElement> elements(String where, JsonObject object, String name, int depth) {
      if (depth >= MAX_SEQUENCE_DEPTH) {
        throw problem(where + " has more than " + MAX_SEQUENCE_DEPTH + " nested sequences");
      }
      if (object.get(name) instanceof JsonArray array) {
        return array.asList();
      }
      throw problem(where + "." + name + " is " + object.get(name) + ", expected an array");
    }

    private String string(String where, JsonObject object, String name) {
      if (object.get(name) instanceof JsonPrimitive value && value.isString()) {
        return value.getAsString();
      }
      throw problem(where + "." + name + " is " + object.get(name) + ", expected a string");
    }

    private boolean bool(String where, JsonObject object, String name) {
      if (object.get(name) instanceof JsonPrimitive value && value.isBoolean()) {
        return value.getAsBoolean();
      }
      throw problem(where + "." + name + " is " + object.get(name) + ", expected true or false");
    }

    private EngramFormatException unsupported(String where, String type, String expected) {
      return problem(where + " is " + type + ", which is not supported: expected " + expected);
    }

    private EngramFormatException problem(String what) {
      return new EngramFormatException(file, what);
    }
  }
}
