// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.Rivals;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.openjdk.jmh.results.BenchmarkResult;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.BenchmarkList;
import org.openjdk.jmh.runner.BenchmarkListEntry;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.format.OutputFormatFactory;
import org.openjdk.jmh.runner.options.Options;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * Runs benchmarks in rounds, so that the library and its rivals alternate: JMH runs all forks of
 * one before the next, and whatever the machine does meanwhile looks like a difference between
 * them. Here a round is one fork of each, those with equal parameters next to one another, and
 * every other round goes backwards.
 *
 * <p>A benchmark takes part in as many rounds as it has forks. Those whose rival is absent are left
 * out. Not thread-safe.
 */
public final class Rounds {
  /**
   * One benchmark with one value for each of its parameters.
   *
   * @param benchmark full name: class, dot, method
   * @param params parameters by name
   * @param forks rounds in which it takes part; 0 for one round in this process
   */
  public record Case(String benchmark, Map<String, String> params, int forks) {
    /** Copies the parameters, in the order of their names. */
    public Case {
      params = new TreeMap<>(params);
    }

    /**
     * The name without packages.
     *
     * @return class, dot, method
     */
    public String shortName() {
      int method = benchmark.lastIndexOf('.');
      return benchmark.substring(benchmark.lastIndexOf('.', method - 1) + 1);
    }

    @Override
    public String toString() {
      return shortName() + (params.isEmpty() ? "" : " " + params);
    }
  }

  /** Told of progress. */
  public interface Listener {
    /**
     * A run starts.
     *
     * @param run from 1
     * @param runs of all rounds together
     * @param round from 1
     * @param next what runs
     */
    void starts(int run, int runs, int round, Case next);

    /**
     * A run ended.
     *
     * @param done what ran
     * @param result its result; nothing if it failed, which JMH has said on its output
     */
    void ended(Case done, Optional<RunResult> result);
  }

  private final Options options;
  private final List<Case> cases = new ArrayList<>();
  private final Map<String, Rival.Presence> absent = new TreeMap<>();

  /**
   * Plans a run. Looks for the rivals that it needs.
   *
   * @param options what JMH would run; forks here are rounds
   */
  public Rounds(Options options) {
    this.options = options;
    List<String> includes = options.getIncludes().isEmpty() ? List.of(".*") : options.getIncludes();
    Map<String, List<Case>> grouped = new LinkedHashMap<>();
    for (BenchmarkListEntry entry :
        BenchmarkList.defaultList()
            .find(
                OutputFormatFactory.createFormatInstance(System.out, VerboseMode.SILENT),
                includes,
                options.getExcludes())) {
      String name = entry.getUsername();
      Optional<Rival.Presence> missing = Rivals.absentFor(name);
      if (missing.isPresent()) {
        absent.put(name, missing.get());
        continue;
      }
      int forks = options.getForkCount().orElse(entry.getForks().orElse(1));
      for (Map<String, String> params : combinations(entry)) {
        grouped
            .computeIfAbsent(entry.getUserClassQName() + params, _ -> new ArrayList<>())
            .add(new Case(name, params, forks));
      }
    }
    grouped.values().forEach(cases::addAll);
  }

  private List<Map<String, String>> combinations(BenchmarkListEntry entry) {
    List<Map<String, String>> all = List.of(Map.of());
    Map<String, String[]> declared = entry.getParams().orElse(Map.of());
    for (Map.Entry<String, String[]> param : new TreeMap<>(declared).entrySet()) {
      Collection<String> values =
          options.getParameter(param.getKey()).orElse(Arrays.asList(param.getValue()));
      List<Map<String, String>> more = new ArrayList<>();
      for (Map<String, String> some : all) {
        for (String value : values) {
          Map<String, String> one = new TreeMap<>(some);
          one.put(param.getKey(), value);
          more.add(one);
        }
      }
      all = more;
    }
    return all;
  }

  /**
   * What runs.
   *
   * @return all cases, in the order of the first round
   */
  public List<Case> cases() {
    return List.copyOf(cases);
  }

  /**
   * What does not.
   *
   * @return by full name of a benchmark: the rival that is absent
   */
  public Map<String, Rival.Presence> absent() {
    return new TreeMap<>(absent);
  }

  /**
   * Runs all rounds.
   *
   * @param listener told of progress
   * @return one result for each case that gave one, with the forks of all rounds, in the order of
   *     {@link #cases}
   * @throws RunnerException if JMH cannot run, or a benchmark failed and the options say to stop
   */
  public List<RunResult> run(Listener listener) throws RunnerException {
    Map<Case, List<RunResult>> results = new LinkedHashMap<>();
    cases.forEach(c -> results.put(c, new ArrayList<>()));
    List<Turn> turns = order(cases.stream().map(Case::forks).toList());
    for (int run = 0; run < turns.size(); run++) {
      Case next = cases.get(turns.get(run).index());
      listener.starts(run + 1, turns.size(), turns.get(run).round(), next);
      Collection<RunResult> found = new Runner(new OneCase(options, next)).run();
      results.get(next).addAll(found);
      listener.ended(next, found.stream().findFirst());
    }
    return results.values().stream().filter(r -> !r.isEmpty()).map(Rounds::merged).toList();
  }

  /** Whose turn it is, and in which round. */
  record Turn(int index, int round) {}

  /** Forwards and backwards by turns, each as often as it has forks, and at least once. */
  static List<Turn> order(List<Integer> forks) {
    List<Turn> turns = new ArrayList<>();
    List<Integer> forwards = IntStream.range(0, forks.size()).boxed().toList();
    int rounds = forks.stream().mapToInt(f -> Math.max(1, f)).max().orElse(0);
    for (int round = 1; round <= rounds; round++) {
      for (int index : round % 2 == 1 ? forwards : forwards.reversed()) {
        if (round <= Math.max(1, forks.get(index))) {
          turns.add(new Turn(index, round));
        }
      }
    }
    return turns;
  }

  /** The forks of several runs, as if one run had had them all. */
  private static RunResult merged(List<RunResult> runs) {
    List<BenchmarkResult> forks =
        runs.stream().flatMap(run -> run.getBenchmarkResults().stream()).toList();
    return new RunResult(runs.getFirst().getParams(), forks);
  }

  /** One fork of one case, otherwise as the given options say. */
  private static final class OneCase extends OptionsBuilder {
    private static final long serialVersionUID = 1;

    private final String only;

    OneCase(Options options, Case one) {
      parent(options);
      only = "^" + Pattern.quote(one.benchmark()) + "$";
      one.params().forEach(this::param);
      forks(Math.min(1, one.forks()));
      addProfiler(MemoryProfiler.class);
    }

    @Override
    public List<String> getIncludes() {
      return List.of(only);
    }

    @Override
    public List<String> getExcludes() {
      return List.of();
    }
  }
}
