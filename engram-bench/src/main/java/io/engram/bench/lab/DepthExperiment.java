// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.bench.report.HeatChart;
import io.engram.bench.report.LineChart;
import io.engram.examples.lm.LanguageModel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.IntStream;

/**
 * Does a memory make a model deeper? Are its early layers as far as later ones of a model without?
 *
 * <p>{@link LogitLens}: how far each layer's prediction is from the last. {@link LinearCka}: how
 * alike layers of a model with a memory and of one without are, on the same held-out tokens; {@link
 * SoftAlignment}: which layer of the latter each layer of the former is like. What two trainings of
 * the model without a memory, from other initial weights, have for an index is what would be found
 * if a memory made no difference.
 *
 * <p>Layer 0 is the embedding; layer n is the state after n blocks. The model without a memory has
 * no units instead: here the backbone is to be the same.
 */
public final class DepthExperiment implements Experiment {
  private static final String PAIR = "pair";
  private static final int NEAREST = 2;
  private static final int MOST_TOKENS = 512;

  /** For stateless use. */
  public DepthExperiment() {}

  private static TextSetup setup(Size size) {
    TextSetup setup = TextSetup.of(size);
    return size == Size.TINY ? setup : setup.withLayers(size == Size.QUICK ? 5 : 8);
  }

  @Override
  public String name() {
    return "depth";
  }

  @Override
  public String question() {
    return "Does a memory make a model deeper: do its early layers predict and represent what later"
        + " layers of a model without a memory do?";
  }

  @Override
  public List<String> settings(Size size) {
    return List.of(PAIR);
  }

  @Override
  public String conditions(Size size) {
    return setup(size).conditions() + ", nearest " + NEAREST + ", tokens " + MOST_TOKENS;
  }

  /** A model after training, and what it made of the held-out text. */
  private static final class Trained {
    final double loss;

    /** By layer. */
    final double[] divergence;

    /** [layers + 1][tokens][width]. */
    final float[][][] hidden;

    Trained(double loss, double[] divergence, float[][][] hidden) {
      this.loss = loss;
      this.divergence = divergence;
      this.hidden = hidden;
    }
  }

  @Override
  public Outcome run(Size size, String setting, long seed, Steps steps) {
    TextSetup setup = setup(size);
    int each = setup.training().steps();
    Trained with = trained(setup, true, seed, seed, (step, _) -> steps.done(step, 3 * each));
    Trained without =
        trained(setup, false, seed, seed, (step, _) -> steps.done(each + step, 3 * each));
    Trained other =
        trained(setup, false, seed, ~seed, (step, _) -> steps.done(2 * each + step, 3 * each));
    Map<String, Double> numbers = new LinkedHashMap<>();
    numbers.put("loss memory", with.loss);
    numbers.put("loss no memory", without.loss);
    int layers = setup.layers() + 1;
    for (int layer = 0; layer < layers; layer++) {
      numbers.put("kl memory " + layer, with.divergence[layer]);
      numbers.put("kl no memory " + layer, without.divergence[layer]);
    }
    double[][] similar = similarity(without.hidden, with.hidden);
    double[][] chance = similarity(without.hidden, other.hidden);
    int nearest = Math.min(NEAREST, layers);
    double[] index = SoftAlignment.index(similar, nearest);
    double[] expected = SoftAlignment.index(chance, nearest);
    for (int j = 0; j < layers; j++) {
      for (int i = 0; i < layers; i++) {
        numbers.put("cka " + i + " " + j, similar[i][j]);
      }
      numbers.put("index memory " + j, index[j]);
      numbers.put("index no memory " + j, expected[j]);
    }
    return new Outcome(numbers, Map.of());
  }

  private static Trained trained(
      TextSetup setup, boolean memory, long data, long seed, Steps steps) {
    try (LanguageModel model =
        LanguageModel.create(
            setup.model(memory ? Optional.of(setup.memory().build()) : Optional.empty()),
            setup.map(),
            seed)) {
      setup.train(model, data, steps);
      int layers = setup.layers() + 1;
      List<List<float[]>> states = new ArrayList<>();
      IntStream.range(0, layers).forEach(_ -> states.add(new ArrayList<>()));
      double[] divergence = new double[layers];
      int windows = 0;
      for (int[][] rows : setup.heldOut()) {
        for (int[] row : rows) {
          if (states.getFirst().size() + setup.context() > MOST_TOKENS) {
            break;
          }
          float[][][] hidden = model.trace(Arrays.copyOf(row, setup.context())).hidden();
          float[][] last = model.logProbabilities(hidden[layers - 1]);
          for (int layer = 0; layer < layers; layer++) {
            divergence[layer] += LogitLens.divergence(last, model.logProbabilities(hidden[layer]));
            states.get(layer).addAll(List.of(hidden[layer]));
          }
          windows++;
        }
      }
      for (int layer = 0; layer < layers; layer++) {
        divergence[layer] /= windows;
      }
      return new Trained(
          setup.loss(model),
          divergence,
          states.stream().map(layer -> layer.toArray(float[][]::new)).toArray(float[][][]::new));
    }
  }

