// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.checkpoint.Checkpoint;
import io.engram.hash.HashLayout;
import io.engram.packed.PackedFile;
import io.engram.packed.PackedTable;
import io.engram.store.DirectRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.TableIdentity;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.LongConsumer;

/** Opens each table of a checkpoint in the tier that was chosen for it. */
final class TableOpener {
  /** More than eight do not read a disk faster. */
  private static final int LOADERS = Math.min(8, Runtime.getRuntime().availableProcessors());

  /** Rows of a copy that are compared with the checkpoint's: other weights differ in nearly all. */
  private static final int COMPARED_ROWS = 64;

  private final Checkpoint checkpoint;
  private final MemoryOptions options;
  private final LongConsumer progress;
  private final Map<Integer, List<Path>> packedFiles;
  private final Map<Integer, PackedTable> packedTables = new ConcurrentHashMap<>();
  private final List<TierChoice> choices;
  private long loaded;

  TableOpener(Checkpoint checkpoint, MemoryOptions options, LongConsumer progress) {
    this.checkpoint = checkpoint;
    this.options = options;
    this.progress = progress;
    EngramConfig config = checkpoint.config();
    Map<Integer, Long> bytes = new LinkedHashMap<>();
    for (int layer : config.layerIds()) {
      bytes.put(
          layer,
          Math.multiplyExact(
              checkpoint.layout(layer).rowCount(),
              (long) config.rowFormat().rowBytes(config.headDim())));
    }
    List<Path> directories = options.packed();
    if (directories.isEmpty()) {
      directories = List.of(checkpoint.directory().resolve(PackedTable.DIRECTORY));
    }
    packedFiles = PackedTable.findAll(directories);
    if (!options.packed().isEmpty() && packedFiles.isEmpty()) {
      throw new IllegalArgumentException(
          "there are no packed rows in " + directories + "; write them with engram convert");
    }
    choices =
        new TierPlanner(options, TierPlanner.pageCacheBytes(options))
            .choose(bytes).stream().map(this::orPacked).toList();
    requireUse();
  }

  private void requireUse() {
    boolean given = choices.stream().anyMatch(choice -> choice.tier() == Tier.GIVEN);
    if (options.stores().isPresent() && !given) {
      throw new IllegalArgumentException(
          "stores are given, but no layer's tier is GIVEN: " + choices);
    }
    if (!options.packed().isEmpty()
        && choices.stream().allMatch(choice -> choice.tier() == Tier.GIVEN)) {
      throw new IllegalArgumentException(
          "packed rows are named, but all tables come from the stores that are given");
    }
  }

  private TierChoice orPacked(TierChoice choice) {
    List<Path> files = packedFiles.get(choice.layer());
    if (files == null || choice.tier() == Tier.GIVEN) {
      return choice;
    }
    String from =
        files.size() == 1
            ? ", from packed rows in " + files.getFirst()
            : ", from " + files.size() + " shards of packed rows";
    return new TierChoice(
        choice.layer(), choice.tier(), choice.tableBytes(), choice.reason() + from);
  }

  /** The choices, in the order of the layers. */
  List<TierChoice> choices() {
    return choices;
  }

  /** Where the rows that are served lie, if they are served from files. */
  List<RowPart> files(TierChoice choice) {
    if (choice.tier() == Tier.RAM || choice.tier() == Tier.GIVEN) {
      return List.of();
    }
    PackedTable packed = packedTables.get(choice.layer());
    return packed == null
        ? checkpoint.rowParts(choice.layer())
        : packed.files().stream().map(PackedFile::rowPart).toList();
  }

