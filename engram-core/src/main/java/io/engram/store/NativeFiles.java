// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.VarHandle;
import java.nio.charset.Charset;
import java.nio.file.Path;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Positional reads of files by system calls, which no interrupt of a thread disturbs and which can
 * bypass the page cache. Found where {@link NativeMemory} is.
 *
 * <p>Thread-safe.
 */
final class NativeFiles {
  /** Layout of {@link ReadSeat#callState}. */
  static final MemoryLayout CALL_STATE = Linker.Option.captureStateLayout();

  static final int EINTR = 4;
  static final int EIO = 5;
  private static final int EINVAL = 22;
  private static final VarHandle ERRNO =
      CALL_STATE.varHandle(MemoryLayout.PathElement.groupElement("errno"));
  private static final int O_CLOEXEC = 0x80000;
  private static final int O_DIRECT =
      System.getProperty("os.arch").equals("aarch64") ? 0x10000 : 0x4000;
  private static final int ADVICE_RANDOM = 1;

  // statx, whose layout is the same everywhere, unlike that of stat.
  private static final int AT_EMPTY_PATH = 0x1000;
  private static final int STATX_DIOALIGN = 0x2000;
  private static final int STATX_BYTES = 256;
  private static final int STX_DIO_MEM_ALIGN = 0x98;
  private static final int STX_DIO_OFFSET_ALIGN = 0x9c;

  private static final class Holder {
    private static final Optional<NativeFiles> INSTANCE = find();
  }

  /** A constant, which the compiler sees through: other handles may allocate at each call. */
  private static final class Pread {
    private static final MethodHandle HANDLE =
        Linker.nativeLinker()
            .downcallHandle(
                Linker.nativeLinker().defaultLookup().findOrThrow("pread"),
                FunctionDescriptor.of(
                    ValueLayout.JAVA_LONG,
                    ValueLayout.JAVA_INT,
                    ValueLayout.JAVA_LONG,
                    ValueLayout.JAVA_LONG,
                    ValueLayout.JAVA_LONG),
                Linker.Option.captureCallState("errno"));
  }

  private final MethodHandle open;
  private final MethodHandle close;
  private final MethodHandle fadvise;
  private final Optional<MethodHandle> statx;

  private NativeFiles(Linker linker) {
    SymbolLookup symbols = linker.defaultLookup();
    Linker.Option capture = Linker.Option.captureCallState("errno");
    ValueLayout pointer = ValueLayout.JAVA_LONG;
    ValueLayout number = ValueLayout.JAVA_INT;
    open =
        linker.downcallHandle(
            symbols.findOrThrow("open"),
            FunctionDescriptor.of(number, ValueLayout.ADDRESS, number, number),
            capture,
            Linker.Option.firstVariadicArg(2));
    close =
        linker.downcallHandle(symbols.findOrThrow("close"), FunctionDescriptor.of(number, number));
    fadvise =
        linker.downcallHandle(
            symbols.findOrThrow("posix_fadvise"),
            FunctionDescriptor.of(number, number, pointer, pointer, number));
    statx =
        symbols
            .find("statx")
            .map(symbol ->
                linker.downcallHandle(
                    symbol,
                    FunctionDescriptor.of(
                        number, number, ValueLayout.ADDRESS, number, number, ValueLayout.ADDRESS)));
  }

  /** The system calls, if this JVM can make them. */
  static Optional<NativeFiles> get() {
    return Holder.INSTANCE;
  }

  private static Optional<NativeFiles> find() {
    if (NativeMemory.get().isEmpty()) {
      return Optional.empty();
    }
    Logger log = LoggerFactory.getLogger(NativeFiles.class);
    try {
      return Optional.of(new NativeFiles(Linker.nativeLinker()));
    } catch (RuntimeException e) {
      log.warn("No positional reads by system calls", e);
      return Optional.empty();
    }
  }

