// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.EngramConfig;
import io.engram.bench.report.LineChart;
import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.ModelConfig;
import io.engram.vocab.TokenMap;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Does a one-layer model with a memory reach the entropy of a source, and one without it not?
 *
 * <p>The source is a {@link MarkovSource}, another one for each seed. The model with a memory looks
 * up n-grams of the source's order (and those from 2 upwards below it); the other has the same
 * parameters in its feed-forward part instead, and so computes more for each token. Both see the
 * same symbols. The floor is the loss of the source itself on the very symbols that are held out;
 * positions at which a window does not hold the source's whole context count neither for the floor
 * nor for a model.
 */
public final class MarkovExperiment implements Experiment {
  static final String MEMORY = "memory";
  static final String NONE = "no memory";

  /** An excess over the floor that counts as reaching it, in nats. */
  static final double REACHED = 0.05;

  /** For stateless use. */
  public MarkovExperiment() {}

  private record Setup(
      int order,
      int alphabet,
      int successors,
      int width,
      int heads,
      int hidden,
      int headsPerOrder,
      int headDim,
      int slots,
      int context,
      int batch,
      int heldOutWindows,
      Training training) {

    static Setup of(Size size) {
      return switch (size) {
        case TINY ->
            new Setup(2, 12, 3, 32, 2, 64, 4, 8, 256, 32, 16, 48, new Training(200, 1e-2, 4));
        case QUICK ->
            new Setup(2, 24, 4, 64, 2, 128, 4, 16, 1024, 64, 16, 96, new Training(800, 1e-2, 10));
        case NIGHT ->
            new Setup(
                3, 32, 4, 64, 2, 128, 4, 16, 65536, 64, 32, 512, new Training(10_000, 5e-3, 20));
      };
    }

    /** Beside the symbols there is one for what comes before a window. */
    int vocabulary() {
      return alphabet + 1;
    }

    EngramConfig memory() {
      return EngramConfig.paper()
          .rawVocabulary(vocabulary())
          .fill(alphabet)
          .layers(0)
          .orders(IntStream.rangeClosed(2, Math.max(2, order)).boxed().toArray(Integer[]::new))
          .headsPerOrder(headsPerOrder)
          .headDim(headDim)
          .slotsPerHead(slots)
          .streams(1)
          .width(width)
          .conv(Optional.empty())
          .build();
    }

    ModelConfig model(int units, Optional<EngramConfig> memory) {
      return new ModelConfig(
          vocabulary(), context, width, 1, heads, FeedForward.gelu(units), 1, memory);
    }
  }

  @Override
  public String name() {
    return "markov";
  }

  @Override
  public String question() {
    return "On a source whose entropy is known: does a one-layer model with a memory reach it, and"
        + " one of equal parameters without a memory not?";
  }

  @Override
  public List<String> settings(Size size) {
    return List.of(MEMORY, NONE);
  }

  @Override
  public String conditions(Size size) {
    return Setup.of(size).toString();
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    Setup setup = Setup.of(size);
    MarkovSource source =
        new MarkovSource(setup.order, setup.alphabet, setup.successors, seed * 1_000_003);
    SplittableRandom held = new SplittableRandom(-seed);
    int[][] heldOut = new int[setup.heldOutWindows][];
    double floor = 0;
    for (int w = 0; w < heldOut.length; w++) {
      heldOut[w] = source.sequence(setup.context + 1, held);
      floor += source.loss(heldOut[w], setup.order, setup.context + 1) / heldOut.length;
    }
    try (LanguageModel model = create(setup, setting, seed)) {
      List<double[]> curve =
          setup.training.run(
              model,
              step -> {
                SplittableRandom own = new SplittableRandom((seed << 32) + step);
                int[][] batch = new int[setup.batch][];
                for (int b = 0; b < batch.length; b++) {
                  batch[b] = source.sequence(setup.context + 1, own);
                }
                return batch;
              },
              m -> loss(m, heldOut, setup),
              steps);
      double loss = curve.getLast()[1];
      Map<String, Double> numbers = new LinkedHashMap<>();
      numbers.put("loss", loss);
      numbers.put("floor", floor);
      numbers.put("excess", loss - floor);
      numbers.put("entropy", source.entropy());
      numbers.put("parameters", (double) model.parameters());
      numbers.put("activeParameters", (double) model.activeParameters());
      return new Outcome(numbers, Map.of("loss", curve));
    }
  }

