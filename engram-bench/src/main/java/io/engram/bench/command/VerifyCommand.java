// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.checkpoint.Check;
import io.engram.checkpoint.Checkpoint;
import io.engram.packed.PackedConverter;
import io.engram.packed.PackedTable;
import io.engram.packed.Verification;
import io.engram.table.TableIdentity;
import io.engram.vocab.TokenMap;
import java.io.PrintWriter;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help.Ansi;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/**
 * {@code engram verify}: everything about a checkpoint that has a closed form, and every row of
 * packed files.
 */
@Command(
    name = "verify",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Checks everything about a checkpoint that can be known without its payload: vocabulary,"
            + " moduli, stored buffers, shapes and dtypes, and which table packed rows beside it are"
            + " of. Of packed row files reads every row and compares checksums. One line each; exit"
            + " code 1 if one fails.")
final class VerifyCommand implements Callable<Integer> {
  @Parameters(
      paramLabel = "PATH",
      arity = "1..*",
      description =
          "A checkpoint directory; or packed row files, or directories that hold some: all shards"
              + " of a table, wherever they lie.")
  private List<Path> paths;

  @Option(
      names = "--against",
      paramLabel = "DIR",
      description = "Compares packed rows with all rows of this checkpoint as well.")
  private Path against;

  @Option(names = "--threads", paramLabel = "N", description = "Threads that read packed rows.")
  private int threads = Math.clamp(Runtime.getRuntime().availableProcessors(), 1, 4);

  @Option(names = "--json", description = "Prints the checks as a JSON array.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    if (threads < 1) {
      throw new ParameterException(
          spec.commandLine(), "--threads is " + threads + ", expected at least 1");
    }
    if (PackedPaths.isPacked(paths.getFirst())) {
      return verifyPacked();
    }
    if (paths.size() > 1 || against != null) {
      throw new ParameterException(
          spec.commandLine(),
          "several paths and --against go with packed row files, and "
              + paths.getFirst()
              + " is none");
    }
    return verifyCheckpoint(paths.getFirst());
  }

  private int verifyPacked() {
    List<Check> checks = new ArrayList<>();
    try (Arena arena = Arena.ofShared()) {
      for (PackedTable table : PackedPaths.open(paths, arena)) {
        TableIdentity identity = table.identity();
        String subject = "layer " + identity.layer() + " ";
        Verification read = PackedPaths.verify(table, threads);
        String rows = "%,d rows as written".formatted(identity.rowCount());
        checks.add(
            new Check(
                subject + (read.fromDisk() ? "read from the disk" : "read"),
                rows,
                read.holds()
                    ? rows
                    : read.damage().stream()
                        .map(Verification.Damage::toString)
                        .collect(Collectors.joining("; ")),
                read.holds()));
        checks.add(
            new Check(
                subject + "content",
                identity.contentDigest().orElseThrow(),
                identity.contentDigest().orElseThrow(),
                true));
        if (against != null) {
          checks.add(compare(table));
        }
      }
    }
    return print(checks, Map.of());
  }

  private Check compare(PackedTable table) {
    TableIdentity identity = table.identity();
    String subject = "layer " + identity.layer() + " against " + against;
    try (Checkpoint checkpoint = Checkpoint.open(against)) {
      TableIdentity expected = PackedChecks.identity(checkpoint, identity.layer());
      try (Progress bar = Progress.start(subject, identity.rowCount(), "rows")) {
        expected =
            expected.withContent(
                PackedConverter.of(checkpoint, identity.layer())
                    .threads(threads)
                    .contentDigest(bar::reached));
      }
      Optional<String> difference = expected.firstDifference(identity);
      return new Check(
          subject, "the same table", difference.orElse("the same table"), difference.isEmpty());
    }
  }

  private int verifyCheckpoint(Path directory) {
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      TokenMap map = checkpoint.tokenMap();
      List<Check> checks = new ArrayList<>(checkpoint.check(map));
      checks.addAll(PackedChecks.beside(checkpoint));
      return print(checks, Map.of("tokenMapSha256", map.sha256OfInt32()));
    }
  }

  private int print(List<Check> checks, Map<String, String> facts) {
    PrintWriter out = spec.commandLine().getOut();
    boolean all = checks.stream().allMatch(Check::holds);
    if (json) {
      Map<String, Object> object = new LinkedHashMap<>(facts);
      object.put("holds", all);
      object.put("checks", checks);
      out.println(new Gson().toJson(object));
    } else {
      Ansi ansi = spec.commandLine().getColorScheme().ansi();
      for (Check check : checks) {
        out.println(
            ansi.string(check.holds() ? "@|green ok  |@" : "@|bold,red FAIL|@") + "  " + check);
      }
      Optional.ofNullable(facts.get("tokenMapSha256"))
          .ifPresent(sha ->
              out.println(
                  ansi.string("@|faint info|@  token map sha256 (little-endian int32): ") + sha));
      long failed = checks.stream().filter(c -> !c.holds()).count();
      out.println(
          all
              ? checks.size() + " checks, all hold"
              : failed + " of " + checks.size() + " checks fail");
    }
    return all ? 0 : EngramCommand.FAILED;
  }
}
