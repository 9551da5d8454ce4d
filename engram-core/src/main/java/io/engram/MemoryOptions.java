// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.prefetch.PrefetchOptions;
import io.engram.store.DirectReads;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * How an opened memory is served: one budget, and whatever the user would rather decide.
 *
 * <p>The budget bounds the memory outside the heap that the library takes for itself: staging for
 * prefetch, the cache if one is asked for, then tables in RAM, smallest first, as long as they fit.
 * Tables that do not fit stay in their files: mapped if the machine's memory can keep them in its
 * page cache, read directly if not. {@code EngramMemory.tiers} tells what was chosen and why.
 *
 * @param memoryBudget bytes, not negative
 * @param prefetch how far rows are fetched ahead; its staging is a part of the budget
 * @param cacheBytes of which are for a cache of hot rows, for each layer whose table is not in RAM;
 *     0 for none
 * @param shadowCache whether to report what caches of several sizes would hit, without having them
 * @param tier the tier of all layers that {@code tiers} does not name, where the user decides it
 * @param tiers tiers of single layers that the user decides
 * @param directReads how {@link Tier#DIRECT} reads: through the page cache, which keeps the rows
 *     that a text repeats, unless said otherwise
 * @param packed directories of packed rows, one or more for each disk; none for {@code engram-rows}
 *     in the checkpoint's directory, if it is there
 * @param stores opens the tables of the layers whose tier is {@link Tier#GIVEN}
 */
public record MemoryOptions(
    long memoryBudget,
    PrefetchOptions prefetch,
    long cacheBytes,
    boolean shadowCache,
    Optional<Tier> tier,
    Map<Integer, Tier> tiers,
    DirectReads directReads,
    List<Path> packed,
    Optional<TableSource> stores) {

  /** Opens a table somewhere else. */
  @FunctionalInterface
  public interface TableSource {
    /**
     * Opens the table of a layer.
     *
     * @param expected what the checkpoint says that the table is; its contents are not known
     * @return a store of its rows, which the memory closes
     */
    RowStore open(TableIdentity expected);
  }

  /** 256 MiB, a quarter of it for staging, no cache, all tiers chosen. */
  public static final MemoryOptions DEFAULT = builder().build();

  /** Checks the ranges. */
  public MemoryOptions {
    Objects.requireNonNull(prefetch, "prefetch");
    Objects.requireNonNull(tier, "tier");
    tiers = Map.copyOf(tiers);
    Objects.requireNonNull(directReads, "directReads");
    packed = List.copyOf(packed);
    Objects.requireNonNull(stores, "stores");
    if (cacheBytes < 0) {
      throw new IllegalArgumentException("cacheBytes is " + cacheBytes + ", which is negative");
    }
    long stagingBytes = prefetch.stagingBytes();
    if (memoryBudget < Math.addExact(stagingBytes, cacheBytes)) {
      throw new IllegalArgumentException(
          "a memoryBudget of "
              + memoryBudget
              + " bytes does not hold "
              + stagingBytes
              + " bytes of staging and "
              + cacheBytes
              + " bytes of cache: raise it or lower those");
    }
    boolean given = tiers.containsValue(Tier.GIVEN) || tier.equals(Optional.of(Tier.GIVEN));
    if (given && stores.isEmpty()) {
      throw new IllegalArgumentException("a tier is GIVEN, but no stores are");
    }
  }

  /**
   * Options that differ from {@link #DEFAULT} in what is set.
   *
   * @return a new builder
   */
  public static Builder builder() {
    return new Builder();
  }

  /** Options in the making. Not thread-safe. */
  public static final class Builder {
    private long memoryBudget = 256L << 20;
    private Optional<PrefetchOptions> prefetch = Optional.empty();
    private long cacheBytes;
    private boolean shadowCache;
    private final Map<Integer, Tier> tiers = new LinkedHashMap<>();
    private Optional<Tier> tier = Optional.empty();
    private DirectReads directReads = DirectReads.buffered();
    private List<Path> packed = List.of();
    private Optional<TableSource> stores = Optional.empty();

    private Builder() {}

    /**
     * Memory outside the heap that the library may take.
     *
     * @param bytes not negative
     * @return this
     */
    public Builder memoryBudget(long bytes) {
      memoryBudget = bytes;
      return this;
    }

    /**
     * How far rows are fetched ahead; by default as {@link PrefetchOptions#defaults}, with a
     * quarter of the budget, and 64 MiB at most, for staging.
     *
     * @param options its staging is a part of the budget
     * @return this
     */
    public Builder prefetch(PrefetchOptions options) {
      prefetch = Optional.of(options);
      return this;
    }

    /**
     * Asks for a cache of hot rows. Most texts repeat few rows: look at the shadow's report first.
     *
     * @param bytes for each layer whose table is not in RAM; 0 for none
     * @return this
     */
    public Builder cache(long bytes) {
      cacheBytes = bytes;
      return this;
    }

    /**
     * Asks for a report of what caches would hit.
     *
     * @return this
     */
    public Builder shadowCache() {
      shadowCache = true;
      return this;
    }

    /**
     * Decides the tier of all layers that are not decided one by one.
     *
     * @param all the tier
     * @return this
     */
    public Builder tier(Tier all) {
      tier = Optional.of(all);
      return this;
    }

    /**
     * Decides the tier of a layer.
     *
     * @param layer a layer that has a memory
     * @param own its tier
     * @return this
     */
    public Builder tier(int layer, Tier own) {
      tiers.put(layer, Objects.requireNonNull(own, "own"));
      return this;
    }

    /**
     * How the tier {@link Tier#DIRECT} reads.
     *
     * @param reads through the page cache or past it, and how many at a time
     * @return this
     */
    public Builder directReads(DirectReads reads) {
      directReads = reads;
      return this;
    }

    /**
     * Takes packed rows from some directories, instead of looking for them in the checkpoint's own.
     *
     * @param directories where {@code engram convert} put them
     * @return this
     */
    public Builder packed(Path... directories) {
      packed = List.of(directories);
      return this;
    }

    /**
     * Takes all tables from stores of one's own, unless a layer's tier says otherwise.
     *
     * @param source opens them
     * @return this
     */
    public Builder stores(TableSource source) {
      stores = Optional.of(source);
      if (tier.isEmpty()) {
        tier = Optional.of(Tier.GIVEN);
      }
      return this;
    }

    /**
     * The options.
     *
     * @return checked options
     * @throws IllegalArgumentException if the parts exceed the budget
     */
    public MemoryOptions build() {
      PrefetchOptions usual = PrefetchOptions.defaults();
      long staging = Math.min(Math.max(0, memoryBudget / 4), usual.stagingBytes());
      return new MemoryOptions(
          memoryBudget,
          prefetch.orElse(usual.withStagingBytes(staging)),
          cacheBytes,
          shadowCache,
          tier,
          tiers,
          directReads,
          packed,
          stores);
    }
  }
}
