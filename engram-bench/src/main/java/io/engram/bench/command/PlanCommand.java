// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramConfig;
import io.engram.checkpoint.Checkpoint;
import io.engram.plan.CapacityPlan;
import io.engram.plan.DiskSpeed;
import io.engram.plan.Origin;
import io.engram.plan.Reading;
import io.engram.plan.Reuse;
import io.engram.plan.RowRun;
import io.engram.plan.TableShape;
import io.engram.plan.Timing;
import io.engram.plan.Workload;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram plan}: what a memory will cost, before there is one. */
@Command(
    name = "plan",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Predicts what a memory costs while a model runs: bytes and reads of a token, time of"
            + " decoding and of a prompt with and without prefetch, the disk that this needs, and"
            + " the memory of each tier. Says of every input whether it was measured, given or"
            + " assumed; docs/planning.md states the model.")
final class PlanCommand implements Callable<Integer> {
  private static final int BAR_WIDTH = 40;
  private static final double[] TARGETS = {0.01, 0.03};
  private static final double REDIS_BYTES_PER_ROW_BYTE = 1.01;

  /** Typical drives, for those who ask which to buy. */
  enum Drive {
    NVME,
    SATA,
    NETWORK,
    ROTATING;

    DiskSpeed speed() {
      return switch (this) {
        case NVME -> DiskSpeed.assumedNvme();
        case SATA -> DiskSpeed.assumedSata();
        case NETWORK -> DiskSpeed.assumedNetwork();
        case ROTATING -> DiskSpeed.assumedRotating();
      };
    }
  }

  @ArgGroup(heading = "%nWhose tables:%n")
  private Source source = new Source();

  private static final class Source {
    @Option(
        names = "--checkpoint",
        paramLabel = "DIR",
        description = "A checkpoint directory; reads configuration and headers only.")
    private Path checkpoint;

    @ArgGroup(exclusive = false)
    private Descriptor descriptor;
  }

  private static final class Descriptor {
    @Option(
        names = "--preset",
        paramLabel = "NAME",
        description = "v41 (the default), paper or qwen.")
    private Preset preset = Preset.V41;

    @Option(
        names = "--slots",
        paramLabel = "N",
        description = "Slots of a head, instead of the preset's.")
    private Long slots;

    @Option(
        names = "--head-dim",
        paramLabel = "N",
        description = "Values of a row, instead of the preset's.")
    private Integer headDim;

    @Option(
        names = "--row-format",
        paramLabel = "F",
        description = "f32, bf16, f16, fp8_block32 or fp8_tensor, instead of the preset's.")
    private RowFormat rowFormat;

    @Option(
        names = {"--layers", "--layer"},
        split = ",",
        paramLabel = "L",
        description = "Layers with a memory, instead of the preset's, counted as it counts.")
    private Integer[] layers;
  }

  @ArgGroup(exclusive = false, heading = "%nWhat the model does:%n")
  private Work work = new Work();

  private static final class Work {
    @Option(
        names = "--rate",
        paramLabel = "N",
        description = "Tokens per second of one sequence without Engram's reads (assumed: 30).")
    private Double rate;

    @Option(
        names = "--batch",
        paramLabel = "N",
        description = "Sequences that decode together (assumed: 1).")
    private Integer batch;

    @Option(
        names = "--prompt",
        paramLabel = "TOKENS",
        description = "Length of a prompt (assumed: 48000).")
    private Integer prompt;

    @Option(
        names = "--prefill-rate",
        paramLabel = "N",
        description =
            "Tokens per second of a prompt without Engram's reads (assumed: 100 times the rate).")
    private Double prefillRate;

    @Option(
        names = "--chunk",
        paramLabel = "TOKENS",
        description = "Tokens of a prompt that are computed together (assumed: 512).")
    private Integer chunk;

    @Option(
        names = "--backbone-layers",
        paramLabel = "N",
        description = "Layers of the model, instead of the preset's or the checkpoint's.")
    private Integer backboneLayers;
  }

