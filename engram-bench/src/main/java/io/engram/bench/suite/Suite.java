// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.suite;

import io.engram.bench.jmh.MemoryProfiler;
import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.Rivals;
import io.engram.bench.report.Aim;
import io.engram.bench.report.BenchRun.Noise;
import io.engram.bench.report.Finding;
import io.engram.bench.report.Measured;
import io.engram.bench.report.Pick;
import io.engram.bench.report.Score;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.openjdk.jmh.profile.GCProfiler;
import org.openjdk.jmh.results.BenchmarkResult;
import org.openjdk.jmh.results.IterationResult;
import org.openjdk.jmh.results.Result;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.BenchmarkList;
import org.openjdk.jmh.runner.BenchmarkListEntry;
import org.openjdk.jmh.runner.Defaults;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.format.OutputFormat;
import org.openjdk.jmh.runner.format.OutputFormatFactory;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * Chosen benchmarks, run in rounds.
 *
 * <p>JMH by itself runs all forks of one benchmark before the next, so that whatever the machine
 * does meanwhile looks like a difference between them. Here a round is one fork of each, those with
 * equal parameters next to one another, and every other round goes backwards. One benchmark is in
 * every round twice, once in its place and once at an end: what its two scores differ by is the
 * noise floor.
 *
 * <p>What needs an absent rival is not run and is named with the reason; what fails is named with
 * its message and left out of later rounds, and the rest goes on. Not thread-safe.
 */
public final class Suite {
  /** The set of all benchmarks. */
  public static final String ALL = "all";

  /** What the aims compare, and nothing else. */
  public static final String AIMS = "aims";

  /** The same, briefly: for a first look. */
  public static final String QUICK = "quick";

  /** What is a rival too, but needs nothing that might be absent. */
  private static final Map<String, String> PLAIN =
      Map.of(
          "RowsBenchmark.segments", "JDK",
          "RowsBenchmark.arrays", "JDK",
          "Fp8RowsBenchmark.copy", "JDK",
          "DecodeBenchmark.copy", "JDK",
          "PrefetchBenchmark.without", "NOTHING");

  /** A fork starts a JVM and ends it. */
  private static final double SECONDS_PER_FORK = 1.5;

  private static final String ALLOCATED = "gc.alloc.rate.norm";
  private static final String RESIDENT = "memory.resident";
  private static final String HUGE = "memory.hugePages";

  /**
   * How benchmarks are run. Zero and nothing stand for what each benchmark says itself.
   *
   * @param rounds rounds, at least 1
   * @param warmups iterations before those that count, or -1
   * @param iterations iterations that count, or 0
   * @param seconds length of each iteration, or 0
   * @param threads threads that call, or 0
   * @param jvmArgs options for the measuring JVMs, after all others
   * @param params values of parameters, by name
   */
  public record Options(
      int rounds,
      int warmups,
      int iterations,
      double seconds,
      int threads,
      List<String> jvmArgs,
      Map<String, List<String>> params) {
    /** Copies. */
    public Options {
      if (rounds < 1) {
        throw new IllegalArgumentException("rounds are " + rounds + ", less than 1");
      }
      if (warmups < -1 || iterations < 0 || threads < 0 || !(seconds >= 0)) {
        throw new IllegalArgumentException(
            "iterations, their length and threads must not be negative");
      }
      jvmArgs = List.copyOf(jvmArgs);
      params = Map.copyOf(params);
    }
  }

  /**
   * One benchmark with one value for each of its parameters.
   *
   * @param set its set
   * @param name class and method
   * @param params parameters by name
   * @param rival which rival's work it is, or null
   * @param absent why it cannot run here, or null
   */
  public record Case(
      String set, String name, Map<String, String> params, String rival, String absent) {
    /** Orders the parameters by name. */
    public Case {
      params = Collections.unmodifiableMap(new TreeMap<>(params));
    }

    @Override
    public String toString() {
      return new Pick(name, params).toString();
    }
  }

  /** Told of progress. */
  public interface Listener {
    /**
     * A benchmark ended in a round.
     *
     * @param run which of all runs, from 1
     * @param runs how many there are, fewer after a failure
     * @param round from 1
     * @param done what ran
     * @param result its score with its unit, or why there is none
     */
    void ended(int run, int runs, int round, Case done, String result);
  }

  /** A benchmark as it is being measured. */
  private static final class Running {
    private final Case what;
    private final BenchmarkListEntry entry;
    private final List<Score> scores = new ArrayList<>();
    private String unit = "s/op";
    private int threads = 1;
    private String failed;

    Running(Case what, BenchmarkListEntry entry) {
      this.what = what;
      this.entry = entry;
    }

