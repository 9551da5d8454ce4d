// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.bench.lab.CellResult;
import io.engram.bench.lab.CellResults;
import io.engram.bench.lab.Experiment;
import io.engram.bench.lab.Experiments;
import io.engram.bench.lab.Findings;
import io.engram.bench.lab.Lab;
import io.engram.bench.lab.Size;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram experiment}: what a memory is worth, found out on small models. */
@Command(
    name = "experiment",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Trains small language models in several settings and with several seeds, and says what"
            + " came out: sentences, tables, JSON and charts. It can be stopped at any time and goes"
            + " on where it was. Without a name it lists what there is.")
final class ExperimentCommand implements Callable<Integer> {
  private static final int SCALE = 1000;

  @Parameters(paramLabel = "NAME", arity = "0..1", description = "Which experiment.")
  private String name;

  @Option(
      names = "--size",
      paramLabel = "SIZE",
      description =
          "tiny (seconds: shows that it runs), quick (minutes; the default) or night (hours).")
  private Size size = Size.QUICK;

  @Option(
      names = "--seeds",
      paramLabel = "N",
      description = "Seeds 1 to N (default: 2, 3 or 5, by size).")
  private Integer seeds;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      description =
          "Where finished cells are kept and results are written (default: ${DEFAULT-VALUE}).")
  private Path directory = Path.of("target", "experiments");

  @Option(names = "--json", description = "Prints the JSON that is written.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    if (name == null) {
      for (Experiment experiment : Experiments.all()) {
        out.printf("%-11s %s%n", experiment.name(), experiment.question());
      }
      return 0;
    }
    Experiment experiment =
        Experiments.all().stream()
            .filter(one -> one.name().equals(name))
            .findFirst()
            .orElseThrow(() ->
                new ParameterException(
                    spec.commandLine(),
                    "There is no experiment " + name + "; there are " + names(Experiments.all())));
    int number = seeds == null ? size.seeds() : seeds;
    Lab lab = new Lab(directory);
    CellResults results;
    try (Watch watch = new Watch(experiment.name(), spec.commandLine().getErr())) {
      results = lab.run(experiment, size, number, watch);
    }
    Findings findings = lab.write(experiment, size, results);
    String stem = experiment.name() + "-" + size.title();
    if (json) {
      out.print(Files.readString(directory.resolve(stem + ".json")));
      return 0;
    }
    out.println(experiment.question());
    out.println();
    findings.sentences().forEach(sentence -> out.println("* " + sentence));
    for (Findings.Table table : findings.tables()) {
      out.println();
      out.println(table.title());
      print(out, table);
    }
    out.println();
    out.println(
        "Written: " + directory.resolve(stem) + ".json, .md, charts; cells are kept beside them.");
    return 0;
  }

  private static String names(List<Experiment> experiments) {
    return experiments.stream().map(Experiment::name).collect(Collectors.joining(", "));
  }

  private static void print(PrintWriter out, Findings.Table table) {
    int columns = table.head().size();
    int[] widths = new int[columns];
    for (int c = 0; c < columns; c++) {
      widths[c] = table.head().get(c).length();
      for (List<String> row : table.rows()) {
        widths[c] = Math.max(widths[c], row.get(c).length());
      }
    }
    line(out, table.head(), widths);
    table.rows().forEach(row -> line(out, row, widths));
  }

  private static void line(PrintWriter out, List<String> texts, int[] widths) {
    StringBuilder line = new StringBuilder("  ");
    for (int c = 0; c < widths.length; c++) {
      String text = texts.get(c);
      line.append(text).repeat(' ', widths[c] - text.length() + 2);
    }
    out.println(line.toString().stripTrailing());
  }

  /** A bar over all cells; where nobody sees one, a line for each finished cell. */
  private static final class Watch implements Lab.Listener, AutoCloseable {
    private final String task;
    private final PrintWriter messages;
    private Progress bar;
    private int cells;
    private int before;
    private int done;

    Watch(String task, PrintWriter messages) {
      this.task = task;
      this.messages = messages;
    }

    @Override
    public void starts(int all, int kept) {
      cells = all;
      before = kept;
      done = kept;
      if (kept > 0) {
        messages.printf("%d of %d cells were finished before.%n", kept, all);
      }
      // The bar extrapolates from what it has seen: cells of an earlier run took it no time.
      bar = Progress.start(task, (long) (all - kept) * SCALE, "‰ of cells");
    }

    @Override
    public void reached(String setting, long seed, double share) {
      bar.reached(Math.round((done - before + share) * SCALE));
    }

    @Override
    public void finished(CellResult cell) {
      done++;
      if (!bar.shown()) {
        messages.printf(
            "%d/%d %s, seed %d: %.1f s%n",
            done, cells, cell.setting(), cell.seed(), cell.seconds());
      }
    }

    @Override
    public void close() {
      if (bar != null) {
        bar.close();
      }
    }
  }
}