  @ArgGroup(heading = "%nOn which disk:%n")
  private Disk disk = new Disk();

  private static final class Disk {
    @ArgGroup(exclusive = false)
    private Probe probe;

    @ArgGroup(exclusive = false)
    private Stated stated;

    @Option(
        names = "--drive",
        paramLabel = "KIND",
        description = "A typical nvme (assumed by default), sata, network or rotating drive.")
    private Drive drive;
  }

  private static final class Probe {
    @Option(
        names = "--disk",
        required = true,
        paramLabel = "PATH",
        description =
            "Measures the disk: a file with data of 64 MiB or more, which is only read; or a"
                + " directory, in which a temporary file is written, read and deleted.")
    private Path path;

    @Option(
        names = "--depth",
        paramLabel = "N",
        description = "Reads outstanding (default: ${DEFAULT-VALUE}).")
    private int depth = 32;

    @Option(
        names = "--probe-size",
        paramLabel = "SIZE",
        description = "Size of the temporary file (default: ${DEFAULT-VALUE}).")
    private String size = "1GiB";

    @Option(
        names = "--probe-seconds",
        paramLabel = "S",
        description = "Time to read (default: ${DEFAULT-VALUE}).")
    private double seconds = 3;
  }

  private static final class Stated {
    @Option(
        names = "--iops",
        required = true,
        paramLabel = "N",
        description = "Random reads of 4 KiB per second with many outstanding.")
    private double iops;

    @Option(
        names = "--latency-us",
        required = true,
        paramLabel = "N",
        description = "Microseconds of one such read alone.")
    private double latencyMicros;

    @Option(
        names = "--sequential",
        paramLabel = "SIZE",
        description = "Bytes a second in order (assumed: 4 KiB times --iops).")
    private String sequential;
  }

  @ArgGroup(exclusive = false, heading = "%nWhat need not be read:%n")
  private Savings savings = new Savings();

  private static final class Savings {
    @Option(
        names = "--text",
        paramLabel = "FILE",
        description = "A text like the prompts: how many rows of a chunk differ is measured on it.")
    private Path text;

    @Option(
        names = "--tokenizer",
        paramLabel = "FILE",
        description =
            "For --text: a tokenizer.json or an embedded encoding (default: the checkpoint's, or"
                + " cl100k_base).")
    private String tokenizer;

    @Option(
        names = "--cache-hit",
        paramLabel = "SHARE",
        description = "Share of rows that a cache answers, 0 to less than 1 (assumed: 0).")
    private Double hit;
  }

  @ArgGroup(exclusive = false, heading = "%nIn which memory:%n")
  private Space space = new Space();

  private static final class Space {
    @Option(
        names = "--memory",
        paramLabel = "SIZE",
        description = "Memory of the machine, such as 24GB (default: this one's).")
    private String memory;

    @Option(
        names = "--cache",
        paramLabel = "SIZE",
        description = "Memory for a cache of rows (default: none).")
    private String cache;

    @Option(
        names = "--redis-row-bytes",
        paramLabel = "N",
        description =
            "Memory that Redis takes for a row (assumed: 1.01 times its bytes, after 265 measured"
                + " for 264).")
    private Double redisRowBytes;

    @Option(
        names = "--replicas",
        paramLabel = "N",
        description = "Copies that Redis keeps beside the first (assumed: 1).")
    private Integer replicas;
  }

