// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import io.engram.EngramFormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.zip.CRC32;

/**
 * The page that shows the history: everything between two markers is made anew, what people wrote
 * around them stays.
 *
 * <p>Runs on different kinds of machines are never put into one series.
 */
public final class PerformancePage {
  /** The line before what is generated. */
  public static final String BEGIN =
      "<!-- Made by ./engram bench report; what is written here is lost. -->";

  /** The line after what is generated. */
  public static final String END = "<!-- End of what ./engram bench report makes. -->";

  private PerformancePage() {}

  /** A file that belongs to the page. */
  private record Chart(String name, Picture picture) {}

  /**
   * Renders a page and its charts anew.
   *
   * @param page the page; the markers are in it
   * @param charts directory of the charts
   * @param runs the history, the oldest first
   * @param png whether charts are written as PNG too
   * @return how many kinds of machines it shows
   * @throws IOException if something cannot be read or written
   * @throws EngramFormatException if the page lacks the markers
   */
  public static int render(Path page, Path charts, List<BenchRun> runs, boolean png)
      throws IOException {
    String text = Files.readString(page);
    int begin = text.indexOf(BEGIN);
    int end = text.indexOf(END);
    if (begin < 0 || end < begin) {
      throw new EngramFormatException(
          page, "lacks the two lines between which tables go: " + BEGIN + " and " + END);
    }
    Map<String, List<BenchRun>> kinds = kinds(runs);
    String where =
        page.toAbsolutePath()
            .getParent()
            .relativize(charts.toAbsolutePath())
            .toString()
            .replace('\\', '/');
    List<Chart> pictures = new ArrayList<>();
    StringBuilder made = new StringBuilder(BEGIN + "\n\n");
    kinds.forEach((kind, of) -> made.append(section(kind, of, where, pictures)));
    for (Chart chart : pictures) {
      if (png) {
        chart.picture.write(charts, chart.name);
      } else {
        chart.picture.writeSvg(charts, chart.name);
      }
    }
    Files.writeString(page, text.substring(0, begin) + made + text.substring(end));
    return kinds.size();
  }

  /** Runs by kind of machine, that with the newest run first. */
  static Map<String, List<BenchRun>> kinds(List<BenchRun> runs) {
    Map<String, List<BenchRun>> kinds = new LinkedHashMap<>();
    for (BenchRun run : runs.reversed()) {
      kinds.computeIfAbsent(run.machine().kind(), _ -> new ArrayList<>()).addFirst(run);
    }
    return kinds;
  }

  private static String section(
      String kind, List<BenchRun> runs, String where, List<Chart> pictures) {
    BenchRun last = runs.getLast();
    StringBuilder out = new StringBuilder();
    out.append("## ").append(kind).append("\n\n");
    String name = slug(kind);
    List<Finding> findings = latest(runs);
    if (!findings.isEmpty()) {
      Picture ratios =
          Charts.ratios(
              "Speed beside the rivals",
              kind + ". " + last.day() + ", commit " + last.commit().shortName(),
              findings,
              last.noise() == null ? null : last.noise().spread());
      pictures.add(new Chart("ratios-" + name, ratios));
      out.append("![Speed beside the rivals](")
          .append(where)
          .append("/ratios-")
          .append(name)
          .append(".svg)\n\n");
    }
    out.append(Tables.aims(runs));
    out.append("The latest run on this kind of machine:\n\n");
    out.append(Tables.circumstances(last));
    List<Charts.Movement> movements = movements(runs);
    if (!movements.isEmpty()) {
      out.append("### How the ratios have moved\n\n");
      out.append("![Ratios by commit](")
          .append(where)
          .append("/history-")
          .append(name)
          .append(".svg)\n\n");
      out.append(Tables.moves(runs));
      pictures.add(
          new Chart(
              "history-" + name,
              Charts.moves("How the ratios have moved", kind, runs.size(), movements)));
    }
    out.append("<details><summary>Everything measured there, latest scores</summary>\n\n");
    out.append(Tables.measured(runs));
    out.append("</details>\n\n");
    return out.toString();
  }

  private static List<Finding> latest(List<BenchRun> runs) {
    Map<String, Finding> latest = new LinkedHashMap<>();
    runs.forEach(run -> run.findings().forEach(finding -> latest.put(finding.id(), finding)));
    return List.copyOf(latest.values());
  }

  private static List<Charts.Movement> movements(List<BenchRun> runs) {
    List<Charts.Movement> movements = new ArrayList<>();
    for (Finding aim : latest(runs)) {
      List<Charts.Movement.Point> points = new ArrayList<>();
      for (int run = 0; run < runs.size(); run++) {
        for (Finding finding : runs.get(run).findings()) {
          if (finding.id().equals(aim.id())
              && finding.direction() == aim.direction()
              && finding.ratios() != null) {
            points.add(new Charts.Movement.Point(run, runs.get(run).commit().shortName(), finding));
          }
        }
      }
      if (!points.isEmpty()) {
        movements.add(new Charts.Movement(aim.what(), points));
      }
    }
    return movements;
  }

  /** A file name that tells kinds of machines apart. */
  private static String slug(String kind) {
    CRC32 sum = new CRC32();
    sum.update(kind.getBytes(StandardCharsets.UTF_8));
    String words =
        kind.substring(0, kind.indexOf(" (") < 0 ? kind.length() : kind.indexOf(" ("))
            .toLowerCase(Locale.ROOT)
            .replaceAll("[^a-z0-9]+", "-");
    return words + "-" + HexFormat.of().toHexDigits((int) sum.getValue());
  }
}
