// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.LayerWeights;
import io.engram.hash.HashLayout;
import io.engram.store.MappedRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * A released checkpoint directory: {@code config.json}, safetensors (one file, or an index and its
 * shards) and, where ids are compressed, the tokenizer or a token map. Opening reads the
 * configuration and the file headers only; tables stay where they are.
 *
 * <p>Which layouts are known is told by the configuration's keys. Thread-safe; open until {@link
 * #close}, after which its tables and tensors refuse access.
 */
public final class Checkpoint implements AutoCloseable {
  private final Path directory;
  private final Arena arena;
  private final CheckpointTensors tensors;
  private final Dialect dialect;
  private final List<HashLayout> derived;

  private Checkpoint(Path directory, Arena arena, CheckpointTensors tensors, Dialect dialect) {
    this.directory = directory;
    this.arena = arena;
    this.tensors = tensors;
    this.dialect = dialect;
    this.derived = HashLayout.derive(dialect.config().hashing());
  }

  /**
   * Opens a checkpoint: reads its configuration and headers, and nothing else. It is not checked
   * yet; see {@link #check}.
   *
   * @param directory the checkpoint's directory, or that of a training run, whose last save is
   *     opened
   * @return the checkpoint
   * @throws EngramFormatException if the configuration is of no known layout or says what cannot
   *     be, or a header is broken
   */
  public static Checkpoint open(Path directory) {
    if (!Files.isDirectory(directory)) {
      throw new EngramFormatException(directory, "is not a directory");
    }
    return openHere(NumberedSaves.last(directory).orElse(directory));
  }

