// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.bench.report.LineChart;
import io.engram.examples.lm.Corpus;
import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.LossCurve;
import io.engram.examples.lm.ModelConfig;
import io.engram.examples.lm.Sampler;
import io.engram.examples.lm.SmallVocabulary;
import io.engram.examples.lm.SourceText;
import io.engram.examples.lm.TokenKind;
import io.engram.examples.lm.Trace;
import io.engram.examples.lm.Trainer;
import io.engram.examples.lm.TrainingPlan;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.stream.DoubleStream;
import picocli.CommandLine.Help.Ansi;

/**
 * The last part of the demo: one small transformer, trained with and without a memory at equal
 * parameters, and what is left of it when the memory is switched off.
 */
final class DemoTraining {
  private static final int PROMPT = 32;
  private static final int WRITTEN = 80;
  private static final int CURVE = 64;
  private static final int SHOWN_TOKENS = 150;
  private static final int LINE = 96;

  private final PrintWriter out;
  private final Ansi ansi;
  private final boolean quick;
  private final RunSettings settings;

  /** What came of one of the two models. */
  private record Trained(
      String name,
      long parameters,
      long active,
      LossCurve curve,
      double stepsPerSecond,
      String continued) {}

  /** Sums of losses of one kind of token. */
  private static final class Tally {
    private long tokens;
    private double on;
    private double off;
  }

  DemoTraining(PrintWriter out, Ansi ansi, boolean quick) {
    this.out = out;
    this.ansi = ansi;
    this.quick = quick;
    this.settings = settings(quick);
  }

  private static RunSettings settings(boolean quick) {
    return new RunSettings(
        RunSettings.JDK,
        quick ? 400_000 : 4_000_000,
        quick ? 768 : 1_792,
        2,
        64,
        4,
        256,
        0,
        1,
        List.of(1),
        List.of(2, 3),
        quick ? 1_000 : 4_000,
        4,
        16,
        quick ? 100 : 800,
        quick ? 8 : 16,
        64,
        3e-3,
        1);
  }

  /**
   * Trains, shows and measures.
   *
   * @param textFile a text of the user's, or null
   * @param html takes the gates
   * @return figures for JSON
   */
  Map<String, Object> run(Path textFile, Path html) throws IOException {
    title("7. Training: one small transformer, with and without a memory");
    SourceText text;
    try {
      text =
          textFile == null
              ? SourceText.ofJdk(settings.characters())
              : SourceText.of(textFile, settings.characters());
    } catch (IllegalArgumentException e) {
      return skipped(e.getMessage());
    }
    Corpus corpus = Corpus.of(text, settings.vocabulary());
    if (corpus.heldOutTokens() <= PROMPT + settings.context()
        || corpus.trainingTokens() < 4 * settings.batch() * settings.context()) {
      return skipped(corpus + ": too short to train on");
    }
    out.println("text       " + corpus);
    TokenMap map = corpus.vocabulary().tokenMap();
    TrainingPlan plan = settings.plan();
    out.printf(
        "plan       %,d steps of %d x %d tokens, the same for both, in the same order%n",
        plan.steps(), plan.batch(), settings.context());
    Map<String, Object> figures = new LinkedHashMap<>();
    figures.put("text", corpus.origin());
    figures.put("trainingTokens", corpus.trainingTokens());
    figures.put("steps", plan.steps());
    figures.put("tokensPerStep", plan.batch() * settings.context());
    try (LanguageModel with = LanguageModel.create(settings.model(map), map, settings.seed())) {
      Trained memory = train("with memory", with, corpus, plan);
      ModelConfig wide = atEqualParameters(with, map);
      Trained plain;
      try (LanguageModel without = LanguageModel.create(wide, map, settings.seed())) {
        plain = train("without", without, corpus, plan);
      }
      compare(memory, plain, wide, html, figures);
      written(corpus, memory, plain);
      gates(with, corpus, html, figures);
      switchOff(with, corpus, figures);
    }
    return figures;
  }

  private Map<String, Object> skipped(String why) {
    out.println("Left out: " + why + ".");
    return Map.of("skipped", why);
  }