    Measured measured() {
      return new Measured(
          what.set, what.name, what.params, what.rival, threads, unit, scores, failed, what.absent);
    }
  }

  private final Options options;
  private final List<Running> all = new ArrayList<>();
  private Running twice;
  private Noise noise;

  private Suite(Options options) {
    this.options = options;
  }

  /**
   * Chooses benchmarks. Looks for the rivals that they need.
   *
   * @param names sets, {@value #ALL}, {@value #AIMS} or {@value #QUICK}, or parts of the names of
   *     benchmarks
   * @param options how they will be run
   * @return what can be run
   * @throws IllegalArgumentException if a name means nothing or a parameter belongs to none
   */
  public static Suite of(List<String> names, Options options) {
    Suite suite = new Suite(options);
    Map<String, List<Running>> grouped = new LinkedHashMap<>();
    List<String> unused = new ArrayList<>(names);
    List<String> strayParams = new ArrayList<>(options.params.keySet());
    for (BenchmarkListEntry entry : entries()) {
      String name = shortName(entry.getUsername());
      String type = name.substring(0, name.indexOf('.'));
      String set =
          BenchmarkSet.of(type)
              .map(BenchmarkSet::word)
              .orElseGet(() -> type.replaceFirst("Benchmark$", "").toLowerCase(Locale.ROOT));
      List<Map<String, String>> combinations = suite.combinations(entry);
      for (Map<String, String> params : combinations) {
        boolean wanted = false;
        for (String asked : names) {
          if (means(asked, set, name, params)) {
            unused.remove(asked);
            wanted = true;
          }
        }
        if (!wanted) {
          continue;
        }
        strayParams.removeAll(params.keySet());
        Optional<Rival> rival = Rivals.need(entry.getUsername());
        Case one =
            new Case(
                set,
                name,
                params,
                rival.map(Rival::name).orElse(PLAIN.get(name)),
                rival
                    .map(Rivals::presence)
                    .filter(presence -> !presence.present())
                    .map(Rival.Presence::detail)
                    .orElse(null));
        grouped
            .computeIfAbsent(type + one.params(), _ -> new ArrayList<>())
            .add(new Running(one, entry));
      }
    }
    if (!unused.isEmpty()) {
      throw new IllegalArgumentException(
          "\"" + unused.getFirst() + "\" is no set and no part of a benchmark's name");
    }
    if (!strayParams.isEmpty()) {
      throw new IllegalArgumentException(
          "none of these benchmarks has a parameter \"" + strayParams.getFirst() + "\"");
    }
    grouped.values().forEach(suite.all::addAll);
    suite.all.sort(
        Comparator.comparingInt(running ->
            BenchmarkSet.named(running.what.set).map(Enum::ordinal).orElse(Integer.MAX_VALUE)));
    suite.twice = suite.chooseTwice();
    return suite;
  }

  private static Collection<BenchmarkListEntry> entries() {
    return BenchmarkList.defaultList().getAll(silent(), List.of());
  }

  private static OutputFormat silent() {
    return OutputFormatFactory.createFormatInstance(
        new PrintStream(PrintStream.nullOutputStream(), false, StandardCharsets.UTF_8),
        VerboseMode.SILENT);
  }

  private static boolean means(String asked, String set, String name, Map<String, String> params) {
    if (asked.equalsIgnoreCase(ALL)) {
      return true;
    }
    if (asked.equalsIgnoreCase(AIMS) || asked.equalsIgnoreCase(QUICK)) {
      return Aims.all().stream()
          .anyMatch(aim ->
              aim.ours().fits(name, params)
                  || aim.rivals().stream().anyMatch(rival -> rival.fits(name, params)));
    }
    return BenchmarkSet.named(asked).isPresent()
        ? set.equalsIgnoreCase(asked)
        : name.toLowerCase(Locale.ROOT).contains(asked.toLowerCase(Locale.ROOT));
  }

  private static String shortName(String full) {
    int method = full.lastIndexOf('.');
    return full.substring(full.lastIndexOf('.', method - 1) + 1);
  }

