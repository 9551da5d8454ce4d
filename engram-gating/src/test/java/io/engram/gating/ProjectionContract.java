// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.Dtype;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** What every {@link Projection} must do. */
abstract class ProjectionContract {
  /** In results whose memory a projection must not touch. */
  private static final float UNTOUCHED = 12345.5f;

  private static final int[] TOKENS =
      IntStream.concat(IntStream.rangeClosed(1, 17), IntStream.of(64, 100, 300)).toArray();

  /** What is under test. */
  abstract Projection pack(Tensor weights, int parts);

  /** Whether x is rounded to bfloat16 before it is multiplied with weights of this type. */
  boolean roundsRows(Dtype weights) {
    return false;
  }

  record Case(int outputs, int rowWidth, Dtype dtype) {}

  static Stream<Case> cases() {
    int[][] shapes = {
      {1, 1},
      {1, 64},
      {7, 5},
      {16, 16},
      {33, 77},
      {40, 64},
      {96, 48},
      {130, 131},
      {333, 250},
      {512, 1024},
      {1000, 96}
    };
    return Arrays.stream(shapes)
        .flatMap(shape ->
            Stream.of(Dtype.F32, Dtype.BF16).map(dtype -> new Case(shape[0], shape[1], dtype)));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void productsAreSumsOfProducts(Case c) {
    RandomGenerator random = Seeds.random("products " + c);
    try (Arena arena = Arena.ofShared()) {
      Tensor weights = random(arena, random, c.dtype, c.outputs, c.rowWidth);
      for (int parts = 1; parts <= 4; parts++) {
        Projection projection = pack(weights, parts);
        assertTrue(projection.parts() >= 1 && projection.parts() <= parts);
        for (int tokens : TOKENS) {
          MemorySegment x = random(arena, random, Dtype.F32, tokens, c.rowWidth).data();
          MemorySegment out = result(arena, tokens, c.outputs);
          for (int part = 0; part < projection.parts(); part++) {
            projection.multiply(part, x, tokens, out);
          }
          check(weights, x, tokens, out, roundsRows(c.dtype));
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void aPartWritesItsOwnColumnsAndNothingElse(Dtype dtype) {
    RandomGenerator random = Seeds.random("columns " + dtype);
    int outputs = 101;
    int rowWidth = 48;
    try (Arena arena = Arena.ofConfined()) {
      Tensor weights = random(arena, random, dtype, outputs, rowWidth);
      Projection projection = pack(weights, 3);
      assertEquals(3, projection.parts());
      for (int tokens : new int[] {0, 1, 6, 20}) {
        MemorySegment x = random(arena, random, Dtype.F32, tokens, rowWidth).data();
        // Room for one more token, which is nobody's.
        MemorySegment whole = result(arena, tokens + 1, outputs);
        int[] writers = new int[(tokens + 1) * outputs];
        for (int part = 0; part < 3; part++) {
          MemorySegment out = result(arena, tokens + 1, outputs);
          projection.multiply(part, x, tokens, out);
          int first = -1;
          int last = -1;
          for (int i = 0; i < writers.length; i++) {
            float value = out.getAtIndex(ValueLayout.JAVA_FLOAT, i);
            if (value != UNTOUCHED) {
              writers[i]++;
              whole.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
              first = first < 0 ? i % outputs : Math.min(first, i % outputs);
              last = Math.max(last, i % outputs);
            }
          }
          if (tokens > 0) {
            assertTrue(last - first < outputs - 1, "part " + part + " wrote every column");
          }
        }
        for (int i = 0; i < writers.length; i++) {
          assertEquals(i < tokens * outputs ? 1 : 0, writers[i], "writers of element " + i);
        }
        check(weights, x, tokens, whole, roundsRows(dtype));
      }
    }
  }

  @Test
  void whatResultsHeldBeforeDoesNotMatter() {
    RandomGenerator random = Seeds.random("results before");
    try (Arena arena = Arena.ofConfined()) {
      Tensor weights = random(arena, random, Dtype.F32, 40, 24);
      Projection projection = pack(weights, 1);
      for (int tokens : new int[] {1, 2, 9}) {
        MemorySegment x = random(arena, random, Dtype.F32, tokens, 24).data();
        for (float before : new float[] {Float.NaN, Float.POSITIVE_INFINITY, 1e30f}) {
          MemorySegment out = arena.allocate(tokens * 40L * 4, 64);
          for (int i = 0; i < tokens * 40; i++) {
            out.setAtIndex(ValueLayout.JAVA_FLOAT, i, before);
          }
          projection.multiply(0, x, tokens, out);
          check(weights, x, tokens, out, false);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void threadsDoNotDisturbEachOther(Dtype dtype) throws Exception {
    RandomGenerator random = Seeds.random("threads " + dtype);
    int outputs = 200;
    int rowWidth = 96;
    int threads = 6;
    try (Arena arena = Arena.ofShared();
        ExecutorService pool = Executors.newFixedThreadPool(threads)) {
      Tensor weights = random(arena, random, dtype, outputs, rowWidth);
      Projection projection = pack(weights, 3);
      List<Callable<Void>> jobs = new ArrayList<>();
      for (int thread = 0; thread < threads; thread++) {
        int[] sizes = random.ints(30, 1, 80).toArray();
        MemorySegment x = random(arena, random, Dtype.F32, 80, rowWidth).data();
        jobs.add(() -> {
          try (Arena own = Arena.ofConfined()) {
            for (int tokens : sizes) {
              MemorySegment out = result(own, tokens, outputs);
              for (int part = 0; part < projection.parts(); part++) {
                projection.multiply(part, x, tokens, out);
              }
              check(weights, x, tokens, out, roundsRows(dtype));
            }
          }
          return null;
        });
      }
      for (Future<Void> job : pool.invokeAll(jobs)) {
        job.get();
      }
    }
  }

  @Test
  void threadsMayShareOneResult() throws Exception {
    RandomGenerator random = Seeds.random("one result");
    try (Arena arena = Arena.ofShared();
        ExecutorService pool = Executors.newFixedThreadPool(4)) {
      Tensor weights = random(arena, random, Dtype.F32, 250, 64);
      Projection projection = pack(weights, 4);
      for (int round = 0; round < 20; round++) {
        MemorySegment x = random(arena, random, Dtype.F32, 33, 64).data();
        MemorySegment out = result(arena, 33, 250);
        List<Callable<Void>> jobs = new ArrayList<>();
        for (int part = 0; part < projection.parts(); part++) {
          int own = part;
          jobs.add(() -> {
            projection.multiply(own, x, 33, out);
            return null;
          });
        }
        for (Future<Void> job : pool.invokeAll(jobs)) {
          job.get();
        }
        check(weights, x, 33, out, false);
      }
    }
  }

  @Test
  void weightsMayLieAnywhere(@TempDir Path directory) throws Exception {
    RandomGenerator random = Seeds.random("weights anywhere");
    for (Dtype dtype : new Dtype[] {Dtype.F32, Dtype.BF16}) {
      try (Arena arena = Arena.ofConfined()) {
        Tensor weights = random(arena, random, dtype, 50, 40);
        byte[] bytes = weights.data().toArray(ValueLayout.JAVA_BYTE);
        MemorySegment odd = arena.allocate(bytes.length + 1L, 64).asSlice(1);
        odd.copyFrom(weights.data());
        Path file = Files.write(directory.resolve(dtype.name()), bytes);
        MemorySegment mapped;
        try (FileChannel channel = FileChannel.open(file)) {
          mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes.length, arena);
        }
        for (MemorySegment data : List.of(MemorySegment.ofArray(bytes), odd, mapped)) {
          Projection projection = pack(new Tensor(dtype, new long[] {50, 40}, data), 2);
          MemorySegment x = random(arena, random, Dtype.F32, 5, 40).data();
          MemorySegment out = result(arena, 5, 50);
          for (int part = 0; part < projection.parts(); part++) {
            projection.multiply(part, x, 5, out);
          }
          check(weights, x, 5, out, roundsRows(dtype));
        }
      }
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment memory = arena.allocate(1 << 14, 64);
      Tensor weights = new Tensor(Dtype.F32, new long[] {40, 8}, memory.asSlice(0, 40 * 8 * 4));
      Projection p = pack(weights, 2);
      Class<IndexOutOfBoundsException> refused = IndexOutOfBoundsException.class;
      assertThrows(refused, () -> p.multiply(-1, memory, 1, memory));
      assertThrows(refused, () -> p.multiply(p.parts(), memory, 1, memory));
      assertThrows(refused, () -> p.multiply(0, memory, -1, memory));
      assertThrows(refused, () -> p.multiply(0, memory.asSlice(0, 95), 3, memory));
      assertThrows(refused, () -> p.multiply(0, memory, 3, memory.asSlice(0, 479)));
      MemorySegment heap = MemorySegment.ofArray(new float[1000]);
      assertThrows(refused, () -> p.multiply(0, heap, 1, memory));
      assertThrows(refused, () -> p.multiply(0, memory, 1, heap));
      Tensor half = new Tensor(Dtype.F16, new long[] {4, 4}, memory.asSlice(0, 32));
      assertThrows(IllegalArgumentException.class, () -> pack(half, 1));
      Tensor line = new Tensor(Dtype.F32, new long[] {4}, memory.asSlice(0, 16));
      assertThrows(IllegalArgumentException.class, () -> pack(line, 1));
      assertThrows(IllegalArgumentException.class, () -> pack(weights, 0));
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = Dtype.class,
      names = {"F32", "BF16"})
  void theSteadyStateAllocatesNothing(Dtype dtype) {
    RandomGenerator random = Seeds.random("garbage " + dtype);
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (Arena arena = Arena.ofConfined()) {
      Projection projection = pack(random(arena, random, dtype, 64, 32), 2);
      MemorySegment x = random(arena, random, Dtype.F32, 140, 32).data();
      MemorySegment out = result(arena, 140, 64);
      int[] sizes = {1, 3, 64, 140};
      // Compiled code only: interpreted calls through the linker box what they are given.
      for (int i = 0; i < 30_000; i++) {
        round(projection, x, sizes, out);
      }
      long id = Thread.currentThread().threadId();
      long least = Long.MAX_VALUE;
      for (int attempt = 0; attempt < 20 && least > 0; attempt++) {
        long before = threads.getThreadAllocatedBytes(id);
        for (int i = 0; i < 100; i++) {
          round(projection, x, sizes, out);
        }
        least = Math.min(least, threads.getThreadAllocatedBytes(id) - before);
      }
      assertEquals(0, least, "bytes allocated by 800 products");
    }
  }

  private static void round(
      Projection projection, MemorySegment x, int[] sizes, MemorySegment out) {
    for (int tokens : sizes) {
      projection.multiply(0, x, tokens, out);
      projection.multiply(1, x, tokens, out);
    }
  }

  @Test
  void manyComeAndGo() throws Exception {
    RandomGenerator random = Seeds.random("come and go");
    try (Arena arena = Arena.ofConfined()) {
      Tensor weights = random(arena, random, Dtype.BF16, 48, 32);
      MemorySegment x = random(arena, random, Dtype.F32, 7, 32).data();
      for (int i = 0; i < 300; i++) {
        Projection projection = pack(weights, 2);
        MemorySegment out = result(arena, 7, 48);
        for (int part = 0; part < projection.parts(); part++) {
          projection.multiply(part, x, 7, out);
        }
        check(weights, x, 7, out, roundsRows(Dtype.BF16));
        if (i % 100 == 99) {
          System.gc();
          Thread.sleep(20);
        }
      }
    }
  }

  /** A tensor of normal numbers. */
  static Tensor random(Arena arena, RandomGenerator random, Dtype dtype, long rows, long columns) {
    MemorySegment data = arena.allocate(Math.max(1, rows * columns * dtype.bytes()), 64);
    data = data.asSlice(0, rows * columns * dtype.bytes());
    for (long i = 0; i < rows * columns; i++) {
      float value = (float) random.nextGaussian();
      if (dtype == Dtype.F32) {
        data.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
      } else {
        data.setAtIndex(ValueLayout.JAVA_SHORT, i, Bfloat16.toBits(value));
      }
    }
    return new Tensor(dtype, new long[] {rows, columns}, data);
  }

  static MemorySegment result(Arena arena, int tokens, int outputs) {
    MemorySegment out = arena.allocate((long) tokens * outputs * Float.BYTES, 64);
    for (long i = 0; i < (long) tokens * outputs; i++) {
      out.setAtIndex(ValueLayout.JAVA_FLOAT, i, UNTOUCHED);
    }
    return out;
  }

  /** Compares with sums in double precision; what was rounded before is rounded here too. */
  static void check(
      Tensor weights, MemorySegment x, int tokens, MemorySegment out, boolean rounded) {
    int outputs = (int) weights.shape()[0];
    int rowWidth = (int) weights.shape()[1];
    double[] w = new double[outputs * rowWidth];
    for (int i = 0; i < w.length; i++) {
      w[i] =
          weights.dtype() == Dtype.F32
              ? weights.data().getAtIndex(ValueLayout.JAVA_FLOAT, i)
              : Bfloat16.toFloat(weights.data().getAtIndex(ValueLayout.JAVA_SHORT, i));
    }
    double[] row = new double[rowWidth];
    for (int t = 0; t < tokens; t++) {
      for (int e = 0; e < rowWidth; e++) {
        float value = x.getAtIndex(ValueLayout.JAVA_FLOAT, (long) t * rowWidth + e);
        row[e] = rounded ? Bfloat16.toFloat(Bfloat16.toBits(value)) : value;
      }
      for (int o = 0; o < outputs; o++) {
        double sum = 0;
        double size = 0;
        for (int e = 0; e < rowWidth; e++) {
          double product = row[e] * w[o * rowWidth + e];
          sum += product;
          size += Math.abs(product);
        }
        float found = out.getAtIndex(ValueLayout.JAVA_FLOAT, (long) t * outputs + o);
        // Errors of single additions point either way, so that they add up like a random walk.
        double tolerance = (2 + Math.sqrt(rowWidth)) * 0x1p-24 * size;
        if (!(Math.abs(found - sum) <= tolerance)) {
          assertEquals(sum, found, tolerance, "token " + t + " output " + o + " of " + outputs);
        }
      }
    }
  }
}
