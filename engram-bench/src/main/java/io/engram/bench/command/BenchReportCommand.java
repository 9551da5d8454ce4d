// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.bench.report.BenchRun;
import io.engram.bench.report.History;
import io.engram.bench.report.PerformancePage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engram bench report}: the history as a page. */
@Command(
    name = "report",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Makes the tables and charts of docs/performance.md anew from the history. Runs on"
            + " different kinds of machines are kept apart.")
final class BenchReportCommand implements Callable<Integer> {
  @Option(
      names = "--history",
      paramLabel = "FILE",
      description = "The history (default: docs/perf-history.jsonl).")
  private Path history = home("docs/perf-history.jsonl");

  @Option(
      names = "--page",
      paramLabel = "FILE",
      description =
          "The page, whose part between the two marking lines is replaced (default:"
              + " docs/performance.md).")
  private Path page = home("docs/performance.md");

  @Option(
      names = "--charts",
      paramLabel = "DIR",
      description = "Where charts go (default: docs/performance).")
  private Path charts = home("docs/performance");

  @Option(names = "--png", description = "Write charts as PNG too, not only as SVG.")
  private boolean png;

  @Spec private CommandSpec spec;

  /** A path of the repository that this was started from. */
  static Path home(String path) {
    String home = System.getProperty("engram.home", System.getProperty("engram.root", ""));
    return Path.of(home).resolve(path);
  }

  @Override
  public Integer call() throws IOException {
    List<BenchRun> runs = History.read(history);
    int kinds = PerformancePage.render(page, charts, runs, png);
    spec.commandLine()
        .getOut()
        .printf(
            "%s: %d run%s on %d kind%s of machine%n",
            page, runs.size(), runs.size() == 1 ? "" : "s", kinds, kinds == 1 ? "" : "s");
    return 0;
  }
}
