// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class ExperimentsTest {
  @TempDir Path directory;

  private CellResults run(String name, int seeds) throws IOException {
    Experiment experiment = experiment(name);
    Lab lab = new Lab(directory);
    CellResults results = lab.run(experiment, Size.TINY, seeds, new Lab.Listener() {});
    Findings findings = lab.write(experiment, Size.TINY, results);
    assertFalse(findings.sentences().isEmpty());
    for (String chart : findings.charts().keySet()) {
      String svg = Files.readString(directory.resolve(name + "-tiny-" + chart + ".svg"));
      assertFalse(svg.contains("NaN"), name + " " + chart);
    }
    return results;
  }

  private static Experiment experiment(String name) {
    return Experiments.all().stream().filter(e -> e.name().equals(name)).findFirst().orElseThrow();
  }

  @Test
  void aMemoryReachesTheFloorOfAMarkovSourceAndNoMemoryDoesNot() throws IOException {
    CellResults results = run("markov", 2);
    for (CellResult cell : results.of(MarkovExperiment.MEMORY)) {
      assertTrue(cell.number("excess") < 0.15, () -> cell.toString());
      // Nobody does better than the source, but by chance.
      assertTrue(cell.number("excess") > -0.02, () -> cell.toString());
    }
    for (CellResult cell : results.of(MarkovExperiment.NONE)) {
      assertTrue(cell.number("excess") > 0.5, () -> cell.toString());
    }
    double[] with = results.values(MarkovExperiment.MEMORY, "parameters");
    double[] without = results.values(MarkovExperiment.NONE, "parameters");
    assertEquals(1, without[0] / with[0], 0.01);
  }

  @ParameterizedTest
  @ValueSource(strings = {"off", "allocation", "slots", "depth"})
  void othersRunAndSayWhatCameOut(String name) throws IOException {
    CellResults results = run(name, 2);
    assertEquals(2, results.seeds().size());
    if (name.equals("allocation")) {
      // Equal parameters are the point of it.
      double[] all =
          results.cells().stream().mapToDouble(c -> c.number("parameters")).sorted().toArray();
      assertEquals(1, all[all.length - 1] / all[0], 0.02);
    }
  }

  @Test
  void theSameSeedGivesTheSameNumbers() {
    for (String name : new String[] {"slots", "off"}) {
      Experiment experiment = experiment(name);
      String setting = experiment.settings(Size.TINY).getFirst();
      Map<String, Double> first =
          new TreeMap<>(experiment.run(Size.TINY, setting, 3, (_, _) -> {}).numbers());
      assertEquals(
          first, new TreeMap<>(experiment.run(Size.TINY, setting, 3, (_, _) -> {}).numbers()));
    }
  }

  @Test
  void everySettingOfTheAblationIsAModel() {
    Experiment ablation = experiment("ablation");
    for (String setting : ablation.settings(Size.TINY)) {
      double loss = ablation.run(Size.TINY, setting, 1, (_, _) -> {}).numbers().get("loss");
      assertTrue(loss > 0 && loss < 7, () -> setting + " has " + loss);
    }
  }
}
