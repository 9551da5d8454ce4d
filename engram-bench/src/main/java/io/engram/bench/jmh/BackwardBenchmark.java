// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.LayerWeights;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.gating.GateTape;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Forward and backward of a layer: microseconds for both. Gradients of the rows, the streams and
 * all weights, all in float32.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar Backward -p shape=demo,small</pre>
 *
 * <p>{@code shape} is {@code demo}, the paper's demo (rows 1,024 wide, 4 streams of 1,024) with 512
 * tokens, or {@code small}, a model that trains on a few cores (rows 128 wide, one stream of 128)
 * with 2,048; {@code tokens} says how many instead, all of one sequence. Both have biases and the
 * convolution.
 *
 * <p>{@link #java} is {@link GateKernel} with a tape, its gradients set to zero first; {@link
 * #forward} is the forward alone, without a tape. {@link #torch}, {@link #torchFused} and {@link
 * #torchCompiled} are automatic differentiation of the formula of docs/variants.md by PyTorch, as
 * {@link LayerBenchmark} has it, whose gradients are written anew each time. The gradients of rows,
 * streams and projection are compared first.
 *
 * <p>{@code threads} is what PyTorch is given, 0 for one a processor; the library takes the common
 * pool. The score of {@code java} divided by a rival's is the share of the rival's time that the
 * library takes.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 500, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 1,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class BackwardBenchmark {
  private static final int ROUNDS = 2;

  /** A dot product near zero, of keys that differ in their last bits, has a steep root. */
  private static final double TOLERANCE = 1e-3;

  @Param({"demo", "small"})
  String shape;

  /** 0 for what the shape says. */
  @Param("0")
  int tokens;

  @Param("0")
  int threads;

  DemoLayer layer;
  GateKernel kernel;
  GateTape tape;
  GateCall call;
  MemorySegment outGradient;
  MemorySegment rowsGradient;
  MemorySegment streamsGradient;
  LayerWeights gradients;

  /** For JMH. */
  public BackwardBenchmark() {}

  /** Makes weights, inputs and the gradient of the result. */
  @Setup
  public void prepare() {
    layer =
        switch (shape) {
          case "demo" -> new DemoLayer(Dtype.F32, tokens > 0 ? tokens : 512, 4, 1024, 1024);
          case "small" -> new DemoLayer(Dtype.F32, tokens > 0 ? tokens : 2048, 1, 128, 128);
          default -> throw new IllegalArgumentException("shape " + shape + " is unknown");
        };
    kernel = layer.kernel();
    tape = kernel.newTape();
    call = layer.call(layer.newOutput());
    outGradient = layer.newGradient();
    rowsGradient = layer.newFloats(call.rows().byteSize() / Float.BYTES);
    streamsGradient = layer.newFloats(call.streams().byteSize() / Float.BYTES);
    gradients = layer.newGradients();
    java();
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    layer.close();
  }

  /**
   * The library.
   *
   * @return the gradient of the streams
   */
  @Benchmark
  public MemorySegment java() {
    gradients.projection().data().fill((byte) 0);
    gradients.bias().ifPresent(t -> t.data().fill((byte) 0));
    gradients.keyNorm().data().fill((byte) 0);
    gradients.queryNorm().data().fill((byte) 0);
    gradients.convNorm().ifPresent(t -> t.data().fill((byte) 0));
    gradients.conv().ifPresent(t -> t.data().fill((byte) 0));
    kernel.forward(call, tape);
    kernel.backward(tape, outGradient, rowsGradient, streamsGradient, gradients);
    return streamsGradient;
  }

  /**
   * The library's forward alone.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment forward() {
    kernel.forward(call);
    return call.out();
  }

  /**
   * PyTorch, eager.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(ROUNDS)
  @Needs(Rival.TORCH)
  public String torch(Eager rival) {
    return rival.python.run(ROUNDS);
  }

  /**
   * PyTorch, eager, all projections in one.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(ROUNDS)
  @Needs(Rival.TORCH)
  public String torchFused(EagerFused rival) {
    return rival.python.run(ROUNDS);
  }

  /**
   * PyTorch, compiled.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(ROUNDS)
  @Needs(Rival.TORCH)
  public String torchCompiled(Compiled rival) {
    return rival.python.run(ROUNDS);
  }

  private PythonRival python(String mode, String projection) {
    int count = threads > 0 ? threads : Runtime.getRuntime().availableProcessors();
    PythonRival python = layer.python(count, mode, projection, outGradient);
    MemorySegment theirs = python.result();
    long at = 0;
    for (MemorySegment ours :
        new MemorySegment[] {streamsGradient, rowsGradient, gradients.projection().data()}) {
      Disagreement.check(
          "PyTorch's backward, " + mode + ", " + projection,
          ours,
          theirs.asSlice(at, ours.byteSize()),
          TOLERANCE);
      at += ours.byteSize();
    }
    return python;
  }

  /** PyTorch, eager. */
  @State(Scope.Benchmark)
  public static class Eager {
    private PythonRival python;

    /** For JMH. */
    public Eager() {}

    /**
     * Starts it, and compares gradients.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(BackwardBenchmark base) {
      python = base.python("eager", "separate");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }

  /** PyTorch, eager, all projections in one. */
  @State(Scope.Benchmark)
  public static class EagerFused {
    private PythonRival python;

    /** For JMH. */
    public EagerFused() {}

    /**
     * Starts it, and compares gradients.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(BackwardBenchmark base) {
      python = base.python("eager", "fused");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }

  /** PyTorch, compiled. */
  @State(Scope.Benchmark)
  public static class Compiled {
    private PythonRival python;

    /** For JMH. */
    public Compiled() {}

    /**
     * Starts it, compiles, and compares gradients.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(BackwardBenchmark base) {
      python = base.python("compiled", "separate");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }
}
