// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A C source of this package's resources, compiled for this machine at run time and called through
 * the linker: {@code gcc -O3 -march=native}.
 *
 * <p>The functions found in it may be called until it is closed. Thread-safe as far as they are.
 */
public final class CRival implements AutoCloseable {
  /** Names the compiler, which has to take gcc's options; by default gcc on the PATH. */
  public static final String PROPERTY = "engram.cc";

  private static final List<String> FLAGS = List.of("-O3", "-march=native", "-shared", "-fPIC");

  private final Path directory;
  private final Arena arena;
  private final SymbolLookup symbols;

  private CRival(Path directory, Arena arena, SymbolLookup symbols) {
    this.directory = directory;
    this.arena = arena;
    this.symbols = symbols;
  }

  /**
   * Compiles and loads a source.
   *
   * @param source name of a resource of {@code io.engram.bench.rival}, such as {@code hash.c}
   * @return the library
   * @throws RivalException if there is no compiler, or it refuses the source
   */
  public static CRival compile(String source) {
    try {
      Path directory = Files.createTempDirectory("engram-rival");
      Path file = Resources.extract(source, directory);
      Path library = directory.resolve("rival.so");
      List<String> command = new ArrayList<>(List.of(executable()));
      command.addAll(FLAGS);
      command.addAll(List.of("-o", library.toString(), file.toString(), "-lm"));
      output(command);
      Arena arena = Arena.ofShared();
      return new CRival(directory, arena, SymbolLookup.libraryLookup(library, arena));
    } catch (IOException e) {
      throw new RivalException(source + " could not be compiled: " + e.getMessage(), e);
    }
  }

  /**
   * A function of the library.
   *
   * @param name its name
   * @param type its parameters and result
   * @param options for the linker
   * @return the function
   * @throws RivalException if the library has no such function
   */
  public MethodHandle function(String name, FunctionDescriptor type, Linker.Option... options) {
    return Linker.nativeLinker()
        .downcallHandle(
            symbols.find(name).orElseThrow(() -> new RivalException("C has no function " + name)),
            type,
            options);
  }

  /** The compiler's own first line about itself, and the flags. */
  static String compiler() {
    try {
      String version = output(List.of(executable(), "--version")).lines().findFirst().orElse("");
      return version + ", " + String.join(" ", FLAGS);
    } catch (IOException e) {
      throw new RivalException(
          "no C compiler: " + e.getMessage() + "; -D" + PROPERTY + " names one", e);
    }
  }

  private static String executable() throws IOException {
    String named = System.getProperty(PROPERTY);
    if (named != null) {
      return named;
    }
    String path = System.getenv().getOrDefault("PATH", "");
    for (String directory : path.split(File.pathSeparator, -1)) {
      Path gcc = Path.of(directory, "gcc");
      if (Files.isExecutable(gcc)) {
        return gcc.toString();
      }
    }
    throw new IOException("no gcc on the PATH");
  }

  private static String output(List<String> command) throws IOException {
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    try (InputStream in = process.getInputStream()) {
      String said = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      if (!process.waitFor(1, TimeUnit.MINUTES) || process.exitValue() != 0) {
        throw new IOException(String.join(" ", command) + ": " + said.strip());
      }
      return said;
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted while compiling", e);
    }
  }

  @Override
  public void close() {
    arena.close();
    Resources.delete(directory);
  }
}
