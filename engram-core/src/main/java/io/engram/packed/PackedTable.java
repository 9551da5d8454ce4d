// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.checkpoint.SafetensorsWriter;
import io.engram.shard.ShardLayout;
import io.engram.shard.ShardedRowStore;
import io.engram.store.MappedRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.LongConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * A whole table in packed files: one file, or all shards of it, wherever each lies.
 *
 * <p>Immutable and thread-safe; the arena decides how long the rows can be read.
 */
public final class PackedTable {
  /** Name of the directory beside a checkpoint's own files in which its packed tables are found. */
  public static final String DIRECTORY = "engram-rows";

  private static final Pattern NAME =
      Pattern.compile("layer-(\\d{1,9})(?:-shard-(\\d{1,9})-of-(\\d{1,9}))?\\.rows");

  private final List<PackedFile> files;

  private PackedTable(List<PackedFile> files) {
    this.files = files;
  }

  /**
   * Name of the file of a table that is not divided.
   *
   * @param layer the layer
   * @return {@code layer-1.rows}
   */
  public static String fileName(int layer) {
    return "layer-" + layer + ".rows";
  }

  /**
   * Name of the file of one shard.
   *
   * @param layer the layer
   * @param shard which shard, from 0
   * @param shards number of shards; 1 gives the name of a table that is not divided
   * @return {@code layer-1-shard-0-of-4.rows}
   */
  public static String fileName(int layer, int shard, int shards) {
    return shards == 1
        ? fileName(layer)
        : "layer-" + layer + "-shard-" + shard + "-of-" + shards + ".rows";
  }

  /**
   * The packed files of a layer that lie in some directories. Opens none of them.
   *
   * @param directories where to look; one that does not exist holds nothing
   * @param layer the layer
   * @return its files by number of shard, empty if there are none
   * @throws EngramFormatException if there are several tables of that layer, or not all shards
   */
  public static List<Path> find(List<Path> directories, int layer) {
    return findAll(directories).getOrDefault(layer, List.of());
  }

  /**
   * As {@link #find(List, int)}, in one directory.
   *
   * @param directory where to look
   * @param layer the layer
   * @return its files by number of shard, empty if there are none
   * @throws EngramFormatException if there are several tables of that layer, or not all shards
   */
  public static List<Path> find(Path directory, int layer) {
    return find(List.of(directory), layer);
  }

  /**
   * The packed files of all layers that lie in some directories. Opens none of them.
   *
   * @param directories where to look; one that does not exist holds nothing
   * @return files by number of shard, by layer
   * @throws EngramFormatException if there are several tables of a layer, or not all shards
   */
  public static Map<Integer, List<Path>> findAll(List<Path> directories) {
    Map<Integer, List<Path>> whole = new TreeMap<>();
    Map<Integer, Map<Integer, Map<Integer, Path>>> shards = new TreeMap<>();
    for (Path directory : directories) {
      if (!Files.isDirectory(directory)) {
        continue;
      }
      for (Path path : list(directory)) {
        Matcher name = NAME.matcher(path.getFileName().toString());
        if (!name.matches()) {
          continue;
        }
        int layer = Integer.parseInt(name.group(1));
        if (name.group(2) == null) {
          whole.computeIfAbsent(layer, _ -> new ArrayList<>()).add(path);
          continue;
        }
        Path before =
            shards
                .computeIfAbsent(layer, _ -> new TreeMap<>())
                .computeIfAbsent(Integer.parseInt(name.group(3)), _ -> new TreeMap<>())
                .put(Integer.parseInt(name.group(2)), path);
        if (before != null) {
          throw new EngramFormatException(path, "is the same shard as " + before);
        }
      }
    }
    Map<Integer, List<Path>> found = new TreeMap<>(whole);
    shards.forEach((layer, byCount) -> {
      if (byCount.size() > 1 || found.containsKey(layer)) {
        throw new EngramFormatException(
            byCount.values().iterator().next().values().iterator().next(),
            "there are packed files of layer " + layer + " divided in several ways: keep one");
      }
      byCount.forEach((count, files) -> {
        for (int i = 0; i < count; i++) {
          if (!files.containsKey(i)) {
            throw new EngramFormatException(
                files.values().iterator().next(),
                "shard "
                    + i
                    + " of "
                    + count
                    + " is missing: "
                    + fileName(layer, i, count)
                    + " lies in none of "
                    + directories);
          }
        }
        found.put(layer, List.copyOf(files.values()));
      });
    });
    whole.forEach((layer, files) -> {
      if (files.size() > 1) {
        throw new EngramFormatException(files.get(1), "is the same table as " + files.get(0));
      }
    });
    return found;
  }

  private static List<Path> list(Path directory) {
    try (Stream<Path> paths = Files.list(directory)) {
      return paths.sorted().toList();
    } catch (IOException e) {
      throw new EngramException(directory + ": cannot be listed: " + e, e);
    }
  }