  /** The same model without a memory, its feed-forward parts wider by as many parameters. */
  private ModelConfig atEqualParameters(LanguageModel with, TokenMap map) {
    ModelConfig config = with.config();
    ModelConfig narrow =
        new ModelConfig(
            config.vocabulary(),
            config.context(),
            config.width(),
            config.layers(),
            config.heads(),
            config.feedForward(),
            config.streams(),
            Optional.empty());
    long missing;
    try (LanguageModel model = LanguageModel.create(narrow, map, settings.seed())) {
      missing = with.parameters() - model.parameters();
    }
    long unit = FeedForward.gelu(1).parameters(config.width()) * config.layers();
    int hidden =
        config.feedForward().hidden() + Math.toIntExact(Math.round((double) missing / unit));
    return new ModelConfig(
        config.vocabulary(),
        config.context(),
        config.width(),
        config.layers(),
        config.heads(),
        FeedForward.gelu(hidden),
        config.streams(),
        Optional.empty());
  }

  private Trained train(String name, LanguageModel model, Corpus corpus, TrainingPlan plan) {
    Trainer trainer = new Trainer(model, corpus, plan, Optional.empty());
    Stopwatch watch = Stopwatch.start();
    try (Progress bar = Progress.start("Training " + name, plan.steps(), "steps")) {
      trainer.run(
          new Trainer.Listener() {
            @Override
            public void trained(long step, double loss, double learningRate) {
              bar.reached(step);
              bar.say("loss %.2f, held out %.2f".formatted(loss, trainer.curve().lastHeldOut()));
            }
          });
    }
    watch.stop();
    int[] ids =
        new Sampler(0.6, 30, settings.seed())
            .continuation(model, corpus.heldOut(PROMPT), quick ? WRITTEN / 4 : WRITTEN);
    return new Trained(
        name,
        model.parameters(),
        model.activeParameters(),
        trainer.curve(),
        watch.perSecond(plan.steps()),
        corpus.vocabulary().decode(ids));
  }

  private void compare(
      Trained memory, Trained plain, ModelConfig wide, Path html, Map<String, Object> figures)
      throws IOException {
    out.printf(
        "%n%-12s %12s %12s %10s %10s %9s%n", "", "parameters", "active", "steps/s", "held out", "");
    for (Trained one : List.of(memory, plain)) {
      out.printf(
          Locale.ROOT,
          "%-12s %,12d %,12d %10.2f %10.4f nats/token%n",
          one.name(),
          one.parameters(),
          one.active(),
          one.stepsPerSecond(),
          one.curve().lastHeldOut());
      Map<String, Object> figure = new LinkedHashMap<>();
      figure.put("parameters", one.parameters());
      figure.put("activeParameters", one.active());
      figure.put("stepsPerSecond", one.stepsPerSecond());
      figure.put("heldOutLoss", one.curve().lastHeldOut());
      figure.put("heldOut", one.curve().heldOut());
      figures.put(one.name(), figure);
    }
    double gain = plain.curve().lastHeldOut() - memory.curve().lastHeldOut();
    out.printf(
        "%nThe one without has feed-forward parts of %,d instead of %,d units. %s%n%n",
        wide.feedForward().hidden(),
        settings.feedForward(),
        gain > 0
            ? "The memory is %.3f nats a token ahead at equal parameters.".formatted(gain)
            : "Here the memory is %.3f nats a token behind at equal parameters.".formatted(-gain));
    figures.put("gain", gain);
    double low =
        DoubleStream.of(memory.curve().lastHeldOut(), plain.curve().lastHeldOut())
            .min()
            .orElseThrow();
    double high = memory.curve().heldOut().getFirst().loss();
    for (Trained one : List.of(memory, plain)) {
      double[] losses =
          LossSeries.smoothed(one.curve().training()).stream()
              .mapToDouble(LossCurve.Point::loss)
              .toArray();
      out.printf("  %-12s %s%n", one.name(), Sparkline.of(losses, low, high, CURVE));
    }
    out.printf("  training loss, from %.2f at the top to %.2f%n", high, low);
    Path directory = html.toAbsolutePath().getParent();
    String name = html.getFileName().toString().replaceFirst("\\.html?$", "") + "-loss";
    new LineChart(
            "Loss on held-out text",
            "%,d parameters with a memory, %,d without; the same steps, batches and learning rate"
                .formatted(memory.parameters(), plain.parameters()),
            "steps",
            false,
            "nats a token",
            List.of(
                LossSeries.of("with memory", memory.curve().heldOut()),
                LossSeries.of("without", plain.curve().heldOut())),
            List.of())
        .picture()
        .writeSvg(directory, name);
    out.println("\nAs a chart: " + html.resolveSibling(name + ".svg"));
    figures.put("chart", html.resolveSibling(name + ".svg").toString());
  }

