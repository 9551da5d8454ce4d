// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.Writer;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * A rival in Python, in a process of its own: {@code rival.py}, which is asked by lines.
 *
 * <p>It is told once what to compute and on which files, and then how many times to do it: its work
 * is done in its own loop, so that the pipe costs some 20 microseconds for as many rounds as are
 * asked for at once. Files pass inputs, and outputs to be compared.
 *
 * <p>Not thread-safe.
 */
public final class PythonRival implements AutoCloseable {
  /** Names the interpreter; else the environment's ENGRAM_PYTHON, else python3 on the PATH. */
  public static final String PROPERTY = "engram.python";

  private static final long VALUES_PER_WRITE = 1 << 20;

  private final Path directory;
  private final Process process;
  private final BufferedReader answers;
  private final Writer questions;

  private PythonRival(Path directory, Process process) {
    this.directory = directory;
    this.process = process;
    answers = process.inputReader(StandardCharsets.UTF_8);
    questions = process.outputWriter(StandardCharsets.UTF_8);
  }

  /**
   * Starts Python.
   *
   * @param threads threads of its libraries, at least 1
   * @return the process, which waits
   * @throws RivalException if there is no Python
   */
  public static PythonRival start(int threads) {
    try {
      Path directory = Files.createTempDirectory("engram-rival");
      ProcessBuilder builder =
          new ProcessBuilder(
              List.of(interpreter(), "-u", Resources.extract("rival.py", directory).toString()));
      String count = Integer.toString(threads);
      builder.environment().put("OMP_NUM_THREADS", count);
      builder.environment().put("MKL_NUM_THREADS", count);
      builder.environment().put("OPENBLAS_NUM_THREADS", count);
      // PyTorch then asks for huge pages, as the library does.
      builder.environment().put("THP_MEM_ALLOC_ENABLE", "1");
      builder.redirectError(directory.resolve("stderr").toFile());
      return new PythonRival(directory, builder.start());
    } catch (IOException e) {
      throw new RivalException(
          "no Python: " + e.getMessage() + "; -D" + PROPERTY + " names one", e);
    }
  }

  private static String interpreter() {
    String named = System.getProperty(PROPERTY, System.getenv("ENGRAM_PYTHON"));
    return named == null || named.isBlank() ? "python3" : named;
  }

  /** The version of a module and how it was built. */
  static String version(String module) {
    try (PythonRival python = start(1)) {
      return python.ask("version " + module);
    }
  }

  /**
   * Where files for this process go; deleted with it.
   *
   * @param name a name without directories
   * @return the file's path
   */
  public Path file(String name) {
    return directory.resolve(name);
  }

  /**
   * Writes an array for Python to read.
   *
   * @param name a name without directories
   * @param values the values; written as little-endian int32
   */
  public void write(String name, int[] values) {
    write(name, MemorySegment.ofArray(values));
  }

  /**
   * Writes an array for Python to read.
   *
   * @param name a name without directories
   * @param values the values; written as little-endian int64
   */
  public void write(String name, long[] values) {
    write(name, MemorySegment.ofArray(values));
  }

  /**
   * Writes memory for Python to read.
   *
   * @param name a name without directories
   * @param bytes the bytes
   */
  public void write(String name, MemorySegment bytes) {
    try (FileChannel out =
        FileChannel.open(file(name), StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      for (long at = 0; at < bytes.byteSize(); at += VALUES_PER_WRITE) {
        long count = Math.min(VALUES_PER_WRITE, bytes.byteSize() - at);
        ByteBuffer part = ByteBuffer.wrap(bytes.asSlice(at, count).toArray(ValueLayout.JAVA_BYTE));
        while (part.hasRemaining()) {
          out.write(part);
        }
      }
    } catch (IOException e) {
      throw new RivalException(name + " could not be written for Python: " + e.getMessage(), e);
    }
  }

  /**
   * Tells Python what to compute.
   *
   * @param what the case and {@code key=value} pairs, separated by spaces; files by name
   * @return what it says about itself: versions, threads
   * @throws RivalException if it cannot
   */
  public String setup(String what) {
    return ask("setup " + what + " dir=" + directory);
  }

  /**
   * Computes some times.
   *
   * @param times how many times, at least 1
   * @return what Python says: the nanoseconds that it took by its own clock
   * @throws RivalException if that failed
   */
  public String run(int times) {
    return ask("run " + times);
  }

  /**
   * The result of one computation, to be compared.
   *
   * @return its bytes, as the case writes them
   * @throws RivalException if that failed
   */
  public MemorySegment result() {
    ask("result " + file("result"));
    try {
      return MemorySegment.ofArray(Files.readAllBytes(file("result")));
    } catch (IOException e) {
      throw new RivalException("Python's result cannot be read: " + e.getMessage(), e);
    }
  }

  private String ask(String line) {
    try {
      questions.write(line);
      questions.write('\n');
      questions.flush();
      String answer = answers.readLine();
      if (answer != null && answer.startsWith("ok ")) {
        return answer.substring(3);
      }
      if (answer != null) {
        throw new RivalException("Python: " + answer);
      }
    } catch (IOException e) {
      throw new RivalException("Python ended: " + complaint(), e);
    }
    throw new RivalException("Python ended: " + complaint());
  }

  private String complaint() {
    try {
      List<String> lines = Files.readAllLines(directory.resolve("stderr"));
      return String.join(" / ", lines.subList(Math.max(0, lines.size() - 5), lines.size()));
    } catch (IOException e) {
      return "and left no message (" + e.getMessage() + ")";
    }
  }

  @Override
  public void close() {
    try {
      questions.close();
      if (!process.waitFor(10, TimeUnit.SECONDS)) {
        process.destroyForcibly().waitFor();
      }
    } catch (IOException e) {
      process.destroyForcibly();
    } catch (InterruptedException e) {
      process.destroyForcibly();
      Thread.currentThread().interrupt();
    }
    Resources.delete(directory);
  }
}
