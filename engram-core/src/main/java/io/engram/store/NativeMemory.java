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
  private static final int MAP_NORESERVE = 0x4000;
  private static final int MADV_RANDOM = 1;
  private static final int MADV_WILLNEED = 3;
  private static final int MADV_HUGEPAGE = 14;
  private static final int MADV_POPULATE_READ = 22;
  private static final int MADV_POPULATE_WRITE = 23;
  private static final Set<String> PROCESSORS = Set.of("amd64", "aarch64", "riscv64");

  /** What to assume where the page size cannot be asked for: none in common use is larger. */
  static final int LARGEST_PAGE = 1 << 16;

  /** A huge page, where pages are of 4 KiB. */
  static final int HUGE_PAGE = 2 << 20;

  private static final class Holder {
    private static final Optional<NativeMemory> INSTANCE = find();
  }

  private final MethodHandle mmap;
  private final MethodHandle munmap;
  private final MethodHandle madvise;
  private final MethodHandle madviseSegment;
  private final MethodHandle mincore;
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
    madviseSegment =
        linker.downcallHandle(
            symbols.findOrThrow("madvise"),
            FunctionDescriptor.of(number, ValueLayout.ADDRESS, pointer, number));
    mincore =
        linker.downcallHandle(
            symbols.findOrThrow("mincore"),
            FunctionDescriptor.of(number, pointer, pointer, ValueLayout.ADDRESS));
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
   * Zeroed memory whose pages come into being when they are first written: huge ones, if there is
   * room for one and the system grants them.
   *
   * @param arena unmaps it when it closes
   * @throws EngramException if the system refuses
   */
  MemorySegment map(long bytes, Arena arena) {
    long spare = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    long mapped = Math.addExact(bytes, spare);
    long address;
    try (Arena call = Arena.ofConfined()) {
      MemorySegment state = call.allocate(callState);
      address =
          (long)
              mmap.invokeExact(
                  state,
                  0L,
                  mapped,
                  PROT_READ | PROT_WRITE,
                  // A table of which little is written may be larger than memory.
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1,
                  0L);
      if (address == -1) {
        throw new EngramException(
            "mmap of " + mapped + " bytes failed with errno " + (int) errno.get(state, 0L));
      }
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("mmap declares no exception", e);
    }
    long start = address;
    MemorySegment whole =
        MemorySegment.ofAddress(start).reinterpret(mapped, arena, memory -> unmap(start, mapped));
    if (spare == 0) {
      return whole;
    }
    MemorySegment aligned = whole.asSlice(-start & (HUGE_PAGE - 1), bytes);
    // A page of the unused end would be none of ours.
    long huge = bytes & -HUGE_PAGE;
    advise(aligned.address(), aligned.address() + huge, MADV_HUGEPAGE);
    return aligned;
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
    return memory.byteSize() == 0
        || advise(memory.address(), memory.address() + memory.byteSize(), MADV_RANDOM);
  }

  /**
   * Asks the system to begin reading what a file mapping shows, without waiting for it.
   *
   * <p>It takes addresses, so as not to allocate: if the memory is unmapped meanwhile, the advice
   * is refused, or of no consequence where something else has been mapped.
   *
   * @param begin first address
   * @param end address after the last
   * @return whether the system took the advice
   */
  boolean adviseWillNeed(long begin, long end) {
    return advise(begin, end, MADV_WILLNEED);
  }

  /** Reads what a file mapping shows and maps its pages, if the system can do that. */
  boolean populateRead(long begin, long end) {
    return advise(begin, end, MADV_POPULATE_READ);
  }

  /**
   * Makes the pages of anonymous memory without changing its contents, if the system can.
   *
   * @param memory begins at a page
   */
  boolean populateWrite(MemorySegment memory) {
    try {
      // Keeps the memory mapped meanwhile: what came to lie there would be written to.
      return (int) madviseSegment.invokeExact(memory, memory.byteSize(), MADV_POPULATE_WRITE) == 0;
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("madvise declares no exception", e);
    }
  }

  private boolean advise(long from, long to, int advice) {
    long mask = pageSize - 1L;
    long begin = from & ~mask;
    long end = (to + mask) & ~mask;
    try {
      return (int) madvise.invokeExact(begin, end - begin, advice) == 0;
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("madvise declares no exception", e);
    }
  }

  /**
   * Counts pages of a mapping that are in memory.
   *
   * @param begin first address
   * @param end address after the last
   * @param flags room for one byte per page
   * @return the number of pages, or -1 if the system does not say
   */
  long residentPages(long begin, long end, MemorySegment flags) {
    long first = begin & ~(pageSize - 1L);
    int result;
    try {
      result = (int) mincore.invokeExact(first, end - first, flags);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("mincore declares no exception", e);
    }
    if (result != 0) {
      return -1;
    }
    long resident = 0;
    long pages = (end - first + pageSize - 1) / pageSize;
    for (long i = 0; i < pages; i++) {
      resident += flags.get(ValueLayout.JAVA_BYTE, i) & 1;
    }
    return resident;
  }
}
