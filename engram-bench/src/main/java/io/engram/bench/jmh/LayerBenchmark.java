// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import io.engram.gating.EngramLayer;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.TimeUnit;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
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
 * The whole layer at the shape of the paper's demo (rows 1,024 wide, 4 streams of 1,024, biases,
 * convolution of 4 taps with dilation 3): microseconds a call.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar Layer \
 *   -p tokens=1,16,128,512,2048 -p weights=F32,BF16</pre>
 *
 * <p>{@link #java} is {@link GateKernel} on memory segments; {@link #nd4j} is {@link EngramLayer}
 * with ND4J's operations; {@link #torch}, {@link #torchFused} and {@link #torchCompiled} are the
 * formula of docs/variants.md in PyTorch under {@code inference_mode}, with one linear map for each
 * key and the value as the paper's demo has it, with all of them in one, and with {@code
 * torch.compile} of the former. {@code weights} is the dtype of the projection. In bfloat16 the
 * streams are bfloat16 too, on all sides; PyTorch then computes everything in it, while the library
 * takes float32 rows and sums in float32. Inputs are normal draws, the weights those of a new layer
 * with a convolution that is not zero. Results are compared first.
 *
 * <p>{@code threads} is what PyTorch is given; the library takes the common pool, whose size is the
 * processors' unless {@code -jvmArgsAppend
 * -Djava.util.concurrent.ForkJoinPool.common.parallelism=N} or {@code -XX:ActiveProcessorCount=N}
 * says otherwise. Kernels that the library may choose from are forced the same way: {@code
 * -jvmArgsAppend -Dengram.projection=...}.
 *
 * <p>The score of {@code java} divided by a rival's is the share of the rival's time that the
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
public class LayerBenchmark {
  /** Rounds that Python does in its own loop: a call takes milliseconds, the pipe little. */
  private static final int ROUNDS = 4;

  @Param({"1", "512"})
  int tokens;

  @Param("F32")
  Dtype weights;

  @Param("0")
  int threads;

  DemoLayer layer;
  MemorySegment out;
  GateCall call;
  GateKernel kernel;

  /** For JMH. */
  public LayerBenchmark() {}

  /** Makes weights and inputs. */
  @Setup
  public void prepare() {
    layer = new DemoLayer(weights, tokens);
    kernel = layer.kernel();
    out = layer.newOutput();
    call = layer.call(out);
    kernel.forward(call);
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    layer.close();
  }

  /**
   * The library.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment java() {
    kernel.forward(call);
    return out;
  }

  /**
   * ND4J's operations.
   *
   * @param rival arrays and layer
   * @return what is added to the streams
   */
  @Benchmark
  @Needs(Rival.ND4J)
  public INDArray nd4j(InNd4j rival) {
    return rival.layer.forward(rival.streams, rival.rows);
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
    PythonRival python = layer.python(count, mode, projection);
    Disagreement.check(
        "PyTorch, " + mode + ", " + projection,
        layer.asFloats(out),
        python.result(),
        layer.tolerance());
    return python;
  }

  /** The layer on ND4J's arrays. */
  @State(Scope.Benchmark)
  public static class InNd4j {
    private EngramLayer layer;
    private INDArray rows;
    private INDArray streams;

    /** For JMH. */
    public InNd4j() {}

    /**
     * Makes arrays, and compares results.
     *
     * @param base weights and inputs
     */
    @Setup
    public void prepare(LayerBenchmark base) {
      DemoLayer demo = base.layer;
      layer =
          EngramLayer.of(
              demo.gate(), demo.conv(), demo.rowWidth(), demo.weights(), EngramLayer.Engine.ND4J);
      DataType type = base.weights == Dtype.BF16 ? DataType.BFLOAT16 : DataType.FLOAT;
      rows =
          Nd4j.create(
              demo.rows().toArray(ValueLayout.JAVA_FLOAT),
              new long[] {1, base.tokens, demo.rowWidth()},
              'c');
      streams =
          Nd4j.create(
                  demo.asFloats(demo.streams()).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED),
                  new long[] {1, base.tokens, demo.gate().streams(), demo.gate().width()},
                  'c')
              .castTo(type);
      float[] result = layer.forward(streams, rows).castTo(DataType.FLOAT).ravel().toFloatVector();
      Disagreement.check(
          "ND4J", demo.asFloats(base.out), MemorySegment.ofArray(result), demo.tolerance());
    }
  }

  /** PyTorch, eager. */
  @State(Scope.Benchmark)
  public static class Eager {
    private PythonRival python;

    /** For JMH. */
    public Eager() {}

    /**
     * Starts it, and compares results.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(LayerBenchmark base) {
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
     * Starts it, and compares results.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(LayerBenchmark base) {
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
     * Starts it, compiles, and compares results.
     *
     * @param base weights and inputs
     */
    @Setup
    public void start(LayerBenchmark base) {
      python = base.python("compiled", "separate");
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }
}