  /**
   * Opens a file for reading rows from it.
   *
   * @param pageCache false to bypass the page cache
   * @throws EngramException if the system refuses
   */
  PositionalFile open(Path file, boolean pageCache) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment state = arena.allocate(CALL_STATE);
      int flags = O_CLOEXEC | (pageCache ? 0 : O_DIRECT);
      int descriptor = (int) open.invokeExact(state, path(file, arena), flags, 0);
      if (descriptor < 0) {
        int error = (int) ERRNO.get(state, 0L);
        throw new EngramException(
            file
                + (!pageCache && error == EINVAL
                    ? ": its file system refuses reads that bypass the page cache (O_DIRECT);"
                        + " use DirectReads.buffered()"
                    : ": cannot be opened, " + describe(error)));
      }
      if (pageCache) {
        // Where the advice is not taken, reads fetch more than they need to.
        int ignored = (int) fadvise.invokeExact(descriptor, 0L, 0L, ADVICE_RANDOM);
        return new Opened(this, descriptor, 1);
      }
      return new Opened(this, descriptor, directAlignment(descriptor, arena));
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("system calls declare no exception", e);
    }
  }

  private static MemorySegment path(Path file, Arena arena) {
    Charset charset = Charset.forName(System.getProperty("sun.jnu.encoding", "UTF-8"));
    String name = file.toAbsolutePath().toString();
    byte[] bytes = name.getBytes(charset);
    if (!new String(bytes, charset).equals(name)) {
      throw new EngramException(file + ": the name has characters that are not in " + charset);
    }
    MemorySegment segment = arena.allocate(bytes.length + 1L);
    return segment.copyFrom(MemorySegment.ofArray(bytes));
  }

  /** What the file demands, or 4096, which nearly every disk takes, where it does not say. */
  private int directAlignment(int descriptor, Arena arena) throws Throwable {
    if (statx.isPresent()) {
      MemorySegment found = arena.allocate(STATX_BYTES, Long.BYTES);
      int result =
          (int)
              statx
                  .get()
                  .invokeExact(
                      descriptor, arena.allocateFrom(""), AT_EMPTY_PATH, STATX_DIOALIGN, found);
      if (result == 0 && (found.get(ValueLayout.JAVA_INT, 0) & STATX_DIOALIGN) != 0) {
        int alignment =
            Math.max(
                found.get(ValueLayout.JAVA_INT, STX_DIO_MEM_ALIGN),
                found.get(ValueLayout.JAVA_INT, STX_DIO_OFFSET_ALIGN));
        if (alignment > 0 && alignment <= ReadSeat.ALIGNMENT && Integer.bitCount(alignment) == 1) {
          return alignment;
        }
      }
    }
    return ReadSeat.ALIGNMENT;
  }

  /** An error number in words, as far as reading files goes. */
  static String describe(int error) {
    String words =
        switch (error) {
          case 1 -> "operation not permitted";
          case 2 -> "no such file";
          case EINTR -> "interrupted";
          case EIO -> "input/output error";
          case 13 -> "permission denied";
          case 21 -> "is a directory";
          case EINVAL -> "invalid argument";
          case 23, 24 -> "too many open files";
          case 116 -> "stale file handle";
          default -> "see errno(3)";
        };
    return "error " + error + " (" + words + ")";
  }

  private record Opened(NativeFiles os, int descriptor, int alignment) implements PositionalFile {
    @Override
    public long read(ReadSeat seat, int at, int bytes, long position) {
      MemorySegment state = seat.callState();
      try {
        long count =
            (long)
                Pread.HANDLE.invokeExact(
                    state, descriptor, seat.buffer().address() + at, (long) bytes, position);
        return count >= 0 ? count : -(int) ERRNO.get(state, 0L);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError("pread declares no exception", e);
      }
    }

    @Override
    public boolean readableByCallers() {
      return true;
    }

    @Override
    public void close() {
      try {
        int ignored = (int) os.close.invokeExact(descriptor);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError("close declares no exception", e);
      }
    }
  }
}
