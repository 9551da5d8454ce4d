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
import java.util.Optional;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The few system calls on memory that the JDK has no method for, where the platform is known to
 * have them: Linux on processors that share the numbers below. Everything here has a way to do
 * without.
 *
 * <p>Thread-safe.
 */
final class NativeMemory {
  private static final int PROT_READ = 1;
  private static final int PROT_WRITE = 2;
  private static final int MAP_PRIVATE = 2;
  private static final int MAP_ANONYMOUS = 0x20;
  private static final int MADV_RANDOM = 1;
  private static final Set<String> PROCESSORS = Set.of("amd64", "aarch64", "riscv64");

  /** What to assume where the page size cannot be asked for: none in common use is larger. */
  static final int LARGEST_PAGE = 1 << 16;

  private static final class Holder {
    private static final Optional<NativeMemory> INSTANCE = find();
  }

  private final MethodHandle mmap;
  private final MethodHandle munmap;
  private final MethodHandle madvise;
  private final VarHandle errno;
  private final MemoryLayout callState;
  private final int pageSize;

  private NativeMemory(Linker linker) throws Throwable {
    SymbolLookup symbols = linker.defaultLookup();
    Linker.Option capture = Linker.Option.captureCallState("errno");
    callState = Linker.Option.captureStateLayout();
    errno = callState.varHandle(MemoryLayout.PathElement.groupElement("errno"));
    ValueLayout pointer = ValueLayout.JAVA_LONG;
    ValueLayout number = ValueLayout.JAVA_INT;
    mmap =
        linker.downcallHandle(
            symbols.findOrThrow("mmap"),
            FunctionDescriptor.of(pointer, pointer, pointer, number, number, number, pointer),
            capture);
    munmap =
        linker.downcallHandle(
            symbols.findOrThrow("munmap"), FunctionDescriptor.of(number, pointer, pointer));
    madvise =
        linker.downcallHandle(
            symbols.findOrThrow("madvise"),
            FunctionDescriptor.of(number, pointer, pointer, number));
    pageSize =
        (int)
            linker
                .downcallHandle(symbols.findOrThrow("getpagesize"), FunctionDescriptor.of(number))
                .invokeExact();
  }

  /** The system calls, if this JVM can make them. */
  static Optional<NativeMemory> get() {
    return Holder.INSTANCE;
  }

  private static Optional<NativeMemory> find() {
    Logger log = LoggerFactory.getLogger(NativeMemory.class);
    String platform = System.getProperty("os.name") + " on " + System.getProperty("os.arch");
    if (!System.getProperty("os.name").equals("Linux")
        || !PROCESSORS.contains(System.getProperty("os.arch"))) {
      log.debug("No madvise and no anonymous mappings: {}", platform);
      return Optional.empty();
    }
    try {
      return Optional.of(new NativeMemory(Linker.nativeLinker()));
    } catch (IllegalCallerException e) {
      Module module = NativeMemory.class.getModule();
      log.warn(
          "No madvise and no anonymous mappings, because native access is denied: add"
              + " --enable-native-access={}",
          module.isNamed() ? module.getName() : "ALL-UNNAMED");
      return Optional.empty();
    } catch (Error e) {
      throw e;
    } catch (Throwable e) {
      log.warn("No madvise and no anonymous mappings on {}", platform, e);
      return Optional.empty();
    }
  }

  int pageSize() {
    return pageSize;
  }

  /**
   * Zeroed memory whose pages come into being when they are first written.
   *
   * @param arena unmaps it when it closes
   * @throws EngramException if the system refuses
   */
  MemorySegment map(long bytes, Arena arena) {
    long address;
    try (Arena call = Arena.ofConfined()) {
      MemorySegment state = call.allocate(callState);
      address =
          (long)
              mmap.invokeExact(
                  state, 0L, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
      if (address == -1) {
        throw new EngramException(
            "mmap of " + bytes + " bytes failed with errno " + (int) errno.get(state, 0L));
      }
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("mmap declares no exception", e);
    }
    return MemorySegment.ofAddress(address)
        .reinterpret(bytes, arena, memory -> unmap(memory.address(), bytes));
  }

  private void unmap(long address, long bytes) {
    int result;
    try {
      result = (int) munmap.invokeExact(address, bytes);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("munmap declares no exception", e);
    }
    if (result != 0) {
      throw new EngramException("munmap of " + bytes + " bytes at " + address + " failed");
    }
  }

  /**
   * Tells the system that single rows will be read, so that it does not read ahead.
   *
   * @param memory mapped memory; rounded to whole pages
   * @return whether the system took the advice
   */
  boolean adviseRandom(MemorySegment memory) {
    if (memory.byteSize() == 0) {
      return true;
    }
    long mask = pageSize - 1L;
    long begin = memory.address() & ~mask;
    long end = (memory.address() + memory.byteSize() + mask) & ~mask;
    try {
      return (int) madvise.invokeExact(begin, end - begin, MADV_RANDOM) == 0;
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("madvise declares no exception", e);
    }
  }
}
