// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.EngramMemory;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.vocab.TokenMap;
import io.engram.vocab.TokenMapFile;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.function.LongConsumer;
import java.util.stream.LongStream;

/**
 * Writes a memory, such as one that was trained here, in a released layout: as a directory that
 * {@link EngramMemory#open(Path)} serves, and others can read.
 *
 * <p>The directory appears whole or not at all, and only after it has been opened and found to say
 * what the memory says. Tables are read and written piece by piece, whatever their size.
 *
 * <p>Not thread-safe; the memory must not change meanwhile.
 */
public final class CheckpointExporter {
  private static final String TOKEN_MAP = "token_map.i32le.bin";
  private static final String TOKENIZER = "tokenizer.json";
  private static final long SHARD_BYTES = 5_000_000_000L;

  private final EngramMemory memory;
  private final Layout layout;
  private Optional<Path> tokenizer = Optional.empty();
  private long shardBytes = SHARD_BYTES;
  private LongConsumer progress = bytes -> {};
  private long written;

  /** What is written. */
  public enum Layout {
    /**
     * The keys and state-dict names of the paper's demo: tables and weights as they are, the rows
     * in F32, BF16 or F16.
     */
    DEMO,

    /**
     * The layout of DeepSeek-V4.1-Flash: rows in FP8 E4M3 with a power-of-two scale for 32 values,
     * one fused projection in FP8 with a scale for each square of 32, norm weights in bfloat16.
     * What is FP8 already stays as it is; anything else is rounded to nearest.
     */
    V41;

    private ExportLayout export() {
      return switch (this) {
        case DEMO -> new ModuleExport();
        case V41 -> new EngramExport();
      };
    }
  }

  private CheckpointExporter(EngramMemory memory, Layout layout) {
    this.memory = memory;
    this.layout = layout;
  }

  /**
   * An export.
   *
   * @param memory the memory, in whatever tier
   * @param layout the layout
   * @return the export, to be configured and written
   * @throws IllegalArgumentException if the layout cannot say what the memory's configuration says,
   *     naming every field
   */
  public static CheckpointExporter of(EngramMemory memory, Layout layout) {
    EngramConfig config = memory.config();
    List<String> obstacles = new ArrayList<>(layout.export().obstacles(config));
    if (!obstacles.isEmpty()) {
      throw new IllegalArgumentException(
          "the layout " + layout + " cannot hold this memory: " + String.join("; ", obstacles));
    }
    return new CheckpointExporter(memory, layout);
  }

  /**
   * The tokenizer that the token map was made from. It is copied, and readers make the map from it;
   * without one the map itself is written, which only readers of this project know.
   *
   * @param file a {@code tokenizer.json}
   * @return this
   * @throws IllegalArgumentException if it gives another token map than the memory's
   * @throws IOException if it cannot be read
   */
  public CheckpointExporter tokenizer(Path file) throws IOException {
    TokenMap made = TokenMap.compress(Vocabulary.readTokenizerJson(file));
    TokenMap map = memory.tokenMap();
    String differs = null;
    if (made.size() != map.size()) {
      differs = "it has " + made.size() + " ids, the memory " + map.size();
    } else {
      for (int id = 0; id < made.size() && differs == null; id++) {
        if (made.get(id) != map.get(id)) {
          differs =
              "token id %d is compressed to %d, in the memory to %d"
                  .formatted(id, made.get(id), map.get(id));
        }
      }
    }
    if (differs != null) {
      throw new IllegalArgumentException(
          file + ": is not the tokenizer of this memory: " + differs);
    }
    tokenizer = Optional.of(file);
    return this;
  }

  /**
   * How large a file of tensors may become before another one begins; a tensor that is larger has
   * one of its own.
   *
   * @param bytes at least 1; 5 GB unless set
   * @return this
   * @throws IllegalArgumentException if it is less than 1
   */
  public CheckpointExporter shardBytes(long bytes) {
    if (bytes < 1) {
      throw new IllegalArgumentException("shardBytes is " + bytes + ", expected at least 1");
    }
    shardBytes = bytes;
    return this;
  }

  /**
   * Who is told how far it is.
   *
   * @param listener told the bytes of tensors written so far; what it throws ends the export
   * @return this
   */
  public CheckpointExporter progress(LongConsumer listener) {
    progress = Objects.requireNonNull(listener, "listener");
    return this;
  }

  /**
   * How much is to be written.
   *
   * @return bytes of all tensors
   */
  public long byteSize() {
    long sum = 0;
    try (Arena arena = Arena.ofConfined()) {
      for (int layer : memory.config().layerIds()) {
        for (ExportLayout.Out out : tensors(layer, arena)) {
          sum += out.byteSize();
        }
      }
    }
    return sum;
  }

  private List<ExportLayout.Out> tensors(int layer, Arena arena) {
    return layout
        .export()
        .tensors(
            memory.config(),
            memory.layout(layer),
            memory.table(layer),
            memory.weights(layer),
            arena);
  }

