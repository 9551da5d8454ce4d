// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.MemoryOptions;
import io.engram.gating.ConvState;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.kernel.KernelChoice;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Tokenizer;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engram demo}: the whole path on a real text. */
@Command(
    name = "demo",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Walks a real text through the whole path: token ids, compressed ids, row ids, rows, gated"
            + " hidden state; and proves that decoding token by token gives the same. Then trains a"
            + " small transformer with and without a memory, two to three minutes on two cores.")
final class DemoCommand implements Callable<Integer> {
  private static final String DEFAULT_TOKENIZER = "cl100k_base";
  private static final int CHUNK = 512;
  private static final int SHOWN_TOKENS = 150;
  private static final int LINE = 96;

  /** Bytes of a character in UTF-8, less the last. */
  private static final int LONGEST_CHARACTER = 3;

  private static final long SEED = 20_260_112;

  @Option(
      names = "--text",
      paramLabel = "FILE",
      description = "The text; by default documentation from the sources of the running JDK.")
  private Path textFile;

  @Option(
      names = "--checkpoint",
      paramLabel = "DIR",
      description =
          "A checkpoint to walk through, with its own tokenizer; by default a new memory of the"
              + " paper's shape with random tables.")
  private Path checkpoint;

  @Option(
      names = "--html",
      paramLabel = "FILE",
      defaultValue = "engram-demo.html",
      description = "Takes the heat map of the gates (default: ${DEFAULT-VALUE}).")
  private Path html;

  @Option(
      names = "--quick",
      description =
          "A small table, a short text and a short training, for a first look in seconds.")
  private boolean quick;

  @Option(names = "--no-training", description = "Trains no model, as with --checkpoint.")
  private boolean noTraining;

  @Option(names = "--json", description = "Prints the figures as JSON and nothing else.")
  private boolean json;

  @Spec private CommandSpec spec;

  private final Map<String, Object> figures = new LinkedHashMap<>();
  private PrintWriter out;
  private Ansi ansi;

  @Override
  public Integer call() throws IOException {
    out = json ? new PrintWriter(PrintWriter.nullWriter()) : spec.commandLine().getOut();
    ansi = spec.commandLine().getColorScheme().ansi();
    DemoText text =
        textFile != null ? DemoText.of(textFile) : DemoText.ofJdk(quick ? 60_000 : 1_500_000);
    Tokenizer tokenizer =
        TokenizerSource.tokenizer(
            checkpoint == null
                ? DEFAULT_TOKENIZER
                : TokenizerSource.ofCheckpoint(checkpoint).toString());
    // A page that cannot be written is better known now than after all the work.
    Files.write(html, new byte[0]);
    title("Engram: from text to memory");
    out.println("text       " + text.origin());
    out.println(
        "kernels    "
            + KernelChoice.get()
            + " ("
            + KernelChoice.reason()
            + "), JDK "
            + Runtime.version().feature());

    int[] ids = tokenize(tokenizer, text);
    boolean holds;
    try (EngramMemory memory = checkpoint == null ? newMemory(tokenizer) : opened()) {
      vocabulary(memory, tokenizer.vocabulary());
      int layer = memory.config().layerIds().getFirst();
      long[] rowIds = hash(memory, layer, ids);
      firstNgrams(memory, layer, ids, rowIds, tokenizer.vocabulary());
      accesses(memory, ids.length, rowIds);
      rows(memory, layer, rowIds);
      holds = gates(memory, layer, ids, tokenizer.vocabulary());
    }
    if (!noTraining && checkpoint == null) {
      figures.put("training", new DemoTraining(out, ansi, quick).run(textFile, html));
    }
    if (json) {
      spec.commandLine()
          .getOut()
          .println(new GsonBuilder().setPrettyPrinting().create().toJson(figures));
    }
    return holds ? 0 : EngramCommand.FAILED;
  }

  private int[] tokenize(Tokenizer tokenizer, DemoText text) {
    int[] ids;
    Stopwatch watch;
    try (Progress progress = Progress.start("Tokenizing", text.text().length(), "chars")) {
      List<int[]> pieces = new ArrayList<>();
      watch = Stopwatch.start();
      // Cut at blank lines, so that the bar can move; no token spans one and its next word.
      for (String piece : text.text().split("(?<=\n\n)(?=\\S)", -1)) {
        pieces.add(tokenizer.encode(piece));
        progress.advance(piece.length());
      }
      ids = pieces.stream().flatMapToInt(Arrays::stream).toArray();
      watch.stop();
    }
    if (ids.length == 0) {
      throw new IllegalArgumentException("the text has no tokens");
    }
    figures.put("text", text.origin());
    figures.put("tokens", ids.length);
    figures.put("tokenizeTokensPerSecond", watch.perSecond(ids.length));
    out.printf(
        "tokens     %,d of %,d characters (%s tokens a second)%n",
        ids.length, text.text().length(), rate(watch.perSecond(ids.length)));
    return ids;
  }

