// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.engram.bench.command.LookupBench.Case;
import io.engram.bench.command.LookupBench.Result;
import io.engram.bench.command.LookupBench.Tier;
import io.engram.store.DirectReads;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram bench lookup}: rows per second of each tier. */
@Command(
    name = "lookup",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Measures rows per second of each tier over one table, cold and warm. A run is called cold"
            + " only if at most 2 %% of the file are in memory right before it, warm only if at"
            + " least 98 %% are, and partly resident otherwise. Where fio is installed, it reads the"
            + " same file at the same depth in the same rounds.")
final class BenchLookupCommand implements Callable<Integer> {
  private static final int BAR_WIDTH = 30;
  private static final double MOST_OF_MEMORY = 0.4;

  /** Tiers that can be asked for. */
  enum Choice {
    RAM(Tier.RAM),
    MAPPED(Tier.MAPPED),
    BUFFERED(Tier.BUFFERED),
    UNCACHED(Tier.UNCACHED);

    private final Tier tier;

    Choice(Tier tier) {
      this.tier = tier;
    }
  }

  /** Which rows are asked for. */
  enum Distribution {
    UNIFORM,
    ZIPF
  }

  @ArgGroup(exclusive = false, heading = "%nAn existing table, which is only read:%n")
  private Existing existing;

  private static final class Existing {
    @Option(
        names = "--checkpoint",
        required = true,
        paramLabel = "DIR",
        description = "A checkpoint directory.")
    private Path checkpoint;

    @Option(
        names = "--layer",
        required = true,
        paramLabel = "L",
        description = "One of its layers with a memory.")
    private int layer;
  }

  @ArgGroup(exclusive = false, heading = "%nA table that is made and deleted:%n")
  private Made made = new Made();

  private static final class Made {
    @Option(
        names = "--size",
        paramLabel = "SIZE",
        description = "Size of its file (default: ${DEFAULT-VALUE}).")
    private String size = "1GB";

    @Option(
        names = "--row-bytes",
        paramLabel = "N",
        description = "Bytes of a row (default: ${DEFAULT-VALUE}, as V4.1's).")
    private int rowBytes = 264;

    @Option(
        names = "--directory",
        paramLabel = "DIR",
        description = "Where (default: the directory for temporary files).")
    private Path directory = Path.of(System.getProperty("java.io.tmpdir"));
  }

  @Option(
      names = "--tiers",
      split = ",",
      paramLabel = "T",
      description = "ram, mapped, buffered, uncached (default: all).")
  private List<Choice> tiers = List.of(Choice.values());

  @Option(
      names = "--batches",
      split = ",",
      paramLabel = "N",
      description = "Rows of a call (default: 64,256,4096).")
  private List<Integer> batches = List.of(64, 256, 4096);

  @Option(
      names = "--threads",
      split = ",",
      paramLabel = "N",
      description = "Threads that call (default: 1).")
  private List<Integer> threads = List.of(1);

  @Option(
      names = "--depth",
      paramLabel = "N",
      description = "Reads outstanding, of direct tiers and of fio (default: ${DEFAULT-VALUE}).")
  private int depth = DirectReads.DEFAULT_DEPTH;

  @ArgGroup private Which which = new Which();

  private static final class Which {
    @Option(
        names = "--distribution",
        paramLabel = "D",
        description = "Row ids: uniform (default) or zipf.")
    private Distribution distribution = Distribution.UNIFORM;

    @Option(
        names = "--text",
        paramLabel = "FILE",
        description = "Row ids of this text's n-grams instead, tokenized by cl100k_base.")
    private Path text;
  }

  @Option(
      names = "--rounds",
      paramLabel = "N",
      description = "Rounds, every other one in reverse order (default: ${DEFAULT-VALUE}).")
  private int rounds = 3;

  @Option(
      names = "--seconds",
      paramLabel = "S",
      description = "Time of a run (default: ${DEFAULT-VALUE}).")
  private double seconds = 0.5;

  @Option(names = "--seed", paramLabel = "N", description = "Decides the row ids (default: 1).")
  private long seed = 1;

