// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import io.engram.cache.CacheStatistics;
import io.engram.prefetch.PrefetchStatistics;
import io.engram.store.Residency;
import java.util.stream.Collectors;
import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.Percentage;
import jdk.jfr.Period;
import jdk.jfr.StackTrace;
import jdk.jfr.Timespan;

/** {@link LayerStatistics} as an event. All counters run from the opening of the memory. */
@Name("engram.Layer")
@Label("Memory of a layer")
@Category("Engram")
@Description("What the memory of a layer did since it was opened")
@Period("1 s")
@StackTrace(false)
final class LayerEvent extends Event {
  @Label("Memory")
  @Description("Distinguishes the open memories of a JVM")
  int memory;

  @Label("Layer")
  int layer;

  @Label("Tier")
  String tier;

  @Label("Table size")
  @DataAmount
  long tableBytes;

  @Label("Reads of the tier")
  long reads;

  @Label("Rows read from the tier")
  long rows;

  @Label("Bytes read from the tier")
  @DataAmount
  long bytes;

  @Label("Failed reads")
  long failures;

  @Label("Read time, median")
  @Timespan
  long readP50;

  @Label("Read time, 99 of 100")
  @Timespan
  long readP99;

  @Label("Lookups")
  long lookups;

  @Label("Lookup time, median")
  @Timespan
  long lookupP50;

  @Label("Lookup time, 99 of 100")
  @Timespan
  long lookupP99;

  @Label("Rows asked of prefetch")
  long prefetchRows;

  @Label("Distinct rows of those")
  long prefetchDistinct;

  @Label("Distinct pages of those")
  @Description("Pages of 4 KiB, in a table without gaps")
  long prefetchPages;

  @Label("Asks for prefetched rows")
  long asks;

  @Label("Late asks")
  long late;

  @Label("Asks read outside of staging")
  long synchronous;

  @Label("Retrievals without room")
  long unstaged;

  @Label("Reads repeated by who asked")
  long retries;

  @Label("Failed reads of prefetch")
  long prefetchFailures;

  @Label("Prefetched rows that differed from a fresh read")
  long mismatches;

  @Label("Wait for prefetched rows, median")
  @Timespan
  long waitP50;

  @Label("Wait for prefetched rows, 99 of 100")
  @Timespan
  long waitP99;

  @Label("Lateness, median of late asks")
  @Timespan
  long latenessP50;

  @Label("Lateness, 99 of 100 late asks")
  @Timespan
  long latenessP99;

  @Label("Cache hits by order")
  @Description(
      "Hits and rows of each order, such as \"2: 10 of 30, 3: 1 of 30\"; empty without cache")
  String cacheHits;

  @Label("Share of the table in the page cache")
  @Description("Estimated from a sample of pages; NaN where the table is not in a file")
  @Percentage
  double resident;

  static LayerEvent of(int memory, LayerStatistics layer) {
    LayerEvent event = new LayerEvent();
    event.memory = memory;
    event.layer = layer.choice().layer();
    event.tier = layer.choice().tier().name();
    event.tableBytes = layer.choice().tableBytes();
    event.reads = layer.tier().reads();
    event.rows = layer.tier().rows();
    event.bytes = layer.tier().bytes();
    event.failures = layer.tier().failures();
    event.readP50 = layer.tier().readTime().p50();
    event.readP99 = layer.tier().readTime().p99();
    event.lookups = layer.lookups().count();
    event.lookupP50 = layer.lookups().p50();
    event.lookupP99 = layer.lookups().p99();
    layer.prefetch().ifPresent(event::set);
    event.cacheHits = layer.cache().map(LayerEvent::hits).orElse("");
    event.resident = layer.residency().map(Residency::share).orElse(Double.NaN);
    return event;
  }

  private void set(PrefetchStatistics.Layer prefetch) {
    prefetchRows = prefetch.rows();
    prefetchDistinct = prefetch.distinctRows();
    prefetchPages = prefetch.distinctPages();
    asks = prefetch.asks();
    late = prefetch.late();
    synchronous = prefetch.synchronous();
    unstaged = prefetch.unstaged();
    retries = prefetch.retries();
    prefetchFailures = prefetch.failures();
    mismatches = prefetch.mismatches();
    waitP50 = prefetch.waits().p50();
    waitP99 = prefetch.waits().p99();
    latenessP50 = prefetch.lateness().p50();
    latenessP99 = prefetch.lateness().p99();
  }

  private static String hits(CacheStatistics cache) {
    return cache.orders().stream()
        .map(order -> order.order() + ": " + order.hits() + " of " + order.rows())
        .collect(Collectors.joining(", "));
  }
}