  /** Opens a table; packed files stay mapped until the arena is closed. */
  EngramTable open(TierChoice choice, HashLayout layout, Arena arena) {
    int layer = layout.layerId();
    EngramTable inPlace = checkpoint.table(layer);
    if (choice.tier() == Tier.GIVEN) {
      return inPlace.over(given(layout, inPlace));
    }
    if (packedFiles.containsKey(layer)) {
      PackedTable packed =
          PackedTable.open(packedFiles.get(layer), arena)
              .require(TableIdentity.of(layout, inPlace));
      OptionalLong differs =
          packed.firstDifference(
              inPlace.store(), COMPARED_ROWS, ThreadLocalRandom.current().nextLong());
      if (differs.isPresent()) {
        throw new EngramFormatException(
            packedFiles.get(layer).getFirst(),
            "has another row "
                + differs.getAsLong()
                + " than the checkpoint: it was packed from other weights; write it anew (engram"
                + " convert --replace) or move it away");
      }
      packedTables.put(layer, packed);
      return inPlace.over(store(choice.tier(), packed));
    }
    int valueBytes = inPlace.format().valueBytes(inPlace.headDim());
    int scaleBytes = inPlace.format().scaleBytes(inPlace.headDim());
    List<RowPart> parts = checkpoint.rowParts(layer);
    return switch (choice.tier()) {
      case RAM -> inPlace.over(loaded(inPlace.name(), valueBytes, scaleBytes, parts));
      case DIRECT ->
          inPlace.over(
              DirectRowStore.of(
                  inPlace.name(), valueBytes, scaleBytes, parts, options.directReads()));
      default -> inPlace;
    };
  }

  private RowStore store(Tier tier, PackedTable packed) {
    int rowBytes = packed.identity().rowBytes();
    return switch (tier) {
      case RAM -> {
        String name = "layer " + packed.identity().layer();
        if (packed.files().size() == 1) {
          yield loaded(name, rowBytes, 0, packed.rowParts());
        }
        try (RowStore source = packed.store()) {
          long before = loaded;
          yield counted(
              RamRowStore.copyOf(source, LOADERS, rows -> progress.accept(before + rows)));
        }
      }
      case DIRECT ->
          packed.store(file ->
              DirectRowStore.of(
                  file.path().getFileName().toString(),
                  rowBytes,
                  0,
                  List.of(file.rowPart()),
                  options.directReads()));
      default -> packed.store();
    };
  }

  private RowStore loaded(String name, int valueBytes, int scaleBytes, List<RowPart> parts) {
    long before = loaded;
    return counted(
        RamRowStore.load(
            name, valueBytes, scaleBytes, parts, LOADERS, rows -> progress.accept(before + rows)));
  }

  private RowStore counted(RowStore store) {
    loaded += store.rowCount();
    return store;
  }

  /**
   * Makes sure that no packed file has changed since it was opened.
   *
   * @throws EngramFormatException naming the first one that has
   */
  void checkUnchanged() {
    packedTables.values().forEach(PackedTable::checkUnchanged);
  }

  private RowStore given(HashLayout layout, EngramTable inPlace) {
    TableIdentity expected = TableIdentity.of(layout, inPlace);
    RowStore store = options.stores().orElseThrow().open(expected);
    try {
      check(store, expected, inPlace.store());
      return store;
    } catch (RuntimeException | Error e) {
      store.close();
      throw e;
    }
  }

  /** A right shape proves nothing: some rows must be those of the checkpoint. */
  private static void check(RowStore store, TableIdentity expected, RowStore inPlace) {
    String what = "layer " + expected.layer() + ": the given store has ";
    if (store.rowCount() != expected.rowCount() || store.rowBytes() != expected.rowBytes()) {
      throw new IllegalArgumentException(
          what
              + store.rowCount()
              + " rows of "
              + store.rowBytes()
              + " bytes, the checkpoint says "
              + expected.rowCount()
              + " of "
              + expected.rowBytes());
    }
    int rowBytes = expected.rowBytes();
    long[] rows =
        ThreadLocalRandom.current().longs(COMPARED_ROWS, 0, expected.rowCount()).toArray();
    byte[] wanted = new byte[rows.length * rowBytes];
    byte[] found = new byte[wanted.length];
    inPlace.read(rows, 0, rows.length, MemorySegment.ofArray(wanted), 0);
    store.read(rows, 0, rows.length, MemorySegment.ofArray(found), 0);
    int differs = Arrays.mismatch(wanted, found);
    if (differs >= 0) {
      throw new IllegalArgumentException(
          what
              + "another row "
              + rows[differs / rowBytes]
              + " than the checkpoint: it holds other weights");
    }
  }
}
