// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramException;
import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.MappedRowStore;
import io.engram.store.RamRowStore;
import io.engram.store.Residency;
import io.engram.store.RowStore;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;

/**
 * Rows per second of each tier over one table. What a run may be called is decided by a look at the
 * page cache right before it, never by what was done to the cache.
 */
final class LookupBench {
  /** A run is cold if no more of the file than this was in memory when it started. */
  static final double COLD_SHARE = 0.02;

  /** A run is warm if at least this much of the file was in memory when it started. */
  static final double WARM_SHARE = 0.98;

  /**
   * A cold run ends when it has asked for rows as many as this share of the file's pages: after
   * that it would meet its own pages.
   */
  private static final double COLD_PAGES = 0.05;

  private static final int WARMING_PASSES = 3;
  private static final int SAMPLED_PAGES = 1 << 16;
  private static final int PICKS = 1 << 19;
  private static final int PAGE = 4096;

  /** The ways to read a table. */
  enum Tier {
    RAM("RAM"),
    MAPPED("mapped"),
    BUFFERED("direct, buffered"),
    UNCACHED("direct, O_DIRECT"),
    FIO("fio, O_DIRECT");

    private final String title;

    Tier(String title) {
      this.title = title;
    }

    String title() {
      return title;
    }
  }

  /** What a run wants the page cache to be. */
  enum Wanted {
    COLD,
    WARM
  }

  /**
   * A measurement that is repeated in each round.
   *
   * @param tier how rows are read
   * @param batch rows of a call; for fio 0
   * @param threads threads that call
   * @param wanted what the page cache should be
   */
  record Case(Tier tier, int batch, int threads, Wanted wanted) {}

  /**
   * One run.
   *
   * @param round from 1 upwards
   * @param of what was run
   * @param label what it may be called
   * @param residentBefore share of the file in memory right before, NaN where the system does not
   *     say
   * @param residentAfter the same right after
   * @param rows rows that were read
   * @param rowsPerSecond rows, or reads of fio, a second
   */
  record Result(
      int round,
      Case of,
      String label,
      double residentBefore,
      double residentAfter,
      long rows,
      double rowsPerSecond) {}

  /**
   * What to measure.
   *
   * @param tiers the tiers, without fio
   * @param batches rows of a call
   * @param threads threads that call
   * @param depth reads outstanding of a direct tier and of fio
   * @param rounds how often, each in the reverse order of the one before
   * @param seconds time of a run
   * @param fio whether to run fio
   * @param warm whether to make warm runs
   * @param dropAll whether to drop the cache of the whole machine, where dropping the file's is not
   *     enough
   */
  record Plan(
      List<Tier> tiers,
      List<Integer> batches,
      List<Integer> threads,
      int depth,
      int rounds,
      double seconds,
      boolean fio,
      boolean warm,
      boolean dropAll) {}

  private final BenchTable table;
  private final RowPicks picks;
  private final Plan plan;
  private final Consumer<Result> each;
  private final List<Result> results = new ArrayList<>();
  private long seed;
  private RamRowStore ram;

  LookupBench(BenchTable table, RowPicks picks, Plan plan, long seed, Consumer<Result> each) {
    this.table = table;
    this.picks = picks;
    this.plan = plan;
    this.seed = seed;
    this.each = each;
  }

  List<Result> run() throws IOException {
    try {
      if (plan.tiers().contains(Tier.RAM)) {
        ram = load();
      }
      // Round 0 is not counted: in it code is compiled and classes are loaded.
      for (int round = 0; round <= plan.rounds(); round++) {
        List<Wanted> order = new ArrayList<>(List.of(Wanted.COLD, Wanted.WARM));
        // What comes later in a round meets a machine that others have used, so the next round
        // goes the other way. That also keeps a warm file warm.
        boolean back = round % 2 == 0;
        if (back) {
          Collections.reverse(order);
        }
        for (Wanted wanted : order) {
          List<Case> cases = cases(wanted);
          if (back) {
            Collections.reverse(cases);
          }
          if (wanted == Wanted.WARM && cases.stream().anyMatch(LookupBench::usesCache)) {
            warm();
          }
          for (Case next : cases) {
            Result result = next.tier() == Tier.FIO ? fio(round, next) : measure(round, next);
            if (result != null && round > 0) {
              results.add(result);
              each.accept(result);
            }
          }
        }
      }
    } finally {
      if (ram != null) {
        ram.close();
      }
    }
    return results;
  }

