// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import io.engram.EngramException;
import io.engram.bench.report.LineChart;
import io.engram.bench.report.Picture;
import io.engram.examples.lm.Corpus;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.LossCurve;
import io.engram.examples.lm.Sampler;
import io.engram.examples.lm.SourceText;
import io.engram.examples.lm.Trainer;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram train}: a small language model with a memory, from a text. */
@Command(
    name = "train",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Trains a small transformer with a conditional memory on a text, and keeps checkpoints."
            + " Stop it with Ctrl-C or kill it, and run it again with the same --out: it goes on to"
            + " the bit as if nothing had happened. Without options of its own a run that goes on"
            + " takes those that it began with.")
final class TrainCommand implements Callable<Integer> {
  private static final int PROMPT = 24;

  @Option(
      names = "--text",
      paramLabel = "FILE",
      description =
          "A UTF-8 file, or a directory in which each text is a document; by default the sources of"
              + " the running JDK (lib/src.zip), or its licences where it has none.")
  private String text;

  @Option(
      names = "--characters",
      paramLabel = "N",
      description = "Characters of the text at most (tiny: 2,000,000; small: 10,000,000).")
  private Long characters;

  @Option(
      names = "--out",
      paramLabel = "DIR",
      description =
          "Takes checkpoints, settings, vocabulary and the loss curve (default: ${DEFAULT-VALUE}).")
  private Path out = Path.of("engram-model");

  @Option(
      names = "--resume",
      description = "Fails if there is no checkpoint to go on from, instead of beginning.")
  private boolean resume;

  @Option(
      names = "--preset",
      paramLabel = "NAME",
      description =
          "tiny (a minute on two cores; the default) or small (hours). The options below change"
              + " single values of it.")
  private RunSettings.Named preset;

  @Option(names = "--layers", paramLabel = "N", description = "Blocks.")
  private Integer layers;

  @Option(names = "--width", paramLabel = "N", description = "Size of the residual stream.")
  private Integer width;

  @Option(names = "--heads", paramLabel = "N", description = "Attention heads.")
  private Integer heads;

  @Option(
      names = "--feed-forward",
      paramLabel = "N",
      description = "Hidden units of the feed-forward part (with --width alone: 4 times it).")
  private Integer feedForward;

  @Option(
      names = "--experts",
      paramLabel = "N",
      description = "Routed experts, of which a token takes two and a shared one; 0 for none.")
  private Integer experts;

  @Option(names = "--streams", paramLabel = "N", description = "Residual streams, such as 1 or 4.")
  private Integer streams;

  @Option(
      names = "--memory-layers",
      split = ",",
      paramLabel = "L",
      description = "Blocks that have a memory, from 0 (default: 1).")
  private List<Integer> memoryLayers;

  @Option(names = "--no-memory", description = "A plain transformer.")
  private boolean noMemory;

  @Option(names = "--slots", paramLabel = "N", description = "Slots of each hash head.")
  private Long slots;

  @Option(
      names = "--orders",
      split = ",",
      paramLabel = "N",
      description = "Orders of n-grams that are looked up (default: 2,3).")
  private List<Integer> orders;

  @Option(
      names = "--vocabulary",
      paramLabel = "N",
      description = "Tokens that are kept beside the 256 single bytes.")
  private Integer vocabulary;

  @Option(names = "--steps", paramLabel = "N", description = "Steps; may be raised later.")
  private Long steps;

  @Option(names = "--batch", paramLabel = "N", description = "Sequences of a step.")
  private Integer batch;

  @Option(names = "--context", paramLabel = "N", description = "Tokens of a sequence.")
  private Integer context;

  @Option(
      names = "--lr",
      paramLabel = "X",
      description = "Highest learning rate of the dense weights; tables learn 5 times as fast.")
  private Double learningRate;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of weights and of the data order.")
  private Long seed;

  @Option(
      names = "--sample",
      paramLabel = "N",
      description = "Tokens that are generated at the end (default: ${DEFAULT-VALUE}).")
  private int sample = 96;

