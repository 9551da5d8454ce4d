// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.Rival;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.TimeUnit;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * The parts of the layer of the paper's demo: microseconds a call.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar GateBenchmark -p tokens=1,16,128,512,2048</pre>
 *
 * <p>{@link #fused} is the whole layer by {@link GateKernel}, projection and gate together over
 * each block of tokens. {@link #gate} is the same kernel for rows of {@value #NARROW} values in
 * place of 1,024: norms, gates, convolution and all that is written, with a projection of less than
 * 1 % of the work. {@link #project} is ND4J's matrix product of all keys and the value, in float32,
 * with a bias, into an array that is there. The score of {@code fused} divided by the sum of the
 * other two is what doing both at once is worth; {@code weights} changes {@code fused} and {@code
 * gate} only.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class GateBenchmark {
  /** Values of a row where the projection is to cost nothing. */
  public static final int NARROW = 8;

  @Param({"1", "512"})
  int tokens;

  @Param("F32")
  Dtype weights;

  private DemoLayer layer;
  private DemoLayer narrow;
  private GateKernel fusedKernel;
  private GateKernel gateKernel;
  private GateCall fusedCall;
  private GateCall gateCall;
  private MemorySegment out;

  /** For JMH. */
  public GateBenchmark() {}

  /** Makes weights and inputs. */
  @Setup
  public void prepare() {
    layer = new DemoLayer(weights, tokens);
    narrow = new DemoLayer(weights, tokens, NARROW);
    out = layer.newOutput();
    fusedKernel = layer.kernel();
    gateKernel = narrow.kernel();
    fusedCall = layer.call(out);
    gateCall = narrow.call(out);
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    layer.close();
    narrow.close();
  }

  /**
   * Everything.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment fused() {
    fusedKernel.forward(fusedCall);
    return out;
  }

  /**
   * Everything but the projection.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment gate() {
    gateKernel.forward(gateCall);
    return out;
  }

  /**
   * The projection by ND4J.
   *
   * @param rival arrays
   * @return keys and value
   */
  @Benchmark
  @Needs(Rival.ND4J)
  public INDArray project(InNd4j rival) {
    rival.rows.mmuli(rival.matrix, rival.product);
    return rival.product.addiRowVector(rival.bias);
  }

  /** The projection's arrays. */
  @State(Scope.Benchmark)
  public static class InNd4j {
    private INDArray rows;
    private INDArray matrix;
    private INDArray bias;
    private INDArray product;

    /** For JMH. */
    public InNd4j() {}

    /**
     * Makes arrays.
     *
     * @param base weights and inputs
     */
    @Setup
    public void prepare(GateBenchmark base) {
      DemoLayer layer = base.layer;
      int inputs = layer.rowWidth();
      int outputs = layer.gate().projectionRows();
      float[] values = layer.projection().toArray(ValueLayout.JAVA_FLOAT);
      matrix = Nd4j.create(values, new long[] {outputs, inputs}, 'c').transpose();
      bias = Nd4j.create(layer.bias().toArray(ValueLayout.JAVA_FLOAT));
      float[] inRows = layer.rows().toArray(ValueLayout.JAVA_FLOAT);
      rows = Nd4j.create(inRows, new long[] {base.tokens, inputs}, 'c');
      product = Nd4j.create(new long[] {base.tokens, outputs}, 'f');
    }
  }
}
