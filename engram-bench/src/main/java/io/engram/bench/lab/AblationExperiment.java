// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.bench.report.DifferenceChart;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.ModelConfig;
import io.engram.vocab.TokenMap;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Which part of the memory is worth what? One part at a time is taken out or changed.
 *
 * <p>Branches are the gates of several residual streams, so that they come with streams of the
 * backbone: four streams with a memory are compared with four streams without, and a memory with
 * one stream with one stream without. A memory without any gate is no variant of the library: its
 * place is taken by the plain gate, without the signed square root that spreads gates out.
 */
public final class AblationExperiment implements Experiment {
  static final String FULL = "full";
  static final String NONE = "no memory";
  static final String STREAMS = "four streams";
  static final String STREAMS_NONE = "four streams, no memory";
  private static final String RAW = "no compression";
  private static final String PLAIN = "gate without square root";
  private static final String NO_CONV = "no convolution";
  private static final String ORDER_2 = "order 2 only";
  private static final String ORDER_3 = "order 3 only";
  private static final String ORDERS_4 = "orders 2 to 4";

  /** For stateless use. */
  public AblationExperiment() {}

  @Override
  public String name() {
    return "ablation";
  }

  @Override
  public String question() {
    return "Which part of a memory is worth what: compression, gate, convolution, branches, orders?";
  }

  @Override
  public List<String> settings(Size size) {
    return List.of(
        FULL, NONE, RAW, PLAIN, NO_CONV, ORDER_2, ORDER_3, ORDERS_4, STREAMS, STREAMS_NONE);
  }

  @Override
  public String conditions(Size size) {
    return TextSetup.of(size).conditions();
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    TextSetup setup = TextSetup.of(size);
    EngramConfig.Builder memory = setup.memory();
    TokenMap map = setup.map();
    // The same rows in all, so that orders share what there is.
    long rows = 2 * setup.slots();
    int streams = 1;
    switch (setting) {
      case RAW -> {
        memory.rawVocabulary(map.size());
        map = TokenMap.identity(map.size());
      }
      case PLAIN -> memory.gateShape(GateConfig.Shape.PLAIN);
      case NO_CONV -> memory.conv(Optional.empty());
      case ORDER_2 -> memory.orders(2).slotsPerHead(rows).conv(conv(2));
      case ORDER_3 -> memory.orders(3).slotsPerHead(rows);
      case ORDERS_4 -> memory.orders(2, 3, 4).slotsPerHead(rows / 3).conv(conv(4));
      case STREAMS, STREAMS_NONE -> {
        streams = 4;
        memory.streams(4);
      }
      default -> {}
    }
    Optional<EngramConfig> built =
        setting.equals(NONE) || setting.equals(STREAMS_NONE)
            ? Optional.empty()
            : Optional.of(memory.build());
    ModelConfig one = setup.model(Optional.empty());
    ModelConfig config =
        new ModelConfig(
            one.vocabulary(),
            one.context(),
            one.width(),
            one.layers(),
            one.heads(),
            one.feedForward(),
            streams,
            built);
    try (LanguageModel model = LanguageModel.create(config, map, seed)) {
      List<double[]> curve = setup.train(model, seed, steps);
      Map<String, Double> numbers = new LinkedHashMap<>();
      numbers.put("loss", curve.getLast()[1]);
      numbers.put("parameters", (double) model.parameters());
      return new Outcome(numbers, Map.of("loss", curve));
    }
  }

  private static Optional<ConvConfig> conv(int dilation) {
    return Optional.of(new ConvConfig(4, dilation, 1e-5f));
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    List<List<String>> rows = new ArrayList<>();
    List<DifferenceChart.Bar> bars = new ArrayList<>();
    List<String> worse = new ArrayList<>();
    List<String> better = new ArrayList<>();
    List<String> equal = new ArrayList<>();
    Map<String, Object> figures = new LinkedHashMap<>();
    for (String setting : results.settings()) {
      Paired paired = results.difference(setting, FULL, "loss");
      rows.add(
          List.of(
              setting,
              "%,.0f".formatted(results.values(setting, "parameters")[0]),
              results.estimate(setting, "loss").text(4),
              setting.equals(FULL) ? "" : paired.text(4)));
      figures.put(setting, Series.figures(results.estimate(setting, "loss")));
      if (!setting.equals(FULL)) {
        Estimate difference = paired.difference();
        bars.add(
            new DifferenceChart.Bar(
                setting, difference.mean(), difference.low(), difference.high()));
        (!paired.significant() ? equal : difference.mean() > 0 ? worse : better).add(setting);
      }
    }
    List<String> sentences = new ArrayList<>();
    sentences.add("Worse than the full memory: " + list(worse) + ".");
    sentences.add("Better: " + list(better) + ".");
    sentences.add("No difference that the seeds would tell from none: " + list(equal) + ".");
    sentences.add(
        "What a memory is worth with one stream: %s nats; with four streams and four gates: %s nats."
            .formatted(
                results.difference(FULL, NONE, "loss").text(4),
                results.difference(STREAMS, STREAMS_NONE, "loss").text(4)));
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "Held-out loss in nats a token",
                List.of("setting", "parameters", "loss", "less the full memory"),
                rows)),
        Map.of(
            "loss",
            DifferenceChart.of(
                "What each part is worth",
                "Held-out loss less that of the full memory (compression, orders 2 and 3, signed"
                    + " square root, convolution, one stream). To the right is worse.",
                "Nats a token",
                4,
                bars)),
        figures);
  }

  private static String list(List<String> settings) {
    return settings.isEmpty() ? "none" : String.join(", ", settings);
  }
}
