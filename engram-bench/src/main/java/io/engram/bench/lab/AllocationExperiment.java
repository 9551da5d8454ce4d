// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.EngramConfig;
import io.engram.bench.report.LineChart;
import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.LanguageModel;
import io.engram.plan.Allocation;
import io.engram.plan.AllocationPlan;
import io.engram.plan.SparseBackbone;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * Where between experts and slots does a fixed number of parameters belong?
 *
 * <p>The paper's protocol (section 3.1): of the sparse parameters a share rho stays with routed
 * experts, top-k + rho * (experts at rho = 1, less top-k) of them; the rest becomes slots of the
 * memory. Total parameters are the same: what the memory's projections take is taken off its slots.
 * Active parameters are the same but for these projections, which the table shows; routers shrink
 * with the experts. Data and their order are the same for all ratios of a seed.
 */
public final class AllocationExperiment implements Experiment {
  /** For stateless use. */
  public AllocationExperiment() {}

  private record Mixture(int experts, int active, int shared, int hidden, List<Double> ratios) {
    static Mixture of(Size size) {
      return switch (size) {
        case TINY -> new Mixture(6, 2, 1, 16, List.of(1.0, 0.5));
        case QUICK -> new Mixture(22, 2, 1, 48, List.of(1.0, 0.9, 0.8, 0.7, 0.55, 0.4, 0.2));
        case NIGHT ->
            new Mixture(
                42, 2, 1, 64, List.of(1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.2));
      };
    }

    FeedForward feedForward(int routed) {
      return FeedForward.experts(hidden, routed, active, shared);
    }
  }

  @Override
  public String name() {
    return "allocation";
  }

  @Override
  public String question() {
    return "At equal total and active parameters, which share of the sparse parameters should"
        + " experts keep, and which should be slots of a memory?";
  }

  @Override
  public List<String> settings(Size size) {
    return Mixture.of(size).ratios.stream().map(Object::toString).toList();
  }

  @Override
  public String conditions(Size size) {
    return TextSetup.of(size).conditions() + ", " + Mixture.of(size);
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    Mixture mixture = Mixture.of(size);
    TextSetup setup = TextSetup.of(size).with(mixture.feedForward(mixture.experts));
    EngramConfig memory = setup.memory().build();
    AllocationPlan plan =
        new AllocationPlan(
            SparseBackbone.ofShapes(
                setup.layers(), setup.width(), mixture.hidden, mixture.experts, mixture.active),
            memory);
    Allocation asked = plan.at(Double.parseDouble(setting));
    Optional<EngramConfig> built = Optional.empty();
    if (asked.freedParameters() > 0) {
      long forTables = asked.freedParameters() - plan.gateParameters();
      if (forTables < plan.tableParameters(2)) {
        throw new IllegalArgumentException(
            "rho %s frees %d parameters, which do not pay for a memory whose projections have %d"
                .formatted(setting, asked.freedParameters(), plan.gateParameters()));
      }
      // All of what is left over goes to tables.
      Allocation tables = new AllocationPlan(new SparseBackbone(2, 1, forTables), memory).at(0);
      built = Optional.of(setup.memory().slotsPerHead(tables.slotsPerHead()).build());
    }
    TextSetup own = setup.with(mixture.feedForward(asked.experts()));
    try (LanguageModel model = LanguageModel.create(own.model(built), own.map(), seed)) {
      List<double[]> curve = own.train(model, seed, steps);
      Map<String, Double> numbers = new LinkedHashMap<>();
      numbers.put("loss", curve.getLast()[1]);
      numbers.put("rho", asked.ratio());
      numbers.put("experts", (double) asked.experts());
      numbers.put(
          "slots", built.map(m -> (double) m.hashing().slotsPerHead().getFirst()).orElse(0.0));
      numbers.put("parameters", (double) model.parameters());
      numbers.put("activeParameters", (double) model.activeParameters());
      return new Outcome(numbers, Map.of("loss", curve));
    }
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    String without = results.settings().getFirst();
    List<List<String>> rows = new ArrayList<>();
    Map<Double, Estimate> line = new TreeMap<>();
    Map<String, Object> figures = new LinkedHashMap<>();
    for (String setting : results.settings()) {
      CellResult one = results.of(setting).getFirst();
      Estimate loss = results.estimate(setting, "loss");
      Paired paired = results.difference(setting, without, "loss");
      line.put(one.number("rho"), loss);
      rows.add(
          List.of(
              "%.3f".formatted(one.number("rho")),
              "%.0f".formatted(one.number("experts")),
              "%,.0f".formatted(one.number("slots")),
              "%,.0f".formatted(one.number("parameters")),
              "%,.0f".formatted(one.number("activeParameters")),
              loss.text(4),
              setting.equals(without) ? "" : paired.text(4)));
      figures.put("rho " + setting, Series.figures(loss));
    }
    String best =
        results.settings().stream()
            .min(Comparator.comparingDouble(s -> results.estimate(s, "loss").mean()))
            .orElseThrow();
    double rho = results.of(best).getFirst().number("rho");
    List<String> sentences = new ArrayList<>();
    if (best.equals(without)) {
      sentences.add("The lowest mean loss is that of experts alone: no U is found here.");
    } else {
      Paired gain = results.difference(best, without, "loss");
      sentences.add(
          "The lowest mean loss is at rho = %.3f: %s nats beside experts alone, which is %s."
              .formatted(
                  rho,
                  gain.text(4),
                  gain.significant()
                      ? "more than chance (one comparison, the best of several: a generous test)"
                      : "not more than chance"));
      String last = results.settings().getLast();
      boolean inside = !best.equals(last);
      sentences.add(
          inside
              ? "The loss rises again towards rho = %.2f, by %s nats: %s."
                  .formatted(
                      results.of(last).getFirst().number("rho"),
                      results.difference(last, best, "loss").text(4),
                      results.difference(last, best, "loss").significant()
                          ? "a U"
                          : "a U only if the means are trusted beyond their spread")
              : "It is at the end of the range: the loss still falls where most is memory, no U.");
    }
    sentences.add(
        "The paper finds its minimum at rho from %.2f to %.2f; here it is %s."
            .formatted(
                AllocationPlan.OPTIMUM_FROM,
                AllocationPlan.OPTIMUM_TO,
                rho >= AllocationPlan.OPTIMUM_FROM - 0.005
                        && rho <= AllocationPlan.OPTIMUM_TO + 0.005
                    ? "there"
                    : "elsewhere"));
    figures.put("best", rho);
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "Held-out loss in nats a token",
                List.of(
                    "rho",
                    "experts",
                    "slots of a head",
                    "parameters",
                    "active",
                    "loss",
                    "less experts alone"),
                rows)),
        Map.of(
            "loss",
            new LineChart(
                    "Experts or memory",
                    "Held-out loss by the share of sparse parameters that experts keep; equal total"
                        + " parameters, the same batches and order.",
                    "rho",
                    false,
                    "nats a token",
                    List.of(Series.of("loss", line)),
                    List.of())
                .picture()),
        figures);
  }
}
