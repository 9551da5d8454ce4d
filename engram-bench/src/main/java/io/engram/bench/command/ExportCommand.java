// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.EngramMemory;
import io.engram.checkpoint.CheckpointExporter;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram export}: a memory in the layout of a released checkpoint. */
@Command(
    name = "export",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Writes the memory of a training run, or of a checkpoint, in a released layout: a directory"
            + " that this library serves and others can read. It appears whole or not at all.")
final class ExportCommand implements Callable<Integer> {
  @Option(
      names = "--layout",
      paramLabel = "NAME",
      required = true,
      description =
          "demo (the paper's state-dict names, rows and weights as they are) or v41"
              + " (DeepSeek-V4.1-Flash: rows and projection in FP8 with block scales).")
  private CheckpointExporter.Layout layout;

  @Option(
      names = "--tokenizer",
      paramLabel = "FILE",
      description =
          "The tokenizer.json that the token map was made from; it is copied. Without it the map"
              + " itself is written, which only this library reads.")
  private Path tokenizer;

  @Option(
      names = "--file-size",
      paramLabel = "SIZE",
      description =
          "Begins another file where one would become larger, such as 5GB (default). A tensor is"
              + " never divided.")
  private Optional<String> fileSize = Optional.empty();

  @Option(names = "--json", description = "Prints what was done as JSON.")
  private boolean json;

  @Parameters(
      index = "0",
      paramLabel = "SOURCE",
      description = "A training run's directory, or a checkpoint.")
  private Path source;

  @Parameters(
      index = "1",
      paramLabel = "TARGET",
      description = "A directory that is not there yet.")
  private Path target;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    try (EngramMemory memory = EngramMemory.open(source)) {
      CheckpointExporter exporter = CheckpointExporter.of(memory, layout);
      if (tokenizer != null) {
        exporter.tokenizer(tokenizer);
      }
      fileSize.ifPresent(size -> exporter.shardBytes(Sizes.parse(size)));
      long bytes = exporter.byteSize();
      Stopwatch watch = Stopwatch.start();
      try (Progress progress = Progress.start("Writing", bytes, "B")) {
        exporter.progress(progress::reached).write(target);
      }
      watch.stop();
      PrintWriter out = spec.commandLine().getOut();
      if (json) {
        Map<String, Object> facts = new LinkedHashMap<>();
        facts.put("directory", target.toString());
        facts.put("layout", layout.name());
        facts.put("layers", memory.config().layerIds());
        facts.put("bytes", bytes);
        facts.put("seconds", watch.seconds());
        out.println(new Gson().toJson(facts));
      } else {
        out.printf(
            "%s: layers %s, %s of tensors, opened again and compared%n",
            target, memory.config().layerIds(), Sizes.bytes(bytes));
      }
    }
    return 0;
  }
}
