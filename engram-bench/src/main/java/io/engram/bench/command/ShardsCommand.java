// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.shard.ShardPlan;
import io.engram.shard.ShardPlanner;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram shards}: how to divide a table. */
@Command(
    name = "shards",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Measures how evenly a text asks the shards of a table for rows, for each way to divide it,"
            + " and proposes one.")
final class ShardsCommand implements Callable<Integer> {
  private static final String DEFAULT_TOKENIZER = "cl100k_base";
  private static final int CHARACTERS = 1_500_000;
  private static final String BARS = "▁▂▃▄▅▆▇█";

  @Option(
      names = "--checkpoint",
      paramLabel = "DIR",
      description = "A checkpoint whose table to divide; by default a published shape.")
  private Path checkpoint;

  @Option(
      names = "--preset",
      paramLabel = "NAME",
      description =
          "Without a checkpoint: whose shape, ${COMPLETION-CANDIDATES} (default: V41). No table is"
              + " made.")
  private Preset preset;

  @Option(
      names = "--layer",
      paramLabel = "L",
      description = "A layer with a memory; by default the first.")
  private Integer layer;

  @Option(
      names = "--text",
      paramLabel = "FILE",
      description = "The sample; by default documentation from the sources of the running JDK.")
  private Path textFile;

  @Option(
      names = "--tokens",
      paramLabel = "FILE",
      description = "The sample as raw token ids separated by white space, instead of a text.")
  private Path tokens;

  @Option(
      names = "--shards",
      split = ",",
      paramLabel = "N",
      defaultValue = "4",
      description = "Numbers of shards, separated by commas (default: ${DEFAULT-VALUE}).")
  private int[] shards;

  @Option(
      names = "--chunk",
      paramLabel = "N",
      defaultValue = "512",
      description =
          "Tokens of a prefill chunk, within which a row is read once; as many as the sample has"
              + " stand for a cache that keeps all (default: ${DEFAULT-VALUE}).")
  private int chunk;

  @Option(names = "--json", description = "Prints the figures as JSON and nothing else.")
  private boolean json;

  @Spec private CommandSpec spec;

  private final Map<String, Object> figures = new LinkedHashMap<>();
  private PrintWriter out;
  private Ansi ansi;

  /** A table and the rows that the sample asks for. */
  private static final class Sample {
    private final EngramConfig config;
    private final HashLayout layout;
    private final long[] rowIds;

    Sample(EngramConfig config, HashLayout layout, long[] rowIds) {
      this.config = config;
      this.layout = layout;
      this.rowIds = rowIds;
    }
  }

  @Override
  public Integer call() throws IOException {
    if (checkpoint != null && preset != null) {
      throw new ParameterException(
          spec.commandLine(), "--preset goes without a checkpoint, which has a shape of its own");
    }
    if (textFile != null && tokens != null) {
      throw new ParameterException(spec.commandLine(), "--text and --tokens exclude each other");
    }
    out = json ? new PrintWriter(PrintWriter.nullWriter()) : spec.commandLine().getOut();
    ansi = spec.commandLine().getColorScheme().ansi();
    Sample sample = checkpoint == null ? ofVariant() : ofCheckpoint();
    int rowBytes = sample.config.rowFormat().rowBytes(sample.config.headDim());
    int columns = sample.layout.columns();
    int count = sample.rowIds.length / columns;
    describe(sample, rowBytes, count);
    ShardPlanner planner;
    try (Progress progress = Progress.start("Measuring", count, "tokens")) {
      planner =
          ShardPlanner.of(
              sample.layout, rowBytes, sample.rowIds, Math.min(chunk, count), progress::reached);
    }
    orders(planner, count);
    List<Map<String, Object>> plans = new ArrayList<>();
    for (int number : shards) {
      plans.add(plan(planner, number));
    }
    figures.put("plans", plans);
    out.println(
        "\nFullest: what a chunk asks of its fullest shard, over the mean, for shards read at the"
            + " same time;\nthe same in decoding one sequence. Spread: rows of the busiest shard"
            + " over those of the idlest.");
    if (json) {
      spec.commandLine()
          .getOut()
          .println(new GsonBuilder().setPrettyPrinting().create().toJson(figures));
    }
    return 0;
  }

