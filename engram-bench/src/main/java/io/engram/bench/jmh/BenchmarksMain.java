// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Rival;
import io.engram.bench.jmh.rival.Rivals;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.openjdk.jmh.Main;
import org.openjdk.jmh.runner.BenchmarkList;
import org.openjdk.jmh.runner.BenchmarkListEntry;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.RunnerException;
import org.openjdk.jmh.runner.format.OutputFormatFactory;
import org.openjdk.jmh.runner.options.ChainedOptionsBuilder;
import org.openjdk.jmh.runner.options.CommandLineOptionException;
import org.openjdk.jmh.runner.options.CommandLineOptions;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.VerboseMode;

/**
 * What {@code benchmarks.jar} runs: JMH with its own options, without those whose rival is absent,
 * which it names first.
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
    Rivals.available()
        .forEach(p ->
            System.out.println(
                "# Rival " + p.rival() + (p.present() ? ": " : " ABSENT: ") + p.detail()));
    ChainedOptionsBuilder present =
        new OptionsBuilder().parent(options).addProfiler(MemoryProfiler.class);
    options.getExcludes().forEach(present::exclude);
    absent()
        .forEach((name, rival) -> {
          System.out.println("# Left out, for " + rival.rival() + " is absent: " + name);
          present.exclude("^" + Pattern.quote(name) + "$");
        });
    new Runner(present.build()).run();
  }

  /**
   * Benchmarks that cannot run here.
   *
   * @return by full name: the rival that is absent
   */
  static Map<String, Rival.Presence> absent() {
    Map<String, Rival.Presence> absent = new TreeMap<>();
    for (String name : names()) {
      Rivals.absentFor(name).ifPresent(rival -> absent.put(name, rival));
    }
    return absent;
  }

  /** Full names of the benchmarks of this package. */
  static List<String> names() {
    PrintStream nothing =
        new PrintStream(PrintStream.nullOutputStream(), false, StandardCharsets.UTF_8);
    return BenchmarkList.defaultList()
        .getAll(OutputFormatFactory.createFormatInstance(nothing, VerboseMode.SILENT), List.of())
        .stream()
        .map(BenchmarkListEntry::getUsername)
        .filter(name -> name.startsWith(BenchmarksMain.class.getPackageName() + "."))
        .distinct()
        .toList();
  }
}
