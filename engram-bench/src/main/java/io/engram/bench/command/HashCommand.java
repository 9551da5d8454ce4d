// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramMemory;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.StringJoiner;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** {@code engram hash}: row ids of token ids. */
@Command(
    name = "hash",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Prints the row ids of a sequence of token ids: one line a position, offsets included.")
final class HashCommand implements Callable<Integer> {
  @Mixin private LayerOptions options;

  @Option(
      names = "--tokens",
      required = true,
      paramLabel = "FILE",
      description =
          "Raw token ids separated by white space; - reads standard input; -1 is a dead"
              + " position.")
  private Path tokens;

  @Option(names = "--json", description = "Prints one JSON array of arrays.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    int[] ids = TokenFile.read(tokens);
    PrintWriter out = spec.commandLine().getOut();
    try (EngramMemory memory = EngramMemory.open(options.checkpoint)) {
      long[] rowIds = memory.rowIds(options.layer, ids);
      int columns = memory.config().hashing().columns();
      StringJoiner positions =
          new StringJoiner(json ? "],\n [" : "\n", json ? "[[" : "", json ? "]]" : "");
      for (int p = 0; p < ids.length; p++) {
        StringJoiner line = new StringJoiner(json ? ", " : " ");
        for (int c = 0; c < columns; c++) {
          line.add(Long.toString(rowIds[p * columns + c]));
        }
        positions.add(line.toString());
      }
      out.println(positions);
    }
    return 0;
  }
}
