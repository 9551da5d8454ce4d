// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.Rivals;
import io.engram.bench.report.Aim;
import io.engram.bench.report.BenchRun;
import io.engram.bench.report.Charts;
import io.engram.bench.report.Commit;
import io.engram.bench.report.Environment;
import io.engram.bench.report.Finding;
import io.engram.bench.report.History;
import io.engram.bench.report.Machine;
import io.engram.bench.report.Measured;
import io.engram.bench.report.Tables;
import io.engram.bench.suite.Aims;
import io.engram.bench.suite.BenchmarkSet;
import io.engram.bench.suite.Suite;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram bench run}: chosen benchmarks beside their rivals, in rounds. */
@Command(
    name = "run",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Runs benchmarks and their rivals in rounds, every other round backwards, and says how the"
            + " ratios compare with what is aimed at. A ratio is taken within a round; shown is the"
            + " median, with the lowest and the highest.")
final class BenchRunCommand implements Callable<Integer> {
  private static final int QUICK_ROUNDS = 1;
  private static final int ROUNDS = 5;
  private static final double QUICK_SECONDS = 0.2;
  private static final int QUICK_ITERATIONS = 3;

  /** Vector kernels run interpreted, and very slowly, until they are compiled. */
  private static final int QUICK_WARMUPS = 8;

  @Parameters(
      arity = "0..*",
      paramLabel = "SET",
      description =
          "hash, compression, rows, decode, lookup, disk, layer, prefetch; all; aims: what the"
              + " aims compare; quick: the same, briefly (default); or a part of a benchmark's"
              + " name.")
  private List<String> sets = new ArrayList<>();

  @Option(
      names = "--list",
      description = "Show the benchmarks and about how long they take, and run none.")
  private boolean list;

  @Option(
      names = "--rounds",
      paramLabel = "N",
      description = "Rounds, each with a new JVM for each benchmark (default: 5; quick: 1).")
  private Integer rounds;

  @Option(
      names = "--seconds",
      paramLabel = "S",
      description = "Length of an iteration (default: each benchmark's own; quick: 0.2).")
  private Double seconds;

  @Option(
      names = "--iterations",
      paramLabel = "N",
      description = "Iterations that count, in a round (default: each benchmark's own; quick: 3).")
  private Integer iterations;