  private Sample ofVariant() throws IOException {
    Tokenizer tokenizer = TokenizerSource.tokenizer(DEFAULT_TOKENIZER);
    Preset shape = preset == null ? Preset.V41 : preset;
    TokenMap map =
        shape == Preset.QWEN
            ? TokenMap.identity(tokenizer.vocabulary().size())
            : TokenMap.compress(tokenizer.vocabulary());
    EngramConfig config = shape.config(map);
    HashLayout layout =
        HashLayout.derive(config.hashing()).get(config.layerIds().indexOf(layer(config)));
    WindowRule window =
        new WindowRule(
            map.get(config.fillTokenId()),
            config.boundaryTokenId() == WindowRule.NO_BOUNDARY
                ? WindowRule.NO_BOUNDARY
                : map.get(config.boundaryTokenId()),
            config.dead());
    int[] ids = ids(tokenizer);
    map.map(ids, 0, ids.length, ids, 0);
    NgramHasher hasher = new NgramHasher(layout, window);
    long[] rowIds = new long[Math.multiplyExact(ids.length, layout.columns())];
    hasher.hash(ids, 0, ids.length, Lookback.start(), rowIds, 0);
    figures.put("preset", shape.name().toLowerCase(Locale.ROOT));
    return new Sample(config, layout, rowIds);
  }

  private Sample ofCheckpoint() throws IOException {
    try (EngramMemory memory = EngramMemory.open(checkpoint)) {
      int chosen = layer(memory.config());
      int[] ids =
          tokens != null
              ? TokenFile.read(tokens)
              : ids(TokenizerSource.tokenizer(TokenizerSource.ofCheckpoint(checkpoint).toString()));
      figures.put("checkpoint", checkpoint.toString());
      return new Sample(memory.config(), memory.layout(chosen), memory.rowIds(chosen, ids));
    }
  }

  private int layer(EngramConfig config) {
    if (layer != null && !config.layerIds().contains(layer)) {
      throw new IllegalArgumentException(
          "layer " + layer + " has no memory, the layers " + config.layerIds() + " have");
    }
    return layer != null ? layer : config.layerIds().getFirst();
  }

  private int[] ids(Tokenizer tokenizer) throws IOException {
    if (tokens != null) {
      return TokenFile.read(tokens);
    }
    DemoText text = textFile != null ? DemoText.of(textFile) : DemoText.ofJdk(CHARACTERS);
    figures.put("text", text.origin());
    out.println("text       " + text.origin());
    try (Progress progress = Progress.start("Tokenizing", text.text().length(), "chars")) {
      List<int[]> pieces = new ArrayList<>();
      // Cut at blank lines, so that the bar can move; no token spans one and its next word.
      for (String piece : text.text().split("(?<=\n\n)(?=\\S)", -1)) {
        pieces.add(tokenizer.encode(piece));
        progress.advance(piece.length());
      }
      int[] ids = pieces.stream().flatMapToInt(Arrays::stream).toArray();
      if (ids.length == 0) {
        throw new IllegalArgumentException("the text has no tokens");
      }
      return ids;
    }
  }

  private void describe(Sample sample, int rowBytes, int count) {
    HashLayout layout = sample.layout;
    long bytes = layout.rowCount() * rowBytes;
    figures.put("layer", layout.layerId());
    figures.put("heads", layout.columns());
    figures.put("rows", layout.rowCount());
    figures.put("rowBytes", rowBytes);
    figures.put("tokens", count);
    figures.put("chunkTokens", Math.min(chunk, count));
    out.printf(
        "table      layer %d: %d orders x %d heads, %,d rows of %d bytes, %s%n",
        layout.layerId(),
        layout.orders().size(),
        layout.headsPerOrder(),
        layout.rowCount(),
        rowBytes,
        Sizes.bytes(bytes));
    out.printf("sample     %,d tokens in chunks of %,d%n", count, Math.min(chunk, count));
  }