  private EngramMemory opened() {
    EngramMemory memory = EngramMemory.open(checkpoint);
    out.println("memory     " + checkpoint + ", read in place");
    return memory;
  }

  private EngramMemory newMemory(Tokenizer tokenizer) {
    TokenMap map = TokenMap.compress(tokenizer.vocabulary());
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(map.size(), map.compressedSize())
            .layers(1)
            .slotsPerHead(quick ? 20_000 : 646_400)
            .rowFormat(RowFormat.BF16)
            .build();
    long rows = HashLayout.derive(config.hashing()).getFirst().rowCount();
    Stopwatch watch = Stopwatch.start();
    EngramMemory memory;
    try (Progress progress = Progress.start("Filling the table", rows, "rows")) {
      memory = EngramMemory.create(config, map, SEED, MemoryOptions.DEFAULT, progress::reached);
    }
    watch.stop();
    long bytes = rows * config.rowFormat().rowBytes(config.headDim());
    out.printf(
        "memory     the paper's shape, layer 1, random: %,d rows of %d values in bfloat16, %s,"
            + " filled in %.1f s%n",
        rows, config.headDim(), Sizes.bytes(bytes), watch.seconds());
    figures.put("tableRows", rows);
    figures.put("tableBytes", bytes);
    figures.put("fillSeconds", watch.seconds());
    return memory;
  }

  private void vocabulary(EngramMemory memory, Vocabulary vocabulary) {
    TokenMap map = memory.tokenMap();
    figures.put("vocabulary", map.size());
    figures.put("compressedVocabulary", map.compressedSize());
    title("1. Vocabulary: spellings that mean the same share an id");
    if (!memory.config().compressed()) {
      out.printf("This variant hashes its %,d raw ids.%n", map.size());
      return;
    }
    out.printf(
        "%,d ids become %,d, %.1f %% fewer. The largest classes:%n%n",
        map.size(), map.compressedSize(), 100 * (1 - (double) map.compressedSize() / map.size()));
    MergeClasses.print(out, map, vocabulary, 5);
  }

  private long[] hash(EngramMemory memory, int layer, int[] ids) {
    int columns = memory.config().hashing().columns();
    long[] rowIds = new long[Math.multiplyExact(ids.length, columns)];
    int[] compressed = new int[ids.length];
    Stopwatch compress =
        Stopwatch.best(() -> memory.tokenMap().map(ids, 0, ids.length, compressed, 0));
    Stopwatch watch =
        Stopwatch.best(() -> memory.rowIds(layer, ids, 0, ids.length, Lookback.start(), rowIds, 0));
    figures.put("compressNanosPerToken", compress.nanosPer(ids.length));
    figures.put("hashNanosPerToken", watch.nanosPer(ids.length));
    title("2. Hashing: each position's n-grams become row ids");
    out.printf(
        "%d orders x %d heads = %d row ids a token; compressing takes %.1f ns a token, with hashing"
            + " %.1f ns.%n%n",
        memory.config().hashing().orders().size(),
        memory.config().hashing().headsPerOrder(),
        columns,
        compress.nanosPer(ids.length),
        watch.nanosPer(ids.length));
    return rowIds;
  }

  private void firstNgrams(
      EngramMemory memory, int layer, int[] ids, long[] rowIds, Vocabulary vocabulary) {
    int columns = memory.config().hashing().columns();
    int heads = memory.config().hashing().headsPerOrder();
    List<Integer> orders = memory.config().hashing().orders();
    for (int p = 0; p < Math.min(6, ids.length); p++) {
      for (int o = 0; o < orders.size(); o++) {
        int order = orders.get(o);
        StringBuilder ngram = new StringBuilder();
        for (int k = order - 1; k >= 0; k--) {
          ngram
              .append('[')
              .append(p < k ? "pad" : Quoted.of(vocabulary.text(ids[p - k])))
              .append(']');
        }
        StringBuilder row = new StringBuilder();
        for (int h = 0; h < Math.min(3, heads); h++) {
          row.append("%,14d".formatted(rowIds[p * columns + o * heads + h]));
        }
        out.printf(
            "  %-10s %-40s %s%s%n",
            o == 0 ? "position " + p : "",
            Quoted.shorten(ngram.toString(), 40),
            row,
            heads > 3 ? "  ... " + heads + " heads" : "");
      }
    }
    out.printf("  layer %d has %,d rows%n", layer, memory.layout(layer).rowCount());
  }