  @Option(names = "--json", description = "Prints everything as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  private final List<Input> inputs = new ArrayList<>();
  private PrintWriter out;

  /** A number that the plan starts from, for people. */
  private record Input(String name, String value, Origin origin, String from) {}

  /** Tables, and the model that they belong to. */
  private record Model(
      String title, EngramConfig config, List<TableShape> tables, Integer backboneLayers) {}

  @Override
  public Integer call() throws IOException {
    out = spec.commandLine().getOut();
    Model model = source.checkpoint == null ? ofPreset() : ofCheckpoint();
    Workload workload = workload(model);
    DiskSpeed speed = disk();
    Reuse reuse = reuse(model, workload.chunkTokens());
    Map<String, CapacityPlan> plans = new LinkedHashMap<>();
    CapacityPlan inPlace = new CapacityPlan(model.tables(), workload, speed, reuse);
    boolean apart = model.tables().stream().anyMatch(t -> t.scales().isPresent());
    // Where rows are whole already, packing changes nothing that is read.
    if (apart) {
      plans.put("in place", inPlace);
      plans.put("packed", inPlace.packed());
    } else {
      plans.put("as stored", inPlace);
    }
    Tiers tiers = tiers(plans);
    if (json) {
      Gson gson =
          new GsonBuilder().setPrettyPrinting().serializeSpecialFloatingPointValues().create();
      out.println(gson.toJson(asJson(model, plans, tiers)));
    } else {
      print(model, plans, tiers);
    }
    return 0;
  }

  private Descriptor descriptor() {
    return source.descriptor == null ? new Descriptor() : source.descriptor;
  }

  private Model ofPreset() {
    Descriptor descriptor = descriptor();
    Preset preset = descriptor.preset;
    EngramConfig.Builder builder = preset.config();
    if (descriptor.slots != null) {
      builder.slotsPerHead(descriptor.slots);
    }
    if (descriptor.headDim != null) {
      builder.headDim(descriptor.headDim);
    }
    if (descriptor.rowFormat != null) {
      builder.rowFormat(descriptor.rowFormat);
    }
    if (descriptor.layers != null) {
      builder.layers(descriptor.layers);
    }
    EngramConfig config = builder.build();
    boolean changed =
        descriptor.slots != null
            || descriptor.headDim != null
            || descriptor.rowFormat != null
            || descriptor.layers != null;
    return new Model(
        "the shape of " + preset.title() + (changed ? ", changed" : ""),
        config,
        TableShape.inPlace(config, preset::layersBefore),
        preset.backboneLayers());
  }

  private Model ofCheckpoint() throws IOException {
    try (Checkpoint checkpoint = Checkpoint.open(source.checkpoint)) {
      List<TableShape> tables =
          TableShape.inPlace(checkpoint.config(), checkpoint::layersBefore).stream()
              .map(table -> table.at(checkpoint.rowParts(table.layer()).getFirst()))
              .toList();
      return new Model(
          source.checkpoint.toString(),
          checkpoint.config(),
          tables,
          statedBackbone(source.checkpoint.resolve("config.json")));
    }
  }

  /** The key is everybody's; nothing else of a backbone matters to this project. */
  private static Integer statedBackbone(Path file) throws IOException {
    JsonObject root = JsonParser.parseString(Files.readString(file)).getAsJsonObject();
    JsonObject text = root.has("text_config") ? root.getAsJsonObject("text_config") : root;
    JsonElement layers = text.get("num_hidden_layers");
    return layers == null || !layers.isJsonPrimitive() ? null : (Integer) layers.getAsInt();
  }

  private Workload workload(Model model) {
    Integer layers = work.backboneLayers == null ? model.backboneLayers() : work.backboneLayers;
    if (layers == null) {
      throw new ParameterException(
          spec.commandLine(),
          model.title() + " does not state its number of layers: add --backbone-layers");
    }
    double rate = work.rate == null ? 30 : work.rate;
    int batch = work.batch == null ? 1 : work.batch;
    int prompt = work.prompt == null ? 48_000 : work.prompt;
    double prefillRate = work.prefillRate == null ? 100 * rate : work.prefillRate;
    int chunk = work.chunk == null ? 512 : work.chunk;
    Workload workload = new Workload(layers, 1 / rate, batch, prompt, prefillRate, chunk);
    input(
        "backbone",
        "%d layers; memory before the layers %s, counted from 0"
            .formatted(layers, model.tables().stream().map(TableShape::layersBefore).toList()),
        work.backboneLayers == null && source.checkpoint == null
            ? descriptor().preset.title()
            : source.checkpoint != null && work.backboneLayers == null
                ? "config.json"
                : "--backbone-layers",
        Origin.GIVEN);
    input(
        "decoding",
        "%s tokens a second of a sequence: a step of %s".formatted(number(rate), time(1 / rate)),
        "--rate",
        given(work.rate));
    input(
        "batch",
        "%,d sequence%s a step".formatted(batch, batch == 1 ? "" : "s"),
        "--batch",
        given(work.batch));
    input("prompt", "%,d tokens".formatted(prompt), "--prompt", given(work.prompt));
    input(
        "prefill",
        "%s tokens a second".formatted(number(prefillRate)),
        "--prefill-rate",
        given(work.prefillRate));
    input("chunk", "%,d tokens of a prompt".formatted(chunk), "--chunk", given(work.chunk));
    return workload;
  }

  private DiskSpeed disk() throws IOException {
    DiskSpeed speed;
    String from;
    if (disk.probe != null) {
      DiskProbe probe =
          DiskProbe.measure(
              disk.probe.path, Sizes.parse(disk.probe.size), disk.probe.depth, disk.probe.seconds);
      speed = probe.speed();
      DiskProbe.Round first = probe.rounds().getFirst();
      from =
          "%s, %s%s, past the page cache; medians of %d rounds (%s)"
              .formatted(
                  Files.isDirectory(disk.probe.path)
                      ? "a temporary file in " + disk.probe.path
                      : probe.file(),
                  Sizes.bytes(probe.bytes()),
                  Files.isDirectory(disk.probe.path) ? ", written for this and deleted" : "",
                  probe.rounds().size(),
                  spread(probe, first));
    } else if (disk.stated != null) {
      double sequential =
          disk.stated.sequential == null
              ? disk.stated.iops * RowRun.PAGE
              : Sizes.parse(disk.stated.sequential);
      speed =
          new DiskSpeed(
              disk.stated.latencyMicros / 1e6, 32, disk.stated.iops, sequential, Origin.GIVEN);
      from =
          "--iops, --latency-us"
              + (disk.stated.sequential == null ? "; bytes a second assumed" : ", --sequential");
    } else {
      Drive drive = disk.drive == null ? Drive.NVME : disk.drive;
      speed = drive.speed();
      from = "a typical " + name(drive) + " drive (--drive); --disk measures yours";
    }
    input(
        "disk",
        "%s a read alone; %s reads a second with %d outstanding; %s/s in order"
            .formatted(
                time(speed.latencySeconds()),
                number(speed.readsPerSecond()),
                speed.depth(),
                Sizes.bytes((long) speed.sequentialBytesPerSecond())),
        from,
        speed.origin());
    return speed;
  }

  private static String spread(DiskProbe probe, DiskProbe.Round first) {
    double low = first.readsPerSecond();
    double high = low;
    for (DiskProbe.Round round : probe.rounds()) {
      low = Math.min(low, round.readsPerSecond());
      high = Math.max(high, round.readsPerSecond());
    }
    return number(low) + " to " + number(high) + " reads a second";
  }

  private Reuse reuse(Model model, int chunk) throws IOException {
    double hit = savings.hit == null ? 0 : savings.hit;
    Reuse reuse;
    if (savings.text == null) {
      reuse = new Reuse(1, Origin.ASSUMED, hit, given(savings.hit));
      input(
          "different rows",
          "100 % of a chunk's, the worst case",
          "--text measures it",
          Origin.ASSUMED);
    } else {
      DistinctText measured = distinct(model, chunk);
      reuse = new Reuse(measured.share(), Origin.MEASURED, hit, given(savings.hit));
      input(
          "different rows",
          "%.1f %% of a chunk's".formatted(100 * measured.share()),
          measured.from(),
          Origin.MEASURED);
    }
    input("cached rows", "%.1f %%".formatted(100 * hit), "--cache-hit", given(savings.hit));
    return reuse;
  }

  private record DistinctText(double share, String from) {}

  private DistinctText distinct(Model model, int chunk) throws IOException {
    String name = savings.tokenizer;
    if (name == null && source.checkpoint != null) {
      name = TokenizerSource.ofCheckpoint(source.checkpoint).toString();
    } else if (name == null) {
      name = "cl100k_base";
    }
    Tokenizer tokenizer = TokenizerSource.tokenizer(name);
    int[] ids = tokenizer.encode(DemoText.of(savings.text).text());
    if (ids.length == 0) {
      throw new IllegalArgumentException(savings.text + " has no tokens");
    }
    EngramConfig config = model.config();
    TokenMap map;
    if (source.checkpoint != null && savings.tokenizer == null) {
      try (Checkpoint checkpoint = Checkpoint.open(source.checkpoint)) {
        map = checkpoint.tokenMap();
      }
    } else if (config.compressed()) {
      // Another vocabulary than the model's: n-grams repeat much the same in any.
      map = TokenMap.compress(tokenizer.vocabulary());
      config = DistinctRows.withVocabulary(config, map);
    } else {
      map = TokenMap.identity(tokenizer.vocabulary().size());
      config = DistinctRows.withVocabulary(config, map);
    }
    return new DistinctText(
        DistinctRows.share(config, map, ids, chunk),
        "%s, %,d tokens by %s".formatted(savings.text, ids.length, name));
  }

  /** Bytes of memory that each way to keep the tables takes. */
  private record Tiers(
      long machine,
      long tables,
      long staging,
      long leastPageCache,
      long readBuffers,
      double loadSeconds,
      long cache,
      long cachedRows,
      long rows,
      double redisRowBytes,
      int replicas,
      long redis) {}

  private Tiers tiers(Map<String, CapacityPlan> plans) {
    CapacityPlan worst = plans.values().iterator().next();
    CapacityPlan best = plans.values().stream().reduce((_, b) -> b).orElseThrow();
    long rows = worst.tables().stream().mapToLong(TableShape::rows).sum();
    int rowBytes = worst.tables().getFirst().rowBytes();
    double redisRow =
        space.redisRowBytes == null ? REDIS_BYTES_PER_ROW_BYTE * rowBytes : space.redisRowBytes;
    int replicas = space.replicas == null ? 1 : space.replicas;
    long cache = space.cache == null ? 0 : Sizes.parse(space.cache);
    long machine = space.memory == null ? physicalMemory() : Sizes.parse(space.memory);
    input(
        "memory",
        Sizes.bytes(machine),
        space.memory == null ? "this machine" : "--memory",
        space.memory == null ? Origin.MEASURED : Origin.GIVEN);
    input(
        "Redis",
        "%s bytes a row, %d replica%s"
            .formatted(number(redisRow), replicas, replicas == 1 ? "" : "s"),
        "--redis-row-bytes, --replicas",
        space.redisRowBytes == null ? Origin.ASSUMED : Origin.GIVEN);
    return new Tiers(
        machine,
        worst.tableBytes(),
        worst.stagingBytes(),
        best.leastPageCacheBytes(),
        Math.max(worst.readBufferBytes(), best.readBufferBytes()),
        worst.loadSeconds(),
        cache,
        Math.min(rows, cache / rowBytes),
        rows,
        redisRow,
        replicas,
        (long) (rows * redisRow * (1 + replicas)));
  }

  private static long physicalMemory() {
    return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
        .getTotalMemorySize();
  }

  private void print(Model model, Map<String, CapacityPlan> plans, Tiers tiers) {
    out.println("Plan for " + model.title());
    for (TableShape table : plans.values().iterator().next().tables()) {
      out.printf(
          "  layer %d: %,d rows of %,d bytes, %s%n",
          table.layer(), table.rows(), table.rowBytes(), Sizes.bytes(table.bytes()));
    }
    out.printf("%nInputs%n");
    for (Input input : inputs) {
      out.printf(
          "  %-15s %-9s %s (%s)%n",
          input.name(), name(input.origin()), input.value(), input.from());
    }
    out.printf("%nA token%n");
    plans.forEach((name, plan) ->
        out.printf(
            "  %-10s %d rows, %,d bytes: %d reads, %.1f pages, %s off the disk%n",
            name,
            plan.rowsPerToken(),
            plan.bytesPerToken(),
            plan.readsPerToken(),
            plan.pagesPerToken(),
            Sizes.bytes((long) (plan.pagesPerToken() * RowRun.PAGE))));
    timings("A decode step", plans, true);
    timings("A prompt", plans, false);
    needs(plans);
    memory(tiers);
  }

  private void timings(String title, Map<String, CapacityPlan> plans, boolean decode) {
    double longest = 0;
    double compute = 0;
    for (CapacityPlan plan : plans.values()) {
      for (Reading reading : Reading.values()) {
        Timing timing = timing(plan, reading, decode);
        longest = Math.max(longest, timing.seconds());
        compute = timing.computeSeconds();
      }
    }
    out.printf("%n%s: %s of compute (█), and waits for rows (░)%n", title, time(compute));
    if (!decode) {
      plans.forEach(
          (name, plan) -> out.printf("  %-10s %s reads%n", name, number(plan.promptReads())));
    }
    BarChart chart = new BarChart(longest, BAR_WIDTH);
    plans.forEach((name, plan) -> {
      for (Reading reading : List.of(Reading.LOOP, Reading.BATCHED, Reading.PREFETCHED)) {
        bar(chart, label(name, reading), timing(plan, reading, decode));
      }
    });
    CapacityPlan any = plans.values().iterator().next();
    bar(chart, "from memory", timing(any, Reading.IN_MEMORY, decode));
  }

  private void bar(BarChart chart, String label, Timing timing) {
    out.printf(
        "  %-26s %9s %6.2f %% lost  %s%n",
        label,
        time(timing.seconds()),
        100 * timing.waitShare(),
        chart.bar(timing.computeSeconds(), timing.waitSeconds()));
  }

  private static Timing timing(CapacityPlan plan, Reading reading, boolean decode) {
    return decode ? plan.decode(reading) : plan.prefill(reading);
  }

  private static String label(String layout, Reading reading) {
    return switch (reading) {
      case LOOP -> layout + ", one by one";
      case BATCHED -> layout + ", batched";
      case PREFETCHED -> layout + ", prefetched";
      case IN_MEMORY -> layout + ", from memory";
    };
  }

  private void needs(Map<String, CapacityPlan> plans) {
    out.printf("%nThe disk that prefetch needs, at that latency%n");
    plans.forEach((name, plan) -> {
      for (double share : TARGETS) {
        out.printf(
            "  %-10s to lose at most %.0f %%: decoding %s, prompts %s%n",
            name,
            100 * share,
            reads(plan.readsPerSecondForDecode(share)),
            reads(plan.readsPerSecondForPrefill(share)));
      }
    });
  }

  private static String reads(OptionalDouble rate) {
    return rate.isPresent()
        ? number(rate.getAsDouble()) + " reads/s"
        : "no such disk, the latency is too long";
  }

  private void memory(Tiers tiers) {
    out.printf("%nMemory, of %s%n", Sizes.bytes(tiers.machine()));
    tier(
        "RAM",
        tiers.tables(),
        tiers.machine(),
        "all rows; %s to load in order".formatted(time(tiers.loadSeconds())));
    tier(
        "mapped",
        tiers.staging() + tiers.leastPageCache(),
        tiers.machine(),
        "%s for rows read ahead, and at least %s of page cache; more saves reads, up to the tables"
            .formatted(Sizes.bytes(tiers.staging()), Sizes.bytes(tiers.leastPageCache())));
    tier(
        "direct",
        tiers.staging() + tiers.readBuffers(),
        tiers.machine(),
        "%s for rows read ahead, %s for reads in flight"
            .formatted(Sizes.bytes(tiers.staging()), Sizes.bytes(tiers.readBuffers())));
    if (tiers.cache() > 0) {
      tier(
          "cache",
          tiers.cache(),
          tiers.machine(),
          "beside mapped or direct: at most %,d rows, %.2f %% of the tables"
              .formatted(tiers.cachedRows(), 100.0 * tiers.cachedRows() / tiers.rows()));
    }
    out.printf(
        "  %-7s %9s        over all nodes, %d cop%s%n",
        "Redis",
        Sizes.bytes(tiers.redis()),
        1 + tiers.replicas(),
        tiers.replicas() == 0 ? "y" : "ies");
  }

  private void tier(String name, long bytes, long machine, String what) {
    out.printf(
        "  %-7s %9s  %-4s  %s%n", name, Sizes.bytes(bytes), bytes <= machine ? "fits" : "no", what);
  }

  private Map<String, Object> asJson(Model model, Map<String, CapacityPlan> plans, Tiers tiers) {
    Map<String, Object> root = new LinkedHashMap<>();
    root.put("model", model.title());
    root.put("inputs", inputs);
    CapacityPlan any = plans.values().iterator().next();
    root.put("workload", any.workload());
    root.put("disk", any.disk());
    root.put("reuse", any.reuse());
    List<Map<String, Object>> tables = new ArrayList<>();
    for (TableShape table : any.tables()) {
      Map<String, Object> entry = new LinkedHashMap<>();
      entry.put("layer", table.layer());
      entry.put("layersBefore", table.layersBefore());
      entry.put("rows", table.rows());
      entry.put("rowBytes", table.rowBytes());
      entry.put("bytes", table.bytes());
      tables.add(entry);
    }
    root.put("tables", tables);
    Map<String, Object> layouts = new LinkedHashMap<>();
    plans.forEach((name, plan) -> {
      Map<String, Object> layout = new LinkedHashMap<>();
      layout.put("rowsPerToken", plan.rowsPerToken());
      layout.put("bytesPerToken", plan.bytesPerToken());
      layout.put("readsPerToken", plan.readsPerToken());
      layout.put("pagesPerToken", plan.pagesPerToken());
      layout.put("promptReads", plan.promptReads());
      layout.put("decode", timings(plan, true));
      layout.put("prompt", timings(plan, false));
      Map<String, Object> needs = new LinkedHashMap<>();
      for (double share : TARGETS) {
        Map<String, Object> need = new LinkedHashMap<>();
        plan.readsPerSecondForDecode(share).ifPresent(v -> need.put("decodeReadsPerSecond", v));
        plan.readsPerSecondForPrefill(share).ifPresent(v -> need.put("promptReadsPerSecond", v));
        needs.put(Double.toString(share), need);
      }
      layout.put("needed", needs);
      layouts.put(name, layout);
    });
    root.put("layouts", layouts);
    root.put("memory", tiers);
    return root;
  }

  private static Map<String, Object> timings(CapacityPlan plan, boolean decode) {
    Map<String, Object> all = new LinkedHashMap<>();
    for (Reading reading : Reading.values()) {
      Timing timing = timing(plan, reading, decode);
      Map<String, Object> entry = new LinkedHashMap<>();
      entry.put("seconds", timing.seconds());
      entry.put("computeSeconds", timing.computeSeconds());
      entry.put("waitSeconds", timing.waitSeconds());
      entry.put("waitShare", timing.waitShare());
      all.put(name(reading), entry);
    }
    return all;
  }

  private void input(String name, String value, String from, Origin origin) {
    inputs.add(new Input(name, value, origin, from));
  }

  private static Origin given(Object option) {
    return option == null ? Origin.ASSUMED : Origin.GIVEN;
  }

  private static String name(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }

  private static String number(double value) {
    if (value >= 1e6) {
      return "%.2f million".formatted(value / 1e6);
    }
    return value >= 100 || value == Math.rint(value)
        ? "%,.0f".formatted(value)
        : "%.3g".formatted(value);
  }

  private static String time(double seconds) {
    if (seconds >= 1) {
      return "%.2f s".formatted(seconds);
    }
    return seconds >= 1e-3
        ? "%.2f ms".formatted(seconds * 1e3)
        : "%.1f us".formatted(seconds * 1e6);
  }
}