  private void orders(ShardPlanner planner, int count) {
    Map<Integer, List<ShardPlanner.HeadLoad>> byOrder =
        planner.heads().stream()
            .collect(
                Collectors.groupingBy(
                    ShardPlanner.HeadLoad::order, LinkedHashMap::new, Collectors.toList()));
    List<Map<String, Object>> orders = new ArrayList<>();
    out.printf(
        "%n%s%n",
        ansi.string("@|bold What a head is asked for, repeats within a chunk left out|@"));
    out.println("  order      asked       rows            pages of 4 KiB");
    byOrder.forEach((order, heads) -> {
      long rows = heads.stream().mapToLong(ShardPlanner.HeadLoad::rows).sum() / heads.size();
      long pages = heads.stream().mapToLong(ShardPlanner.HeadLoad::pages).sum() / heads.size();
      double share = (double) rows / count;
      out.printf(
          "  %5d %,10d %,10d  %5.1f %% %,12d  %s%n",
          order, count, rows, 100 * share, pages, bar(share));
      Map<String, Object> figure = new LinkedHashMap<>();
      figure.put("order", order);
      figure.put("asked", count);
      figure.put("rows", rows);
      figure.put("pages", pages);
      orders.add(figure);
    });
    figures.put("orders", orders);
  }

  private static String bar(double share) {
    return "█".repeat((int) Math.round(30 * share));
  }

  private Map<String, Object> plan(ShardPlanner planner, int number) {
    ShardPlan plan = planner.plan(number);
    out.printf(
        "%n%s%n", ansi.string("@|bold " + number + (number == 1 ? " shard|@" : " shards|@")));
    out.println(
        "  layout            fullest  decoding  spread  pages  largest shard  rows of each shard");
    long most =
        plan.candidates().stream()
            .flatMap(candidate -> candidate.loads().stream())
            .mapToLong(ShardPlan.Load::rows)
            .max()
            .orElseThrow();
    List<Map<String, Object>> layouts = new ArrayList<>();
    for (ShardPlan.Candidate candidate : plan.candidates()) {
      boolean proposed = candidate.equals(plan.proposal());
      long largest =
          candidate.loads().stream().mapToLong(ShardPlan.Load::bytes).max().orElseThrow();
      String line =
          "%s %-16s %8.2f %9.2f %7.2f %6.2f %14s  %s"
              .formatted(
                  proposed ? ">" : " ",
                  candidate.layout().kind().text(),
                  candidate.slowest(),
                  candidate.decode(),
                  candidate.rowSpread(),
                  candidate.pageSkew(),
                  Sizes.bytes(largest),
                  bars(candidate, most));
      out.println(proposed ? ansi.string("@|green " + line + "|@") : line);
      Map<String, Object> figure = new LinkedHashMap<>();
      figure.put("layout", candidate.layout().kind().text());
      figure.put("fullest", candidate.slowest());
      figure.put("decoding", candidate.decode());
      figure.put("rowSkew", candidate.rowSkew());
      figure.put("rowSpread", candidate.rowSpread());
      figure.put("pageSkew", candidate.pageSkew());
      figure.put("byteSkew", candidate.byteSkew());
      figure.put("rows", candidate.loads().stream().map(ShardPlan.Load::rows).toList());
      figure.put("pages", candidate.loads().stream().map(ShardPlan.Load::pages).toList());
      figure.put("bytes", candidate.loads().stream().map(ShardPlan.Load::bytes).toList());
      layouts.add(figure);
    }
    out.println("  proposed: " + plan.proposal().layout().kind().text() + ": " + plan.reason());
    Map<String, Object> figure = new LinkedHashMap<>();
    figure.put("shards", number);
    figure.put("layouts", layouts);
    figure.put("proposal", plan.proposal().layout().kind().text());
    figure.put("reason", plan.reason());
    figure.put("description", plan.proposal().layout().describe());
    return figure;
  }

  /** A column for each shard, from zero to the fullest of all layouts. */
  private static String bars(ShardPlan.Candidate candidate, long most) {
    StringBuilder bars = new StringBuilder();
    for (ShardPlan.Load load : candidate.loads()) {
      bars.append(BARS.charAt((int) Math.round((double) load.rows() / most * (BARS.length() - 1))));
    }
    return bars.toString();
  }
}
