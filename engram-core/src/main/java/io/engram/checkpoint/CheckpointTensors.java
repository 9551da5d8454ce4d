// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.Tensor;
import io.engram.store.FileRegion;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The tensors of a checkpoint by name, whether it is one safetensors file or many with an index.
 *
 * <p>A shard is opened, and its header checked, when the first of its tensors is asked for; a
 * checkpoint of 48 shards whose tables lie in two of them costs two headers. An opened shard must
 * hold every tensor that the index puts into it, and none that the index puts elsewhere. Tensors
 * that the index does not list cannot be reached and are no error.
 *
 * <p>Thread-safe. With a confined arena only its thread may open shards.
 */
public final class CheckpointTensors {
  /** Name of the index in a directory. */
  public static final String INDEX = "model.safetensors.index.json";

  /** Name of the only file in a directory without an index. */
  public static final String SINGLE = "model.safetensors";

  private final Path location;
  private final Path directory;
  private final Map<String, String> shardOf;
  private final Arena arena;
  private final Map<String, Safetensors> open = new ConcurrentHashMap<>();

  private CheckpointTensors(
      Path location, Path directory, Map<String, String> shardOf, Arena arena) {
    this.location = location;
    this.directory = directory;
    this.shardOf = Collections.unmodifiableMap(shardOf);
    this.arena = arena;
  }

  /**
   * Opens a checkpoint.
   *
   * @param path a directory with {@link #INDEX} or {@link #SINGLE}, or one such file under any
   *     name: one that ends in {@code .json} is an index
   * @param arena owns the mappings
   * @return the checkpoint
   * @throws EngramFormatException if the directory holds neither file or both, or the file that
   *     decides breaks a rule
   * @throws EngramException if it cannot be read
   */
  public static CheckpointTensors open(Path path, Arena arena) {
    Objects.requireNonNull(arena, "arena");
    Path file = path;
    if (Files.isDirectory(path)) {
      boolean index = Files.exists(path.resolve(INDEX));
      boolean single = Files.exists(path.resolve(SINGLE));
      if (index == single) {
        throw new EngramFormatException(
            path,
            "holds "
                + (index ? "both " : "neither ")
                + INDEX
                + (index ? " and " : " nor ")
                + SINGLE
                + (index ? ": name the one that is meant" : ""));
      }
      file = path.resolve(index ? INDEX : SINGLE);
    }
    Path directory = Objects.requireNonNullElse(file.getParent(), Path.of(""));
    String name = Objects.toString(file.getFileName(), "");
    if (name.endsWith(".json")) {
      return new CheckpointTensors(file, directory, readIndex(file), arena);
    }
    Safetensors only = Safetensors.open(file, arena);
    Map<String, String> shardOf = new LinkedHashMap<>();
    only.tensors().forEach(t -> shardOf.put(t.name(), name));
    CheckpointTensors tensors = new CheckpointTensors(file, directory, shardOf, arena);
    tensors.open.put(name, only);
    return tensors;
  }

  private static Map<String, String> readIndex(Path file) {
    long size;
    try {
      if (!Files.isRegularFile(file)) {
        throw new EngramFormatException(file, "there is no such file");
      }
      size = Files.size(file);
      if (size > SafetensorsHeader.LARGEST) {
        throw new EngramFormatException(
            file, "an index of " + size + " bytes, expected at most " + SafetensorsHeader.LARGEST);
      }
      try (InputStream in = Files.newInputStream(file)) {
        return StrictJson.read(file, "the index", in, CheckpointTensors::parseIndex);
      }
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read: " + e, e);
    }
  }

  private static Map<String, String> parseIndex(StrictJson json) throws IOException {
    Map<String, String> shardOf = null;
    json.beginObject("the index");
    while (json.hasNext()) {
      if (!json.name().equals("weight_map")) {
        json.skip();
        continue;
      }
      if (shardOf != null) {
        throw json.bad("the index has weight_map twice");
      }
      shardOf = parseWeightMap(json);
    }
    json.endObject();
    if (shardOf == null) {
      throw json.bad("the index has no weight_map");
    }
    return shardOf;
  }

  private static Map<String, String> parseWeightMap(StrictJson json) throws IOException {
    Map<String, String> shardOf = new LinkedHashMap<>();
    // One string for each shard, not for each of a hundred thousand tensors.
    Map<String, String> shards = new HashMap<>();
    json.beginObject("weight_map");
    while (json.hasNext()) {
      String name = json.name();
      String shard = json.string("weight_map");
      if (!shards.containsKey(shard)) {
        if (!isFileName(shard)) {
          throw json.bad(
              "the shard "
                  + Names.quote(shard)
                  + " is not the plain name of a file in the directory of the index");
        }
        shards.put(shard, shard);
      }
      String before = shardOf.put(name, shards.get(shard));
      if (before != null) {
        throw json.bad(
            "the tensor "
                + Names.quote(name)
                + " occurs twice, in "
                + Names.quote(before)
                + " and "
                + Names.quote(shard));
      }
    }
    json.endObject();
    return shardOf;
  }

