// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.redis.RedisTables;
import java.io.PrintWriter;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram unpublish}: tables out of Redis or Valkey. */
@Command(
    name = "unpublish",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Deletes tables that engram publish loaded, or began to load. Whoever reads them gets"
            + " errors from then on. Exit code 1 if there was none of that name.")
final class UnpublishCommand implements Callable<Integer> {
  @Mixin private RedisConnectionOptions server;

  @Parameters(arity = "1..*", paramLabel = "NAME.LAYER", description = "The tables' full names.")
  private List<String> names;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    boolean all = true;
    try (RedisTables tables = RedisTables.connect(server.options())) {
      for (String name : names) {
        boolean deleted = tables.unpublish(name);
        out.println(name + (deleted ? ": deleted" : ": not there"));
        all &= deleted;
      }
    }
    return all ? 0 : EngramCommand.FAILED;
  }
}