  /**
   * Opens a table.
   *
   * @param files its file, or the files of all shards in any order
   * @param arena owns the mappings
   * @return the table
   * @throws EngramFormatException as {@link PackedFile#open}, or if the files are not all shards of
   *     one table
   * @throws EngramException if one cannot be read or mapped
   */
  public static PackedTable open(List<Path> files, Arena arena) {
    List<PackedFile> opened = new ArrayList<>();
    for (Path file : files) {
      opened.add(PackedFile.open(file, arena));
    }
    if (opened.isEmpty()) {
      throw new IllegalArgumentException("no packed files are given");
    }
    opened.sort(Comparator.comparingInt(PackedFile::shard));
    PackedFile first = opened.getFirst();
    for (int i = 0; i < opened.size(); i++) {
      PackedFile file = opened.get(i);
      Optional<String> difference = first.identity().firstDifference(file.identity());
      if (difference.isPresent()) {
        throw new EngramFormatException(
            file.path(),
            "is a shard of another table than " + first.path() + ": " + difference.get());
      }
      if (!first.tableScale().equals(file.tableScale())) {
        throw new EngramFormatException(
            file.path(),
            "has a table scale of " + file.tableScale() + ", expected " + first.tableScale());
      }
      if (!first.layout().equals(file.layout())) {
        throw new EngramFormatException(
            file.path(),
            "is divided as "
                + describe(file.layout())
                + ", expected "
                + describe(first.layout())
                + " as in "
                + first.path());
      }
      if (file.shards() != opened.size() || file.shard() != i) {
        throw new EngramFormatException(
            file.path(),
            "is shard "
                + file.shard()
                + " of "
                + file.shards()
                + ", expected shard "
                + i
                + " of the "
                + opened.size()
                + " files of this table");
      }
    }
    return new PackedTable(List.copyOf(opened));
  }

  private static String describe(Optional<ShardLayout> layout) {
    return layout.map(ShardLayout::toString).orElse("one file");
  }

  /**
   * Opens a table that is not divided.
   *
   * @param file its file
   * @param arena owns the mapping
   * @return the table
   * @throws EngramFormatException as {@link PackedFile#open}, or if it is one shard of several
   * @throws EngramException if it cannot be read or mapped
   */
  public static PackedTable open(Path file, Arena arena) {
    return open(List.of(file), arena);
  }

  /**
   * The files.
   *
   * @return by number of shard; immutable
   */
  public List<PackedFile> files() {
    return files;
  }

  /**
   * Which table this is.
   *
   * @return its identity, with its content digest
   */
  public TableIdentity identity() {
    return files.getFirst().identity();
  }

  /**
   * Refuses another table than the one that is wanted: a right name proves nothing.
   *
   * @param expected the identity that is wanted; contents are compared if it has a digest of them
   * @return this table
   * @throws EngramFormatException naming file and difference
   */
  public PackedTable require(TableIdentity expected) {
    Optional<String> difference = expected.firstDifference(identity());
    if (difference.isPresent()) {
      throw new EngramFormatException(
          files.getFirst().path(), "is not the table that is wanted: " + difference.get());
    }
    return this;
  }

  /**
   * Where the rows lie. A table that is divided by blocks of rows has very many parts: see {@link
   * #store(Function)}.
   *
   * @return parts in the order of the table's rows: whole rows, {@link TableIdentity#rowBytes}
   *     bytes each and no scales apart
   */
  public List<RowPart> rowParts() {
    return division().runs().stream()
        .map(run -> files.get(run.shard()).rowPart(run.localFirst(), run.rows().count()))
        .toList();
  }

  /**
   * How the table is divided.
   *
   * @return the layout of the shards, empty for a table in one file
   */
  public Optional<ShardLayout> layout() {
    return files.getFirst().layout();
  }

  /**
   * The rows, read from the mappings.
   *
   * @return a new store of the whole table
   */
  public RowStore store() {
    return store(
        file -> MappedRowStore.of(name(file), identity().rowBytes(), 0, List.of(file.rowPart())));
  }

  private static String name(PackedFile file) {
    return "layer "
        + file.identity().layer()
        + (file.shards() == 1 ? "" : ", shard " + file.shard() + " of " + file.shards());
  }

  /**
   * The rows, read by a tier of one's own choice.
   *
   * @param tier opens a store of the rows of one file, {@link PackedFile#rowPart}
   * @return a new store of the whole table: that of its file, or one over those of all shards
   */
  public RowStore store(Function<PackedFile, ? extends RowStore> tier) {
    Optional<ShardLayout> layout = layout();
    if (layout.isEmpty()) {
      return tier.apply(files.getFirst());
    }
    List<RowStore> shards = new ArrayList<>();
    try {
      for (PackedFile file : files) {
        shards.add(tier.apply(file));
      }
      return ShardedRowStore.of("layer " + identity().layer(), layout.get(), shards);
    } catch (RuntimeException | Error e) {
      shards.forEach(RowStore::close);
      throw e;
    }
  }

