// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.engram.bench.report.Picture;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Runs an experiment cell by cell, keeps each that is finished, and writes what came out.
 *
 * <p>In the directory: {@code NAME-SIZE.cells.jsonl}, from which an interrupted run goes on; {@code
 * NAME-SIZE.json} with conditions, cells and figures; {@code NAME-SIZE.md}; and charts as {@code
 * NAME-SIZE-CHART.svg} and {@code .png}.
 */
public final class Lab {
  private static final Gson GSON =
      new GsonBuilder().setPrettyPrinting().serializeSpecialFloatingPointValues().create();

  private final Path directory;

  /** Is told how far a run is. Methods may do nothing. */
  public interface Listener {
    /**
     * The run starts.
     *
     * @param cells cells in all
     * @param kept cells that an earlier run has finished
     */
    default void starts(int cells, int kept) {}

    /**
     * Part of a cell is done.
     *
     * @param setting the setting
     * @param seed the seed
     * @param share of the cell, 0 to 1
     */
    default void reached(String setting, long seed, double share) {}

    /**
     * A cell is finished and kept.
     *
     * @param cell what came of it
     */
    default void finished(CellResult cell) {}
  }

  /**
   * A laboratory that writes into a directory.
   *
   * @param directory made if it is not there
   */
  public Lab(Path directory) {
    this.directory = directory;
  }

  /**
   * Runs what is not finished yet. It can be interrupted at any time: cells that were finished are
   * not run again.
   *
   * @param experiment the experiment
   * @param size how large
   * @param seeds how many seeds, at least 1: 1 to seeds
   * @param listener is told how far it is
   * @return all cells
   * @throws IOException if cells cannot be kept or read
   */
  public CellResults run(Experiment experiment, Size size, int seeds, Listener listener)
      throws IOException {
    if (seeds < 1) {
      throw new IllegalArgumentException("seeds is " + seeds + ", expected at least 1");
    }
    Files.createDirectories(directory);
    CellLog log = CellLog.open(directory.resolve(stem(experiment, size) + ".cells.jsonl"));
    String conditions = experiment.conditions(size);
    List<String> settings = experiment.settings(size);
    int kept = 0;
    for (String setting : settings) {
      for (long seed = 1; seed <= seeds; seed++) {
        kept += log.find(conditions, setting, seed).isPresent() ? 1 : 0;
      }
    }
    listener.starts(settings.size() * seeds, kept);
    // Seeds are the outer loop, so that whoever stops early has all settings of some seeds.
    for (long seed = 1; seed <= seeds; seed++) {
      for (String setting : settings) {
        Optional<CellResult> before = log.find(conditions, setting, seed);
        if (before.isEmpty()) {
          long number = seed;
          long start = System.nanoTime();
          Experiment.Outcome outcome =
              experiment.run(
                  size,
                  setting,
                  seed,
                  (step, of) -> listener.reached(setting, number, (double) step / of));
          CellResult cell =
              new CellResult(
                  setting,
                  seed,
                  outcome.numbers(),
                  outcome.curves(),
                  (System.nanoTime() - start) / 1e9);
          log.add(conditions, cell);
          listener.finished(cell);
        }
      }
    }
    List<CellResult> all = new ArrayList<>();
    for (String setting : settings) {
      for (long seed = 1; seed <= seeds; seed++) {
        all.add(log.find(conditions, setting, seed).orElseThrow());
      }
    }
    return new CellResults(all);
  }

  /**
   * Writes what came out.
   *
   * @param experiment the experiment
   * @param size how large
   * @param results all cells
   * @return the findings
   * @throws IOException if a file cannot be written
   */
  public Findings write(Experiment experiment, Size size, CellResults results) throws IOException {
    Findings findings = experiment.findings(size, results);
    String stem = stem(experiment, size);
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("experiment", experiment.name());
    json.put("size", size.title());
    json.put("question", experiment.question());
    json.put("conditions", experiment.conditions(size));
    json.put("java", Runtime.version().toString());
    json.put("findings", findings.sentences());
    json.put("figures", findings.figures());
    json.put("cells", results.cells());
    Files.createDirectories(directory);
    Files.writeString(directory.resolve(stem + ".json"), GSON.toJson(json) + "\n");
    Files.writeString(
        directory.resolve(stem + ".md"), markdown(experiment, size, results, findings));
    for (Map.Entry<String, Picture> chart : findings.charts().entrySet()) {
      chart.getValue().write(directory, stem + "-" + chart.getKey());
    }
    return findings;
  }

  private static String markdown(
      Experiment experiment, Size size, CellResults results, Findings findings) {
    String stem = stem(experiment, size);
    StringBuilder out = new StringBuilder();
    out.append("# ").append(experiment.name()).append(", ").append(size.title()).append("\n\n");
    out.append(experiment.question()).append("\n\n");
    findings.sentences().forEach(sentence -> out.append("* ").append(sentence).append('\n'));
    for (Findings.Table table : findings.tables()) {
      out.append('\n').append(table.title()).append("\n\n").append(table.markdown());
    }
    findings
        .charts()
        .forEach((name, picture) ->
            out.append("\n![%s](%s-%s.svg)\n".formatted(picture.title(), stem, name)));
    int seeds = results.seeds().size();
    out.append(
        "\n%d seed%s; intervals are 95 %% by Student's t over seeds, differences are paired by seed. "
            .formatted(seeds, seeds == 1 ? "" : "s"));
    out.append("Conditions: ").append(experiment.conditions(size)).append(".\n\n");
    out.append(
        "`engram experiment %s --size %s --seeds %d`, %.0f seconds in all.\n"
            .formatted(
                experiment.name(),
                size.title(),
                seeds,
                results.cells().stream().mapToDouble(CellResult::seconds).sum()));
    return out.toString();
  }

  private static String stem(Experiment experiment, Size size) {
    return experiment.name() + "-" + size.title();
  }
}
