// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/**
 * The part of oneDNN's C interface that a matrix product takes. Pointers are numbers, so that none
 * is wrapped on the way.
 *
 * <p>Initialised only once {@link OneDnn#library} has returned.
 */
final class OneDnnFunctions {
  static final int F32 = 3;
  static final int BF16 = 2;

  static final int ROWS_ABOVE_EACH_OTHER = 2;
  static final int ANY_LAYOUT = 1;

  static final int SOURCE = 1;
  static final int RESULT = 17;
  static final int WEIGHTS = 33;
  static final int SCRATCH = 80;

  private static final int SUCCESS = 0;
  private static final int UNIMPLEMENTED = 3;
  private static final int CPU = 1;
  private static final int IN_ORDER = 1;
  private static final int SCRATCH_OF_CALLER = 1;
  private static final int QUERY_IMPLEMENTATION = 8;
  private static final int QUERY_WEIGHTS = 131;
  private static final int QUERY_SCRATCH = 136;

  private static final MemoryLayout LONG = ValueLayout.JAVA_LONG;
  private static final MemoryLayout INT = ValueLayout.JAVA_INT;
  private static final MemoryLayout ADDRESS = ValueLayout.ADDRESS;

  // Constants, which the compiler sees through: other handles may allocate at each call.
  private static final MethodHandle EXECUTE = link("dnnl_primitive_execute", LONG, LONG, INT, LONG);
  private static final MethodHandle WAIT = link("dnnl_stream_wait", LONG);
  private static final MethodHandle SET_MEMORY = link("dnnl_memory_set_data_handle", LONG, LONG);
  private static final MethodHandle GET_THREADS = link("omp_get_max_threads");
  private static final MethodHandle SET_THREADS =
      Linker.nativeLinker()
          .downcallHandle(
              OneDnn.library().findOrThrow("omp_set_num_threads"),
              FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));

  private static final Maker ENGINE = new Maker("dnnl_engine_create", INT, LONG);
  private static final Maker STREAM = new Maker("dnnl_stream_create", LONG, INT);
  private static final Maker LAYOUT =
      new Maker("dnnl_memory_desc_create_with_tag", INT, ADDRESS, INT, INT);
  private static final Maker STRIDES =
      new Maker("dnnl_memory_desc_create_with_strides", INT, ADDRESS, INT, ADDRESS);
  private static final Maker LAYOUT_COPY = new Maker("dnnl_memory_desc_clone", LONG);
  private static final Maker ATTRIBUTES = new Maker("dnnl_primitive_attr_create");
  private static final Maker PRODUCT =
      new Maker("dnnl_matmul_primitive_desc_create", LONG, LONG, LONG, LONG, LONG, LONG);
  private static final Maker REORDER =
      new Maker("dnnl_reorder_primitive_desc_create", LONG, LONG, LONG, LONG, LONG);
  private static final Maker PRIMITIVE = new Maker("dnnl_primitive_create", LONG);
  private static final Maker MEMORY = new Maker("dnnl_memory_create", LONG, LONG, LONG);
  private static final MethodHandle SET_SCRATCH =
      link("dnnl_primitive_attr_set_scratchpad_mode", LONG, INT);
  private static final MethodHandle QUERY =
      link("dnnl_primitive_desc_query", LONG, INT, INT, ADDRESS);
  private static final MethodHandle QUERY_LAYOUT =
      linkReturning(LONG, "dnnl_primitive_desc_query_md", LONG, INT, INT);
  private static final MethodHandle LAYOUT_BYTES =
      linkReturning(LONG, "dnnl_memory_desc_get_size", LONG);
  private static final MethodHandle VERSION = linkReturning(ADDRESS, "dnnl_version");
  private static final MethodHandle ISA = link("dnnl_get_effective_cpu_isa");

  /** Functions that release what the makers made. */
  private static final MethodHandle FREE_STREAM = link("dnnl_stream_destroy", LONG);

  private static final MethodHandle FREE_LAYOUT = link("dnnl_memory_desc_destroy", LONG);
  private static final MethodHandle FREE_ATTRIBUTES = link("dnnl_primitive_attr_destroy", LONG);
  private static final MethodHandle FREE_DESCRIPTION = link("dnnl_primitive_desc_destroy", LONG);
  private static final MethodHandle FREE_PRIMITIVE = link("dnnl_primitive_destroy", LONG);
  private static final MethodHandle FREE_MEMORY = link("dnnl_memory_destroy", LONG);

  /** The processor; the library's objects of this kind are shared by all threads. */
  private static final long ENGINE_OF_PROCESSOR = ENGINE.make(CPU, 0L);

  private OneDnnFunctions() {}

  /** A function whose first argument receives the address of what it makes. */
  private record Maker(String name, MethodHandle function) {
    Maker(String name, MemoryLayout... arguments) {
      this(
          name,
          link(
              name,
              Stream.concat(Stream.of(ADDRESS), Stream.of(arguments))
                  .toArray(MemoryLayout[]::new)));
    }

    long make(Object... arguments) {
      long made = makeIfThere(arguments);
      if (made == 0) {
        throw failure(name, UNIMPLEMENTED);
      }
      return made;
    }

    /** 0 if the library has no implementation for these arguments. */
    long makeIfThere(Object... arguments) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment made = arena.allocate(ValueLayout.JAVA_LONG);
        int status = (int) call(function, Stream.concat(Stream.of(made), Stream.of(arguments)));
        if (status == UNIMPLEMENTED) {
          return 0;
        }
        check(name, status);
        return made.get(ValueLayout.JAVA_LONG, 0);
      }
    }
  }

  private static MethodHandle link(String name, MemoryLayout... arguments) {
    return linkReturning(INT, name, arguments);
  }

  private static MethodHandle linkReturning(
      MemoryLayout result, String name, MemoryLayout... arguments) {
    SymbolLookup symbols = OneDnn.library();
    return Linker.nativeLinker()
        .downcallHandle(symbols.findOrThrow(name), FunctionDescriptor.of(result, arguments));
  }

  private static Object call(MethodHandle function, Stream<?> arguments) {
    try {
      return function.invokeWithArguments(arguments.toArray());
    } catch (Throwable e) {
      throw thrown(e);
    }
  }

  private static Object call(MethodHandle function, Object... arguments) {
    return call(function, Stream.of(arguments));
  }

  private static Error thrown(Throwable e) {
    switch (e) {
      case RuntimeException r -> throw r;
      case Error error -> throw error;
      default -> throw new AssertionError("C declares no exception", e);
    }
  }

  private static void check(String function, int status) {
    if (status != SUCCESS) {
      throw failure(function, status);
    }
  }

  private static IllegalStateException failure(String function, int status) {
    String words =
        switch (status) {
          case 1 -> "out of memory";
          case 2 -> "invalid arguments";
          case UNIMPLEMENTED -> "not implemented";
          case 5 -> "error while running";
          default -> "see dnnl_status_t";
        };
    return new IllegalStateException(
        "oneDNN: " + function + " returned " + status + " (" + words + ")");
  }

  /** Version of the library, such as 3.11.0. */
  static String version() {
    MemorySegment version =
        ((MemorySegment) call(VERSION)).reinterpret(3L * ValueLayout.JAVA_INT.byteSize());
    return version.getAtIndex(ValueLayout.JAVA_INT, 0)
        + "."
        + version.getAtIndex(ValueLayout.JAVA_INT, 1)
        + "."
        + version.getAtIndex(ValueLayout.JAVA_INT, 2);
  }

  /** Whether the processor multiplies bfloat16 numbers itself: AVX512_BF16, or what includes it. */
  static boolean multipliesBfloat16() {
    int avx512Bfloat16 = 0xe7;
    return ((int) call(ISA) & avx512Bfloat16) == avx512Bfloat16;
  }

  /** Threads that the library would take for a call of this thread. */
  static int threads() {
    try {
      return (int) GET_THREADS.invokeExact();
    } catch (Throwable e) {
      throw thrown(e);
    }
  }

  /** Sets them, for this thread alone. */
  static void setThreads(int threads) {
    try {
      SET_THREADS.invokeExact(threads);
    } catch (Throwable e) {
      throw thrown(e);
    }
  }

  /** Runs a primitive to its end. */
  static void execute(long primitive, long stream, int count, long arguments) {
    try {
      check(
          "dnnl_primitive_execute", (int) EXECUTE.invokeExact(primitive, stream, count, arguments));
      check("dnnl_stream_wait", (int) WAIT.invokeExact(stream));
    } catch (Throwable e) {
      throw thrown(e);
    }
  }

  /** Points a memory object at other memory. */
  static void setAddress(long memory, long address) {
    try {
      check("dnnl_memory_set_data_handle", (int) SET_MEMORY.invokeExact(memory, address));
    } catch (Throwable e) {
      throw thrown(e);
    }
  }

  /** Objects of the library that are released together. Thread-safe. */
  static final class Handles implements Runnable {
    private record Handle(long object, MethodHandle free) {}

    private final List<Handle> handles = new ArrayList<>();

    private synchronized long keep(long object, MethodHandle free) {
      handles.add(new Handle(object, free));
      return object;
    }

    /** Releases all, the last made first. */
    @Override
    public synchronized void run() {
      for (Handle handle : handles.reversed()) {
        call(handle.free, handle.object);
      }
      handles.clear();
    }

    long stream() {
      return keep(STREAM.make(ENGINE_OF_PROCESSOR, IN_ORDER), FREE_STREAM);
    }

    /** A matrix of whatever layout a product prefers. */
    long anyLayout(long rows, long columns, int type) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment sizes = arena.allocateFrom(ValueLayout.JAVA_LONG, rows, columns);
        return keep(LAYOUT.make(ROWS_ABOVE_EACH_OTHER, sizes, type, ANY_LAYOUT), FREE_LAYOUT);
      }
    }

    /** A matrix with the distances between its rows and columns, in elements. */
    long layout(long rows, long columns, int type, long rowStride, long columnStride) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment sizes = arena.allocateFrom(ValueLayout.JAVA_LONG, rows, columns);
        MemorySegment strides = arena.allocateFrom(ValueLayout.JAVA_LONG, rowStride, columnStride);
        return keep(STRIDES.make(ROWS_ABOVE_EACH_OTHER, sizes, type, strides), FREE_LAYOUT);
      }
    }

    long memory(long layout, long address) {
      return keep(MEMORY.make(layout, ENGINE_OF_PROCESSOR, address), FREE_MEMORY);
    }

    /**
     * Describes a product whose scratch the caller brings.
     *
     * @return 0 if there is no implementation
     */
    long product(long source, long weights, long result) {
      long attributes = keep(ATTRIBUTES.make(), FREE_ATTRIBUTES);
      check(
          "dnnl_primitive_attr_set_scratchpad_mode",
          (int) call(SET_SCRATCH, attributes, SCRATCH_OF_CALLER));
      long product =
          PRODUCT.makeIfThere(ENGINE_OF_PROCESSOR, source, weights, 0L, result, attributes);
      return product == 0 ? 0 : keep(product, FREE_DESCRIPTION);
    }

    /**
     * Describes a change of layout.
     *
     * @return 0 if there is no implementation
     */
    long reorder(long from, long to) {
      long reorder = REORDER.makeIfThere(from, ENGINE_OF_PROCESSOR, to, ENGINE_OF_PROCESSOR, 0L);
      return reorder == 0 ? 0 : keep(reorder, FREE_DESCRIPTION);
    }

    long primitive(long description) {
      return keep(PRIMITIVE.make(description), FREE_PRIMITIVE);
    }

    /** The layout that a product wants its weights in. */
    long weightsLayout(long product) {
      return keep(LAYOUT_COPY.make(layoutOf(product, QUERY_WEIGHTS)), FREE_LAYOUT);
    }

    /** The layout of a product's scratch. */
    long scratchLayout(long product) {
      return keep(LAYOUT_COPY.make(layoutOf(product, QUERY_SCRATCH)), FREE_LAYOUT);
    }

    private static long layoutOf(long description, int what) {
      return (long) call(QUERY_LAYOUT, description, what, 0);
    }
  }

  static long bytes(long layout) {
    return (long) call(LAYOUT_BYTES, layout);
  }

  /** What a description would be carried out by, such as {@code brg_matmul:avx2}. */
  static String implementation(long description) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment found = arena.allocate(ValueLayout.ADDRESS);
      check(
          "dnnl_primitive_desc_query",
          (int) call(QUERY, description, QUERY_IMPLEMENTATION, 0, found));
      return found.get(ValueLayout.ADDRESS, 0).reinterpret(Long.MAX_VALUE).getString(0);
    }
  }
}
