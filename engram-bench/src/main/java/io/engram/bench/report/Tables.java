// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/** Runs as Markdown. */
public final class Tables {
  /** How many runs the table of movements shows. */
  private static final int COLUMNS = 8;

  private Tables() {}

  /**
   * One run, complete.
   *
   * @param run the run
   * @return Markdown that begins with a heading of level 2
   */
  public static String of(BenchRun run) {
    StringBuilder out = new StringBuilder();
    out.append("## ").append(run.machine().kind()).append("\n\n").append(circumstances(run));
    out.append(aims(List.of(run)));
    out.append(measured(List.of(run)));
    return out.toString();
  }

  /**
   * What was measured with what, and how far equal things were apart.
   *
   * @param run the run
   * @return a list
   */
  static String circumstances(BenchRun run) {
    Environment with = run.environment();
    Machine machine = run.machine();
    BenchRun.Settings how = run.settings();
    StringBuilder out = new StringBuilder();
    item(
        out,
        "Run",
        run.date()
            + " of commit `"
            + run.commit().shortName()
            + "`"
            + (run.commit().dirty() ? " with changes" : "")
            + ": "
            + String.join(", ", how.sets())
            + "; "
            + counted(how.rounds(), "round")
            + ", every other one backwards"
            + (how.seconds() == 0 ? "" : ", iterations of " + plain(how.seconds()) + " s")
            + (how.iterations() == 0 ? "" : ", " + how.iterations() + " of each in a round")
            + (how.threads() == 0 ? "" : ", " + counted(how.threads(), "thread")));
    item(
        out,
        "Machine",
        (machine.caches().isEmpty() ? "" : String.join(", ", machine.caches()) + "; ")
            + "huge pages: "
            + machine.hugePages()
            + "; "
            + machine.os());
    item(out, "JDK", with.jdk() + "; kernels: " + with.kernels());
    item(
        out,
        "JVM options",
        with.jvmArgs().isEmpty()
            ? "none"
            : with.jvmArgs().stream().map(arg -> "`" + arg + "`").collect(Collectors.joining(" ")));
    item(
        out,
        "Rivals",
        with.rivals().isEmpty()
            ? "none were looked for"
            : with.rivals().entrySet().stream()
                .map(rival -> "`" + rival.getKey() + "` " + rival.getValue())
                .collect(Collectors.joining("; ")));
    item(
        out,
        "Load before",
        with.loadOfAMinute().map(load -> plain(load) + " runnable threads").orElse("unknown"));
    item(
        out,
        "Noise floor",
        run.noise() == null
            ? "not measured"
            : "`"
                + run.noise().benchmark()
                + "` beside itself: "
                + spread(run.noise().spread())
                + ". Ratios closer to 1 than that say nothing");
    return out.append('\n').toString();
  }

  private static void item(StringBuilder out, String name, String what) {
    out.append("- **").append(name).append("**: ").append(what).append('\n');
  }

  /**
   * Each aim with the latest ratio that there is.
   *
   * @param runs runs of one kind of machine, the oldest first
   * @return a table
   */
  static String aims(List<BenchRun> runs) {
    Map<String, Latest<Finding>> latest = new LinkedHashMap<>();
    for (BenchRun run : runs) {
      for (Finding finding : run.findings()) {
        latest.put(finding.id(), new Latest<>(run, finding));
      }
    }
    if (latest.isEmpty()) {
      return "No aim was compared.\n\n";
    }
    boolean several = several(latest.values().stream().map(Latest::run).toList());
    StringBuilder out = new StringBuilder();
    out.append("| what | beside | ratio (lowest to highest) | aim | |");
    out.append(several ? " commit |\n" : "\n");
    out.append("|---|---|---|---|---|").append(several ? "---|\n" : "\n");
    for (Latest<Finding> one : latest.values()) {
      Finding finding = one.value();
      row(
          out,
          finding.what(),
          finding.rival() == null ? "" : "`" + finding.rival() + "`",
          finding.ratio() == null ? "" : spread(finding.ratio()),
          finding.aim(),
          finding.met() ? "**met**" + finding.verdict().substring(3) : finding.verdict());
      if (several) {
        out.append(" `").append(one.run().commit().shortName()).append("` |");
      }
      out.append('\n');
    }
    return out.append('\n').toString();
  }

  private record Latest<T>(BenchRun run, T value) {}

  private static boolean several(List<BenchRun> runs) {
    return runs.stream().map(BenchRun::date).distinct().count() > 1;
  }

