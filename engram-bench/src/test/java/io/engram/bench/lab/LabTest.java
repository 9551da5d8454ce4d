// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.bench.report.HeatChart;
import io.engram.bench.report.LineChart;
import io.engram.bench.report.Picture;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class LabTest {
  @TempDir Path directory;

  /** Numbers that follow from setting and seed; can be told to stop. */
  private static final class Sums implements Experiment {
    final List<String> ran = new ArrayList<>();
    String conditions = "as they are";
    int stopAfter = Integer.MAX_VALUE;

    @Override
    public String name() {
      return "sums";
    }

    @Override
    public String question() {
      return "Is b one more than a?";
    }

    @Override
    public List<String> settings(Size size) {
      return List.of("a", "b");
    }

    @Override
    public String conditions(Size size) {
      return conditions;
    }

    @Override
    public Outcome run(Size size, String setting, long seed, Steps steps) {
      if (ran.size() == stopAfter) {
        throw new IllegalStateException("interrupted");
      }
      ran.add(setting + seed);
      steps.done(1, 2);
      double value = 10 * seed * seed + (setting.equals("b") ? 1 + 1e-3 * seed : 0);
      return new Outcome(
          Map.of("loss", value),
          Map.of("loss", List.of(new double[] {1, value}, new double[] {2, value / 2})));
    }

    @Override
    public Findings findings(Size size, CellResults results) {
      Paired paired = results.difference("b", "a", "loss");
      List<LineChart.Series> series = new ArrayList<>();
      for (String setting : results.settings()) {
        List<LineChart.Point> points = new ArrayList<>();
        results
            .curve(setting, "loss")
            .forEach((x, y) -> points.add(new LineChart.Point(x, y.mean(), y.low(), y.high())));
        series.add(new LineChart.Series(setting, points));
      }
      return new Findings(
          List.of("b - a is " + paired.text(3)),
          List.of(
              new Findings.Table(
                  "Sums",
                  List.of("setting", "loss"),
                  results.settings().stream()
                      .map(s -> List.of(s, results.estimate(s, "loss").text(2)))
                      .toList())),
          Map.of(
              "curve",
              new LineChart(
                      "Sums < & >",
                      "below",
                      "x",
                      false,
                      "y",
                      series,
                      List.of(new LineChart.Level("floor", 3)))
                  .picture()),
          Map.of("difference", paired.difference().mean()));
    }
  }

  private CellResults run(Sums sums, int seeds) throws IOException {
    return new Lab(directory).run(sums, Size.TINY, seeds, new Lab.Listener() {});
  }

  private Path cells() {
    return directory.resolve("sums-tiny.cells.jsonl");
  }

  @Test
  void anInterruptedRunGoesOnWhereItWas() throws IOException {
    Sums first = new Sums();
    first.stopAfter = 3;
    assertThrows(IllegalStateException.class, () -> run(first, 3));
    assertEquals(List.of("a1", "b1", "a2"), first.ran);
    Sums second = new Sums();
    int[] kept = new int[1];
    CellResults all =
        new Lab(directory)
            .run(
                second,
                Size.TINY,
                3,
                new Lab.Listener() {
                  @Override
                  public void starts(int cells, int found) {
                    assertEquals(6, cells);
                    kept[0] = found;
                  }
                });
    assertEquals(3, kept[0]);
    assertEquals(List.of("b2", "a3", "b3"), second.ran);
    assertEquals(List.of("a", "b"), all.settings());
    assertEquals(List.of(1L, 2L, 3L), all.seeds());
    assertEquals(1.002, all.difference("b", "a", "loss").difference().mean(), 1e-12);
    Sums third = new Sums();
    assertEquals(all.difference("b", "a", "loss"), run(third, 3).difference("b", "a", "loss"));
    assertEquals(List.of(), third.ran);
    // More seeds add to what is there; fewer leave some out.
    run(third, 4);
    assertEquals(List.of("a4", "b4"), third.ran);
    assertEquals(List.of(1L, 2L), run(third, 2).seeds());
  }

  @Test
  void aTornLineIsRunAgain() throws IOException {
    run(new Sums(), 1);
    String whole = Files.readString(cells());
    Files.writeString(cells(), whole.substring(0, whole.length() - 7));
    Sums again = new Sums();
    run(again, 1);
    assertEquals(List.of("b1"), again.ran);
    // But for the time that it took.
    assertEquals(
        whole.replaceAll("\"seconds\":[^}]*", ""),
        Files.readString(cells()).replaceAll("\"seconds\":[^}]*", ""));
  }

  @Test
  void damageIsNamedByLine() throws IOException {
    run(new Sums(), 1);
    for (String damage : List.of("{\"cell\": 3}\n", "nonsense\n", "\n", "{}\n")) {
      Files.writeString(cells(), damage, StandardOpenOption.APPEND);
      String message = assertThrows(IOException.class, () -> run(new Sums(), 1)).getMessage();
      assertTrue(message.contains("sums-tiny.cells.jsonl: line 3"), message);
      Files.delete(cells());
      run(new Sums(), 1);
    }
  }

  @Test
  void cellsOfOtherConditionsAreNotMixedIn() throws IOException {
    run(new Sums(), 1);
    Sums changed = new Sums();
    changed.conditions = "other ones";
    run(changed, 1);
    assertEquals(List.of("a1", "b1"), changed.ran);
    Sums back = new Sums();
    run(back, 1);
    assertEquals(List.of(), back.ran);
  }

  @Test
  void writesJsonChartsAndMarkdown() throws IOException {
    Sums sums = new Sums();
    Lab lab = new Lab(directory);
    CellResults results = run(sums, 2);
    lab.write(sums, Size.TINY, results);
    JsonObject json =
        JsonParser.parseString(Files.readString(directory.resolve("sums-tiny.json")))
            .getAsJsonObject();
    assertEquals(4, json.getAsJsonArray("cells").size());
    assertEquals(1.0015, json.getAsJsonObject("figures").get("difference").getAsDouble(), 1e-12);
    String page = Files.readString(directory.resolve("sums-tiny.md"));
    assertTrue(page.contains("| setting | loss |\n| --- | --- |\n| a | 25.00 ± "), page);
    assertTrue(page.contains("(sums-tiny-curve.svg)") && page.contains("2 seeds"), page);
    String svg = Files.readString(directory.resolve("sums-tiny-curve.svg"));
    assertTrue(svg.contains("Sums &lt; &amp; &gt;") && svg.contains("polyline"), svg);
    assertTrue(ImageIO.read(directory.resolve("sums-tiny-curve.png").toFile()).getWidth() > 1000);
  }

  @Test
  void divergenceIsNotAveraged() {
    String message =
        assertThrows(
                IllegalArgumentException.class,
                () -> new CellResult("a", 7, Map.of("loss", Double.NaN), Map.of(), 1))
            .getMessage();
    assertTrue(message.contains("loss of setting a, seed 7, is NaN"), message);
    assertThrows(
        IllegalArgumentException.class,
        () -> new CellResult("a", 7, Map.of("loss", 1.0), Map.of(), 1).number("lost"));
  }

  @Test
  void chartsTakeWhatThereIs() {
    List<LineChart.Series> series =
        List.of(
            new LineChart.Series("one", List.of(new LineChart.Point(100, 2, 2, 2))),
            new LineChart.Series("none", List.of()));
    String svg =
        new LineChart("Alone", "", "slots", true, "loss", series, List.of()).picture().svg();
    assertTrue(svg.contains("circle") && !svg.contains("NaN") && !svg.contains("Infinity"), svg);
    assertFalse(svg.contains("polyline"), svg);
    assertThrows(
        IllegalArgumentException.class,
        () -> new LineChart("None", "", "x", false, "y", series.subList(1, 2), List.of()));
    assertThrows(
        IllegalArgumentException.class,
        () ->
            new LineChart(
                "Log of 0",
                "",
                "x",
                true,
                "y",
                List.of(new LineChart.Series("s", List.of(new LineChart.Point(0, 1, 1, 1)))),
                List.of()));
    Picture heat =
        HeatChart.of(
            "Heat",
            "",
            List.of("a", "b"),
            List.of("x"),
            "row",
            "column",
            new double[][] {{0.25}, {1.5}});
    assertTrue(heat.svg().contains(">0.25<") && heat.svg().contains(">1.50<"), heat.svg());
    assertThrows(
        IllegalArgumentException.class,
        () -> HeatChart.of("", "", List.of("a"), List.of("x"), "", "", new double[1][2]));
  }
}