  private static Checkpoint openHere(Path directory) {
    Path file = directory.resolve("config.json");
    if (!Files.isRegularFile(file)) {
      throw new EngramFormatException(file, "is missing, so this is no checkpoint directory");
    }
    ConfigJson root = ConfigJson.read(file);
    Arena arena = Arena.ofShared();
    try {
      CheckpointTensors tensors = CheckpointTensors.open(directory, arena);
      return new Checkpoint(directory, arena, tensors, dialect(root, tensors));
    } catch (IllegalArgumentException | ArithmeticException e) {
      arena.close();
      throw new EngramFormatException(file, e.getMessage(), e);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  private static Dialect dialect(ConfigJson root, CheckpointTensors tensors) {
    ConfigJson text = root.object("text_config").orElse(root);
    if (text.has("engram_layer_ids")) {
      return new EngramKeys(root, tensors);
    }
    if (text.has("ple_layer_ids")) {
      return new PleKeys(root, tensors);
    }
    if (root.has("layer_ids") && root.has("max_ngram_size")) {
      return new ModuleKeys(root, tensors);
    }
    if (root.has(MemoryDescriptor.KEY)) {
      return new DescriptorKeys(root, tensors);
    }
    throw new EngramFormatException(
        root.file(),
        "describes no memory: it has none of engram_layer_ids, ple_layer_ids (alone or in"
            + " text_config), layer_ids with max_ngram_size, or "
            + MemoryDescriptor.KEY);
  }

  /**
   * The directory.
   *
   * @return its path, as given
   */
  public Path directory() {
    return directory;
  }

  /**
   * The configuration.
   *
   * @return the descriptor of this memory
   */
  public EngramConfig config() {
    return dialect.config();
  }

  /**
   * How the checkpoint is laid out.
   *
   * @return a phrase for people
   */
  public String layoutDescription() {
    return dialect.description();
  }

  /**
   * All tensors of the checkpoint, those that are not of the memory included.
   *
   * @return the tensors
   */
  public CheckpointTensors tensors() {
    return tensors;
  }

  /**
   * The tensors that a layer's memory consists of, there or not.
   *
   * @param layer a layer of the configuration
   * @return their names, the table first
   * @throws IllegalArgumentException if the layer has no memory
   */
  public List<String> tensorNames(int layer) {
    return dialect.expectedTensors(layer, layout(layer).rowCount()).stream()
        .map(Dialect.Expected::name)
        .toList();
  }

  /**
   * Multipliers, moduli and offsets of a layer, as the configuration implies them.
   *
   * @param layer a layer of the configuration
   * @return the layout
   * @throws IllegalArgumentException if the layer has no memory
   */
  public HashLayout layout(int layer) {
    return derived.get(indexOf(layer));
  }

  /**
   * How many layers of the backbone come before a layer, whichever way the configuration counts.
   *
   * @param layer a layer of the configuration
   * @return the layer's number, counted from 0
   */
  public int layersBefore(int layer) {
    return dialect.layersBefore(layer);
  }

  /**
   * Compressed ids, made from the checkpoint's own tokenizer, or its token map, or the identity for
   * a variant that hashes raw ids.
   *
   * @return the map; made anew at each call
   * @throws EngramFormatException if the tokenizer is missing or cannot be read
   */
  public TokenMap tokenMap() {
    try {
      return dialect.tokenMap(directory);
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(Path.of(e.getFile()), "is missing", e);
    } catch (IOException e) {
      throw new EngramException("the tokenizer of " + directory + " cannot be read: " + e, e);
    }
  }

  /**
   * Everything that can be known without the payload, in reading order: the vocabulary, then for
   * each layer the row count, the stored buffers, and shape and dtype of every tensor.
   *
   * @param tokenMap the map that will be used
   * @return the checks, those that hold included
   */
  public List<Check> check(TokenMap tokenMap) {
    List<Check> checks = new ArrayList<>();
    EngramConfig config = config();
    checks.add(Check.equal("vocabulary size", config.vocabularySize(), tokenMap.size()));
    checks.add(
        Check.equal(
            config.compressed() ? "compressed vocabulary size" : "hashed vocabulary size",
            config.hashing().vocabularySize(),
            tokenMap.compressedSize()));
    for (int layer : config.layerIds()) {
      HashLayout layout = layout(layer);
      String subject = "layer " + layer + " ";
      dialect
          .statedRows(layer)
          .ifPresent(rows ->
              checks.add(
                  Check.equal(
                      subject + "sum of the moduli, rows in config.json",
                      layout.rowCount(),
                      rows)));
      List<Check> tensorChecks = new ArrayList<>();
      for (Dialect.Expected expected : dialect.expectedTensors(layer, layout.rowCount())) {
        tensorChecks.add(check(expected));
      }
      checks.addAll(tensorChecks);
      if (tensorChecks.stream().allMatch(Check::holds)) {
        checks.addAll(storedBuffers(layer, subject, layout));
      }
    }
    return checks;
  }

  private List<Check> storedBuffers(int layer, String subject, HashLayout layout) {
    String stored = subject + "stored multipliers, moduli and offsets";
    try {
      Optional<HashLayout> found = dialect.storedLayout(layer);
      if (found.isEmpty()) {
        return List.of();
      }
      Optional<String> difference = layout.firstDifference(found.get());
      return List.of(
          difference
              .map(d -> Check.failed(stored, "what config.json implies", d))
              .orElse(new Check(stored, "equal", "equal to what config.json implies", true)));
    } catch (IllegalArgumentException e) {
      return List.of(Check.failed(stored, "what config.json implies", e.getMessage()));
    }
  }

  private Check check(Dialect.Expected expected) {
    String shape =
        expected.shape().stream().map(String::valueOf).collect(Collectors.joining(", ", "[", "]"));
    String wanted = String.join(" or ", expected.dtypes()) + shape;
    if (!tensors.contains(expected.name())) {
      return Check.failed(expected.name(), wanted, "no such tensor");
    }
    try {
      TensorInfo info = tensors.info(expected.name());
      boolean fits =
          expected.dtypes().contains(info.dtype()) && expected.shape().equals(info.shape());
      return new Check(expected.name(), wanted, info.dtype() + info.shape(), fits);
    } catch (EngramException e) {
      return Check.failed(expected.name(), wanted, e.getMessage());
    }
  }

  /**
   * Refuses to go on unless every check holds.
   *
   * @param tokenMap the map that will be used
   * @throws EngramFormatException naming everything that differs
   */
  public void require(TokenMap tokenMap) {
    List<Check> failed = check(tokenMap).stream().filter(c -> !c.holds()).toList();
    if (!failed.isEmpty()) {
      throw new EngramFormatException(
          directory,
          failed.size()
              + (failed.size() == 1 ? " thing does" : " things do")
              + " not fit: "
              + failed.stream().map(Check::toString).collect(Collectors.joining("; ")));
    }
  }

  /**
   * The table of a layer, read in place.
   *
   * @param layer a layer of the configuration
   * @return the table; close it when done
   * @throws IllegalArgumentException if the layer has no memory
   */
  public EngramTable table(int layer) {
    EngramConfig config = config();
    RowStore store =
        MappedRowStore.of(
            "layer " + layer,
            config.rowFormat().valueBytes(config.headDim()),
            config.rowFormat().scaleBytes(config.headDim()),
            rowParts(layer));
    return new EngramTable(store, config.rowFormat(), config.headDim());
  }

  /**
   * Where the rows of a layer's table lie in the files, for a tier of one's own choice.
   *
   * @param layer a layer of the configuration
   * @return the parts in the order of their rows, mapped until this checkpoint is closed
   * @throws IllegalArgumentException if the layer has no memory
   */
  public List<RowPart> rowParts(int layer) {
    indexOf(layer);
    List<RowPart> parts = new ArrayList<>();
    for (Dialect.TablePart part : dialect.tableParts(layer)) {
      parts.add(new RowPart(tensors.region(part.values()), part.scales().map(tensors::region)));
    }
    return parts;
  }

  /**
   * What the tensors behind {@link #rowParts} are called.
   *
   * @param layer a layer of the configuration
   * @return for each part the tensor of its values, then that of its scales if they are apart
   * @throws IllegalArgumentException if the layer has no memory
   */
  public List<List<String>> tableTensors(int layer) {
    indexOf(layer);
    return dialect.tableParts(layer).stream()
        .map(part ->
            part.scales().map(s -> List.of(part.values(), s)).orElse(List.of(part.values())))
        .toList();
  }

  /**
   * The dense weights of a layer, copied into anonymous memory and widened without loss.
   *
   * @param layer a layer of the configuration
   * @param arena owns the copies
   * @return the weights in canonical form
   * @throws IllegalArgumentException if the layer has no memory
   * @throws EngramException if a weight cannot be read or a scale is NaN
   */
  public LayerWeights weights(int layer, Arena arena) {
    indexOf(layer);
    LayerWeights weights = dialect.weights(layer, arena);
    weights.check(config().gate(), config().conv(), config().rowWidth());
    return weights;
  }

  private int indexOf(int layer) {
    int index = config().layerIds().indexOf(layer);
    if (index < 0) {
      throw new IllegalArgumentException(
          "layer " + layer + " has no memory; layers " + config().layerIds() + " have one");
    }
    return index;
  }

  /** Closes the files. Does nothing at a second call. */
  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