  private void written(Corpus corpus, Trained memory, Trained plain) {
    out.println("\nBoth go on with the same held-out text:\n");
    out.println(indented(corpus.vocabulary().decode(corpus.heldOut(PROMPT))));
    for (Trained one : List.of(memory, plain)) {
      out.println(ansi.string("\n@|bold " + one.name() + "|@"));
      out.println(indented(one.continued()));
    }
  }

  private static String indented(String text) {
    return Quoted.printable(text).strip().indent(4).stripTrailing();
  }

  private void gates(LanguageModel model, Corpus corpus, Path html, Map<String, Object> figures)
      throws IOException {
    int[] ids = corpus.heldOut(quick ? 2 * settings.context() : 8 * settings.context());
    int windows = ids.length / settings.context();
    String[] texts = new String[windows * settings.context()];
    float[] gates = new float[texts.length * settings.streams()];
    SmallVocabulary vocabulary = corpus.vocabulary();
    for (int w = 0; w < windows; w++) {
      int[] window = Arrays.copyOfRange(ids, w * settings.context(), (w + 1) * settings.context());
      Trace trace = model.trace(window);
      for (int t = 0; t < window.length; t++) {
        int at = w * settings.context() + t;
        texts[at] = window[t] == SmallVocabulary.BOUNDARY ? "\n" : vocabulary.decode(window[t]);
        System.arraycopy(
            trace.gates().getFirst()[t], 0, gates, at * settings.streams(), settings.streams());
      }
    }
    HeatMap map = new HeatMap(texts, gates);
    out.printf(
        "%nThe gates after training, over held-out text, from %.2f (cold) to %.2f (hot):%n%n",
        map.low(), map.high());
    out.print(map.terminal(SHOWN_TOKENS, LINE, ansi.enabled()));
    Files.writeString(
        html,
        map.html(
            "Gates over held-out text",
            "A transformer of %d layers after %,d steps, memory at layer %d. Text: %s."
                .formatted(
                    settings.layers(),
                    settings.steps(),
                    settings.memoryLayers().getFirst(),
                    corpus.origin())));
    out.println("\nAll " + texts.length + " tokens as a page: " + html);
    figures.put("gateLow", map.low());
    figures.put("gateHigh", map.high());
  }

  private void switchOff(LanguageModel model, Corpus corpus, Map<String, Object> figures) {
    title("8. Switching the memory off: what did it carry?");
    TokenKind[] kinds = TokenKind.of(corpus.vocabulary());
    Map<TokenKind, Tally> tallies = new EnumMap<>(TokenKind.class);
    Tally all = new Tally();
    for (int[][] batch :
        corpus.heldOutBatches(
            settings.plan().evaluationWindows(), settings.batch(), settings.context())) {
      double[][] on = model.losses(batch);
      model.memoryOff(true);
      double[][] off = model.losses(batch);
      model.memoryOff(false);
      for (int s = 0; s < batch.length; s++) {
        for (int t = 0; t < on[s].length; t++) {
          TokenKind kind = kinds[batch[s][t + 1]];
          for (Tally tally : List.of(all, tallies.computeIfAbsent(kind, _ -> new Tally()))) {
            tally.tokens++;
            tally.on += on[s][t];
            tally.off += off[s][t];
          }
        }
      }
    }
    out.printf("%-22s %8s %9s %9s %9s%n", "held-out tokens", "share", "on", "off", "lost");
    Map<String, Object> byKind = new LinkedHashMap<>();
    BarChart bars =
        new BarChart(
            tallies.values().stream().mapToDouble(t -> (t.off - t.on) / t.tokens).max().orElse(1),
            30);
    tallies.forEach(
        (kind, tally) -> byKind.put(kind.words(), line(kind.words(), tally, all.tokens, bars)));
    figures.put("memoryOff", line("all", all, all.tokens, bars));
    figures.put("memoryOffByKind", byKind);
    out.println("nats a token; the model was trained with its memory and has to do without it now");
  }

  private Map<String, Object> line(String name, Tally tally, long tokens, BarChart bars) {
    double on = tally.on / tally.tokens;
    double off = tally.off / tally.tokens;
    double share = (double) tally.tokens / tokens;
    out.printf(
        Locale.ROOT,
        "%-22s %7.1f%% %9.3f %9.3f %+9.3f  %s%n",
        name,
        100 * share,
        on,
        off,
        off - on,
        name.equals("all") ? "" : bars.bar(off - on));
    Map<String, Object> figure = new LinkedHashMap<>();
    figure.put("share", share);
    figure.put("on", on);
    figure.put("off", off);
    return figure;
  }

  private void title(String text) {
    out.println();
    out.println(ansi.string("@|bold " + text + "|@"));
    out.println();
  }
}
