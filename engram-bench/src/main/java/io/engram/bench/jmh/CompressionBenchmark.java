// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.bench.jmh.rival.Needs;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.bench.jmh.rival.Rival;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Raw ids of a real text to compressed ones: nanoseconds a token, one thread.
 *
 * <pre>java -jar engram-bench/target/benchmarks.jar Compression</pre>
 *
 * <p>{@link #java} is {@link io.engram.vocab.TokenMap#map}, which checks every id; {@link #numpy}
 * is {@code numpy.take} of int32 into an array that is there, in the mode that does not check. Both
 * give the same ids, which is compared first. The rival's score divided by that of {@code java} is
 * how many times as fast the library is.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 4, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class CompressionBenchmark {
  /** Tokens of the text. */
  public static final int TOKENS = 16_384;

  private static final int ROUNDS = 100;

  RealText text;
  int[] out;

  /** For JMH. */
  public CompressionBenchmark() {}

  /** Tokenises the text and makes its token map. */
  @Setup
  public void prepare() {
    text = RealText.of(TOKENS);
    out = new int[TOKENS];
  }

  /**
   * The library.
   *
   * @return compressed ids
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS)
  public int[] java() {
    text.map().map(text.raw(), 0, TOKENS, out, 0);
    return out;
  }

  /**
   * NumPy.
   *
   * @param rival the process
   * @return nanoseconds by its own clock
   */
  @Benchmark
  @OperationsPerInvocation(TOKENS * ROUNDS)
  @Needs(Rival.NUMPY)
  public String numpy(InNumpy rival) {
    return rival.python.run(ROUNDS);
  }

  /** A process with NumPy on the same ids. */
  @State(Scope.Benchmark)
  public static class InNumpy {
    private PythonRival python;

    /** For JMH. */
    public InNumpy() {}

    /**
     * Starts it, and compares ids.
     *
     * @param base the text
     */
    @Setup
    public void start(CompressionBenchmark base) {
      python = PythonRival.start(1);
      python.write("map", base.text.map().toArray());
      python.write("ids", base.text.raw());
      python.setup("compress");
      Disagreement.check("numpy", MemorySegment.ofArray(base.text.compressed()), python.result());
    }

    /** Ends the process. */
    @TearDown
    public void close() {
      python.close();
    }
  }
}
