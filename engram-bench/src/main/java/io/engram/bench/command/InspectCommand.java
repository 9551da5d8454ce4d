// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.EngramConfig;
import io.engram.checkpoint.Checkpoint;
import io.engram.checkpoint.TensorInfo;
import io.engram.hash.HashLayout;
import io.engram.packed.PackedFile;
import io.engram.packed.PackedTable;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram inspect}: what is in a checkpoint. */
@Command(
    name = "inspect",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Shows the memory of a checkpoint, layer by layer. Reads headers only.")
final class InspectCommand implements Callable<Integer> {
  @Parameters(
      paramLabel = "DIR",
      description = "A checkpoint directory; or a packed row file, or a directory that holds some.")
  private Path directory;

  @Option(names = "--json", description = "Prints the same as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    if (PackedPaths.isPacked(directory)) {
      return inspectPacked(out);
    }
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      EngramConfig config = checkpoint.config();
      Map<String, Object> facts = new LinkedHashMap<>();
      facts.put("layout", checkpoint.layoutDescription());
      facts.put("vocabulary", config.vocabularySize());
      facts.put("hashedIds", config.hashing().vocabularySize());
      facts.put("orders", config.hashing().orders());
      facts.put("headsPerOrder", config.hashing().headsPerOrder());
      facts.put("headDim", config.headDim());
      facts.put("rowFormat", config.rowFormat().name());
      facts.put("rowBytes", config.rowFormat().rowBytes(config.headDim()));
      facts.put("streams", config.gate().streams());
      facts.put("width", config.gate().width());
      facts.put(
          "convolution",
          config
              .conv()
              .map(c -> c.kernelSize() + " taps, dilation " + c.dilation())
              .orElse("none"));
      facts.put("tensors", checkpoint.tensors().names().size());
      List<Map<String, Object>> layers = new ArrayList<>();
      for (int layer : config.layerIds()) {
        layers.add(layer(checkpoint, config, layer));
      }
      facts.put("layers", layers);
      if (json) {
        out.println(new Gson().toJson(facts));
      } else {
        print(out, checkpoint, config, layers);
      }
    }
    return 0;
  }

  private int inspectPacked(PrintWriter out) {
    List<Map<String, Object>> all = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      for (PackedTable table : PackedPaths.open(List.of(directory), arena)) {
        for (PackedFile file : table.files()) {
          Map<String, Object> facts = new LinkedHashMap<>();
          facts.put("file", file.path().toString());
          facts.put("layer", file.identity().layer());
          facts.put("shard", file.shard() + " of " + file.shards());
          facts.put("rows", file.rowCount());
          facts.put("tableRows", file.identity().rowCount());
          facts.put("rowFormat", file.identity().format().name());
          facts.put("headDim", file.identity().headDim());
          facts.put("rowBytes", file.identity().rowBytes());
          facts.put("bytes", file.size());
          facts.put("layout", file.identity().layoutDigest());
          facts.put("content", file.identity().contentDigest().orElseThrow());
          facts.put("madeFrom", file.source());
          all.add(facts);
        }
      }
    }
    if (json) {
      out.println(new Gson().toJson(all));
      return 0;
    }
    for (Map<String, Object> facts : all) {
      facts.forEach((name, value) ->
          out.printf("%-10s %s%n", name, value instanceof Long n ? "%,d".formatted(n) : value));
    }
    return 0;
  }

  private static Map<String, Object> layer(Checkpoint checkpoint, EngramConfig config, int layer) {
    HashLayout layout = checkpoint.layout(layer);
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("layer", layer);
    facts.put("rows", layout.rowCount());
    facts.put("tableBytes", layout.rowCount() * config.rowFormat().rowBytes(config.headDim()));
    facts.put(
        "bytesPerToken",
        (long) config.hashing().columns() * config.rowFormat().rowBytes(config.headDim()));
    facts.put("moduli", layout.moduli());
    List<String> multipliers = new ArrayList<>();
    for (long m : layout.multipliers()) {
      multipliers.add(Long.toString(m));
    }
    facts.put("multipliers", multipliers);
    List<Map<String, Object>> tensors = new ArrayList<>();
    for (String name : checkpoint.tensorNames(layer)) {
      Map<String, Object> tensor = new LinkedHashMap<>();
      tensor.put("name", name);
      if (checkpoint.tensors().contains(name)) {
        TensorInfo info = checkpoint.tensors().info(name);
        tensor.put("dtype", info.dtype());
        tensor.put("shape", info.shape());
        tensor.put("bytes", info.byteSize());
        tensor.put("file", checkpoint.tensors().file(name).getFileName().toString());
      } else {
        tensor.put("missing", true);
      }
      tensors.add(tensor);
    }
    facts.put("tensors", tensors);
    return facts;
  }

  private void print(
      PrintWriter out,
      Checkpoint checkpoint,
      EngramConfig config,
      List<Map<String, Object>> layers) {
    out.println(checkpoint.directory() + ": " + checkpoint.layoutDescription());
    out.printf(
        "vocabulary   %,d ids, %,d of them hashed apart%n",
        config.vocabularySize(), config.hashing().vocabularySize());
    out.printf(
        "n-grams      orders %s, %d heads each, %d values a row%n",
        config.hashing().orders(), config.hashing().headsPerOrder(), config.headDim());
    out.printf(
        "rows         %s, %d bytes each%n",
        config.rowFormat(), config.rowFormat().rowBytes(config.headDim()));
    out.printf(
        "gate         %d streams of %,d, %s%n",
        config.gate().streams(),
        config.gate().width(),
        config
            .conv()
            .map(c -> "convolution of " + c.kernelSize() + " taps, dilation " + c.dilation())
            .orElse("no convolution"));
    for (Map<String, Object> layer : layers) {
      out.printf(
          "%nlayer %s      %,d rows, %s; a token reads %,d bytes%n",
          layer.get("layer"),
          (long) layer.get("rows"),
          Sizes.bytes((long) layer.get("tableBytes")),
          (long) layer.get("bytesPerToken"));
      out.println("  multipliers  " + String.join(" ", multipliers(layer)));
      int column = 0;
      for (String name : checkpoint.tensorNames((int) layer.get("layer"))) {
        column = Math.max(column, name.length());
      }
      for (Object each : (List<?>) layer.get("tensors")) {
        Map<?, ?> tensor = (Map<?, ?>) each;
        if (tensor.containsKey("missing")) {
          out.printf("  %-" + column + "s missing%n", tensor.get("name"));
        } else {
          out.printf(
              "  %-" + column + "s %-8s %-20s %10s  %s%n",
              tensor.get("name"),
              tensor.get("dtype"),
              tensor.get("shape"),
              Sizes.bytes((long) tensor.get("bytes")),
              tensor.get("file"));
        }
      }
    }
  }

  private static List<String> multipliers(Map<String, Object> layer) {
    List<String> texts = new ArrayList<>();
    ((List<?>) layer.get("multipliers")).forEach(m -> texts.add(m.toString()));
    return texts;
  }
}