  /** Why a tier cannot be had for a table here, if so. */
  static Optional<String> problem(BenchTable table, Tier tier) {
    if (tier == Tier.RAM) {
      return Optional.empty();
    }
    try (BenchTable.Mapping mapping = table.mapping().get()) {
      open(table, tier, mapping, DirectReads.DEFAULT_DEPTH).close();
      return Optional.empty();
    } catch (EngramException e) {
      return Optional.of(tier.title() + ": " + e.getMessage());
    }
  }

  private List<Case> cases(Wanted wanted) {
    List<Case> cases = new ArrayList<>();
    for (Tier tier : plan.tiers()) {
      for (int threads : plan.threads()) {
        for (int batch : plan.batches()) {
          Case each = new Case(tier, batch, threads, wanted);
          boolean runs =
              switch (tier) {
                // Neither memory nor O_DIRECT has two temperatures.
                case RAM -> wanted == Wanted.WARM;
                case UNCACHED -> wanted == Wanted.COLD;
                default -> wanted == Wanted.COLD || plan.warm();
              };
          if (runs) {
            cases.add(each);
          }
        }
      }
    }
    if (plan.fio() && wanted == Wanted.COLD) {
      cases.add(new Case(Tier.FIO, 0, 1, wanted));
    }
    return cases;
  }

  private static boolean usesCache(Case each) {
    return each.tier() == Tier.MAPPED || each.tier() == Tier.BUFFERED;
  }

  private RamRowStore load() {
    try (BenchTable.Mapping mapping = table.mapping().get();
        Progress progress = Progress.start("Loading", table.rows(), "rows")) {
      return RamRowStore.load(
          Tier.RAM.title(),
          table.valueBytes(),
          table.scaleBytes(),
          mapping.parts(),
          Runtime.getRuntime().availableProcessors(),
          progress::reached);
    }
  }

  private List<Path> files() {
    try (BenchTable.Mapping mapping = table.mapping().get()) {
      return mapping.files();
    }
  }

  /** Under pressure a system may give up new pages first, so one pass may not be enough. */
  private void warm() throws IOException {
    for (int pass = 0; pass < WARMING_PASSES && !(residency() >= WARM_SHARE); pass++) {
      for (Path file : files()) {
        PageCache.fill(file);
      }
    }
  }

  /** Only pages that nothing maps can go, so this comes before the mapping. */
  private void chill() throws IOException {
    for (Path file : files()) {
      PageCache.drop(file);
    }
    if (plan.dropAll() && residency() > COLD_SHARE) {
      PageCache.dropAll();
    }
  }

  private double residency() {
    try (BenchTable.Mapping mapping = table.mapping().get()) {
      return residency(mapping);
    }
  }

  /** NaN where the system does not say, or says of all files of others that they are resident. */
  private static double residency(BenchTable.Mapping mapping) {
    Optional<Residency> found = Residency.sampled(mapping.regions(), SAMPLED_PAGES);
    boolean told = mapping.files().stream().allMatch(Files::isWritable);
    return told && found.isPresent() ? found.get().share() : Double.NaN;
  }

  /** What a run may be called, which is what was seen and not what was wanted. */
  static String label(Tier tier, double resident) {
    if (tier == Tier.RAM) {
      return "in memory";
    }
    if (Double.isNaN(resident)) {
      return "residency unknown";
    }
    if (resident <= COLD_SHARE) {
      return "cold";
    }
    return resident >= WARM_SHARE
        ? "warm"
        : String.format(Locale.ROOT, "partly resident (%.0f %%)", 100 * resident);
  }

  /** What several runs may be called together: cold or warm only if each of them was. */
  static String label(List<Result> runs) {
    List<String> labels = runs.stream().map(Result::label).distinct().toList();
    if (labels.size() == 1) {
      return labels.getFirst();
    }
    double least = runs.stream().mapToDouble(Result::residentBefore).min().orElse(Double.NaN);
    double most = runs.stream().mapToDouble(Result::residentBefore).max().orElse(Double.NaN);
    return Double.isNaN(least) || Double.isNaN(most)
        ? "residency unknown"
        : String.format(Locale.ROOT, "partly resident (%.0f to %.0f %%)", 100 * least, 100 * most);
  }

