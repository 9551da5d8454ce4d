// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import io.engram.prefetch.PrefetchStatistics;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * What a memory did since it was opened. Counters are read one after another, while others may go
 * on counting.
 *
 * @param layers one for each layer that has a memory, in their order
 * @param prefetch what was fetched ahead and the memory that it takes, if anything ever was
 */
public record MemoryStatistics(
    List<LayerStatistics> layers, Optional<PrefetchStatistics> prefetch) {
  /** Copies the list. */
  public MemoryStatistics {
    Objects.requireNonNull(prefetch, "prefetch");
    layers = List.copyOf(layers);
  }

  @Override
  public String toString() {
    return layers.stream().map(Object::toString).collect(Collectors.joining("\n"));
  }
}