  private void accesses(EngramMemory memory, int tokens, long[] rowIds) {
    title("3. Accesses: how often which rows are wanted");
    int columns = memory.config().hashing().columns();
    int heads = memory.config().hashing().headsPerOrder();
    List<Integer> orders = memory.config().hashing().orders();
    List<Map<String, Object>> byOrder = new ArrayList<>();
    for (int o = 0; o < orders.size(); o++) {
      long[] column = new long[tokens];
      for (int p = 0; p < tokens; p++) {
        column[p] = rowIds[p * columns + o * heads];
      }
      AccessStatistics s = AccessStatistics.of(orders.get(o), column);
      out.printf(
          "  order %d   %,d reads of %,d rows (%.0f %%); the top 100 rows answer %.1f %%; %s%n",
          s.order(),
          s.accesses(),
          s.distinct(),
          100.0 * s.distinct() / s.accesses(),
          100 * s.topShare(),
          Double.isNaN(s.zipfExponent())
              ? "too few for a Zipf exponent"
              : "Zipf exponent %.2f".formatted(s.zipfExponent()));
      out.println("            " + s.curve());
      Map<String, Object> figure = new LinkedHashMap<>();
      figure.put("order", s.order());
      figure.put("reads", s.accesses());
      figure.put("distinct", s.distinct());
      figure.put("top100Share", s.topShare());
      if (!Double.isNaN(s.zipfExponent())) {
        figure.put("zipfExponent", s.zipfExponent());
      }
      byOrder.add(figure);
    }
    out.println("            reads of a row, log scale, over its rank, log scale (first head)");
    figures.put("accesses", byOrder);
  }

  private void rows(EngramMemory memory, int layer, long[] rowIds) {
    title("4. Rows: fetched from the table and widened to float32");
    EngramConfig config = memory.config();
    int perChunk = CHUNK * config.hashing().columns();
    int chunk = Math.min(perChunk, rowIds.length);
    Stopwatch watch;
    try (Arena arena = Arena.ofShared()) {
      MemorySegment values = arena.allocate((long) chunk * config.headDim() * Float.BYTES, 64);
      watch =
          Stopwatch.best(() -> {
            for (int at = 0; at < rowIds.length; at += chunk) {
              memory
                  .table(layer)
                  .gather(rowIds, at, Math.min(chunk, rowIds.length - at), values, 0, Dtype.F32);
            }
          });
    }
    double rowsPerSecond = watch.perSecond(rowIds.length);
    figures.put("rowsPerSecond", rowsPerSecond);
    out.printf(
        "%,d rows in chunks of %d tokens, one thread: %s rows a second, %.0f ns a row, %s/s out of"
            + " the table%n",
        rowIds.length,
        CHUNK,
        rate(rowsPerSecond),
        1e9 / rowsPerSecond,
        Sizes.bytes((long) (rowsPerSecond * config.rowFormat().rowBytes(config.headDim()))));
  }

  private boolean gates(EngramMemory memory, int layer, int[] ids, Vocabulary vocabulary)
      throws IOException {
    EngramConfig config = memory.config();
    int tokens = Math.min(CHUNK, ids.length);
    int channels = config.gate().streams() * config.gate().width();
    title("5. Gate: how much of it does the context want?");
    float[] hidden = backbone(ids, tokens, channels);
    float[] rows = memory.lookup(layer, Arrays.copyOf(ids, tokens));
    if (checkpoint == null) {
      memory.weights(layer).conv().ifPresent(conv -> wake(conv.data()));
    }
    GateKernel kernel = GateKernel.load(memory, layer);
    float[] output = new float[tokens * channels];
    float[] gates = new float[tokens * config.gate().streams()];
    GateCall whole =
        GateCall.of(1, tokens, rows, hidden, output).withGates(MemorySegment.ofArray(gates));
    Stopwatch watch = Stopwatch.best(() -> kernel.forward(whole));
    double millis = watch.nanosPer(tokens) / 1e6;
    figures.put("layerMillisPerToken", millis);
    out.printf(
        "%d tokens, %d streams of %,d: %.3f ms a token for projection, gate%s%n",
        tokens,
        config.gate().streams(),
        config.gate().width(),
        millis,
        config.conv().isPresent() ? " and convolution" : "");
    out.println(
        checkpoint == null
            ? "Table, projection and hidden state are random here, so the gates scatter around 0.5;"
                + " what they look like after training is another story."
            : "The hidden state is random here: only a backbone makes the gates speak.");
    String[] texts = new String[tokens];
    int pending = 0;
    for (int t = 0; t < tokens; t++) {
      // A character cut into several tokens is shown with the last of them.
      String text = vocabulary.decode(Arrays.copyOfRange(ids, t - pending, t + 1));
      boolean partial =
          text.indexOf('\uFFFD') >= 0 && pending < LONGEST_CHARACTER && t + 1 < tokens;
      texts[t] = partial ? "" : text;
      pending = partial ? pending + 1 : 0;
    }
    HeatMap map = new HeatMap(texts, gates);
    figures.put("gateLow", map.low());
    figures.put("gateHigh", map.high());
    out.printf(
        "Mean gate of each token, from %.2f (cold) to %.2f (hot):%n%n", map.low(), map.high());
    out.print(map.terminal(SHOWN_TOKENS, LINE, ansi.enabled()));
    Files.writeString(
        html,
        map.html(
            "Gates over a text",
            "Layer %d, %d tokens. %s"
                .formatted(
                    layer,
                    tokens,
                    checkpoint == null
                        ? "Untrained: table, projection and hidden state are random."
                        : "Checkpoint " + checkpoint + ", random hidden state.")));
    out.println("\nAll " + tokens + " tokens as a page: " + html);
    figures.put("html", html.toString());
    return decode(memory, layer, kernel, ids, tokens, hidden, rows, output);
  }

