// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** What the system keeps of files in memory: getting rid of it, and filling it. */
final class PageCache {
  private static final int O_RDONLY = 0;
  private static final int DONTNEED = 4;
  private static final Path ALL = Path.of("/proc/sys/vm/drop_caches");
  private static final int BLOCK = 1 << 20;

  private PageCache() {}

  /**
   * Asks the system to forget a file's pages. It keeps those that are mapped anywhere or not yet
   * written, and may keep others: only a look at the residency tells.
   *
   * @return whether the system could be asked
   */
  static boolean drop(Path file) {
    if (!System.getProperty("os.name").equals("Linux")) {
      return false;
    }
    Linker linker = Linker.nativeLinker();
    SymbolLookup symbols = linker.defaultLookup();
    ValueLayout number = ValueLayout.JAVA_INT;
    ValueLayout size = ValueLayout.JAVA_LONG;
    try (Arena arena = Arena.ofConfined()) {
      MethodHandle open =
          linker.downcallHandle(
              symbols.findOrThrow("open"),
              FunctionDescriptor.of(number, ValueLayout.ADDRESS, number),
              Linker.Option.firstVariadicArg(2));
      MethodHandle close =
          linker.downcallHandle(
              symbols.findOrThrow("close"), FunctionDescriptor.of(number, number));
      MethodHandle fadvise =
          linker.downcallHandle(
              symbols.findOrThrow("posix_fadvise"),
              FunctionDescriptor.of(number, number, size, size, number));
      Charset charset = Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8"));
      MemorySegment name = arena.allocateFrom(file.toAbsolutePath().toString(), charset);
      int descriptor = (int) open.invokeExact(name, O_RDONLY);
      if (descriptor < 0) {
        return false;
      }
      int advised = (int) fadvise.invokeExact(descriptor, 0L, 0L, DONTNEED);
      int closed = (int) close.invokeExact(descriptor);
      return advised == 0 && closed == 0;
    } catch (IllegalCallerException e) {
      return false;
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("system calls declare no exception", e);
    }
  }

  /**
   * Drops everything that the machine has cached, which takes the rights of root.
   *
   * @throws IOException if that is refused
   */
  static void dropAll() throws IOException {
    Files.writeString(ALL, "1\n", StandardOpenOption.WRITE);
  }

  /** Reads a file once, through the page cache. */
  static void fill(Path file) throws IOException {
    ByteBuffer block = ByteBuffer.allocateDirect(BLOCK);
    long bytes = Files.size(file);
    try (FileChannel channel = FileChannel.open(file);
        Progress progress = Progress.start("Warming " + file.getFileName(), bytes, "bytes")) {
      for (int read = 0; read >= 0; read = channel.read(block.clear())) {
        progress.advance(read);
      }
    }
  }
}
