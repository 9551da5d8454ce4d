// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramConfig;
import io.engram.EngramFormatException;
import io.engram.LayerWeights;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import io.engram.vocab.TokenMapFile;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * One way in which checkpoints spell a memory: its configuration keys and its tensor names. This is
 * the only place where released layouts are told apart; everything behind it sees {@link
 * EngramConfig}, tables and {@link LayerWeights}.
 */
interface Dialect {

  /** A tensor that must be there, and what it must be. An empty dtype list admits any. */
  record Expected(String name, List<String> dtypes, List<Long> shape) {}

  /** Tensors that hold consecutive rows of a table, and their scales where they are apart. */
  record TablePart(String values, Optional<String> scales) {}

  EngramConfig config();

  /** Table rows of a layer as the configuration states them, where it does. */
  Optional<Long> statedRows(int layer);

  List<TablePart> tableParts(int layer);

  List<Expected> expectedTensors(int layer, long tableRows);

  /** Multipliers, moduli and offsets that the checkpoint stores, where it does. */
  Optional<HashLayout> storedLayout(int layer);

  TokenMap tokenMap(Path directory) throws IOException;

  LayerWeights weights(int layer, Arena arena);

  /** How many layers of the backbone come before a layer: its number, where layers count from 0. */
  default int layersBefore(int layer) {
    return layer;
  }

  /** How this layout is called in messages: its configuration keys. */
  String description();

  /** Orders from 2 up to the value of a key. */
  static List<Integer> orders(ConfigJson json, String key, int highest) {
    if (highest < 2 || highest > HashScheme.MAX_ORDER) {
      throw json.problem(
          key, "is " + highest + ", expected an order from 2 to " + HashScheme.MAX_ORDER);
    }
    return IntStream.rangeClosed(2, highest).boxed().toList();
  }

  /**
   * The token map that a key names, a raw int32 file of the directory, or that of the tokenizer.
   */
  static TokenMap tokenMap(ConfigJson json, String key, Path directory) throws IOException {
    if (json.has(key)) {
      String name = json.string(key);
      if (!CheckpointTensors.isFileName(name)) {
        throw json.problem(key, "is " + name + ", expected a file name in this directory");
      }
      return TokenMapFile.readRaw(directory.resolve(name)).map();
    }
    Path tokenizer = directory.resolve("tokenizer.json");
    if (!Files.isRegularFile(tokenizer)) {
      throw new EngramFormatException(
          tokenizer,
          "is missing: this variant compresses token ids, which needs the vocabulary, or a token map"
              + " that "
              + key
              + " in config.json names");
    }
    return TokenMap.compress(Vocabulary.readTokenizerJson(tokenizer));
  }

  /** The format of a table that has no scales, from its dtype. */
  static RowFormat rowFormat(CheckpointTensors tensors, String table) {
    return switch (tensors.info(table).dtype()) {
      case "F32" -> RowFormat.F32;
      case "BF16" -> RowFormat.BF16;
      case "F16" -> RowFormat.F16;
      case String other ->
          throw new EngramFormatException(
              tensors.file(table),
              table + " is " + other + ": tables of this layout are read as F32, BF16 or F16");
    };
  }
}
