// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram bench}: measurements, one subcommand each. */
@Command(
    name = "bench",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Measures parts of the library on this machine, beside what they rival.",
    subcommands = {
      BenchRunCommand.class,
      BenchReportCommand.class,
      BenchLookupCommand.class,
      BenchPrefetchCommand.class
    })
final class BenchCommand implements Runnable {
  @Spec private CommandSpec spec;

  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "Which of the benchmarks below?");
  }
}