  @Option(
      names = "--drop-caches",
      description =
          "Lets cold runs drop the page cache of the whole machine where dropping the file's own"
              + " pages is not enough; needs root.")
  private boolean dropCaches;

  @Option(names = "--no-fio", description = "Leaves out fio, even if it is installed.")
  private boolean noFio;

  @Option(names = "--json", description = "Prints every run and the summary as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  /** All rounds of a case. */
  private record Summary(
      String tier,
      int batch,
      int threads,
      String label,
      double median,
      double lowest,
      double highest,
      int runs) {}

  @Override
  public Integer call() throws IOException {
    PrintWriter out =
        json ? new PrintWriter(PrintWriter.nullWriter()) : spec.commandLine().getOut();
    check();
    List<String> notes = new ArrayList<>();
    Optional<String> fio = noFio ? Optional.empty() : Fio.version();
    try (BenchTable table =
        existing == null
            ? BenchTable.make(made.directory, Sizes.parse(made.size), made.rowBytes)
            : BenchTable.of(existing.checkpoint, existing.layer)) {
      long memory =
          ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
              .getTotalMemorySize();
      boolean fits = table.bytes() <= MOST_OF_MEMORY * memory;
      List<Tier> chosen = new ArrayList<>(tiers.stream().map(c -> c.tier).distinct().toList());
      if (!fits) {
        chosen.remove(Tier.RAM);
        notes.add(
            "no warm runs and no RAM tier: the table takes more than 40 % of "
                + Sizes.bytes(memory));
      }
      for (Tier tier : List.copyOf(chosen)) {
        LookupBench.problem(table, tier)
            .ifPresent(problem -> {
              chosen.remove(tier);
              notes.add(problem);
            });
      }
      if (noFio) {
        notes.add("fio was not asked for");
      } else if (fio.isEmpty()) {
        notes.add("fio is not installed: the raw disk was not measured");
      }
      RowPicks picks = picks(table.rows());
      out.printf(
          "%,d rows of %,d bytes, %s: %s%n",
          table.rows(), table.rowBytes(), Sizes.bytes(table.bytes()), table.description());
      out.printf(
          "%s; %d rounds of %s s a run, every other round in reverse%n"
              + "cold runs end sooner, when they have asked for 5 %% of the pages; %% of the file in"
              + " memory before -> after%n%n",
          picks.description(), rounds, seconds);
      LookupBench.Plan plan =
          new LookupBench.Plan(
              chosen, batches, threads, depth, rounds, seconds, fio.isPresent(), fits, dropCaches);
      List<Result> results =
          new LookupBench(table, picks, plan, seed, result -> print(out, result)).run();
      if (fio.isPresent() && results.stream().noneMatch(r -> r.of().tier() == Tier.FIO)) {
        notes.add(fio.get() + " could not read the file (libaio, O_DIRECT)");
      }
      List<Summary> summaries = summaries(results);
      print(out, summaries, table, fio);
      notes.forEach(note -> out.println("  note: " + note));
      if (json) {
        Map<String, Object> root = new LinkedHashMap<>();
        root.put("table", table.description());
        root.put("rows", table.rows());
        root.put("rowBytes", table.rowBytes());
        root.put("scalesApart", table.scaleBytes() > 0);
        root.put("rowIds", picks.description());
        root.put("depth", depth);
        root.put("fio", fio.orElse(null));
        root.put("runs", results);
        root.put("summary", summaries);
        root.put("notes", notes);
        // A residency that is unknown is no number.
        Gson gson =
            new GsonBuilder().setPrettyPrinting().serializeSpecialFloatingPointValues().create();
        spec.commandLine().getOut().println(gson.toJson(root).replaceAll("\\bNaN\\b", "null"));
      }
    }
    return 0;
  }

  private void check() {
    require(batches.stream().allMatch(n -> n >= 1), "--batches must be at least 1");
    require(threads.stream().allMatch(n -> n >= 1 && n <= 256), "--threads must be 1 to 256");
    require(rounds >= 1, "--rounds must be at least 1");
    require(seconds > 0 && seconds <= 600, "--seconds must be more than 0 and at most 600");
    require(made.rowBytes >= 1, "--row-bytes must be at least 1");
  }

  private void require(boolean holds, String otherwise) {
    if (!holds) {
      throw new ParameterException(spec.commandLine(), otherwise);
    }
  }

  private RowPicks picks(long rows) throws IOException {
    if (which.text != null) {
      return RowPicks.text(which.text, "cl100k_base", rows);
    }
    return which.distribution == Distribution.ZIPF ? RowPicks.zipf(rows) : RowPicks.uniform(rows);
  }

  private static void print(PrintWriter out, Result result) {
    Case of = result.of();
    out.printf(
        "  round %d  %-16s %5s rows  %d thread%s  %-24s %s  %,12.0f rows/s%n",
        result.round(),
        of.tier().title(),
        of.batch() == 0 ? "-" : Integer.toString(of.batch()),
        of.threads(),
        of.threads() == 1 ? " " : "s",
        result.label(),
        Double.isNaN(result.residentBefore())
            ? "             "
            : "%5.1f -> %5.1f %%"
                .formatted(100 * result.residentBefore(), 100 * result.residentAfter()),
        result.rowsPerSecond());
    out.flush();
  }

  private static List<Summary> summaries(List<Result> results) {
    Map<Case, List<Result>> byCase = new LinkedHashMap<>();
    results.forEach(r -> byCase.computeIfAbsent(r.of(), _ -> new ArrayList<>()).add(r));
    List<Summary> all = new ArrayList<>();
    byCase.forEach((of, runs) -> {
      double[] rates = runs.stream().mapToDouble(Result::rowsPerSecond).sorted().toArray();
      all.add(
          new Summary(
              of.tier().title(),
              of.batch(),
              of.threads(),
              LookupBench.label(runs),
              (rates[(rates.length - 1) / 2] + rates[rates.length / 2]) / 2,
              rates[0],
              rates[rates.length - 1],
              runs.size()));
    });
    return all;
  }

  private void print(
      PrintWriter out, List<Summary> summaries, BenchTable table, Optional<String> fio) {
    double most = summaries.stream().mapToDouble(Summary::median).max().orElse(1);
    double raw =
        summaries.stream()
            .filter(s -> s.tier().equals(Tier.FIO.title()))
            .mapToDouble(Summary::median)
            .findFirst()
            .orElse(Double.NaN);
    // Memory is hundreds of times faster than a disk: only on a log scale do both show.
    double floor = 1000;
    BarChart chart = new BarChart(Math.max(1, Math.log(most / floor)), BAR_WIDTH);
    out.printf("%nmedian rows/s (lowest to highest); bars on a log scale from 1,000%n");
    int readsPerRow = table.scaleBytes() > 0 ? 2 : 1;
    for (Summary s : summaries) {
      boolean disk = s.tier().equals(Tier.UNCACHED.title());
      out.printf(
          "  %-16s %5s x%-2d %-10s %,12.0f (%,.0f to %,.0f)%s  %s%n",
          s.tier(),
          s.batch() == 0 ? "-" : Integer.toString(s.batch()),
          s.threads(),
          s.label(),
          s.median(),
          s.lowest(),
          s.highest(),
          disk && !Double.isNaN(raw)
              ? " %.0f %% of fio's".formatted(100 * s.median() * readsPerRow / raw)
              : "",
          chart.bar(Math.log(Math.max(1, s.median() / floor))));
    }
    if (!Double.isNaN(raw)) {
      out.printf(
          "  %s: libaio, %d reads of 4 KiB outstanding; a row is counted as %d of these%n",
          fio.orElseThrow(), depth, readsPerRow);
    }
    if (summaries.stream()
        .anyMatch(s -> !Arrays.asList("cold", "warm", "in memory").contains(s.label()))) {
      out.println("  Runs that are partly resident are neither cold nor warm: see the runs above.");
    }
  }
}
