// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.ref.Reference;
import java.util.List;

/**
 * Projections by OpenBLAS: {@code cblas_sgemm}, and {@code cblas_sgemv} for a single token. F32
 * weights are used where they lie, and using a projection whose weights' arena is closed throws an
 * {@link IllegalStateException}; BF16 weights are widened once, to twice their size.
 *
 * <p>The library is this class's own copy of the one in JavaCPP's preset, which ND4J brings along:
 * it runs on the calling thread alone, and ND4J's keeps its threads.
 */
final class OpenBlas {
  private static final BundledLibrary BUNDLE =
      new BundledLibrary(
          "OpenBLAS",
          "org.bytedeco:openblas:0.3.31-1.5.13",
          "org/bytedeco/openblas",
          "libopenblas.so.0",
          List.of("libgcc_s.so.1", "libquadmath.so.0", "libgfortran.so.5"),
          List.of());

  private static final int ROW_MAJOR = 101;
  private static final int AS_IS = 111;
  private static final int TRANSPOSED = 112;

  private OpenBlas() {}

  /** The library, or why it cannot be had. */
  private static final class Library {
    private static final SymbolLookup SYMBOLS;
    private static final IllegalStateException FAILURE;

    static {
      SymbolLookup symbols = null;
      IllegalStateException failure = null;
      try {
        symbols = BUNDLE.open();
      } catch (IllegalStateException e) {
        failure = e;
      }
      SYMBOLS = symbols;
      FAILURE = failure;
    }
  }

  /** The functions. Constants, which the compiler sees through: nothing is boxed. */
  private static final class Functions {
    private static final MethodHandle SGEMM =
        link(
            "cblas_sgemm",
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_INT);
    private static final MethodHandle SGEMV =
        link(
            "cblas_sgemv",
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.JAVA_LONG,
            ValueLayout.JAVA_INT);

    static {
      try {
        link("openblas_set_num_threads", ValueLayout.JAVA_INT).invokeExact(1);
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError("C declares no exception", e);
      }
    }

    private static MethodHandle link(String name, MemoryLayout... arguments) {
      return Linker.nativeLinker()
          .downcallHandle(Library.SYMBOLS.findOrThrow(name), FunctionDescriptor.ofVoid(arguments));
    }
  }

  /**
   * Makes a projection.
   *
   * @param weights F32 or BF16 [outputs, rowWidth]; F32 in native memory that all threads may touch
   *     must stay as it is, and open, while the projection is used
   * @param parts ranges of outputs that are wanted
   * @return the projection
   * @throws IllegalStateException if the library cannot be had; the message says what to add
   */
  static Projection pack(Tensor weights, int parts) {
    if (Library.FAILURE != null) {
      throw new IllegalStateException(Library.FAILURE.getMessage(), Library.FAILURE);
    }
    DenseWeights dense = DenseWeights.of(weights);
    boolean inPlace =
        dense.dtype() == Dtype.F32 && dense.isReadableInPlace() && Memory.isShared(weights.data());
    MemorySegment memory =
        inPlace ? weights.data() : dense.floats(0, dense.outputs(), Arena.ofAuto());
    OutputParts ranges = OutputParts.of(dense.outputs(), parts);
    MemorySegment[] rows = new MemorySegment[ranges.count()];
    for (int part = 0; part < rows.length; part++) {
      rows[part] = memory.asSlice((long) ranges.first(part) * dense.rowWidth() * Float.BYTES);
    }
    return new Product(ranges, dense.rowWidth(), rows);
  }

  private static final class Product implements Projection {
    private final OutputParts ranges;
    private final int rowWidth;

    /** By part: the linker keeps their memory open during a call. */
    private final MemorySegment[] weights;

    Product(OutputParts ranges, int rowWidth, MemorySegment[] weights) {
      this.ranges = ranges;
      this.rowWidth = rowWidth;
      this.weights = weights;
    }

    @Override
    public int parts() {
      return ranges.count();
    }

    @Override
    public void multiply(int part, MemorySegment x, int tokens, MemorySegment out) {
      ranges.check(part, x, rowWidth, tokens, out);
      if (tokens == 0) {
        return;
      }
      MemorySegment w = weights[part];
      long y = out.address() + (long) ranges.first(part) * Float.BYTES;
      try {
        if (tokens == 1) {
          Functions.SGEMV.invokeExact(
              ROW_MAJOR,
              AS_IS,
              ranges.size(part),
              rowWidth,
              1f,
              w,
              rowWidth,
              x.address(),
              1,
              0f,
              y,
              1);
        } else {
          Functions.SGEMM.invokeExact(
              ROW_MAJOR,
              AS_IS,
              TRANSPOSED,
              tokens,
              ranges.size(part),
              rowWidth,
              1f,
              x.address(),
              rowWidth,
              w,
              rowWidth,
              0f,
              y,
              ranges.outputs());
        }
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError("C declares no exception", e);
      } finally {
        Reference.reachabilityFence(x);
        Reference.reachabilityFence(out);
      }
    }
  }
}
