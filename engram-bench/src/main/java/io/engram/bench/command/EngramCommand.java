// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramException;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Objects;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * The {@code engram} command.
 *
 * <p>Exit codes, the same for all subcommands: 0 done; 1 something does not hold or could not be
 * read (the sentence on standard error says what); 2 the command line is wrong.
 */
@Command(
    name = "engram",
    description = "Conditional memory for language models: look at it, check it, run it.",
    subcommands = {
      DemoCommand.class,
      TrainCommand.class,
      GenerateCommand.class,
      CompressCommand.class,
      HashCommand.class,
      LookupCommand.class,
      ForwardCommand.class,
      CacheCommand.class,
      InspectCommand.class,
      ShardsCommand.class,
      VerifyCommand.class,
      ConvertCommand.class,
      ExportCommand.class,
      StatsCommand.class,
      PlanCommand.class,
      AllocateCommand.class,
      ExperimentCommand.class,
      BenchCommand.class,
      PublishCommand.class,
      UnpublishCommand.class,
      CommandLine.HelpCommand.class
    },
    mixinStandardHelpOptions = true,
    versionProvider = EngramCommand.Version.class,
    sortOptions = false)
public final class EngramCommand implements Runnable {
  /** Exit code where a check failed or something could not be read. */
  public static final int FAILED = 1;

  @Spec private CommandSpec spec;

  /** For the command-line parser. */
  public EngramCommand() {}

  /** Version from the jar's manifest, or of a build from sources. */
  static final class Version implements CommandLine.IVersionProvider {
    @Override
    public String[] getVersion() {
      String version = EngramCommand.class.getPackage().getImplementationVersion();
      return new String[] {"engram " + Objects.requireNonNullElse(version, "(from sources)")};
    }
  }

  @Override
  public void run() {
    throw new ParameterException(spec.commandLine(), "Which of the commands below?");
  }

  /**
   * Runs the command and ends the JVM with its exit code.
   *
   * @param arguments the command line
   */
  public static void main(String[] arguments) {
    // Numbers are for other programs as well: a comma in them would be another number.
    Locale.setDefault(Locale.ROOT);
    System.exit(
        run(
            new PrintWriter(System.out, true, StandardCharsets.UTF_8),
            new PrintWriter(System.err, true, StandardCharsets.UTF_8),
            arguments));
  }

  /**
   * Runs the command.
   *
   * @param out takes results
   * @param err takes messages
   * @param arguments the command line
   * @return the exit code
   */
  public static int run(PrintWriter out, PrintWriter err, String... arguments) {
    CommandLine line = new CommandLine(new EngramCommand());
    line.setOut(out);
    line.setErr(err);
    line.setCaseInsensitiveEnumValuesAllowed(true);
    line.setExecutionExceptionHandler(EngramCommand::report);
    line.setParameterExceptionHandler((exception, _) -> {
      CommandLine wrong = exception.getCommandLine();
      err.println(wrong.getColorScheme().errorText(exception.getMessage()));
      err.println("See: " + wrong.getCommandSpec().qualifiedName() + " --help");
      return wrong.getCommandSpec().exitCodeOnInvalidInput();
    });
    try {
      return line.execute(arguments);
    } finally {
      out.flush();
      err.flush();
    }
  }

  private static int report(Exception exception, CommandLine line, CommandLine.ParseResult parsed)
      throws Exception {
    if (exception instanceof EngramException
        || exception instanceof IllegalArgumentException
        || exception instanceof IllegalStateException
        || exception instanceof java.io.IOException
        || exception instanceof java.io.UncheckedIOException
        || exception instanceof IndexOutOfBoundsException) {
      String what =
          exception instanceof java.nio.file.NoSuchFileException
              ? exception.getMessage() + ": no such file"
              : exception.getMessage();
      line.getErr().println(line.getColorScheme().errorText("engram: " + what));
      return FAILED;
    }
    throw exception;
  }
}
