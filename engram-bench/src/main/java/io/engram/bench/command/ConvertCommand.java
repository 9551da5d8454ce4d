// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.checkpoint.Checkpoint;
import io.engram.hash.HashLayout;
import io.engram.packed.Conversion;
import io.engram.packed.ConversionListener;
import io.engram.packed.PackedConverter;
import io.engram.packed.PackedTable;
import io.engram.shard.ShardLayout;
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram convert}: from a checkpoint to packed rows, and back. */
@Command(
    name = "convert",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Writes the tables of a checkpoint to packed row files, in which a row lies whole: one page"
            + " to read for each instead of two. Run it again after a kill or a full disk, and it"
            + " goes on where it stopped. With --back, packed row files become safetensors again.")
final class ConvertCommand implements Callable<Integer> {
  @Parameters(
      paramLabel = "PATH",
      arity = "1..*",
      description =
          "A checkpoint directory; with --back, packed row files, or directories that hold some.")
  private List<Path> paths;

  @Option(
      names = {"--layers", "--layer"},
      split = ",",
      paramLabel = "L",
      description = "Layers to convert; all that have a table unless given.")
  private List<Integer> layers = List.of();

  @Option(
      names = "--into",
      split = ",",
      paramLabel = "DIR",
      description =
          "Where the packed files go, made if absent: shards take turns among several, such as one"
              + " for each disk. Default: engram-rows in the checkpoint, where it is found by"
              + " itself.")
  private List<Path> into = List.of();

  @Option(names = "--shards", paramLabel = "N", description = "Divides each table among N files.")
  private int shards = 1;

  @Option(
      names = "--divide",
      paramLabel = "HOW",
      description =
          "strided-heads (column c to shard c mod N) or row-wise (blocks of rows in turn). Default:"
              + " strided-heads, or row-wise where there are more shards than columns.")
  private Optional<String> divide = Optional.empty();

  @Option(
      names = "--replace",
      description = "Replaces packed files that are there, instead of comparing samples of rows.")
  private boolean replace;

  @Option(
      names = "--back",
      description = "Writes the tensors that packed files were made from, values and scales apart.")
  private boolean back;

  @Option(
      names = "--output",
      paramLabel = "FILE",
      description = "The safetensors file that --back writes.")
  private Path output;

  @Option(names = "--threads", paramLabel = "N", description = "Threads that read and write.")
  private int threads = Math.clamp(Runtime.getRuntime().availableProcessors(), 1, 4);