  /**
   * Every combination of a benchmark's values, and those that an aim names besides: what takes long
   * is not among the former.
   */
  private List<Map<String, String>> combinations(BenchmarkListEntry entry) {
    Map<String, List<String>> declared = new TreeMap<>();
    entry
        .getParams()
        .orElse(Map.of())
        .forEach((name, values) -> declared.put(name, Arrays.asList(values)));
    Map<String, List<String>> chosen = new TreeMap<>(declared);
    chosen.replaceAll((name, values) -> options.params.getOrDefault(name, values));
    Set<Map<String, String>> all = new LinkedHashSet<>(combined(chosen));
    for (Aim aim : Aims.all()) {
      for (Pick pick : Stream.concat(Stream.of(aim.ours()), aim.rivals().stream()).toList()) {
        if (pick.benchmark().equals(shortName(entry.getUsername()))) {
          Map<String, List<String>> named = new TreeMap<>(chosen);
          pick.params().forEach((name, value) -> named.put(name, List.of(value)));
          combined(named).stream()
              .filter(one ->
                  one.entrySet().stream()
                      .allMatch(param ->
                          options
                              .params
                              .getOrDefault(param.getKey(), List.of(param.getValue()))
                              .contains(param.getValue())))
              .forEach(all::add);
        }
      }
    }
    return List.copyOf(all);
  }

  private static List<Map<String, String>> combined(Map<String, List<String>> values) {
    List<Map<String, String>> combined = List.of(Map.of());
    for (Map.Entry<String, List<String>> param : values.entrySet()) {
      List<Map<String, String>> more = new ArrayList<>();
      for (Map<String, String> some : combined) {
        for (String value : param.getValue()) {
          Map<String, String> one = new TreeMap<>(some);
          one.put(param.getKey(), value);
          more.add(one);
        }
      }
      combined = more;
    }
    return combined;
  }

  /** What the first aim is about, if this suite has it: its noise is what matters most. */
  private Running chooseTwice() {
    Predicate<Running> possible = running -> running.what.absent == null;
    for (Aim aim : Aims.all()) {
      for (Running running : all) {
        if (possible.test(running) && aim.ours().fits(running.what.name, running.what.params)) {
          return running;
        }
      }
    }
    return all.stream()
        .filter(possible)
        .filter(running -> running.what.rival == null)
        .findFirst()
        .orElse(all.stream().filter(possible).findFirst().orElse(null));
  }

  /**
   * What was chosen.
   *
   * @return in the order of the first round, with what cannot run here
   */
  public List<Case> cases() {
    return all.stream().map(running -> running.what).toList();
  }

  /**
   * About how long it takes, without what benchmarks do to prepare.
   *
   * @return seconds
   */
  public double estimatedSeconds() {
    double seconds = 0;
    for (Running running : all) {
      if (running.what.absent == null) {
        seconds += (running == twice ? 2 : 1) * options.rounds * seconds(running.entry);
      }
    }
    return seconds;
  }

  private double seconds(BenchmarkListEntry entry) {
    int warmups =
        options.warmups >= 0
            ? options.warmups
            : entry.getWarmupIterations().orElse(Defaults.WARMUP_ITERATIONS);
    int iterations =
        options.iterations > 0
            ? options.iterations
            : entry.getMeasurementIterations().orElse(Defaults.MEASUREMENT_ITERATIONS);
    double warmup =
        options.seconds > 0
            ? options.seconds
            : entry.getWarmupTime().orElse(Defaults.WARMUP_TIME).convertTo(TimeUnit.MILLISECONDS)
                / 1e3;
    double iteration =
        options.seconds > 0
            ? options.seconds
            : entry
                    .getMeasurementTime()
                    .orElse(Defaults.MEASUREMENT_TIME)
                    .convertTo(TimeUnit.MILLISECONDS)
                / 1e3;
    return warmups * warmup + iterations * iteration + SECONDS_PER_FORK;
  }

  /**
   * Runs all rounds.
   *
   * @param listener told of progress
   * @throws IllegalStateException if other benchmarks run on this machine
   */
  public void run(Listener listener) {
    List<Running> order = new ArrayList<>();
    all.stream().filter(running -> running.what.absent == null).forEach(order::add);
    Running again = twice == null ? null : new Running(twice.what, twice.entry);
    if (again != null) {
      order.add(again);
    }
    int runs = order.size() * options.rounds;
    int run = 0;
    List<Double> ratios = new ArrayList<>();
    for (int round = 1; round <= options.rounds; round++) {
      for (Running next : round % 2 == 1 ? order : order.reversed()) {
        if (next.failed != null) {
          runs--;
          continue;
        }
        String result = run(next);
        listener.ended(++run, runs, round, next.what, result);
      }
      if (again != null && again.scores.size() == round && twice.scores.size() == round) {
        double inPlace = twice.measured().seconds(round - 1);
        double atTheEnd = again.measured().seconds(round - 1);
        ratios.add(round % 2 == 1 ? atTheEnd / inPlace : inPlace / atTheEnd);
      }
    }
    noise = ratios.isEmpty() ? null : new Noise(twice.what.toString(), ratios);
  }