  private boolean decode(
      EngramMemory memory,
      int layer,
      GateKernel kernel,
      int[] ids,
      int tokens,
      float[] hidden,
      float[] rows,
      float[] expected) {
    title("6. Decoding: one token at a time must give the same");
    EngramConfig config = memory.config();
    int columns = config.hashing().columns();
    int channels = config.gate().streams() * config.gate().width();
    long[] whole = memory.rowIds(layer, Arrays.copyOf(ids, tokens));
    long[] one = new long[columns];
    float[] output = new float[channels];
    float[] stepRows = new float[config.rowWidth()];
    List<ConvState> states =
        config.conv().map(c -> List.of(ConvState.start(config.gate(), c, 0))).orElse(List.of());
    Lookback past = Lookback.start();
    boolean sameIds = true;
    boolean sameRows = true;
    boolean sameOutputs = true;
    Stopwatch watch = Stopwatch.start();
    try (Progress progress = Progress.start("Decoding", tokens, "tokens")) {
      for (int t = 0; t < tokens; t++) {
        memory.rowIds(layer, ids, t, 1, past, one, 0);
        memory.table(layer).gather(one, 0, columns, stepRows, 0);
        GateCall step =
            GateCall.of(
                1,
                1,
                stepRows,
                Arrays.copyOfRange(hidden, t * channels, (t + 1) * channels),
                output);
        kernel.forward(states.isEmpty() ? step : step.withStates(states));
        past = past.advance(ids[t]);
        sameIds &= Arrays.equals(one, 0, columns, whole, t * columns, (t + 1) * columns);
        sameRows &=
            Arrays.equals(
                stepRows, 0, stepRows.length, rows, t * stepRows.length, (t + 1) * stepRows.length);
        sameOutputs &=
            Arrays.equals(output, 0, channels, expected, t * channels, (t + 1) * channels);
        progress.advance(1);
      }
    }
    watch.stop();
    figures.put("decodeMillisPerToken", watch.nanosPer(tokens) / 1e6);
    figures.put("decodeRowIdsEqual", sameIds);
    figures.put("decodeRowsEqual", sameRows);
    figures.put("decodeOutputsEqual", sameOutputs);
    verdict(tokens + " tokens: row ids", sameIds);
    verdict(tokens + " tokens: rows", sameRows);
    verdict(tokens + " tokens: outputs, bit for bit", sameOutputs);
    out.printf("%.3f ms a token%n", watch.nanosPer(tokens) / 1e6);
    return sameIds && sameRows && sameOutputs;
  }

  /** A random vector for each token id, the same wherever it occurs, and a little noise. */
  private static float[] backbone(int[] ids, int tokens, int channels) {
    float[] hidden = new float[tokens * channels];
    RandomGenerator noise = random(SEED);
    for (int t = 0; t < tokens; t++) {
      RandomGenerator token = random(SEED + 1 + ids[t]);
      for (int c = 0; c < channels; c++) {
        hidden[t * channels + c] = (float) (token.nextFloat(-1, 1) + 0.3 * noise.nextFloat(-1, 1));
      }
    }
    return hidden;
  }

  /** A new convolution is zero, which would prove nothing about the state that it carries. */
  private static void wake(MemorySegment conv) {
    RandomGenerator random = random(SEED - 1);
    for (long at = 0; at < conv.byteSize(); at += Float.BYTES) {
      conv.set(ValueLayout.JAVA_FLOAT, at, random.nextFloat(-0.5f, 0.5f));
    }
  }

  private static RandomGenerator random(long seed) {
    return RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
  }

  private void verdict(String what, boolean holds) {
    out.println(
        ansi.string(holds ? "@|green same     |@" : "@|bold,red DIFFERENT|@") + "  " + what);
  }

  private void title(String text) {
    out.println();
    out.println(ansi.string("@|bold " + text + "|@"));
    out.println();
  }

  private static String rate(double perSecond) {
    return perSecond >= 1e6
        ? "%.1f million".formatted(perSecond / 1e6)
        : "%,.0f".formatted(perSecond);
  }
}