  private static LanguageModel create(Setup setup, String setting, long seed) {
    TokenMap map = TokenMap.identity(setup.vocabulary());
    LanguageModel with =
        LanguageModel.create(setup.model(setup.hidden, Optional.of(setup.memory())), map, seed);
    if (setting.equals(MEMORY)) {
      return with;
    }
    try (with) {
      return LanguageModel.create(
          EqualParameters.of(setup.model(setup.hidden, Optional.empty()), with.parameters()),
          map,
          seed);
    }
  }

  private static double loss(LanguageModel model, int[][] heldOut, Setup setup) {
    double sum = 0;
    long count = 0;
    for (int from = 0; from < heldOut.length; from += setup.batch) {
      int[][] batch =
          Arrays.copyOfRange(heldOut, from, Math.min(heldOut.length, from + setup.batch));
      for (double[] losses : model.losses(batch)) {
        for (int t = setup.order - 1; t < losses.length; t++) {
          sum += losses[t];
          count++;
        }
      }
    }
    return sum / count;
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    Estimate with = results.estimate(MEMORY, "excess");
    Estimate without = results.estimate(NONE, "excess");
    Paired paired = results.difference(MEMORY, NONE, "loss");
    Estimate floor = results.estimate(MEMORY, "floor");
    List<LineChart.Series> series = new ArrayList<>();
    List<List<String>> rows = new ArrayList<>();
    for (String setting : results.settings()) {
      series.add(Series.of(setting, results.curve(setting, "loss")));
      rows.add(
          List.of(
              setting,
              "%,.0f".formatted(results.values(setting, "parameters")[0]),
              results.estimate(setting, "loss").text(3),
              results.estimate(setting, "excess").text(3),
              Series.spread(results.values(setting, "excess"), 3)));
    }
    List<String> sentences = new ArrayList<>();
    boolean all = results.of(MEMORY).stream().allMatch(c -> c.number("excess") < REACHED);
    sentences.add(
        "With a memory the model %s the entropy floor of %s nats: it is %s above it, %s %.2f."
            .formatted(
                all ? "reaches" : "does NOT reach",
                floor.text(3),
                with.text(3),
                all ? "with every seed less than" : "not with every seed less than",
                REACHED));
    boolean apart = results.of(NONE).stream().allMatch(c -> c.number("excess") > 2 * REACHED);
    sentences.add(
        "Without a memory, at equal parameters and on the same symbols, it %s: it is %s above it."
            .formatted(apart ? "does not" : "comes NEAR it with some seed", without.text(3)));
    sentences.add("Difference of the losses, seed by seed: " + paired.text(3) + " nats.");
    Setup setup = Setup.of(size);
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "Held-out loss in nats a symbol after %,d steps of %,d symbols"
                    .formatted(setup.training.steps(), setup.batch * setup.context),
                List.of("setting", "parameters", "loss", "above the floor", "lowest to highest"),
                rows)),
        Map.of(
            "loss",
            new LineChart(
                    "One layer against a Markov source",
                    "Order %d, %d symbols, %,d contexts of %d successors; %s"
                        .formatted(
                            setup.order,
                            setup.alphabet,
                            (int) Math.pow(setup.alphabet, setup.order),
                            setup.successors,
                            "held-out loss by step, floor: the source itself on the same symbols."),
                    "step",
                    false,
                    "nats a symbol",
                    series,
                    List.of(new LineChart.Level("entropy floor", floor.mean())))
                .picture()),
        Map.of(
            "memoryAboveFloor",
            Series.figures(with),
            "noMemoryAboveFloor",
            Series.figures(without),
            "difference",
            Series.figures(paired),
            "reached",
            all));
  }
}
