// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import io.engram.TierChoice;
import io.engram.cache.CacheStatistics;
import io.engram.cache.ShadowStatistics;
import io.engram.prefetch.PrefetchStatistics;
import io.engram.store.Residency;
import java.util.Objects;
import java.util.Optional;

/**
 * What the memory of one layer did since it was opened.
 *
 * @param choice the tier that answers, and why
 * @param tier what the tier was asked for: behind a cache or prefetch, fewer rows than were wanted
 * @param lookups how long synchronous lookups kept their callers waiting, decoding included
 * @param residency how much of the table is in the page cache, estimated from a sample, where it is
 *     served from files
 * @param prefetch what was fetched ahead, if anything ever was
 * @param cache what the cache answered, if there is one
 * @param shadow what caches of several sizes would have answered, if that was asked for
 */
public record LayerStatistics(
    TierChoice choice,
    TierStatistics tier,
    LatencySummary lookups,
    Optional<Residency> residency,
    Optional<PrefetchStatistics.Layer> prefetch,
    Optional<CacheStatistics> cache,
    Optional<ShadowStatistics> shadow) {
  /** Refuses null. */
  public LayerStatistics {
    Objects.requireNonNull(residency, "residency");
    Objects.requireNonNull(prefetch, "prefetch");
    Objects.requireNonNull(cache, "cache");
    Objects.requireNonNull(shadow, "shadow");
    Objects.requireNonNull(choice, "choice");
    Objects.requireNonNull(tier, "tier");
    Objects.requireNonNull(lookups, "lookups");
  }
}