  @Option(names = "--json", description = "Prints what was done as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    if (noMemory && memoryLayers != null) {
      throw wrong("--no-memory and --memory-layers exclude one another");
    }
    if (sample < 0) {
      throw wrong("--sample is " + sample + ", expected at least 0");
    }
    Optional<RunSettings> before = RunSettings.read(out);
    if (resume && before.isEmpty()) {
      throw new EngramException(out + ": holds no run to go on with; leave --resume out to begin");
    }
    RunSettings settings = settings(before);
    PrintWriter say =
        json ? new PrintWriter(PrintWriter.nullWriter()) : spec.commandLine().getOut();
    SourceText source =
        settings.text().equals(RunSettings.JDK)
            ? SourceText.ofJdk(settings.characters())
            : SourceText.of(Path.of(settings.text()), settings.characters());
    Corpus corpus =
        before.isPresent()
            ? Corpus.of(source, RunSettings.vocabulary(out))
            : Corpus.of(source, settings.vocabulary());
    TokenMap map = corpus.vocabulary().tokenMap();
    say.println("text       " + corpus);
    try (LanguageModel model = LanguageModel.create(settings.model(map), map, settings.seed())) {
      describe(say, settings, model, map);
      Trainer trainer = new Trainer(model, corpus, settings.plan(), Optional.of(out));
      if (before.isEmpty()) {
        settings.write(out, corpus.vocabulary());
      } else if (trainer.resume()) {
        say.printf("resumed    at step %,d, from %s%n", trainer.step(), out);
        settings.write(out, corpus.vocabulary());
      } else if (resume) {
        throw new EngramException(out + ": the run there has no checkpoint yet");
      }
      return train(say, trainer, model, corpus, settings);
    }
  }

  private ParameterException wrong(String what) {
    return new ParameterException(spec.commandLine(), what);
  }

  /** What was asked for, on top of the run that is there or of the preset. */
  private RunSettings settings(Optional<RunSettings> before) {
    RunSettings base =
        preset == null && before.isPresent()
            ? before.get()
            : (preset == null ? RunSettings.Named.TINY : preset).settings();
    int wide = or(width, base.width());
    RunSettings asked =
        new RunSettings(
            text == null ? base.text() : Path.of(text).toAbsolutePath().normalize().toString(),
            or(characters, base.characters()),
            or(vocabulary, base.vocabulary()),
            or(layers, base.layers()),
            wide,
            or(heads, base.heads()),
            or(feedForward, width == null ? base.feedForward() : 4 * wide),
            or(experts, base.experts()),
            or(streams, base.streams()),
            noMemory ? List.of() : or(memoryLayers, base.memoryLayers()),
            or(orders, base.orders()),
            or(slots, base.slots()),
            base.headsPerOrder(),
            base.headDim(),
            or(steps, base.steps()),
            or(batch, base.batch()),
            or(context, base.context()),
            or(learningRate, base.learningRate()),
            or(seed, base.seed()));
    List<String> differences = before.map(b -> b.differences(asked)).orElse(List.of());
    if (!differences.isEmpty()) {
      throw new EngramException(
          out
              + ": holds a run with other settings: "
              + String.join("; ", differences)
              + ". Leave these options out to go on with it, or name another --out");
    }
    return asked;
  }

  private static <T> T or(T given, T otherwise) {
    return given == null ? otherwise : given;
  }

  private static void describe(
      PrintWriter say, RunSettings settings, LanguageModel model, TokenMap map) {
    say.printf(
        "model      %d layers of %d, %,d parameters, %,d of them active for a token%n",
        settings.layers(), settings.width(), model.parameters(), model.activeParameters());
    if (!settings.memoryLayers().isEmpty()) {
      say.printf(
          "memory     at layer %s: orders %s, %d heads of %,d slots, %,d parameters; %,d ids become"
              + " %,d%n",
          joined(settings.memoryLayers()),
          joined(settings.orders()),
          settings.headsPerOrder(),
          settings.slots(),
          model.parameters() - model.denseParameters(),
          map.size(),
          map.compressedSize());
    }
  }

  private static String joined(List<Integer> numbers) {
    return String.join(", ", numbers.stream().map(String::valueOf).toList());
  }

  private int train(
      PrintWriter say, Trainer trainer, LanguageModel model, Corpus corpus, RunSettings settings)
      throws IOException {
    long from = trainer.step();
    boolean done;
    try (StopOnInterrupt _ = new StopOnInterrupt(trainer::stop)) {
      Stopwatch watch = Stopwatch.start();
      try (Progress bar = Progress.start("training", settings.steps(), "steps")) {
        bar.reached(from);
        done = trainer.run(new Report(say, bar, settings, from));
      }
      watch.stop();
      long made = trainer.step() - from;
      if (made == 0) {
        say.printf(
            "finished   %,d steps were made already; raise --steps to go on%n", trainer.step());
      } else {
        say.printf(
            "trained    %,d steps in %.1f s, %.2f a second, %,.0f tokens a second%n",
            made,
            watch.seconds(),
            watch.perSecond(made),
            watch.perSecond(made * settings.batch() * settings.context()));
      }
      draw(trainer.curve(), corpus, done);
      say.printf(
          "held out   %.4f nats a token; checkpoints, settings and loss.svg in %s%n",
          trainer.curve().lastHeldOut(), out);
      if (!done) {
        say.printf(
            "stopped    at step %,d of %,d; run it again with --out %s to go on%n",
            trainer.step(), settings.steps(), out);
      }
      int[] prompt = corpus.heldOut(PROMPT);
      String continued =
          done && sample > 0
              ? corpus
                  .vocabulary()
                  .decode(new Sampler(0.7, 40, settings.seed()).continuation(model, prompt, sample))
              : "";
      if (!continued.isEmpty()) {
        say.printf(
            "%nHeld-out text, and what the model makes of it:%n%n%s%s%n",
            spec.commandLine().getColorScheme().ansi()
            .new Text("@|faint " + Quoted.printable(corpus.vocabulary().decode(prompt)) + "|@"),
            Quoted.printable(continued));
      }
      if (json) {
        JsonObject all = new JsonObject();
        all.add("settings", new Gson().toJsonTree(settings));
        all.addProperty("text", corpus.origin());
        all.addProperty("trainingTokens", corpus.trainingTokens());
        all.addProperty("heldOutTokens", corpus.heldOutTokens());
        all.addProperty("parameters", model.parameters());
        all.addProperty("denseParameters", model.denseParameters());
        all.addProperty("activeParameters", model.activeParameters());
        all.addProperty("step", trainer.step());
        all.addProperty("finished", done);
        all.addProperty("steps", made);
        all.addProperty("seconds", watch.seconds());
        if (!trainer.curve().heldOut().isEmpty()) {
          all.addProperty("heldOutLoss", trainer.curve().lastHeldOut());
        }
        all.add("heldOut", new Gson().toJsonTree(trainer.curve().heldOut()));
        all.addProperty("sample", continued);
        all.addProperty("directory", out.toString());
        spec.commandLine()
            .getOut()
            .println(new GsonBuilder().setPrettyPrinting().create().toJson(all));
      }
      spec.commandLine().getOut().flush();
    }
    return done ? 0 : StopOnInterrupt.EXIT_CODE;
  }

  private void draw(LossCurve curve, Corpus corpus, boolean done) throws IOException {
    Files.writeString(out.resolve("loss.csv"), curve.csv());
    List<LineChart.Series> series = new ArrayList<>();
    List<LossCurve.Point> training = LossSeries.smoothed(curve.training());
    series.add(LossSeries.of("training", training));
    series.add(LossSeries.of("held out", curve.heldOut()));
    series.removeIf(one -> one.points().isEmpty());
    if (!series.isEmpty()) {
      Picture picture =
          new LineChart("Loss", corpus.origin(), "steps", false, "nats a token", series, List.of())
              .picture();
      if (done) {
        picture.write(out, "loss");
      } else {
        // The JVM may be ending, when fonts cannot be loaded any more.
        picture.writeSvg(out, "loss");
      }
    }
  }

  /** Tells of progress: on a terminal in the bar, elsewhere in a line for each look. */
  private static final class Report implements Trainer.Listener {
    private final PrintWriter say;
    private final Progress bar;
    private final RunSettings settings;
    private final long from;
    private final long began = System.nanoTime();
    private double smooth = Double.NaN;
    private double heldOut = Double.NaN;

    Report(PrintWriter say, Progress bar, RunSettings settings, long from) {
      this.say = say;
      this.bar = bar;
      this.settings = settings;
      this.from = from;
    }

    @Override
    public void trained(long step, double loss, double learningRate) {
      smooth = Double.isNaN(smooth) ? loss : 0.95 * smooth + 0.05 * loss;
      bar.reached(step);
      bar.say("loss %.3f, held out %.3f, %,.0f tokens/s".formatted(smooth, heldOut, tokens(step)));
    }

    @Override
    public void evaluated(long step, double loss) {
      heldOut = loss;
      if (!bar.shown()) {
        say.printf("step %,7d of %,d   held out %.4f", step, settings.steps(), loss);
        // Before the first step there is no loss of a batch, and no speed.
        if (!Double.isNaN(smooth)) {
          say.printf("   loss %.4f   %,.0f tokens a second", smooth, tokens(step));
        }
        say.println();
        say.flush();
      }
    }

    private double tokens(long step) {
      double seconds = (System.nanoTime() - began) / 1e9;
      return (step - from) * settings.batch() * settings.context() / Math.max(1e-9, seconds);
    }
  }
}