  private static double[][] similarity(float[][][] rows, float[][][] columns) {
    double[][] similarity = new double[rows.length][columns.length];
    for (int i = 0; i < rows.length; i++) {
      for (int j = 0; j < columns.length; j++) {
        similarity[i][j] = LinearCka.of(rows[i], columns[j]);
      }
    }
    return similarity;
  }

  @Override
  public Findings findings(Size size, CellResults results) {
    int layers = setup(size).layers() + 1;
    List<List<String>> rows = new ArrayList<>();
    Map<Double, Estimate> klWith = new TreeMap<>();
    Map<Double, Estimate> klWithout = new TreeMap<>();
    Map<Double, Estimate> index = new TreeMap<>();
    Map<Double, Estimate> chance = new TreeMap<>();
    double[][] similarity = new double[layers][layers];
    int lower = 0;
    int higher = 0;
    Map<String, Object> figures = new LinkedHashMap<>();
    for (int layer = 0; layer < layers; layer++) {
      double[] a = results.values(PAIR, "kl memory " + layer);
      double[] b = results.values(PAIR, "kl no memory " + layer);
      double[] found = results.values(PAIR, "index memory " + layer);
      double[] expected = results.values(PAIR, "index no memory " + layer);
      Paired kl = Paired.of(a, b);
      Paired shift = Paired.of(found, expected);
      klWith.put((double) layer, Estimate.of(a));
      klWithout.put((double) layer, Estimate.of(b));
      index.put((double) layer, Estimate.of(found));
      chance.put((double) layer, Estimate.of(expected));
      lower += kl.significant() && kl.difference().mean() < 0 ? 1 : 0;
      higher += shift.significant() && shift.difference().mean() > 0 ? 1 : 0;
      rows.add(
          List.of(
              Integer.toString(layer),
              Estimate.of(b).text(3),
              Estimate.of(a).text(3),
              layer == layers - 1 ? "" : kl.text(3),
              Estimate.of(found).text(2),
              Estimate.of(expected).text(2),
              shift.text(2)));
      figures.put("divergence, layer " + layer, Series.figures(kl));
      figures.put("index less that of no memory, layer " + layer, Series.figures(shift));
      for (int i = 0; i < layers; i++) {
        similarity[i][layer] = results.estimate(PAIR, "cka " + i + " " + layer).mean();
      }
    }
    List<String> names = IntStream.range(0, layers).mapToObj(Integer::toString).toList();
    List<String> sentences = new ArrayList<>();
    sentences.add(
        "LogitLens: at %d of %d layers before the last the prediction is nearer to the final one with"
                .formatted(lower, layers - 1)
            + " a memory than without, by a paired test.");
    sentences.add(
        "Alignment: %d of %d layers of the model with a memory are like a deeper layer of the one"
                .formatted(higher, layers)
            + " without than its own retraining is, by a paired test.");
    sentences.add(
        "Loss with a memory less without, on the same backbone: %s nats."
            .formatted(
                Paired.of(
                        results.values(PAIR, "loss memory"), results.values(PAIR, "loss no memory"))
                    .text(3)));
    return new Findings(
        sentences,
        List.of(
            new Findings.Table(
                "By layer: KL to the last prediction in nats, and the layer it is like (soft"
                    + " alignment index)",
                List.of(
                    "layer",
                    "KL, no memory",
                    "KL, memory",
                    "memory less no memory",
                    "index, memory",
                    "index, retrained",
                    "memory less retrained"),
                rows)),
        Map.of(
            "lens",
            new LineChart(
                    "How far each layer's prediction is",
                    "KL of the prediction read off each layer to the last, on held-out text.",
                    "layer",
                    false,
                    "nats",
                    List.of(Series.of("memory", klWith), Series.of("no memory", klWithout)),
                    List.of())
                .picture(),
            "cka",
            HeatChart.of(
                "How alike layers are",
                "Linear CKA (unbiased) on the same held-out tokens, mean over seeds.",
                names,
                names,
                "no memory",
                "memory",
                similarity),
            "index",
            new LineChart(
                    "Which layer each layer is like",
                    "Soft alignment index: layer of the model without a memory. Above the other line"
                        + " the memory has made the model deeper.",
                    "layer",
                    false,
                    "like layer",
                    List.of(Series.of("memory", index), Series.of("no memory, retrained", chance)),
                    List.of())
                .picture()),
        figures);
  }
}
