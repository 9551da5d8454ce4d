// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import org.nd4j.linalg.factory.Nd4j;

/**
 * Matrix products of row-major float32 matrices on heap arrays, by the OpenBLAS that ND4J's backend
 * has loaded. Called directly, since {@code Nd4j.gemm} adds 20 to 40 microseconds to a product that
 * takes 20, and a heap array would have to be copied first.
 *
 * <p>OpenBLAS is set to one thread: a model computes the shards of a batch at the same time, and
 * its sums are then the same ones each time.
 */
final class Blas {
  private static final int ROW_MAJOR = 101;
  private static final int AS_IS = 111;
  private static final int TRANSPOSED = 112;

  private static final MethodHandle SGEMM;

  static {
    Nd4j.getBackend();
    SymbolLookup loaded = SymbolLookup.loaderLookup();
    SGEMM =
        link(
            loaded,
            "cblas_sgemm",
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_FLOAT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT);
    try {
      link(loaded, "openblas_set_num_threads", ValueLayout.JAVA_INT).invokeExact(1);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("C declares no exception", e);
    }
  }

  private Blas() {}

  private static MethodHandle link(SymbolLookup loaded, String name, MemoryLayout... arguments) {
    MemorySegment function =
        loaded
            .find(name)
            .orElseThrow(() ->
                new IllegalStateException(
                    name
                        + " is not loaded: expected ND4J's CPU backend, found "
                        + Nd4j.getBackend().getClass().getName()
                        + "; put nd4j-native on the class path"));
    return Linker.nativeLinker()
        .downcallHandle(
            function, FunctionDescriptor.ofVoid(arguments), Linker.Option.critical(true));
  }

  /** A matrix: rows of {@code stride} values in an array, from an index on. */
  @SuppressWarnings("ArrayRecordComponent") // It is a view, and never compared.
  record Matrix(float[] values, int at, int stride) {
    private MemorySegment segment() {
      return MemorySegment.ofArray(values).asSlice((long) at * Float.BYTES);
    }
  }

  /** c [m, n] = a [m, k] * b [k, n] + beta * c. */
  static void product(int m, int n, int k, Matrix a, Matrix b, float beta, Matrix c) {
    multiply(AS_IS, AS_IS, m, n, k, 1, a, b, beta, c);
  }

  /** c [m, n] = alpha * a [m, k] * transposed b [n, k]. */
  static void byTransposed(int m, int n, int k, float alpha, Matrix a, Matrix b, Matrix c) {
    multiply(AS_IS, TRANSPOSED, m, n, k, alpha, a, b, 0, c);
  }

  /** c [m, n] = alpha * transposed a [k, m] * b [k, n] + beta * c. */
  static void transposedBy(
      int m, int n, int k, float alpha, Matrix a, Matrix b, float beta, Matrix c) {
    multiply(TRANSPOSED, AS_IS, m, n, k, alpha, a, b, beta, c);
  }

  /** c [m, n] = alpha * a [m, k] * b [k, n]. */
  static void scaled(int m, int n, int k, float alpha, Matrix a, Matrix b, Matrix c) {
    multiply(AS_IS, AS_IS, m, n, k, alpha, a, b, 0, c);
  }

  private static void multiply(
      int transA,
      int transB,
      int m,
      int n,
      int k,
      float alpha,
      Matrix a,
      Matrix b,
      float beta,
      Matrix c) {
    if (m == 0 || n == 0 || k == 0) {
      return;
    }
    try {
      SGEMM.invokeExact(
          ROW_MAJOR,
          transA,
          transB,
          m,
          n,
          k,
          alpha,
          a.segment(),
          a.stride,
          b.segment(),
          b.stride,
          beta,
          c.segment(),
          c.stride);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError("C declares no exception", e);
    }
  }
}
