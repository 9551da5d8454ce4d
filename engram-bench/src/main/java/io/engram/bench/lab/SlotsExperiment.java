// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.bench.report.LineChart;
import io.engram.examples.lm.LanguageModel;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * How does the loss fall with the number of slots, everything else and the compute being the same?
 *
 * <p>A slot is a row that a head can hit; the paper (section 3.2) finds a straight line over the
 * logarithm of their number. The slope is taken for each seed, whose models share data and order,
 * and then averaged; the line through all points, seeds' means taken out, is given beside it.
 */
public final class SlotsExperiment implements Experiment {
  /** What the paper finds, in nats for ten times the slots. */
  static final double PAPER = -0.028;

  /** For stateless use. */
  public SlotsExperiment() {}

  private static List<Long> slots(Size size) {
    return switch (size) {
      case TINY -> List.of(50L, 500L);
      case QUICK -> List.of(300L, 1000L, 3000L, 10_000L, 30_000L);
      case NIGHT -> List.of(1000L, 3000L, 10_000L, 30_000L, 100_000L, 300_000L, 1_000_000L);
    };
  }

  @Override
  public String name() {
    return "slots";
  }

  @Override
  public String question() {
    return "At fixed compute, how does the loss fall with the number of slots?";
  }

  @Override
  public List<String> settings(Size size) {
    return slots(size).stream().map(Object::toString).toList();
  }

  @Override
  public String conditions(Size size) {
    return TextSetup.of(size).conditions();
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    TextSetup setup = TextSetup.of(size);
    long slots = Long.parseLong(setting);
    try (LanguageModel model =
        LanguageModel.create(
            setup.model(Optional.of(setup.memory().slotsPerHead(slots).build())),
            setup.map(),
            seed)) {
      List<double[]> curve = setup.train(model, seed, steps);
      Map<String, Double> numbers = new LinkedHashMap<>();
      numbers.put("loss", curve.getLast()[1]);
      numbers.put("parameters", (double) model.parameters());
      numbers.put("activeParameters", (double) model.activeParameters());
      return new Outcome(numbers, Map.of("loss", curve));
    }
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    List<List<String>> rows = new ArrayList<>();
    Map<Double, Estimate> line = new TreeMap<>();
    for (String setting : results.settings()) {
      line.put(Double.parseDouble(setting), results.estimate(setting, "loss"));
      rows.add(
          List.of(
              "%,d".formatted(Long.parseLong(setting)),
              "%,.0f".formatted(results.values(setting, "parameters")[0]),
              results.estimate(setting, "loss").text(4),
              results.difference(setting, results.settings().getFirst(), "loss").text(4)));
    }
    List<Double> slopes = new ArrayList<>();
    List<Double> x = new ArrayList<>();
    List<Double> y = new ArrayList<>();
    for (long seed : results.seeds()) {
      List<CellResult> cells =
          results.cells().stream().filter(cell -> cell.seed() == seed).toList();
      double[] decades =
          cells.stream().mapToDouble(c -> Math.log10(Double.parseDouble(c.setting()))).toArray();
      double[] losses = cells.stream().mapToDouble(c -> c.number("loss")).toArray();
      slopes.add(Slope.of(decades, losses).slope());
      double mean = Estimate.of(losses).mean();
      for (int i = 0; i < losses.length; i++) {
        x.add(decades[i]);
        y.add(losses[i] - mean);
      }
    }
    Estimate slope = Estimate.of(array(slopes));
    Slope pooled = Slope.of(array(x), array(y));
    List<String> sentences = new ArrayList<>();
    boolean falls = slope.high() < 0 && slope.count() > 1;
    sentences.add(
        "The loss changes by %s nats for ten times the slots (over seeds): %s."
            .formatted(
                slope.text(4),
                falls
                    ? "it falls"
                    : slope.low() > 0 && slope.count() > 1
                        ? "it rises"
                        : "no slope that the seeds would tell from none"));
    sentences.add(
        "The line through all points, seeds' means taken out: %.4f ± %.4f nats a decade, R² %.2f."
            .formatted(pooled.slope(), pooled.halfWidth(), pooled.rSquare()));
    sentences.add("The paper's models, a thousand times larger, have about %.3f.".formatted(PAPER));
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "Held-out loss in nats a token",
                List.of("slots of a head", "parameters", "loss", "less the fewest slots"),
                rows)),
        Map.of(
            "loss",
            new LineChart(
                    "Loss and slots",
                    "Held-out loss by slots of a head; the same compute, batches and order.",
                    "slots of a head",
                    true,
                    "nats a token",
                    List.of(Series.of("memory", line)),
                    List.of())
                .picture()),
        Map.of(
            "slopePerDecade",
            Series.figures(slope),
            "pooledSlope",
            pooled.slope(),
            "pooledHalfWidth",
            pooled.halfWidth(),
            "paper",
            PAPER));
  }

  private static double[] array(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).toArray();
  }
}