  /**
   * Each benchmark with its latest score, set by set.
   *
   * @param runs runs of one kind of machine, the oldest first
   * @return tables with headings of level 3
   */
  static String measured(List<BenchRun> runs) {
    Map<String, Map<String, Latest<Measured>>> sets = new LinkedHashMap<>();
    for (BenchRun run : runs) {
      for (Measured one : run.measured()) {
        sets.computeIfAbsent(one.set(), _ -> new LinkedHashMap<>())
            .put(one.label() + " " + one.threads(), new Latest<>(run, one));
      }
    }
    StringBuilder out = new StringBuilder();
    sets.forEach((set, latest) -> {
      boolean several = several(latest.values().stream().map(Latest::run).toList());
      out.append("### ").append(set).append("\n\n");
      out.append(
          "| benchmark | parameters | threads | time (lowest to highest) | bytes allocated | MiB resident, in huge pages |");
      out.append(several ? " commit |\n" : "\n");
      out.append("|---|---|--:|---|--:|--:|").append(several ? "---|\n" : "\n");
      for (Latest<Measured> one : latest.values()) {
        Measured measured = one.value();
        Double allocated = measured.allocated();
        row(
            out,
            "`" + measured.benchmark() + "`",
            measured.parameters(),
            Integer.toString(measured.threads()),
            measured.failed() != null
                ? "**failed**: " + measured.failed()
                : measured.absent() != null ? "absent: " + measured.absent() : times(measured),
            // What the counting itself allocates shows as fractions of a byte.
            allocated == null ? "" : String.format(Locale.ROOT, "%.0f", allocated),
            memory(measured));
        if (several) {
          out.append(" `").append(one.run().commit().shortName()).append("` |");
        }
        out.append('\n');
      }
      out.append('\n');
    });
    return out.toString();
  }

  private static String memory(Measured measured) {
    if (measured.rounds().isEmpty() || measured.rounds().getLast().resident() == null) {
      return "";
    }
    Score last = measured.rounds().getLast();
    return String.format(
        Locale.ROOT, "%.0f, %.0f", last.resident(), last.huge() == null ? 0 : last.huge());
  }

  private static String times(Measured measured) {
    Spread time = measured.seconds();
    return Unit.time(time.median())
        + (time.rounds().size() == 1
            ? ""
            : " (" + Unit.time(time.lowest()) + " to " + Unit.time(time.highest()) + ")");
  }

  /**
   * How each aim's ratio has moved: one column for each of the last runs that compared anything.
   *
   * @param runs runs of one kind of machine, the oldest first
   * @return a table
   */
  static String moves(List<BenchRun> runs) {
    List<BenchRun> comparing =
        runs.stream()
            .filter(run -> run.findings().stream().anyMatch(finding -> finding.ratios() != null))
            .toList();
    List<BenchRun> columns =
        comparing.subList(Math.max(0, comparing.size() - COLUMNS), comparing.size());
    Map<String, Finding> aims = new LinkedHashMap<>();
    columns.forEach(run -> run.findings().forEach(finding -> aims.put(finding.id(), finding)));
    if (columns.isEmpty()) {
      return "";
    }
    StringBuilder out = new StringBuilder("| what |");
    for (BenchRun run : columns) {
      out.append(" `")
          .append(run.commit().shortName())
          .append("`<br>")
          .append(run.day())
          .append(" |");
    }
    out.append(" aim |\n|---|").append("--:|".repeat(columns.size())).append("---|\n");
    for (Finding aim : aims.values()) {
      List<String> cells = new ArrayList<>();
      cells.add(aim.what());
      for (BenchRun run : columns) {
        cells.add(
            run.findings().stream()
                .filter(finding -> finding.id().equals(aim.id()) && finding.ratios() != null)
                // An aim that was read the other way round then is another series.
                .filter(finding -> finding.direction() == aim.direction())
                .map(finding -> Unit.digits(finding.ratio().median()))
                .findFirst()
                .orElse(""));
      }
      cells.add(aim.aim());
      row(out, cells.toArray(String[]::new));
      out.append('\n');
    }
    return out.append('\n').toString();
  }

  private static void row(StringBuilder out, String... cells) {
    out.append('|');
    for (String cell : cells) {
      out.append(' ').append(cell.replace("|", "\\|").replace('\n', ' ')).append(" |");
    }
  }

  private static String spread(Spread spread) {
    return Unit.digits(spread.median())
        + (spread.rounds().size() == 1
            ? " (one round)"
            : " (" + Unit.digits(spread.lowest()) + " to " + Unit.digits(spread.highest()) + ")");
  }

  private static String counted(int number, String what) {
    return number + " " + what + (number == 1 ? "" : "s");
  }

  private static String plain(double value) {
    return new java.math.BigDecimal(Double.toString(value)).stripTrailingZeros().toPlainString();
  }
}
