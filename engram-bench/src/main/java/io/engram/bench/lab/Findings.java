// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.bench.report.Picture;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What came out of an experiment, nulls included.
 *
 * @param sentences what is found, most important first
 * @param tables figures for people
 * @param charts by a name that goes into file names
 * @param figures what programs may want to know, as JSON has it: numbers, texts, lists, maps
 */
public record Findings(
    List<String> sentences,
    List<Table> tables,
    Map<String, Picture> charts,
    Map<String, Object> figures) {
  /** Copies lists and maps. */
  public Findings {
    sentences = List.copyOf(sentences);
    tables = List.copyOf(tables);
    charts = new LinkedHashMap<>(charts);
    figures = new LinkedHashMap<>(figures);
  }

  /**
   * A table.
   *
   * @param title what it shows
   * @param head heads of its columns
   * @param rows as many texts each
   */
  public record Table(String title, List<String> head, List<List<String>> rows) {
    /** Copies, and checks that rows are as wide as the head. */
    public Table {
      head = List.copyOf(head);
      rows = rows.stream().map(List::copyOf).toList();
      for (List<String> row : rows) {
        if (row.size() != head.size()) {
          throw new IllegalArgumentException(
              "row " + row + " has " + row.size() + " texts, expected " + head.size());
        }
      }
    }

    /**
     * As Markdown.
     *
     * @return lines, each with its end
     */
    public String markdown() {
      StringBuilder out = new StringBuilder();
      line(out, head);
      line(out, head.stream().map(_ -> "---").toList());
      rows.forEach(row -> line(out, row));
      return out.toString();
    }

    private static void line(StringBuilder out, List<String> texts) {
      texts.forEach(text -> out.append("| ").append(text.replace("|", "\\|")).append(' '));
      out.append("|\n");
    }
  }
}
