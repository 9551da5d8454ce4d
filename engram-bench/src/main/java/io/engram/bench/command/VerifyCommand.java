// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.checkpoint.Check;
import io.engram.checkpoint.Checkpoint;
import io.engram.vocab.TokenMap;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram verify}: everything about a checkpoint that has a closed form. */
@Command(
    name = "verify",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Checks everything about a checkpoint that can be known without its payload: vocabulary,"
            + " moduli, stored buffers, shapes and dtypes. One line each; exit code 1 if one fails.")
final class VerifyCommand implements Callable<Integer> {
  @Parameters(paramLabel = "DIR", description = "A checkpoint directory.")
  private Path directory;

  @Option(names = "--json", description = "Prints the checks as a JSON array.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    PrintWriter out = spec.commandLine().getOut();
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      TokenMap map = checkpoint.tokenMap();
      List<Check> checks = checkpoint.check(map);
      boolean all = checks.stream().allMatch(Check::holds);
      if (json) {
        out.println(
            new Gson()
                .toJson(
                    Map.of("holds", all, "tokenMapSha256", map.sha256OfInt32(), "checks", checks)));
      } else {
        Ansi ansi = spec.commandLine().getColorScheme().ansi();
        for (Check check : checks) {
          out.println(
              ansi.string(check.holds() ? "@|green ok  |@" : "@|bold,red FAIL|@") + "  " + check);
        }
        out.println(
            ansi.string("@|faint info|@  token map sha256 (little-endian int32): ")
                + map.sha256OfInt32());
        long failed = checks.stream().filter(c -> !c.holds()).count();
        out.println(
            all
                ? checks.size() + " checks, all hold"
                : failed + " of " + checks.size() + " checks fail");
      }
      return all ? 0 : EngramCommand.FAILED;
    }
  }
}
