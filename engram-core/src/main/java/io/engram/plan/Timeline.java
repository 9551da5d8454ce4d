// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import java.util.function.ToDoubleFunction;

/** Compute and disk side by side, chunk after chunk. */
final class Timeline {
  private final CapacityPlan plan;
  private final DiskSpeed disk;
  private final Reading reading;
  private double now;
  private double compute;

  /** When the disk has served all that was issued so far. */
  private double diskFree;

  Timeline(CapacityPlan plan, DiskSpeed disk, Reading reading) {
    this.plan = plan;
    this.disk = disk;
    this.reading = reading;
  }

  double now() {
    return now;
  }

  /** Computes a chunk whose reads, with prefetch, were issued at the given time. */
  void chunk(double seconds, ToDoubleFunction<TableShape> rows, double issued) {
    double perLayer = seconds / plan.workload().backboneLayers();
    int layer = 0;
    double free = Math.max(diskFree, issued);
    for (TableShape table : plan.tables()) {
      now += (table.layersBefore() - layer) * perLayer;
      layer = table.layersBefore();
      double wanted = rows.applyAsDouble(table);
      double reads = wanted * table.readsPerRow();
      DiskSpeed speed = at(table);
      switch (reading) {
        case LOOP -> now += speed.loopSeconds(reads);
        case BATCHED -> now += speed.batchSeconds(reads);
        case IN_MEMORY -> now += wanted * CapacityPlan.ROW_IN_MEMORY_SECONDS;
        case PREFETCHED -> {
          // The next batch follows into the pipeline while the latency of this one's last read
          // passes.
          double served = free + reads / speed.readsPerSecond();
          now = Math.max(now, free + speed.batchSeconds(reads));
          free = served;
        }
      }
    }
    diskFree = free;
    now += (plan.workload().backboneLayers() - layer) * perLayer;
    compute += seconds;
  }

  private DiskSpeed at(TableShape table) {
    double bytesPerRead = table.meanPagesPerRow() * RowRun.PAGE / table.readsPerRow();
    return disk.withReadsPerSecond(disk.readsPerSecond(bytesPerRead));
  }

  Timing timing() {
    return new Timing(compute, Math.max(0, now - compute));
  }
}