  /**
   * Writes the directory. An interrupt ends it, and is kept.
   *
   * @param target the directory; it must not be there
   * @return the directory
   * @throws EngramException if it is there, another process writes it now, the disk is full, a
   *     value cannot be held, or it was interrupted; nothing is left then
   */
  public Path write(Path target) {
    Path absolute = target.toAbsolutePath();
    Path lock = absolute.resolveSibling("." + absolute.getFileName() + ".lock");
    try (StagedDirectory staged = StagedDirectory.begin(absolute, lock, List.of())) {
      try (Arena arena = Arena.ofShared()) {
        written = 0;
        staged.requireSpace(byteSize());
        writeTensors(staged.path(), arena);
        writeConfig(staged.path());
        check(staged.path());
        staged.commit();
        return target;
      } catch (IOException e) {
        throw new EngramException(target + ": cannot be written: " + e, e);
      } finally {
        Files.deleteIfExists(lock);
      }
    } catch (IOException e) {
      throw new EngramException(lock + ": cannot be removed: " + e, e);
    }
  }

  private void writeTensors(Path directory, Arena arena) throws IOException {
    List<List<ExportLayout.Out>> shards = new ArrayList<>();
    long inShard = Long.MAX_VALUE;
    for (int layer : memory.config().layerIds()) {
      for (ExportLayout.Out out : tensors(layer, arena)) {
        long bytes = out.byteSize();
        if (inShard > shardBytes - bytes) {
          shards.add(new ArrayList<>());
          inShard = 0;
        }
        shards.getLast().add(out);
        inShard += bytes;
      }
    }
    JsonObject map = new JsonObject();
    for (int s = 0; s < shards.size(); s++) {
      String name =
          shards.size() == 1
              ? CheckpointTensors.SINGLE
              : "model-%05d-of-%05d.safetensors".formatted(s + 1, shards.size());
      SafetensorsWriter writer = new SafetensorsWriter().metadata("format", "pt");
      for (ExportLayout.Out out : shards.get(s)) {
        writer.add(out.name(), out.dtype(), out.sizes(), counted(out));
        map.addProperty(out.name(), name);
      }
      writer.write(directory.resolve(name));
    }
    if (shards.size() > 1) {
      JsonObject metadata = new JsonObject();
      metadata.addProperty("total_size", written);
      JsonObject index = new JsonObject();
      index.add("metadata", metadata);
      index.add("weight_map", map);
      writeJson(directory.resolve(CheckpointTensors.INDEX), index);
    }
  }

  private SafetensorsWriter.Bytes counted(ExportLayout.Out out) {
    return (offset, to) -> {
      if (Thread.currentThread().isInterrupted()) {
        throw new EngramException("interrupted while " + out.name() + " was written");
      }
      out.bytes().read(offset, to);
      written += to.byteSize();
      progress.accept(written);
    };
  }

  private void writeConfig(Path directory) throws IOException {
    EngramConfig config = memory.config();
    Optional<String> map = Optional.empty();
    if (tokenizer.isPresent()) {
      Files.copy(tokenizer.get(), directory.resolve(TOKENIZER));
    } else {
      TokenMapFile.writeRaw(directory.resolve(TOKEN_MAP), memory.tokenMap());
      map = Optional.of(TOKEN_MAP);
    }
    List<HashLayout> layouts = config.layerIds().stream().map(memory::layout).toList();
    writeJson(directory.resolve("config.json"), layout.export().config(config, layouts, map));
  }

  private static void writeJson(Path file, JsonObject json) throws IOException {
    Files.writeString(
        file,
        new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create().toJson(json) + "\n");
  }

  /** What was written must be read as what was meant. */
  private void check(Path directory) {
    EngramConfig config = memory.config();
    // Ids that are hashed as they are, and ids that an identity compresses, are the same rows.
    EngramConfig expected =
        new EngramConfig(
            config.vocabularySize(),
            true,
            config.fillTokenId(),
            config.boundaryTokenId(),
            config.dead(),
            config.hashing(),
            layout.export().rowFormat(config),
            config.headDim(),
            config.gate(),
            config.conv());
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      List<String> differences = MemoryDescriptor.differences(expected, checkpoint.config());
      if (!differences.isEmpty()) {
        throw new EngramFormatException(
            directory, "was written otherwise than it was meant: " + differences);
      }
      TokenMap map = checkpoint.tokenMap();
      checkpoint.require(map);
      if (!map.sha256OfInt32().equals(memory.tokenMap().sha256OfInt32())) {
        throw new EngramFormatException(directory, "was written with another token map");
      }
    }
  }

  static JsonArray array(List<? extends Number> values) {
    JsonArray array = new JsonArray();
    values.forEach(array::add);
    return array;
  }

  static long[] ids(long first, int count) {
    return LongStream.range(first, first + count).toArray();
  }

  static ExportLayout.Out out(String name, Tensor tensor) {
    return out(name, tensor.dtype(), Arrays.stream(tensor.shape()).boxed().toList(), tensor.data());
  }

  static ExportLayout.Out out(String name, Dtype dtype, List<Long> shape, MemorySegment data) {
    return new ExportLayout.Out(name, dtype, shape, (at, to) -> copy(data, at, to));
  }

  static void copy(MemorySegment data, long at, MemorySegment to) {
    MemorySegment.copy(data, at, to, 0, to.byteSize());
  }
}
