// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.checkpoint.Checkpoint;
import io.engram.redis.RedisPublisher;
import io.engram.redis.RedisTable;
import io.engram.redis.RedisTables;
import io.engram.table.EngramTable;
import io.engram.table.TableIdentity;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engram publish}: a checkpoint's tables into Redis or Valkey. */
@Command(
    name = "publish",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Loads the tables of a checkpoint into Redis or Valkey, one server or a cluster, as"
            + " NAME.LAYER. A name that is taken is refused. A table can be read when all of its"
            + " rows have been read back and are right; if the load is interrupted, the same"
            + " command resumes it.")
final class PublishCommand implements Callable<Integer> {
  @Option(
      names = "--checkpoint",
      required = true,
      paramLabel = "DIR",
      description = "A checkpoint directory.")
  private Path directory;

  @Mixin private RedisConnectionOptions server;

  @Option(
      names = "--name",
      paramLabel = "NAME",
      description = "What the tables' names start with; the directory's name by default.")
  private String name;

  @Option(
      names = {"--layers", "--layer"},
      split = ",",
      paramLabel = "L",
      description = "Layers to load; all by default.")
  private int[] layers;

  @Option(
      names = "--rows-per-value",
      paramLabel = "N",
      description = "Rows of each value; by default as many as a mebibyte holds.")
  private Integer rowsPerValue;

  @Option(
      names = "--allow-eviction",
      description = "Loads also into servers that may throw rows away; reads of those fail.")
  private boolean allowEviction;

  @Option(names = "--json", description = "Prints what was loaded as a JSON array.")
  private boolean json;

  @Spec private CommandSpec spec;

  static String tableName(Path directory, String name, int layer) {
    String start =
        name != null ? name : directory.toAbsolutePath().normalize().getFileName().toString();
    return start + "." + layer;
  }

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    List<Map<String, Object>> loaded = new ArrayList<>();
    try (Checkpoint checkpoint = Checkpoint.open(directory);
        RedisTables tables = RedisTables.connect(server.options())) {
      checkpoint.require(checkpoint.tokenMap());
      List<Integer> chosen =
          layers == null ? checkpoint.config().layerIds() : Arrays.stream(layers).boxed().toList();
      for (int layer : chosen) {
        try (EngramTable table = checkpoint.table(layer)) {
          String tableName = tableName(directory, name, layer);
          RedisPublisher publisher =
              tables.publisher(
                  tableName, TableIdentity.of(checkpoint.layout(layer), table), table.store());
          if (rowsPerValue != null) {
            publisher.rowsPerValue(rowsPerValue);
          }
          if (allowEviction) {
            publisher.evictionAllowed();
          }
          report(out, loaded, publish(publisher, tableName, table.rowCount()));
        }
      }
    }
    if (json) {
      out.println(new Gson().toJson(loaded));
    }
    return 0;
  }

  private static RedisPublisher.Published publish(
      RedisPublisher publisher, String tableName, long rows) {
    try (Progress progress = Progress.start(tableName, 2 * rows, "rows")) {
      publisher.listener((phase, done) ->
          progress.reached(phase == RedisPublisher.Phase.LOADING ? done : rows + done));
      return publisher.publish();
    }
  }

  private void report(
      PrintWriter out, List<Map<String, Object>> loaded, RedisPublisher.Published published) {
    PrintWriter err = spec.commandLine().getErr();
    RedisTable table = published.table();
    published.warnings().forEach(warning -> err.println("engram: " + warning));
    long bytes = table.identity().rowCount() * table.identity().rowBytes();
    if (!json) {
      out.printf(
          "%s: %,d rows (%s) in %,d values, %,d of them written now; read back, sha256 %s%n",
          table.name(),
          table.identity().rowCount(),
          Sizes.bytes(bytes),
          published.values(),
          published.written(),
          table.identity().contentDigest().orElseThrow());
      return;
    }
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("name", table.name());
    facts.put("layer", table.identity().layer());
    facts.put("rows", table.identity().rowCount());
    facts.put("bytes", bytes);
    facts.put("rowsPerValue", table.rowsPerValue());
    facts.put("values", published.values());
    facts.put("written", published.written());
    facts.put("generation", table.generation());
    facts.put("contentDigest", table.identity().contentDigest().orElseThrow());
    loaded.add(facts);
  }
}