  /**
   * The table, read from the mappings.
   *
   * @return a new table over {@link #store}
   */
  public EngramTable table() {
    TableIdentity identity = identity();
    return identity.format() == RowFormat.FP8_TENSOR
        ? EngramTable.ofScaledFp8(
            store(), identity.headDim(), files.getFirst().tableScale().orElseThrow())
        : new EngramTable(store(), identity.format(), identity.headDim());
  }

  /**
   * Reads all rows and compares their checksums.
   *
   * @param threads how many threads read, at least 1
   * @param progress given the number of rows read so far, on the caller's thread
   * @return which blocks differ, if any
   * @throws EngramException if a file cannot be read
   */
  public Verification verify(int threads, LongConsumer progress) {
    return verify(files, threads, progress);
  }

  static Verification verify(List<PackedFile> files, int threads, LongConsumer progress) {
    if (threads < 1) {
      throw new IllegalArgumentException(threads + " threads, expected at least 1");
    }
    try {
      return BlockChecks.run(files.stream().map(PackedFile::subject).toList(), threads, progress);
    } catch (IOException e) {
      throw new EngramException(files.getFirst().path() + ": cannot be verified: " + e, e);
    }
  }

  /**
   * Compares some rows with those of another copy of the table: what an identity without a content
   * digest leaves open, such as weights that were trained on under the same configuration.
   *
   * @param other the other copy, of as many rows of as many bytes
   * @param samples number of rows to compare, spread over the table by chance; the first and the
   *     last are compared in any case
   * @param seed seed of the choice
   * @return a row that differs, if one does
   * @throws IllegalArgumentException if the other store has rows of another number or size
   * @throws EngramException if rows cannot be read
   */
  public OptionalLong firstDifference(RowStore other, int samples, long seed) {
    long rows = identity().rowCount();
    int rowBytes = identity().rowBytes();
    if (other.rowCount() != rows || other.rowBytes() != rowBytes) {
      throw new IllegalArgumentException(
          other.name()
              + ": "
              + other.rowCount()
              + " rows of "
              + other.rowBytes()
              + " bytes, expected "
              + rows
              + " of "
              + rowBytes);
    }
    long[] ids = new SplittableRandom(seed).longs(samples + 2L, 0, rows).toArray();
    ids[samples] = 0;
    ids[samples + 1] = rows - 1;
    Arrays.sort(ids);
    int round = Math.max(1, (1 << 20) / rowBytes);
    byte[] mine = new byte[Math.multiplyExact(round, rowBytes)];
    byte[] theirs = new byte[mine.length];
    try (RowStore store = store()) {
      for (int at = 0; at < ids.length; at += round) {
        int count = Math.min(round, ids.length - at);
        store.read(ids, at, count, MemorySegment.ofArray(mine), 0);
        other.read(ids, at, count, MemorySegment.ofArray(theirs), 0);
        int differs = Arrays.mismatch(mine, 0, count * rowBytes, theirs, 0, count * rowBytes);
        if (differs >= 0) {
          return OptionalLong.of(ids[at + differs / rowBytes]);
        }
      }
    }
    return OptionalLong.empty();
  }

  Division division() {
    return new Division(identity().rowCount(), layout());
  }

  /** Copies consecutive rows, read ahead as the system sees fit. */
  void readInOrder(Division division, long first, int count, MemorySegment out) {
    long rowBytes = identity().rowBytes();
    long end = first + count;
    for (Division.Run run : division.runs(first)) {
      if (run.rows().first() >= end) {
        break;
      }
      long from = Math.max(first, run.rows().first());
      long to = Math.min(end, run.rows().end());
      if (from < to) {
        files
            .get(run.shard())
            .rowPart(run.localFirst() + from - run.rows().first(), to - from)
            .values()
            .copyTo(out, (from - first) * rowBytes);
      }
    }
  }

  /**
   * Writes tables back as the tensors that they were made from, values and scales apart, each with
   * its name, type, shape and bytes. {@link #verify} them first: no checksum is compared here.
   *
   * @param tables the tables, of different layers
   * @param file the safetensors file; replaced if it is there
   * @throws EngramFormatException if a table does not say what its tensors were called
   * @throws EngramException if a table cannot be read, or the file cannot be written
   */
  public static void writeSafetensors(List<PackedTable> tables, Path file) {
    SafetensorsWriter writer = new SafetensorsWriter();
    tables.forEach(table -> TensorBytes.addAll(writer, table));
    writer.write(file);
  }

  /**
   * Makes sure that the files are those that were opened, as {@link PackedFile#checkUnchanged}.
   *
   * @throws EngramFormatException naming the first that is not
   */
  public void checkUnchanged() {
    files.forEach(PackedFile::checkUnchanged);
  }

  @Override
  public String toString() {
    return "layer "
        + identity().layer()
        + ": "
        + identity().rowCount()
        + " rows of "
        + identity().headDim()
        + " "
        + identity().format()
        + " in "
        + (files.size() == 1 ? files.getFirst().path() : files.size() + " files");
  }
}
