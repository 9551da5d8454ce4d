// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.cache.CachedRowStore;
import io.engram.cache.ShadowCache;
import io.engram.cache.ShadowStatistics;
import io.engram.hash.HashLayout;
import io.engram.hash.Lookback;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import io.engram.store.RowStore;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;

/** {@code engram cache}: would a cache of hot rows help with this text? */
@Command(
    name = "cache",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Tells which hit rate caches of several sizes would have on a text, by n-gram order. Row ids"
            + " are enough for that: no table is needed.")
final class CacheCommand implements Callable<Integer> {
  private static final String TOKENIZER = "cl100k_base";
  private static final int SAMPLED_SETS = 1 << 14;
  private static final int BAR = 40;

  /** Caches are counted in powers of two: 64m is 64 MiB, 64MB what it says. */
  static final class Bytes implements ITypeConverter<Long> {
    @Override
    public Long convert(String value) {
      try {
        String unit = value.matches("\\d+") ? "B" : value.matches("(?i)\\d+[kmg]") ? "iB" : "";
        return Sizes.parse(value + unit);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  @Option(
      names = "--text",
      paramLabel = "FILE",
      description = "The text; by default documentation from the sources of the running JDK.")
  private Path textFile;

  @Option(
      names = "--preset",
      paramLabel = "VARIANT",
      description =
          "Whose layout to hash for, without tables, with the tokenizer cl100k_base:"
              + " ${COMPLETION-CANDIDATES} (default: paper).")
  private Preset preset;

  @Option(
      names = "--checkpoint",
      paramLabel = "DIR",
      description = "A checkpoint with its own tokenizer, instead of a preset.")
  private Path checkpoint;

  @Option(
      names = "--layer",
      paramLabel = "L",
      description = "A layer with a memory; by default the first.")
  private Integer layer;

  @Option(
      names = "--prompt",
      paramLabel = "TOKENS",
      description =
          "Models an agent: so many tokens at the start of the text are its prompt, which is read"
              + " again before each turn. By default the text is read once, from end to end.")
  private int prompt;

  @Option(
      names = "--turn",
      paramLabel = "TOKENS",
      defaultValue = "200",
      description = "New tokens of each of the agent's turns (default: ${DEFAULT-VALUE}).")
  private int turn;

  @Option(
      names = "--batch",
      paramLabel = "TOKENS",
      defaultValue = "512",
      description =
          "Tokens whose rows are read together (default: ${DEFAULT-VALUE}); 1 is decoding. A row"
              + " wanted twice by one read is no hit.")
  private int batch;

  @Option(
      names = "--sizes",
      paramLabel = "BYTES",
      split = ",",
      converter = Bytes.class,
      defaultValue = "16m,64m,256m,1g,4g,16g",
      description = "Sizes of the caches, such as 64m or 4g (default: ${DEFAULT-VALUE}).")
  private List<Long> sizes;

  @Option(
      names = "--measure",
      paramLabel = "BYTES",
      converter = Bytes.class,
      description =
          "Also reads the rows from the checkpoint, as it is and with a cache of this size, and"
              + " tells what a row costs.")
  private Long measure;

  @Option(names = "--json", description = "Prints the figures as JSON and nothing else.")
  private boolean json;

  @Spec private CommandSpec spec;

  private final Map<String, Object> figures = new LinkedHashMap<>();
  private PrintWriter out;

  /** Token ids to row ids of one layer. */
  private interface Hashing {
    void rowIds(int[] ids, int from, int count, Lookback past, long[] out);
  }

  /** Takes the row ids of one read. */
  private interface Reader {
    void read(long[] rowIds, int count);
  }

  @Override
  public Integer call() throws IOException {
    check();
    out = json ? new PrintWriter(PrintWriter.nullWriter()) : spec.commandLine().getOut();
    DemoText text = textFile != null ? DemoText.of(textFile) : DemoText.ofJdk(1_500_000);
    Tokenizer tokenizer =
        TokenizerSource.tokenizer(
            checkpoint == null ? TOKENIZER : TokenizerSource.ofCheckpoint(checkpoint).toString());
    int[] ids = tokenizer.encode(text.text());
    if (ids.length <= prompt) {
      throw new IllegalArgumentException(
          "the text has " + ids.length + " tokens, expected more than the prompt's " + prompt);
    }
    figures.put("text", text.origin());
    figures.put("tokens", ids.length);
    out.printf("text     %s, %,d tokens%n", text.origin(), ids.length);
    if (checkpoint == null) {
      ofPreset(tokenizer, ids);
    } else {
      ofCheckpoint(ids);
    }
    if (json) {
      spec.commandLine()
          .getOut()
          .println(new GsonBuilder().setPrettyPrinting().create().toJson(figures));
    }
    return 0;
  }

  private void check() {
    String wrong = null;
    if (checkpoint != null && preset != null) {
      wrong = "--checkpoint and --preset exclude each other";
    } else if (measure != null && checkpoint == null) {
      wrong = "--measure needs a --checkpoint to read from";
    } else if (prompt < 0 || turn < 1 || batch < 1) {
      wrong = "--prompt must be at least 0, --turn and --batch at least 1";
    }
    if (wrong != null) {
      throw new ParameterException(spec.commandLine(), wrong);
    }
  }

  private void ofPreset(Tokenizer tokenizer, int[] ids) {
    Preset variant = Objects.requireNonNullElse(preset, Preset.PAPER);
    EngramConfig published = variant.config().build();
    TokenMap map =
        published.compressed()
            ? TokenMap.compress(tokenizer.vocabulary())
            : TokenMap.identity(published.vocabularySize());
    EngramConfig config =
        published.compressed()
            ? variant.config().vocabulary(map.size(), map.compressedSize()).build()
            : published;
    HashLayout layout =
        HashLayout.derive(config.hashing())
            .get(layer == null ? 0 : index(config.layerIds(), layer));
    WindowRule window =
        new WindowRule(
            map.get(config.fillTokenId()),
            config.boundaryTokenId() == WindowRule.NO_BOUNDARY
                ? WindowRule.NO_BOUNDARY
                : map.get(config.boundaryTokenId()),
            config.dead());
    NgramHasher hasher = new NgramHasher(layout, window);
    int[] hashed = map.map(ids);
    shadow(
        config,
        layout,
        hashed,
        (tokens, from, count, past, rowIds) -> hasher.hash(tokens, from, count, past, rowIds, 0));
  }

  private static int index(List<Integer> layers, int wanted) {
    int index = layers.indexOf(wanted);
    if (index < 0) {
      throw new IllegalArgumentException(
          "layer " + wanted + " has no memory; layers " + layers + " have one");
    }
    return index;
  }

  private void ofCheckpoint(int[] ids) {
    try (EngramMemory memory = EngramMemory.open(checkpoint)) {
      int l = layer == null ? memory.config().layerIds().getFirst() : layer;
      Hashing hashing =
          (tokens, from, count, past, rowIds) ->
              memory.rowIds(l, tokens, from, count, past, rowIds, 0);
      shadow(memory.config(), memory.layout(l), ids, hashing);
      if (measure != null) {
        measure(memory.table(l).store(), memory.layout(l), ids, hashing);
      }
    }
  }

  /** All reads of the text, or of the agent's turns, each of which is a sequence of its own. */
  private void stream(int[] ids, int columns, Hashing hashing, Progress progress, Reader reader) {
    long[] rowIds = new long[Math.multiplyExact(Math.min(batch, ids.length), columns)];
    int step = prompt == 0 ? ids.length : turn;
    for (int at = prompt; at < ids.length; at += step) {
      int end = Math.min(ids.length, at + step);
      int[] sequence = Arrays.copyOf(ids, prompt + end - at);
      System.arraycopy(ids, at, sequence, prompt, end - at);
      Lookback past = Lookback.start();
      for (int from = 0; from < sequence.length; from += batch) {
        int count = Math.min(batch, sequence.length - from);
        hashing.rowIds(sequence, from, count, past, rowIds);
        reader.read(rowIds, count * columns);
        past = past.advance(Arrays.copyOfRange(sequence, from, from + count));
        progress.advance(count);
      }
    }
  }

  private long tokensToRead(int[] ids) {
    long fresh = ids.length - (long) prompt;
    return prompt == 0 ? fresh : fresh + Math.ceilDiv(fresh, turn) * prompt;
  }

  private void shadow(EngramConfig config, HashLayout layout, int[] ids, Hashing hashing) {
    int rowBytes = config.rowFormat().rowBytes(config.headDim());
    int columns = config.hashing().columns();
    ShadowCache shadow = ShadowCache.of(layout, rowBytes, sizes, SAMPLED_SETS);
    long tokens = tokensToRead(ids);
    out.printf(
        "table    layer %d: %,d rows of %d bytes, %s%n",
        layout.layerId(), layout.rowCount(), rowBytes, Sizes.bytes(layout.rowCount() * rowBytes));
    out.printf(
        "stream   %s, %,d tokens in reads of %,d, %,d rows%n%n",
        prompt == 0
            ? "the text once"
            : "%,d turns: a prompt of %,d tokens and %,d new ones"
                .formatted(Math.ceilDiv(ids.length - prompt, turn), prompt, turn),
        tokens,
        batch,
        tokens * columns);
    try (Progress progress = Progress.start("Watching", tokens, "tokens")) {
      stream(ids, columns, hashing, progress, (rows, count) -> shadow.observe(rows, 0, count));
    }
    print(shadow.statistics());
    figures.put("layer", layout.layerId());
    figures.put("tableRows", layout.rowCount());
    figures.put("rowBytes", rowBytes);
    figures.put("promptTokens", prompt);
    figures.put("turnTokens", prompt == 0 ? 0 : turn);
    figures.put("batchTokens", batch);
    figures.put("caches", shadow.statistics().caches());
  }

  private void print(ShadowStatistics statistics) {
    StringBuilder header = new StringBuilder("%10s%14s".formatted("cache", "rows held"));
    statistics
        .caches()
        .getFirst()
        .orders()
        .forEach(o -> header.append("%10s".formatted("order " + o.order())));
    out.println(header.append("%10s".formatted("all")));
    double error = 0;
    double best = 0;
    for (ShadowStatistics.Cache cache : statistics.caches()) {
      StringBuilder line =
          new StringBuilder("%10s%,14d".formatted(name(cache.bytes()), cache.residentRows()));
      for (ShadowStatistics.Order order : cache.orders()) {
        line.append("%9.1f%%".formatted(100 * order.hitRate()));
        error = Math.max(error, order.standardError());
      }
      double all = cache.total().hitRate();
      best = Math.max(best, all);
      int full = (int) Math.round(all * BAR);
      out.println(
          line.append("%9.1f%%  ".formatted(100 * all))
              .append("█".repeat(full))
              .append("░".repeat(BAR - full)));
    }
    out.printf(
        "%nShare of the rows asked for that a cache of each size would have had%s.%n",
        error < 0.0005
            ? ""
            : ", from a sample of its sets: standard error up to %.1f points"
                .formatted(100 * error));
    ShadowStatistics.Cache largest = statistics.caches().getLast();
    out.printf(
        "Wanted twice by one read: %.1f %%. All rows held by the largest take %s.%n",
        100 * largest.total().repeatRate(), Sizes.bytes(largest.residentBytes()));
    out.printf(
        "At best %.1f %% of the reads below are saved, which pays only where such a read is slower"
            + " than a look into the cache: see docs/cache.md.%n",
        100 * best);
  }

  private static String name(long bytes) {
    int shift = bytes % (1L << 30) == 0 ? 30 : bytes % (1L << 20) == 0 ? 20 : 0;
    return shift == 0 ? Sizes.bytes(bytes) : (bytes >> shift) + (shift == 30 ? " GiB" : " MiB");
  }

  /** What a row costs without and with a cache, on the machine as it is now. */
  private void measure(RowStore store, HashLayout layout, int[] ids, Hashing hashing) {
    int columns = layout.columns();
    List<long[]> reads = new ArrayList<>();
    try (Progress none = Progress.start("Hashing", 0, "")) {
      stream(ids, columns, hashing, none, (rows, count) -> reads.add(Arrays.copyOf(rows, count)));
    }
    long rows = reads.stream().mapToLong(r -> r.length).sum();
    try (Arena arena = Arena.ofConfined();
        CachedRowStore cache = CachedRowStore.of(store, layout, measure)) {
      int most = reads.stream().mapToInt(r -> r.length).max().orElseThrow();
      MemorySegment buffer = arena.allocate((long) most * store.rowBytes(), 64);
      // Files and code are warm after the first time.
      nanos(store, reads, buffer);
      double asItIs = nanos(store, reads, buffer) / rows;
      double first = nanos(cache, reads, buffer) / rows;
      double hitRate = cache.statistics().total().hitRate();
      double again = nanos(cache, reads, buffer) / rows;
      out.printf(
          "%nA row as the checkpoint is: %.0f ns. With a cache of %s: %.0f ns from an empty one (hit"
              + " rate %.1f %%), %.0f ns the second time.%n",
          asItIs, name(measure), first, 100 * hitRate, again);
      out.println(cache.statistics());
      figures.put("nanosPerRow", asItIs);
      figures.put("nanosPerRowCached", first);
      figures.put("nanosPerRowCachedAgain", again);
      figures.put("measuredHitRate", hitRate);
    }
  }

  private static double nanos(RowStore store, List<long[]> reads, MemorySegment buffer) {
    Stopwatch watch = Stopwatch.start();
    for (long[] ids : reads) {
      store.read(ids, 0, ids.length, buffer, 0);
    }
    watch.stop();
    return watch.nanosPer(1);
  }
}
