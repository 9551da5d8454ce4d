// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import io.engram.EngramException;
import io.engram.cache.CachedRowStore;
import io.engram.packed.PackedFile;
import io.engram.packed.PackedTable;
import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.MappedRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * One way to serve the rows of a table: whoever adds a tier adds a line to {@link #ALL}.
 *
 * @param name what it is called in reports
 * @param traits what it is good for
 * @param opener opens it
 */
record Serving(String name, Set<Trait> traits, Opener opener) {
  /** What tests choose tiers by. */
  enum Trait {
    /** Reads the files of the table itself, so that what happens to them happens to it. */
    IN_PLACE,
    /** Refuses every row of a part whose file has lost its end, and not only the lost ones. */
    REFUSES_CUT_PARTS,
    /** Serves a copy of the table, in memory or in other files. */
    OWN_COPY
  }

  /** Opens a store. What it maps belongs to the arena, which is closed after the store. */
  @FunctionalInterface
  interface Opener {
    RowStore open(TableFiles table, List<RowPart> parts, Arena arena) throws IOException;
  }

  static final List<Serving> ALL =
      List.of(
          new Serving("ram", Set.of(Trait.OWN_COPY), (table, parts, arena) -> ram(table, parts)),
          new Serving(
              "mapped",
              Set.of(Trait.IN_PLACE, Trait.REFUSES_CUT_PARTS),
              (table, parts, arena) -> mapped(table, parts)),
          new Serving(
              "direct, page cache",
              Set.of(Trait.IN_PLACE),
              (table, parts, arena) -> direct(table, parts, DirectReads.buffered())),
          new Serving(
              "direct, O_DIRECT",
              Set.of(Trait.IN_PLACE),
              (table, parts, arena) -> direct(table, parts, DirectReads.uncached())),
          new Serving(
              "cache over O_DIRECT",
              Set.of(Trait.IN_PLACE),
              (table, parts, arena) -> cached(table, direct(table, parts, DirectReads.uncached()))),
          new Serving(
              "cache over mapped",
              Set.of(Trait.IN_PLACE),
              (table, parts, arena) -> cached(table, mapped(table, parts))),
          new Serving(
              "packed, mapped",
              Set.of(Trait.OWN_COPY),
              (table, parts, arena) -> PackedTable.open(table.packed(1), arena).store()),
          new Serving(
              "packed, O_DIRECT",
              Set.of(Trait.OWN_COPY),
              (table, parts, arena) ->
                  PackedTable.open(table.packed(1), arena)
                      .store(file -> direct(file, DirectReads.uncached()))),
          new Serving(
              "shards: mapped, page cache, O_DIRECT",
              Set.of(Trait.OWN_COPY),
              (table, parts, arena) ->
                  PackedTable.open(table.packed(3), arena)
                      .store(file ->
                          switch (file.shard()) {
                            case 0 -> mapped(file);
                            case 1 -> direct(file, DirectReads.buffered());
                            default -> direct(file, DirectReads.uncached());
                          })));

  /** The tiers that serve a table here: not every file system has O_DIRECT. */
  static List<Serving> of(TableFiles table) throws IOException {
    List<Serving> here = new ArrayList<>();
    for (Serving serving : ALL) {
      try {
        serving.open(table).close();
        here.add(serving);
      } catch (EngramException e) {
        System.out.println("without " + serving.name() + ": " + e.getMessage());
      }
    }
    return here;
  }

  /** A store and the mappings below it. */
  record Opened(Serving serving, RowStore store, Arena arena) implements AutoCloseable {
    @Override
    public void close() {
      try {
        store.close();
      } finally {
        arena.close();
      }
    }
  }

  Opened open(TableFiles table) throws IOException {
    Arena arena = Arena.ofShared();
    try {
      return new Opened(this, opener.open(table, table.map(arena), arena), arena);
    } catch (IOException | RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  boolean is(Trait trait) {
    return traits.contains(trait);
  }

  private static RowStore mapped(TableFiles table, List<RowPart> parts) {
    return MappedRowStore.of(
        "table", table.pattern().valueBytes(), table.pattern().scaleBytes(), parts);
  }

  private static RowStore direct(TableFiles table, List<RowPart> parts, DirectReads how) {
    return DirectRowStore.of(
        "table", table.pattern().valueBytes(), table.pattern().scaleBytes(), parts, how);
  }

  /** Room for one row of sixteen: hits, misses and evictions. */
  private static RowStore cached(TableFiles table, RowStore below) {
    long bytes = Math.min(table.bytes() / 16, 1 << 30);
    int least = table.pattern().rowBytes();
    try {
      return CachedRowStore.of(
          below, table.layout(), Math.max(bytes, CachedRowStore.minimumBytes(least)));
    } catch (RuntimeException | Error e) {
      below.close();
      throw e;
    }
  }

  private static RowStore mapped(PackedFile file) {
    return MappedRowStore.of("table", file.identity().rowBytes(), 0, List.of(file.rowPart()));
  }

  private static RowStore direct(PackedFile file, DirectReads how) {
    return DirectRowStore.of("table", file.identity().rowBytes(), 0, List.of(file.rowPart()), how);
  }

  private static RowStore ram(TableFiles table, List<RowPart> parts) {
    RowPattern pattern = table.pattern();
    return RamRowStore.load(
        "table", pattern.valueBytes(), pattern.scaleBytes(), parts, 2, rows -> {});
  }
}