  @Option(names = "--json", description = "Prints what was done as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    if (back != (output != null)) {
      throw wrong("--back and --output FILE go together");
    }
    if (threads < 1) {
      throw wrong("--threads is " + threads + ", expected at least 1");
    }
    if (back) {
      if (!into.isEmpty() || replace || shards != 1 || divide.isPresent()) {
        throw wrong("--into, --replace, --shards and --divide do not go with --back");
      }
      return writeBack();
    }
    if (shards < 1 || into.size() > shards) {
      throw wrong(
          "--shards is "
              + shards
              + ", expected at least one for each directory of --into: add --shards "
              + Math.max(1, into.size()));
    }
    if (paths.size() > 1) {
      throw wrong("one checkpoint directory is expected, not " + paths.size());
    }
    return convert(paths.getFirst());
  }

  private ParameterException wrong(String what) {
    return new ParameterException(spec.commandLine(), what);
  }

  private int convert(Path directory) throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    List<Map<String, Object>> all = new ArrayList<>();
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      checkpoint.require(checkpoint.tokenMap());
      List<Path> targets =
          into.isEmpty() ? List.of(directory.resolve(PackedTable.DIRECTORY)) : into;
      for (Path target : targets) {
        Files.createDirectories(target);
      }
      for (int layer : layers.isEmpty() ? checkpoint.config().layerIds() : layers) {
        Stopwatch watch = Stopwatch.start();
        Conversion done = convert(checkpoint, layer, targets);
        watch.stop();
        if (json) {
          all.add(facts(done, watch));
        } else {
          print(out, done, watch);
        }
      }
    }
    if (json) {
      out.println(new Gson().toJson(all));
    }
    return 0;
  }

  private ShardLayout shardLayout(HashLayout layout) {
    return switch (divide.orElse(shards > layout.columns() ? "row-wise" : "strided-heads")) {
      case "row-wise" -> ShardLayout.rowWise(layout.rowCount(), shards);
      case "strided-heads" -> ShardLayout.stridedHeads(layout, shards);
      case String other ->
          throw wrong("--divide is " + other + ", expected strided-heads or row-wise");
    };
  }

  private Conversion convert(Checkpoint checkpoint, int layer, List<Path> targets) {
    HashLayout layout = checkpoint.layout(layer);
    long rows = layout.rowCount();
    List<Path> files =
        IntStream.range(0, shards)
            .mapToObj(s ->
                targets.get(s % targets.size()).resolve(PackedTable.fileName(layer, s, shards)))
            .toList();
    try (Progress bar = Progress.start("layer " + layer, 2 * rows, "rows")) {
      return PackedConverter.of(checkpoint, layer)
          .threads(threads)
          .replace(replace)
          .listener(
              new ConversionListener() {
                @Override
                public void converted(long done, long of) {
                  bar.reached(done);
                }

                @Override
                public void verified(long done, long of) {
                  bar.reached(of + done);
                }

                @Override
                public void notice(String text) {
                  spec.commandLine().getErr().println("engram: layer " + layer + " " + text);
                }
              })
          .shards(shardLayout(layout))
          .convert(files);
    }
  }

  private static Map<String, Object> facts(Conversion done, Stopwatch watch) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("layer", done.identity().layer());
    facts.put("files", done.files().stream().map(Path::toString).toList());
    facts.put("bytes", done.bytes());
    facts.put("rows", done.identity().rowCount());
    facts.put("rowBytes", done.identity().rowBytes());
    facts.put("rowsBefore", done.rowsBefore());
    facts.put("rowsNow", done.rowsNow());
    facts.put("alreadyThere", done.alreadyThere());
    facts.put("readBackFromDisk", done.fromDisk());
    facts.put("contentDigest", done.identity().contentDigest().orElseThrow());
    facts.put("seconds", watch.seconds());
    return facts;
  }

  private static void print(PrintWriter out, Conversion done, Stopwatch watch) {
    String files =
        done.files().size() == 1
            ? done.files().getFirst().toString()
            : done.files().size() + " files, the first " + done.files().getFirst();
    out.printf(
        "layer %d: %,d rows of %d bytes, %s in %s%n",
        done.identity().layer(),
        done.identity().rowCount(),
        done.identity().rowBytes(),
        Sizes.bytes(done.bytes()),
        files);
    if (done.alreadyThere()) {
      out.println("  was there already; samples of its rows equal those of the checkpoint");
    } else {
      out.printf(
          "  %,d rows in %.1f s, %s a second%s; read back %s and found equal%n",
          done.rowsNow(),
          watch.seconds(),
          Sizes.bytes((long) watch.perSecond(done.rowsNow() * done.identity().rowBytes())),
          done.rowsBefore() == 0
              ? ""
              : ", after %,d of an earlier attempt".formatted(done.rowsBefore()),
          done.fromDisk()
              ? "from the disk"
              : "(from the page cache: the file system allows no more)");
    }
    out.println("  content " + done.identity().contentDigest().orElseThrow());
  }

  private int writeBack() {
    PrintWriter out = spec.commandLine().getOut();
    try (Arena arena = Arena.ofShared()) {
      List<PackedTable> tables = new ArrayList<>();
      for (PackedTable table : PackedPaths.open(paths, arena)) {
        if (layers.isEmpty() || layers.contains(table.identity().layer())) {
          tables.add(table);
        }
      }
      for (int layer : layers) {
        if (tables.stream().noneMatch(t -> t.identity().layer() == layer)) {
          throw wrong("no packed rows of layer " + layer + " in " + paths);
        }
      }
      for (PackedTable table : tables) {
        PackedPaths.requireVerified(table, threads);
      }
      Stopwatch watch = Stopwatch.start();
      PackedTable.writeSafetensors(tables, output);
      watch.stop();
      long rows = tables.stream().mapToLong(t -> t.identity().rowCount()).sum();
      if (json) {
        out.println(
            new Gson()
                .toJson(
                    Map.of(
                        "file",
                        output.toString(),
                        "layers",
                        tables.stream().map(t -> t.identity().layer()).toList(),
                        "rows",
                        rows,
                        "seconds",
                        watch.seconds())));
      } else {
        out.printf(
            "%,d rows of %d %s in %s, %.1f s%n",
            rows, tables.size(), tables.size() == 1 ? "layer" : "layers", output, watch.seconds());
      }
    }
    return 0;
  }
}
