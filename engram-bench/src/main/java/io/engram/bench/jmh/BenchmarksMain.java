// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Rivals;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import org.openjdk.jmh.Main;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.results.format.ResultFormatFactory;
import org.openjdk.jmh.results.format.ResultFormatType;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.options.CommandLineOptionException;
import org.openjdk.jmh.runner.options.CommandLineOptions;

/**
 * What {@code benchmarks.jar} runs: JMH with its own options, in {@link Rounds}, without those
 * whose rival is absent, which it names first.
 */
public final class BenchmarksMain {
  private BenchmarksMain() {}

  /**
   * Runs benchmarks.
   *
   * @param args JMH's options and patterns of names; {@code -h} lists them
   * @throws CommandLineOptionException if the options are wrong
   * @throws RunnerException if JMH cannot run
   * @throws IOException if JMH's lists cannot be written
   */
  public static void main(String[] args)
      throws CommandLineOptionException, RunnerException, IOException {
    CommandLineOptions options = new CommandLineOptions(args);
    if (options.shouldHelp()
        || options.shouldList()
        || options.shouldListWithParams()
        || options.shouldListProfilers()
        || options.shouldListResultFormats()) {
      Main.main(args);
      return;
    }
    Rounds rounds = new Rounds(options);
    Rivals.available()
        .forEach(p ->
            System.out.println(
                "# Rival " + p.rival() + (p.present() ? ": " : " ABSENT: ") + p.detail()));
    rounds
        .absent()
        .forEach((name, rival) ->
            System.out.println("# Left out, for " + rival.rival() + " is absent: " + name));
    List<RunResult> results =
        rounds.run(
            new Rounds.Listener() {
              @Override
              public void starts(int run, int runs, int round, Rounds.Case next) {
                System.out.printf("%n# Run %d of %d, round %d: %s%n", run, runs, round, next);
              }

              @Override
              public void ended(Rounds.Case done, Optional<RunResult> result) {}
            });
    ResultFormatFactory.getInstance(ResultFormatType.TEXT, System.out).writeOut(results);
    if (options.getResult().hasValue() || options.getResultFormat().hasValue()) {
      ResultFormatType type = options.getResultFormat().orElse(ResultFormatType.CSV);
      String file =
          options
              .getResult()
              .orElse("jmh-result." + type.name().toLowerCase(java.util.Locale.ROOT));
      ResultFormatFactory.getInstance(type, file).writeOut(results);
    }
  }
}
