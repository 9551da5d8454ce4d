// SPDX-License-Identifier: Apache-2.0
package io.engram;

import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Chooses a tier for each table of a checkpoint from the options and the machine's memory. */
final class TierPlanner {
  private final MemoryOptions options;
  private final long pageCacheBytes;

  /**
   * @param pageCacheBytes memory that the system can be expected to have for mapped files
   */
  TierPlanner(MemoryOptions options, long pageCacheBytes) {
    this.options = options;
    this.pageCacheBytes = pageCacheBytes;
  }

  /**
   * What is left of the memory of the machine, or of the container, for the page cache: all of it
   * but the largest heap, the budget, and an eighth for everybody else.
   */
  static long pageCacheBytes(MemoryOptions options) {
    long total =
        ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
            .getTotalMemorySize();
    return Math.max(
        0, total - total / 8 - Runtime.getRuntime().maxMemory() - options.memoryBudget());
  }

  /**
   * The choices.
   *
   * @param tableBytes stored bytes of each layer's table, in the order of the layers
   * @return the choices in the same order
   * @throws IllegalArgumentException if a decided layer has no memory, or tables decided for RAM
   *     exceed the budget
   */
  List<TierChoice> choose(Map<Integer, Long> tableBytes) {
    for (int layer : options.tiers().keySet()) {
      if (!tableBytes.containsKey(layer)) {
        throw new IllegalArgumentException(
            "a tier is decided for layer "
                + layer
                + ", which has no memory; layers "
                + tableBytes.keySet()
                + " have one");
      }
    }
    long cache = options.cacheBytes();
    long left = options.memoryBudget() - options.prefetch().stagingBytes();
    long inFiles = 0;
    Map<Integer, TierChoice> choices = new LinkedHashMap<>();
    List<Integer> open = new ArrayList<>();
    for (int layer : tableBytes.keySet()) {
      Tier decided = options.tiers().getOrDefault(layer, options.tier().orElse(null));
      long bytes = tableBytes.get(layer);
      if (decided == null) {
        open.add(layer);
        continue;
      }
      if (decided == Tier.RAM) {
        left = take(layer, bytes, left);
      } else {
        left = take(layer, cache, left);
        inFiles += decided == Tier.MAPPED ? bytes : 0;
      }
      choices.put(layer, new TierChoice(layer, decided, bytes, "as decided by the options"));
    }
    open.sort(Comparator.comparing(tableBytes::get));
    List<Integer> large = new ArrayList<>();
    for (int i = 0; i < open.size(); i++) {
      int layer = open.get(i);
      long bytes = tableBytes.get(layer);
      long cachesOfOthers = Math.multiplyExact(cache, open.size() - i - 1L);
      if (bytes <= left - cachesOfOthers) {
        left -= bytes;
        choices.put(
            layer,
            new TierChoice(
                layer,
                Tier.RAM,
                bytes,
                "since its " + size(bytes) + " fit the memory budget of " + budget()));
      } else {
        left = take(layer, cache, left);
        inFiles += bytes;
        large.add(layer);
      }
    }
    boolean cacheable = inFiles <= pageCacheBytes;
    for (int layer : large) {
      long bytes = tableBytes.get(layer);
      String why =
          "since its "
              + size(bytes)
              + " exceed what is left of the memory budget of "
              + budget()
              + (cacheable
                  ? ", and the page cache can hold them"
                  : ", and the page cache has room for " + size(pageCacheBytes) + " only");
      choices.put(layer, new TierChoice(layer, cacheable ? Tier.MAPPED : Tier.DIRECT, bytes, why));
    }
    return tableBytes.keySet().stream().map(choices::get).toList();
  }

  private long take(int layer, long bytes, long left) {
    if (bytes > left) {
      throw new IllegalArgumentException(
          "layer "
              + layer
              + " needs "
              + size(bytes)
              + " of memory, and the budget of "
              + budget()
              + " has "
              + size(left)
              + " left after staging and the layers before: raise memoryBudget, ask for a smaller"
              + " cache, or choose MAPPED or DIRECT");
    }
    return left - bytes;
  }

  private String budget() {
    return size(options.memoryBudget());
  }

  private static String size(long bytes) {
    if (bytes < 1 << 20) {
      return (bytes + 1023) / 1024 + " KiB";
    }
    return bytes < 1L << 30
        ? String.format(Locale.ROOT, "%.1f MiB", bytes / (double) (1 << 20))
        : String.format(Locale.ROOT, "%.1f GiB", bytes / (double) (1L << 30));
  }
}