  private Result measure(int round, Case next) throws IOException {
    if (next.wanted() == Wanted.COLD) {
      chill();
    }
    try (BenchTable.Mapping mapping = table.mapping().get()) {
      RowStore store =
          next.tier() == Tier.RAM ? ram : open(table, next.tier(), mapping, plan.depth());
      try {
        double before = next.tier() == Tier.RAM ? Double.NaN : residency(mapping);
        long pages = table.bytes() / PAGE;
        long most =
            next.wanted() == Wanted.COLD && usesCache(next)
                ? Math.max(next.batch(), (long) (pages * COLD_PAGES))
                : Long.MAX_VALUE;
        long[] rowsAndNanos = read(store, next, most);
        return new Result(
            round,
            next,
            label(next.tier(), before),
            before,
            next.tier() == Tier.RAM ? Double.NaN : residency(mapping),
            rowsAndNanos[0],
            rowsAndNanos[0] * 1e9 / rowsAndNanos[1]);
      } finally {
        if (next.tier() != Tier.RAM) {
          store.close();
        }
      }
    }
  }

  private static RowStore open(BenchTable table, Tier tier, BenchTable.Mapping mapping, int depth) {
    String name = tier.title();
    int values = table.valueBytes();
    int scales = table.scaleBytes();
    return switch (tier) {
      case MAPPED -> MappedRowStore.of(name, values, scales, mapping.parts());
      case BUFFERED, UNCACHED ->
          DirectRowStore.of(
              name, values, scales, mapping.parts(), new DirectReads(tier == Tier.BUFFERED, depth));
      default -> throw new AssertionError(tier);
    };
  }

  /** Rows read and nanoseconds, of all threads together. */
  private long[] read(RowStore store, Case next, long most) {
    AtomicLong asked = new AtomicLong();
    List<Callable<Long>> tasks = new ArrayList<>();
    List<long[]> picked = new ArrayList<>();
    for (int t = 0; t < next.threads(); t++) {
      picked.add(picks.rows(seed++, Math.max(next.batch(), PICKS / next.threads())));
    }
    try (Arena arena = Arena.ofShared();
        ExecutorService threads =
            Executors.newFixedThreadPool(next.threads(), Thread.ofPlatform().daemon().factory())) {
      MemorySegment out =
          arena.allocate((long) next.threads() * next.batch() * store.rowBytes(), 64);
      // Threads and code are there before the clock starts, and nothing of the file is read.
      long start = System.nanoTime();
      long end = start + (long) (plan.seconds() * 1e9);
      for (int t = 0; t < next.threads(); t++) {
        long[] rows = picked.get(t);
        long outOffset = (long) t * next.batch() * store.rowBytes();
        tasks.add(() -> {
          long done = 0;
          int from = 0;
          do {
            if (from + next.batch() > rows.length) {
              from = 0;
            }
            store.read(rows, from, next.batch(), out, outOffset);
            from += next.batch();
            done += next.batch();
          } while (System.nanoTime() < end && asked.addAndGet(next.batch()) < most);
          return done;
        });
      }
      long rows = 0;
      for (Future<Long> task : threads.invokeAll(tasks)) {
        rows += task.get();
      }
      return new long[] {rows, Math.max(1, System.nanoTime() - start)};
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RuntimeException failure) {
        throw failure;
      }
      throw new IllegalStateException(e.getCause());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while measuring", e);
    }
  }

  private Result fio(int round, Case next) throws IOException {
    chill();
    double before;
    Path file;
    try (BenchTable.Mapping mapping = table.mapping().get()) {
      before = residency(mapping);
      file = mapping.files().getFirst();
    }
    OptionalDouble found = Fio.readsPerSecond(file, plan.depth(), plan.seconds());
    if (found.isEmpty()) {
      return null;
    }
    double rate = found.getAsDouble();
    return new Result(
        round,
        next,
        label(next.tier(), before),
        before,
        before,
        (long) (rate * plan.seconds()),
        rate);
  }
}