  private String run(Running next) {
    ByteArrayOutputStream log = new ByteArrayOutputStream();
    PrintStream out = new PrintStream(log, true, StandardCharsets.UTF_8);
    PrintStream before = System.out;
    // JMH copies what benchmarks print to it, where it would stand among results.
    System.setOut(out);
    try {
      Collection<RunResult> results =
          new Runner(
                  jmhOptions(next),
                  OutputFormatFactory.createFormatInstance(out, VerboseMode.NORMAL))
              .run();
      if (results.isEmpty()) {
        next.failed = complaint(log.toString(StandardCharsets.UTF_8));
      } else {
        return take(next, results.iterator().next());
      }
    } catch (RunnerException e) {
      if (Objects.requireNonNullElse(e.getMessage(), "").contains("JMH lock")) {
        // Not this benchmark's fault, and no other would fare better.
        throw new IllegalStateException(e.getMessage(), e);
      }
      next.failed = Objects.requireNonNullElse(e.getMessage(), e.toString()).strip();
    } catch (IllegalArgumentException e) {
      next.failed = Objects.requireNonNullElse(e.getMessage(), e.toString());
    } finally {
      System.setOut(before);
    }
    return "failed: " + next.failed;
  }

  private org.openjdk.jmh.runner.options.Options jmhOptions(Running next) {
    List<String> append = new ArrayList<>(next.entry.getJvmArgsAppend().orElse(List.of()));
    append.addAll(options.jvmArgs);
    ChainedOptionsBuilder builder =
        new OptionsBuilder()
            .include("^" + Pattern.quote(next.entry.getUsername()) + "$")
            .forks(1)
            .warmupForks(0)
            .shouldFailOnError(false)
            .jvmArgsAppend(append.toArray(String[]::new))
            .addProfiler(GCProfiler.class)
            .addProfiler(MemoryProfiler.class);
    next.what.params.forEach(builder::param);
    if (options.warmups >= 0) {
      builder.warmupIterations(options.warmups);
    }
    if (options.iterations > 0) {
      builder.measurementIterations(options.iterations);
    }
    if (options.seconds > 0) {
      TimeValue time = TimeValue.milliseconds(Math.max(1, Math.round(options.seconds * 1e3)));
      builder.warmupTime(time).measurementTime(time);
    }
    if (options.threads > 0) {
      builder.threads(options.threads);
    }
    return builder.build();
  }

  private static String take(Running next, RunResult result) {
    Result<?> primary = result.getPrimaryResult();
    List<Double> samples = new ArrayList<>();
    for (BenchmarkResult fork : result.getBenchmarkResults()) {
      for (IterationResult iteration : fork.getIterationResults()) {
        samples.add(iteration.getPrimaryResult().getScore());
      }
    }
    next.unit = primary.getScoreUnit();
    next.threads = result.getParams().getThreads();
    next.scores.add(
        new Score(
            primary.getScore(),
            primary.getScoreError(),
            samples,
            secondary(result, ALLOCATED),
            secondary(result, RESIDENT),
            secondary(result, HUGE)));
    return String.format(Locale.ROOT, "%.4g %s", primary.getScore(), next.unit);
  }

  private static Double secondary(RunResult result, String name) {
    Result<?> found = result.getSecondaryResults().get(name);
    return found == null ? null : (Double) found.getScore();
  }

  /** What JMH printed of an exception, in one line. */
  static String complaint(String log) {
    List<String> lines = log.lines().map(String::strip).filter(l -> !l.isEmpty()).toList();
    for (int i = 0; i < lines.size(); i++) {
      if (lines.get(i).contains("<failure>")) {
        String rest = lines.get(i).substring(lines.get(i).indexOf("<failure>") + 9).strip();
        return !rest.isEmpty() ? rest : i + 1 < lines.size() ? lines.get(i + 1) : "no message";
      }
    }
    return lines.stream()
        .filter(line -> line.contains("Exception") || line.contains("Error"))
        .findFirst()
        .orElse(lines.isEmpty() ? "no message" : lines.getLast());
  }

  /**
   * What was measured, with what failed and what is absent.
   *
   * @return in the order of {@link #cases}
   */
  public List<Measured> measured() {
    return all.stream().map(Running::measured).toList();
  }

  /**
   * What was found about the aims.
   *
   * @return those aims whose two sides were chosen
   */
  public List<Finding> findings() {
    List<Measured> measured = measured();
    return Aims.all().stream().map(aim -> aim.find(measured)).filter(Objects::nonNull).toList();
  }

  /**
   * The noise floor.
   *
   * @return one benchmark beside itself, or null if nothing could be measured twice
   */
  public Noise noise() {
    return noise;
  }
}