  /**
   * Whether the name stays in its directory on every platform. A file of that name may be a link to
   * anywhere, as in the cache of the hub: whoever can place links needs no index to lead astray.
   */
  static boolean isFileName(String name) {
    if (name.isEmpty()
        || name.equals(".")
        || name.equals("..")
        || name.chars().anyMatch(c -> c == '/' || c == '\\' || c == ':' || c < ' ')) {
      return false;
    }
    try {
      Path path = Path.of(name);
      return !path.isAbsolute() && path.getNameCount() == 1;
    } catch (InvalidPathException e) {
      return false;
    }
  }

  /**
   * The file that lists the tensors.
   *
   * @return the index or the only safetensors file
   */
  public Path location() {
    return location;
  }

  /**
   * The names of all tensors.
   *
   * @return in the order of the index or of the bytes of the only file; immutable
   */
  public Set<String> names() {
    return shardOf.keySet();
  }

  /**
   * Whether a tensor is listed.
   *
   * @param name its name
   * @return true if it is
   */
  public boolean contains(String name) {
    return shardOf.containsKey(name);
  }

  /**
   * The file that holds a tensor. Opens nothing.
   *
   * @param name the tensor's name
   * @return the path of its file
   * @throws EngramFormatException if no such tensor is listed
   */
  public Path file(String name) {
    return directory.resolve(shardOf(name));
  }

  private String shardOf(String name) {
    String shard = shardOf.get(name);
    if (shard == null) {
      throw new EngramFormatException(
          location,
          "the tensor " + Names.quote(name) + " is not among its " + shardOf.size() + " tensors");
    }
    return shard;
  }

  /**
   * What the header of its file says of a tensor.
   *
   * @param name the tensor's name
   * @return its entry
   * @throws EngramFormatException if no such tensor is listed, or its file breaks a rule
   * @throws EngramException if its file cannot be read
   */
  public TensorInfo info(String name) {
    return shard(name).info(name);
  }

  /**
   * A tensor in place, as {@link Safetensors#tensor}.
   *
   * @param name its name
   * @return the tensor, read-only
   * @throws EngramFormatException as {@link #info}, or if its type is not read here
   * @throws EngramException if its file cannot be read
   */
  public Tensor tensor(String name) {
    return shard(name).tensor(name);
  }

  /**
   * A copy of a tensor, as {@link Safetensors#load}.
   *
   * @param name its name
   * @param memory owns the copy
   * @return the tensor
   * @throws EngramFormatException as {@link #tensor}
   * @throws EngramException if its file cannot be read
   */
  public Tensor load(String name, Arena memory) {
    return shard(name).load(name, memory);
  }

  /**
   * The bytes of a tensor, as {@link Safetensors#region}.
   *
   * @param name its name
   * @return the bytes, read-only
   * @throws EngramFormatException as {@link #info}
   * @throws EngramException if its file cannot be read
   */
  public FileRegion region(String name) {
    return shard(name).region(name);
  }

  /**
   * Makes sure that no file that was opened so far has changed since, as {@link
   * Safetensors#checkUnchanged}.
   *
   * @throws EngramFormatException naming the first that has
   * @throws EngramException if that cannot be found out
   */
  public void checkUnchanged() {
    open.values().forEach(Safetensors::checkUnchanged);
  }

  private Safetensors shard(String name) {
    return open.computeIfAbsent(shardOf(name), this::openShard);
  }

  private Safetensors openShard(String shard) {
    Path file = directory.resolve(shard);
    if (Files.notExists(file)) {
      throw new EngramFormatException(file, "is missing, but " + location + " names it");
    }
    Safetensors opened = Safetensors.open(file, arena);
    for (TensorInfo tensor : opened.tensors()) {
      String listed = shardOf.getOrDefault(tensor.name(), shard);
      if (!listed.equals(shard)) {
        throw new EngramFormatException(
            file,
            "holds the tensor "
                + Names.quote(tensor.name())
                + ", which "
                + location
                + " puts into "
                + listed);
      }
    }
    shardOf.forEach((name, listed) -> {
      if (listed.equals(shard) && !opened.contains(name)) {
        throw new EngramFormatException(
            file,
            "the tensor " + Names.quote(name) + " is missing, but " + location + " puts it here");
      }
    });
    return opened;
  }

  @Override
  public String toString() {
    return location + " with " + shardOf.size() + " tensors";
  }
}