  @Option(
      names = "--warmups",
      paramLabel = "N",
      description = "Iterations before those (default: each benchmark's own; quick: 8).")
  private Integer warmups;

  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "Threads that call a benchmark (default: each benchmark's own).")
  private int threads;

  @Option(
      names = {"-p", "--param"},
      paramLabel = "NAME=V,V",
      description = "Values of a parameter, instead of the benchmark's own.")
  private Map<String, String> params = new LinkedHashMap<>();

  @Option(
      names = "--jvm-args",
      paramLabel = "ARGS",
      description = "Options for the measuring JVMs, after those of this one.")
  private String jvmArgs = "";

  @Option(
      names = "--python",
      paramLabel = "PATH",
      description = "Python with numpy and torch (default: $ENGRAM_PYTHON, else python3).")
  private Path python;

  @Option(names = "--json", paramLabel = "FILE", description = "Write the run there, as JSON.")
  private Path json;

  @Option(
      names = "--markdown",
      paramLabel = "FILE",
      description = "Write tables there, as Markdown.")
  private Path markdown;

  @Option(
      names = "--charts",
      paramLabel = "DIR",
      description = "Write charts there, as SVG and PNG.")
  private Path charts;

  @Option(
      names = "--record",
      description = "Append the run to docs/perf-history.jsonl, or to the file of --history.")
  private boolean record;

  @Option(
      names = "--history",
      paramLabel = "FILE",
      description = "Append the run to this file instead.")
  private Path history;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    if (sets.isEmpty()) {
      sets = List.of(Suite.QUICK);
    }
    boolean quick = sets.stream().anyMatch(set -> set.equalsIgnoreCase(Suite.QUICK));
    choosePython();
    Suite suite;
    Suite.Options options;
    try {
      options =
          new Suite.Options(
              rounds != null ? rounds : quick ? QUICK_ROUNDS : ROUNDS,
              warmups != null ? warmups : quick ? QUICK_WARMUPS : -1,
              iterations != null ? iterations : quick ? QUICK_ITERATIONS : 0,
              seconds != null ? seconds : quick ? QUICK_SECONDS : 0,
              threads,
              words(jvmArgs),
              params.entrySet().stream()
                  .collect(
                      Collectors.toMap(
                          Map.Entry::getKey, p -> List.of(p.getValue().split(",", -1)))));
      suite = Suite.of(sets, options);
    } catch (IllegalArgumentException e) {
      throw new ParameterException(
          spec.commandLine(), e.getMessage() + "; engram bench run --list shows what there is");
    }
    if (list) {
      list(suite);
      return 0;
    }
    Path file = history != null ? history : BenchReportCommand.home("docs/perf-history.jsonl");
    boolean recorded = record || history != null;
    if (recorded && Files.exists(file)) {
      // Found damaged now, rather than when there is a run to lose.
      History.read(file);
    }
    BenchRun run = run(suite, options);
    print(run);
    if (json != null) {
      Files.writeString(json, History.pretty(run));
    }
    if (markdown != null) {
      Files.writeString(markdown, Tables.of(run));
    }
    if (charts != null) {
      draw(run, charts);
    }
    if (recorded) {
      History.append(file, run);
      spec.commandLine().getErr().println("Appended to " + file + "; engram bench report shows it");
    }
    return run.measured().stream().anyMatch(one -> one.failed() != null) ? EngramCommand.FAILED : 0;
  }

  private void choosePython() {
    if (python != null) {
      if (!Files.isExecutable(python)) {
        throw new ParameterException(spec.commandLine(), python + " cannot be run");
      }
      // Rivals are looked for in this JVM, and run from the measuring ones.
      System.setProperty(PythonRival.PROPERTY, python.toString());
    }
  }

  private static Map<String, String> rivals() {
    Map<String, String> rivals = new LinkedHashMap<>();
    for (Rival.Presence rival : Rivals.available()) {
      rivals.put(
          rival.rival().name(),
          rival.present() ? rival.detail() : Environment.ABSENT + ": " + rival.detail());
    }
    return rivals;
  }

  private List<String> words(String args) {
    List<String> words = new ArrayList<>();
    if (python != null) {
      words.add("-D" + PythonRival.PROPERTY + "=" + python);
    }
    for (String word : args.strip().split("\\s+", -1)) {
      if (!word.isEmpty()) {
        words.add(word);
      }
    }
    return words;
  }

  private void list(Suite suite) {
    PrintWriter out = spec.commandLine().getOut();
    Map<String, List<Suite.Case>> bySet = new LinkedHashMap<>();
    suite.cases().forEach(c -> bySet.computeIfAbsent(c.set(), _ -> new ArrayList<>()).add(c));
    bySet.forEach((set, cases) -> {
      out.println(set + BenchmarkSet.named(set).map(known -> ": " + known.what()).orElse(""));
      for (Suite.Case one : cases) {
        out.println("  " + one + (one.absent() == null ? "" : "   absent: " + one.absent()));
      }
    });
    List<Aim> aims =
        Aims.all().stream()
            .filter(
                aim -> suite.cases().stream().anyMatch(c -> aim.ours().fits(c.name(), c.params())))
            .toList();
    if (!aims.isEmpty()) {
      out.println("aims");
      for (Aim aim : aims) {
        out.println("  " + aim.what() + ": " + aim.bound() + " " + words(aim.direction()));
      }
    }
    out.println(suite.cases().size() + " benchmarks, about " + duration(suite.estimatedSeconds()));
  }

  private static String words(Aim.Direction direction) {
    return direction == Aim.Direction.TIMES_AS_FAST
        ? "times as fast or more"
        : "of the time or less";
  }

  private static String duration(double seconds) {
    Duration time = Duration.ofSeconds(Math.round(seconds));
    return time.toMinutes() == 0
        ? time.toSeconds() + " s"
        : time.toMinutes() + " min " + time.toSecondsPart() + " s";
  }

  private BenchRun run(Suite suite, Suite.Options options) {
    PrintWriter err = spec.commandLine().getErr();
    Environment environment = Environment.here(rivals(), words(jvmArgs));
    Instant start = Instant.now().truncatedTo(ChronoUnit.SECONDS);
    Machine machine = Machine.here();
    err.println(machine.kind());
    environment
        .loadOfAMinute()
        .filter(load -> load > 0.5)
        .ifPresent(load ->
            err.println(
                "This machine is busy (load "
                    + load
                    + " over the last minute): ratios will spread."));
    for (Suite.Case one : suite.cases()) {
      if (one.absent() != null) {
        err.println("absent: " + one + ": " + one.absent());
      }
    }
    err.println("About " + duration(suite.estimatedSeconds()) + ", and what is prepared.");
    try (Progress progress = Progress.start("benchmarks", 1, "runs")) {
      suite.run((run, runs, round, done, result) -> {
        progress.of(runs);
        progress.reached(run);
        if (!progress.shown()) {
          err.printf("[%d/%d] round %d: %s  %s%n", run, runs, round, done, result);
        }
      });
    }
    return new BenchRun(
        BenchRun.FORMAT,
        start.toString(),
        Commit.of(BenchReportCommand.home("")),
        machine,
        environment,
        new BenchRun.Settings(
            sets, options.rounds(), options.iterations(), options.seconds(), options.threads()),
        suite.measured(),
        suite.findings(),
        suite.noise());
  }

  private void print(BenchRun run) {
    PrintWriter out = spec.commandLine().getOut();
    String set = "";
    for (Measured one : run.measured()) {
      if (!one.set().equals(set)) {
        set = one.set();
        out.println(set);
      }
      out.printf("  %-60s %s%n", one.label(), score(one));
    }
    if (run.noise() != null) {
      var noise = run.noise().spread();
      out.printf(
          "noise floor: %s beside itself %.3f (%.3f to %.3f)%n",
          run.noise().benchmark(), noise.median(), noise.lowest(), noise.highest());
    }
    for (Finding finding : run.findings()) {
      out.println(finding.what());
      if (finding.ratio() != null) {
        out.printf(
            "  %.3g (%.3g to %.3g), aim %s, beside %s%n",
            finding.ratio().median(),
            finding.ratio().lowest(),
            finding.ratio().highest(),
            finding.aim(),
            finding.rival());
      }
      out.println("  " + finding.verdict());
    }
  }

  private static String score(Measured one) {
    if (one.failed() != null) {
      return "failed: " + one.failed();
    }
    if (one.absent() != null) {
      return "absent: " + one.absent();
    }
    double[] scores = one.rounds().stream().mapToDouble(round -> round.score()).sorted().toArray();
    double median = (scores[(scores.length - 1) / 2] + scores[scores.length / 2]) / 2;
    return String.format(
        "%10.4g %-6s (%.4g to %.4g)", median, one.unit(), scores[0], scores[scores.length - 1]);
  }

  private static void draw(BenchRun run, Path directory) throws IOException {
    String below = run.machine().kind() + ". " + run.day() + ", commit " + run.commit().shortName();
    if (!run.findings().isEmpty()) {
      Charts.ratios(
              "Speed beside the rivals",
              below,
              run.findings(),
              run.noise() == null ? null : run.noise().spread())
          .write(directory, "ratios");
    }
    Map<String, List<Measured>> bySet = new LinkedHashMap<>();
    run.measured()
        .forEach(one -> bySet.computeIfAbsent(one.set(), _ -> new ArrayList<>()).add(one));
    for (Map.Entry<String, List<Measured>> set : bySet.entrySet()) {
      String title = BenchmarkSet.named(set.getKey()).map(BenchmarkSet::what).orElse(set.getKey());
      Charts.times(
              Character.toUpperCase(title.charAt(0)) + title.substring(1), below, set.getValue())
          .write(directory, "times-" + set.getKey());
    }
  }
}
