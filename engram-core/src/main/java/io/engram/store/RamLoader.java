// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/** Fills a table in memory with several threads, which thereby make its pages. */
final class RamLoader {
  /** Bytes that a thread fetches at a time: long reads, and progress that is seen to move. */
  private static final int STEP_BYTES = 4 << 20;

  /** From which share of resident pages on a step is copied from the page cache. */
  private static final double MOSTLY_RESIDENT = 0.9;

  private final RamRowStore target;
  private final int threads;
  private final LongConsumer progress;
  private long rowsDone;

  RamLoader(RamRowStore target, int threads, LongConsumer progress) {
    if (threads < 1 || threads > DirectReads.MAX_DEPTH) {
      throw new IllegalArgumentException(
          target.name()
              + ": loading with "
              + threads
              + " threads, expected 1 to "
              + DirectReads.MAX_DEPTH);
    }
    this.target = target;
    this.threads = threads;
    this.progress = progress;
  }

  /** Fills consecutive rows of the target. */
  private interface Step {
    void load(Worker worker, long row, int count);
  }

  /** What one thread uses. */
  private record Worker(Arena arena, ReadSeat seat, MemorySegment rows) {}

  void copy(RowStore source) {
    int most = Math.max(1, STEP_BYTES / target.rowBytes());
    run(
        0,
        target.rowCount(),
        most,
        0,
        (worker, row, count) -> {
          long[] ids = new long[count];
          for (int i = 0; i < count; i++) {
            ids[i] = row + i;
          }
          source.read(ids, 0, count, worker.rows, 0);
          target.write(row, count, worker.rows, 0);
        });
  }

  void load(RowLayout layout) {
    Map<Path, Source> sources = new HashMap<>();
    try (Arena arena = Arena.ofConfined()) {
      ReadSeat seat = new ReadSeat(arena, ReadSeat.BYTES);
      for (RowPart part : layout.parts()) {
        for (FileRegion region : part.regions()) {
          Source source = sources.computeIfAbsent(region.file(), Source::open);
          FileReads.compare(source.cached, seat, region, layout.name());
        }
      }
      for (int i = 0; i < layout.parts().size(); i++) {
        RowPart part = layout.parts().get(i);
        long first = layout.firstRow(i);
        int most = Math.max(1, STEP_BYTES / layout.rowBytes());
        int largest = Math.max(layout.valueBytes(), layout.scaleBytes());
        run(
            first,
            layout.endRow(i),
            most,
            Math.toIntExact((long) most * largest) + 2 * ReadSeat.ALIGNMENT,
            (worker, row, count) -> {
              place(layout, sources, worker, part.values(), row - first, count, 0, row);
              part.scales()
                  .ifPresent(scales ->
                      place(
                          layout,
                          sources,
                          worker,
                          scales,
                          row - first,
                          count,
                          layout.valueBytes(),
                          row));
              target.write(row, count, worker.rows, 0);
            });
      }
    } finally {
      sources.values().forEach(Source::close);
    }
  }

  /** Reads values or scales of rows and puts them where they belong in each row. */
  private void place(
      RowLayout layout,
      Map<Path, Source> sources,
      Worker worker,
      FileRegion region,
      long rowInPart,
      int count,
      int at,
      long row) {
    int piece = at == 0 ? layout.valueBytes() : layout.scaleBytes();
    long from = rowInPart * piece;
    int bytes = count * piece;
    Source source = sources.get(region.file());
    PositionalFile file = source.choose(region, from, bytes);
    long position = region.offset() + from;
    int found =
        FileReads.fill(file, region.file(), worker.seat, position, bytes, layout.name(), row);
    int rowBytes = layout.rowBytes();
    if (piece == rowBytes) {
      MemorySegment.copy(worker.seat.buffer(), found, worker.rows, 0, bytes);
      return;
    }
    for (int i = 0; i < count; i++) {
      MemorySegment.copy(
          worker.seat.buffer(),
          found + (long) i * piece,
          worker.rows,
          (long) i * rowBytes + at,
          piece);
    }
  }

  /** A file, opened through the page cache and, where that can be, past it. */
  private record Source(PositionalFile cached, PositionalFile uncached) {
    static Source open(Path file) {
      PositionalFile cached = PositionalFile.Opener.system(file, true);
      PositionalFile uncached;
      try {
        uncached = PositionalFile.Opener.system(file, false);
      } catch (EngramException e) {
        uncached = cached;
      }
      return new Source(cached, uncached);
    }

    /** What is in the page cache is taken from there; what is not does not displace others. */
    PositionalFile choose(FileRegion region, long from, int bytes) {
      FileRegion some =
          new FileRegion(
              region.file(), region.offset() + from, region.bytes().asSlice(from, bytes));
      return Residency.of(List.of(some)).map(Residency::share).orElse(0.0) >= MOSTLY_RESIDENT
          ? cached
          : uncached;
    }

    void close() {
      cached.close();
      if (!uncached.equals(cached)) {
        uncached.close();
      }
    }
  }

  private void run(long first, long end, int most, int bufferBytes, Step step) {
    AtomicLong next = new AtomicLong(first);
    AtomicBoolean failed = new AtomicBoolean();
    List<Future<?>> ended = new ArrayList<>();
    try (ExecutorService pool =
        Executors.newFixedThreadPool(
            threads, Thread.ofPlatform().daemon().name(target.name() + " loader ", 0).factory())) {
      for (int i = 0; i < threads; i++) {
        ended.add(
            pool.submit(() -> {
              // Closing a shared arena would stop all threads for a moment.
              try (Arena arena = Arena.ofConfined()) {
                Worker worker =
                    new Worker(
                        arena,
                        new ReadSeat(arena, Math.max(1, bufferBytes)),
                        arena.allocate((long) most * target.rowBytes(), 64));
                while (!failed.get()) {
                  long row = next.getAndAdd(most);
                  if (row >= end) {
                    return;
                  }
                  int count = (int) Math.min(most, end - row);
                  step.load(worker, row, count);
                  report(count);
                }
              } catch (RuntimeException | Error e) {
                failed.set(true);
                throw e;
              }
            }));
      }
      for (Future<?> each : ended) {
        try {
          // A future that is done already does not look.
          if (Thread.interrupted()) {
            throw new InterruptedException();
          }
          each.get();
        } catch (ExecutionException e) {
          if (e.getCause() instanceof RuntimeException failure) {
            throw failure;
          }
          throw (Error) e.getCause();
        } catch (InterruptedException e) {
          failed.set(true);
          Thread.currentThread().interrupt();
          throw new EngramException(target.name() + ": interrupted while the table was loaded", e);
        }
      }
    }
  }

  private synchronized void report(long rows) {
    rowsDone += rows;
    progress.accept(rowsDone);
  }
}
