// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.bench.report.DifferenceChart;
import io.engram.bench.report.LineChart;
import io.engram.examples.lm.Corpus;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.TokenKind;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * What does a model lose whose memory is switched off after training, and at which tokens?
 *
 * <p>Tokens are told apart by what they are in the text, and by whether the model has met them
 * behind the same two tokens while it was trained. A model without a memory and with equal
 * parameters stands beside it.
 */
public final class OffExperiment implements Experiment {
  static final String MEMORY = "memory";
  static final String NONE = "no memory";
  static final String SEEN = "behind two tokens as in training";
  static final String NEW = "behind two tokens as never in training";

  /** For stateless use. */
  public OffExperiment() {}

  @Override
  public String name() {
    return "off";
  }

  @Override
  public String question() {
    return "What does a trained model lose when its memory is switched off, by kind of token?";
  }

  @Override
  public List<String> settings(Size size) {
    return List.of(MEMORY, NONE);
  }

  @Override
  public String conditions(Size size) {
    return TextSetup.of(size).conditions();
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    TextSetup setup = TextSetup.of(size);
    try (LanguageModel model = create(setup, setting, seed)) {
      List<double[]> curve = setup.train(model, seed, steps);
      Map<String, Double> numbers = new LinkedHashMap<>();
      numbers.put("parameters", (double) model.parameters());
      numbers.put("activeParameters", (double) model.activeParameters());
      Set<Long> seen = seen(setup, seed);
      numbers.putAll(byKind(setup, model, seen, "loss"));
      if (setting.equals(MEMORY)) {
        model.memoryOff(true);
        numbers.putAll(byKind(setup, model, seen, "off"));
        model.memoryOff(false);
      }
      return new Outcome(numbers, Map.of("loss", curve));
    }
  }

  static LanguageModel create(TextSetup setup, String setting, long seed) {
    LanguageModel with =
        LanguageModel.create(setup.model(Optional.of(setup.memory().build())), setup.map(), seed);
    if (setting.equals(MEMORY)) {
      return with;
    }
    try (with) {
      return LanguageModel.create(
          EqualParameters.of(setup.model(Optional.empty()), with.parameters()), setup.map(), seed);
    }
  }

  private static Set<Long> seen(TextSetup setup, long seed) {
    Corpus corpus = setup.corpus();
    Set<Long> seen = new HashSet<>();
    for (int step = 0; step < setup.training().steps(); step++) {
      for (int[] row : corpus.batch(seed, step, setup.batch(), setup.context())) {
        for (int t = 2; t < row.length; t++) {
          seen.add(trigram(row, t));
        }
      }
    }
    return seen;
  }

  private static long trigram(int[] row, int t) {
    return ((long) row[t - 2] << 42) | ((long) row[t - 1] << 21) | row[t];
  }

  /** Mean losses in all and by kind; the first target of a window has one token before it only. */
  private static Map<String, Double> byKind(
      TextSetup setup, LanguageModel model, Set<Long> seen, String prefix) {
    TokenKind[] kinds = TokenKind.of(setup.corpus().vocabulary());
    Map<String, double[]> sums = new LinkedHashMap<>();
    for (int[][] rows : setup.heldOut()) {
      double[][] losses = model.losses(rows);
      for (int s = 0; s < rows.length; s++) {
        for (int t = 1; t < losses[s].length; t++) {
          int target = t + 1;
          TokenKind kind = kinds[rows[s][target]];
          add(sums, "all", losses[s][t]);
          add(sums, kind.words(), losses[s][t]);
          add(sums, seen.contains(trigram(rows[s], target)) ? SEEN : NEW, losses[s][t]);
        }
      }
    }
    double all = sums.get("all")[1];
    Map<String, Double> means = new LinkedHashMap<>();
    sums.forEach((kind, sum) -> {
      means.put(prefix + " " + kind, sum[0] / sum[1]);
      if (prefix.equals("loss")) {
        means.put("share " + kind, sum[1] / all);
      }
    });
    return means;
  }

  private static void add(Map<String, double[]> sums, String kind, double loss) {
    double[] sum = sums.computeIfAbsent(kind, _ -> new double[2]);
    sum[0] += loss;
    sum[1]++;
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    List<String> kinds = new ArrayList<>(List.of("all"));
    for (TokenKind kind : TokenKind.values()) {
      kinds.add(kind.words());
    }
    kinds.add(SEEN);
    kinds.add(NEW);
    // A kind that some seed's held-out text lacks cannot be averaged.
    kinds.removeIf(
        kind -> results.of(MEMORY).stream().anyMatch(c -> !c.numbers().containsKey("off " + kind)));
    List<List<String>> rows = new ArrayList<>();
    List<DifferenceChart.Bar> bars = new ArrayList<>();
    Map<String, Object> figures = new LinkedHashMap<>();
    for (String kind : kinds) {
      double[] on = results.values(MEMORY, "loss " + kind);
      Paired lost = Paired.of(results.values(MEMORY, "off " + kind), on);
      Paired gained = Paired.of(on, results.values(NONE, "loss " + kind));
      rows.add(
          List.of(
              kind,
              "%.1f %%".formatted(100 * results.estimate(MEMORY, "share " + kind).mean()),
              results.estimate(NONE, "loss " + kind).text(3),
              results.estimate(MEMORY, "loss " + kind).text(3),
              results.estimate(MEMORY, "off " + kind).text(3),
              lost.text(3),
              gained.text(3)));
      Estimate rise = lost.difference();
      bars.add(new DifferenceChart.Bar(kind, rise.mean(), rise.low(), rise.high()));
      figures.put("off less on, " + kind, Series.figures(lost));
      figures.put("memory less no memory, " + kind, Series.figures(gained));
    }
    Paired lost = Paired.of(results.values(MEMORY, "off all"), results.values(MEMORY, "loss all"));
    Paired gained = results.difference(MEMORY, NONE, "loss all");
    List<String> sentences = new ArrayList<>();
    sentences.add(
        "Switching the memory off changes the held-out loss by %s nats a token."
            .formatted(lost.text(3)));
    sentences.add(
        "Beside a model of equal parameters without a memory, the one with a memory has %s nats: %s."
            .formatted(
                gained.text(3),
                gained.significant()
                    ? gained.difference().mean() < 0 ? "better" : "worse"
                    : "no difference that the seeds would tell from none"));
    List<LineChart.Series> curves = new ArrayList<>();
    for (String setting : results.settings()) {
      curves.add(Series.of(setting, results.curve(setting, "loss")));
    }
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "Held-out loss in nats a token, by kind of the token that is predicted",
                List.of(
                    "kind",
                    "share",
                    "no memory",
                    "memory",
                    "memory off",
                    "off less on",
                    "memory less no memory"),
                rows)),
        Map.of(
            "kinds",
            DifferenceChart.of(
                "What the memory carried",
                "Held-out loss with the trained memory switched off, less the loss with it.",
                "Nats a token",
                3,
                bars),
            "loss",
            new LineChart(
                    "With and without a memory",
                    "Held-out loss by step, equal parameters, the same batches.",
                    "step",
                    false,
                    "nats a token",
                    curves,
                    List.of())
                .picture()),
        figures);
  }
}
