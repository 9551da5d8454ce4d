// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.cache.CachedRowStore;
import io.engram.cache.ShadowCache;
import io.engram.hash.NgramHasher;
import io.engram.prefetch.PrefetchStatistics;
import io.engram.stats.LatencyHistogram;
import io.engram.stats.LayerStatistics;
import io.engram.stats.MeteredRowStore;
import io.engram.store.FileRegion;
import io.engram.store.Residency;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/** The memory of one layer: its hashing, its table in the tier that serves it, and the meters. */
final class ServedTable implements AutoCloseable {
  /** Tells the share of the page cache to within a few percent, in well under a millisecond. */
  private static final int SAMPLED_PAGES = 512;

  private final NgramHasher hasher;
  private final EngramTable table;
  private final TierChoice choice;
  private final List<FileRegion> files;
  private final MeteredRowStore meter;
  private final Optional<CachedRowStore> cache;
  private final Optional<ShadowCache> shadow;
  private final LatencyHistogram lookups = new LatencyHistogram();

  /**
   * @param served the table in its tier; closed with this
   * @param files where its rows lie, if they are served from files
   */
  ServedTable(
      NgramHasher hasher,
      EngramTable served,
      TierChoice choice,
      List<RowPart> files,
      MemoryOptions options) {
    this.hasher = Objects.requireNonNull(hasher, "hasher");
    this.choice = Objects.requireNonNull(choice, "choice");
    this.files = files.stream().flatMap(part -> part.regions().stream()).toList();
    meter = new MeteredRowStore(served.store(), choice.tier().name());
    boolean cached = options.cacheBytes() > 0 && choice.tier() != Tier.RAM;
    cache =
        cached
            ? Optional.of(CachedRowStore.of(meter, hasher.layout(), options.cacheBytes()))
            : Optional.empty();
    RowStore store = cache.isPresent() ? cache.get() : meter;
    shadow =
        options.shadowCache()
            ? Optional.of(ShadowCache.of(hasher.layout(), store.rowBytes()))
            : Optional.empty();
    table = served.over(shadow.isPresent() ? shadow.get().watch(store) : store);
  }

  NgramHasher hasher() {
    return hasher;
  }

  EngramTable table() {
    return table;
  }

  TierChoice choice() {
    return choice;
  }

  /** How long synchronous lookups took. */
  LatencyHistogram lookups() {
    return lookups;
  }

  LayerStatistics statistics(Optional<PrefetchStatistics.Layer> prefetch) {
    return new LayerStatistics(
        choice,
        meter.statistics(),
        lookups.summary(),
        residency(),
        prefetch,
        cache.map(CachedRowStore::statistics),
        shadow.map(ShadowCache::statistics));
  }

  private Optional<Residency> residency() {
    if (files.isEmpty()) {
      return Optional.empty();
    }
    try {
      return Residency.sampled(files, SAMPLED_PAGES);
    } catch (IllegalStateException e) {
      // The memory was closed meanwhile, and its mappings with it.
      return Optional.empty();
    }
  }

  @Override
  public void close() {
    table.close();
  }
}
