// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engram lookup}: the values of rows. */
@Command(
    name = "lookup",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Prints rows of a table, found by token ids or named by row id.")
final class LookupCommand implements Callable<Integer> {
  private static final int SHOWN = 6;

  @Mixin private LayerOptions options;

  @ArgGroup(multiplicity = "1")
  private Source source;

  private static final class Source {
    @Option(
        names = "--tokens",
        paramLabel = "FILE",
        description = "Raw token ids separated by white space; - reads standard input.")
    private Path tokens;

    @Option(
        names = "--rows",
        split = ",",
        paramLabel = "ID",
        description = "Row ids, separated by commas, offsets included.")
    private long[] rows;
  }

  @Option(
      names = "--json",
      description =
          "Prints every value of every row as JSON instead of the first few as a table; null is a NaN"
              + " or an infinity.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    PrintWriter out = spec.commandLine().getOut();
    try (EngramMemory memory = EngramMemory.open(options.checkpoint)) {
      EngramConfig config = memory.config();
      boolean byTokens = source.tokens != null;
      int[] ids = byTokens ? TokenFile.read(source.tokens) : new int[0];
      long[] rowIds = byTokens ? memory.rowIds(options.layer, ids) : source.rows;
      float[] values = memory.table(options.layer).gather(rowIds);
      int columns = config.hashing().columns();
      List<Map<String, Object>> rows = new ArrayList<>();
      for (int i = 0; i < rowIds.length; i++) {
        float[] row = Arrays.copyOfRange(values, i * config.headDim(), (i + 1) * config.headDim());
        if (json) {
          Map<String, Object> entry = new LinkedHashMap<>();
          if (byTokens) {
            entry.put("position", i / columns);
            entry.put("column", i % columns);
          }
          entry.put("row", rowIds[i]);
          List<Float> finite = new ArrayList<>();
          for (float value : row) {
            finite.add(Float.isFinite(value) ? Float.valueOf(value) : null);
          }
          entry.put("values", finite);
          rows.add(entry);
          continue;
        }
        String where = byTokens ? "%5d %3d ".formatted(i / columns, i % columns) : "";
        StringBuilder line = new StringBuilder(where).append("%12d ".formatted(rowIds[i]));
        for (int v = 0; v < Math.min(SHOWN, row.length); v++) {
          line.append(" %12.6g".formatted(row[v]));
        }
        out.println(line.append(row.length > SHOWN ? "  ... " + row.length + " values" : ""));
      }
      if (json) {
        out.println(new GsonBuilder().serializeNulls().create().toJson(rows));
      }
    }
    return 0;
  }
}
