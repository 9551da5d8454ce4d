// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramFormatException;
import java.awt.image.BufferedImage;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import javax.imageio.ImageIO;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;

@Tag("once")
class PerformancePageTest {
  @TempDir Path directory;

  private static String golden(String name) throws IOException {
    try (InputStream in = PerformancePageTest.class.getResourceAsStream(name)) {
      assertNotNull(in, name);
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  @Test
  void aRunAsMarkdownIsAsItWas() throws IOException {
    assertEquals(golden("run.md"), Tables.of(Runs.first()));
  }

  private Path page() throws IOException {
    return Files.writeString(
        directory.resolve("performance.md"),
        "# Kept\n\n" + PerformancePage.BEGIN + "\nold\n" + PerformancePage.END + "\nkept too\n");
  }

  @Test
  void thePageIsAsItWas() throws IOException {
    Path page = page();
    Path charts = directory.resolve("charts");
    int kinds =
        PerformancePage.render(
            page, charts, List.of(Runs.first(), Runs.elsewhere(), Runs.second()), true);
    assertEquals(2, kinds);
    String text = Files.readString(page);
    assertEquals(golden("page.md"), text);
    PerformancePage.render(
        page, charts, List.of(Runs.first(), Runs.elsewhere(), Runs.second()), true);
    assertEquals(text, Files.readString(page), "made again it is the same");
    try (Stream<Path> files = Files.list(charts)) {
      Set<String> names =
          files
              .map(file -> file.getFileName().toString())
              .collect(Collectors.toCollection(TreeSet::new));
      assertEquals(8, names.size(), names::toString);
      for (String name : names) {
        if (name.endsWith(".svg")) {
          assertTrue(text.contains("(charts/" + name + ")"), name);
        }
      }
    }
  }

  @Test
  void generationsOfOneNameAreNeverOneSeries() {
    assertEquals(Runs.OLD.cpu(), Runs.NEW.cpu());
    var kinds = PerformancePage.kinds(List.of(Runs.first(), Runs.elsewhere(), Runs.second()));
    assertEquals(2, kinds.size());
    assertEquals(List.of(Runs.first(), Runs.second()), kinds.get(Runs.OLD.kind()));
    assertEquals(List.of(Runs.elsewhere()), kinds.get(Runs.NEW.kind()));
    assertEquals(Runs.OLD.kind(), kinds.keySet().stream().toList().get(0));
  }

  @Test
  void aPageWithoutMarkersIsLeftAlone() throws IOException {
    Path page = Files.writeString(directory.resolve("page.md"), "# All by hand\n");
    assertThrows(
        EngramFormatException.class,
        () -> PerformancePage.render(page, directory, List.of(Runs.first()), false));
    assertEquals("# All by hand\n", Files.readString(page));
  }

  @Test
  void thePageOfThisRepositoryIsInStepWithItsHistory() throws IOException {
    Path docs = Path.of(System.getProperty("engram.root")).resolve("docs");
    List<BenchRun> runs = History.read(docs.resolve("perf-history.jsonl"));
    String shown = Files.readString(docs.resolve("performance.md"));
    Path page = Files.writeString(directory.resolve("performance.md"), shown);
    Path charts = directory.resolve("performance");
    PerformancePage.render(page, charts, runs, false);
    assertEquals(shown, Files.readString(page), "run ./engram bench report");
    if (!runs.isEmpty()) {
      try (Stream<Path> made = Files.list(charts)) {
        for (Path chart : made.toList()) {
          assertEquals(
              Files.readString(docs.resolve("performance").resolve(chart.getFileName())),
              Files.readString(chart),
              "run ./engram bench report");
        }
      }
    }
  }

  @Test
  void anEmptyHistoryGivesAnEmptySection() throws IOException {
    Path page = page();
    assertEquals(0, PerformancePage.render(page, directory, List.of(), false));
    assertFalse(Files.readString(page).contains("old"));
  }

  private static List<Picture> pictures() {
    BenchRun run = Runs.second();
    Measured failed =
        new Measured(
            "hash",
            "HashBenchmark.x",
            run.measured().getFirst().params(),
            null,
            1,
            "s/op",
            List.of(),
            "went <wrong> & said so",
            null);
    return List.of(
        Charts.ratios("Ratios", "below", run.findings(), run.noise().spread()),
        Charts.ratios("Ratios", "below", Runs.first().findings(), null),
        Charts.times(
            "Times", "below", Stream.concat(run.measured().stream(), Stream.of(failed)).toList()),
        Charts.moves(
            "Moves",
            "below",
            2,
            List.of(
                new Charts.Movement(
                    "hash",
                    List.of(
                        new Charts.Movement.Point(0, "1", Runs.first().findings().getFirst()),
                        new Charts.Movement.Point(1, "2", run.findings().getFirst()))))));
  }

  @Test
  void chartsAreImagesWithSomethingOnThem() throws Exception {
    int number = 0;
    for (Picture picture : pictures()) {
      picture.write(directory, "chart" + number);
      BufferedImage image = ImageIO.read(directory.resolve("chart" + number + ".png").toFile());
      assertEquals(2 * picture.width(), image.getWidth());
      assertEquals(2 * picture.height(), image.getHeight());
      Set<Integer> colours = new TreeSet<>();
      for (int y = 0; y < image.getHeight(); y++) {
        for (int x = 0; x < image.getWidth(); x++) {
          colours.add(image.getRGB(x, y));
        }
      }
      assertTrue(colours.size() > 20, "only " + colours.size() + " colours");
      DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
      factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
      Document svg =
          factory
              .newDocumentBuilder()
              .parse(
                  new ByteArrayInputStream(
                      Files.readAllBytes(directory.resolve("chart" + number + ".svg"))));
      assertEquals("svg", svg.getDocumentElement().getTagName());
      assertTrue(svg.getElementsByTagName("text").getLength() > 4);
      for (Picture.Shape shape : picture.shapes()) {
        if (shape instanceof Picture.Text text) {
          double wide = Picture.width(text.text(), text.size(), text.bold());
          double left =
              switch (text.anchor()) {
                case START -> text.x();
                case MIDDLE -> text.x() - wide / 2;
                case END -> text.x() - wide;
              };
          assertTrue(
              left >= 0 && left + wide <= picture.width(), text.text() + " leaves the chart");
        }
      }
      number++;
    }
  }

  @Test
  void fasterIsFurtherRight() {
    Finding slow = Runs.first().findings().getFirst();
    Finding fast = Runs.elsewhere().findings().getFirst();
    Picture picture = Charts.ratios("Ratios", "below", List.of(slow, fast), null);
    List<Picture.Dot> dots =
        picture.shapes().stream()
            .filter(shape -> shape instanceof Picture.Dot)
            .map(shape -> (Picture.Dot) shape)
            .toList();
    assertEquals(2, dots.size());
    assertTrue(dots.get(0).x() < dots.get(1).x());
    assertNotEquals(dots.get(0).colour(), dots.get(1).colour(), "one is met, one is missed");
  }
}
