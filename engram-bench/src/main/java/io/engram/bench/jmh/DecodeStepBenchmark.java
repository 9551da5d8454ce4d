// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.gating.ConvState;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import io.engram.hash.Lookback;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
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
 * One step of decoding with a memory of the paper's shape in RAM: microseconds a token.
 *
 * <pre>java --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
 *   -jar engram-bench/target/benchmarks.jar DecodeStep -prof gc</pre>
 *
 * <p>{@link #step} is all that a token needs in one layer: its row ids, its 16 rows, and
 * projection, gate and convolution with the state of its sequence; {@link #rows} is the first two
 * alone; {@link #gate} the last alone. {@link #lookback} is what the sequence carries from token to
 * token, a value that is made anew. Tokens are those of a real text. What {@code
 * gc.alloc.rate.norm} of {@code -prof gc} shows is bytes of garbage a token.
 */
@State(Scope.Benchmark)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 400, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
    value = 2,
    jvmArgsAppend = {Jvm.VECTOR, Jvm.NATIVE, Jvm.UNSAFE})
public class DecodeStepBenchmark {
  private static final int TOKENS = 4096;
  private static final int LAYER = 1;

  @Param("100000")
  long slotsPerHead;

  private final Arena arena = Arena.ofShared();
  private EngramMemory memory;
  private GateKernel kernel;
  private GateCall call;
  private MemorySegment retrieved;
  private MemorySegment delta;
  private int[] tokens;
  private Lookback[] pasts;
  private long[] rowIds;
  private int at;

  /** For JMH. */
  public DecodeStepBenchmark() {}

  /** Makes a memory and a hidden state. */
  @Setup
  public void prepare() {
    RealText text = RealText.of(TOKENS);
    tokens = text.raw();
    EngramConfig config =
        EngramConfig.paper()
            .vocabulary(text.map().size(), text.map().compressedSize())
            .slotsPerHead(slotsPerHead)
            .layers(LAYER)
            .build();
    memory = EngramMemory.create(config, text.map(), 1);
    kernel = GateKernel.load(memory, LAYER);
    pasts = new Lookback[TOKENS];
    for (int t = 0; t < TOKENS; t++) {
      pasts[t] = t == 0 ? Lookback.start() : pasts[t - 1].advance(tokens[t - 1]);
    }
    rowIds = new long[config.hashing().columns()];
    retrieved = arena.allocate((long) config.rowWidth() * Float.BYTES, 64);
    long channels = (long) config.gate().streams() * config.gate().width();
    MemorySegment streams = arena.allocate(channels * Float.BYTES, 64);
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(1);
    for (long i = 0; i < channels; i++) {
      streams.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
    }
    delta = arena.allocate(channels * Float.BYTES, 64);
    ConvState state = kernel.newState(0);
    call = GateCall.of(1, 1, Dtype.F32, retrieved, streams, delta).withStates(List.of(state));
    step();
  }

  /** Gives the memory back. */
  @TearDown
  public void close() {
    memory.close();
    arena.close();
  }

  /**
   * Everything.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment step() {
    rows();
    return gate();
  }

  /**
   * Row ids and rows.
   *
   * @return float32
   */
  @Benchmark
  public MemorySegment rows() {
    int t = at;
    at = (at + 1) % TOKENS;
    memory.rowIds(LAYER, tokens, t, 1, pasts[t], rowIds, 0);
    memory.table(LAYER).gather(rowIds, 0, rowIds.length, retrieved, 0, Dtype.F32);
    return retrieved;
  }

  /**
   * Projection, gate and convolution.
   *
   * @return what is added to the streams
   */
  @Benchmark
  public MemorySegment gate() {
    kernel.forward(call);
    return delta;
  }

  /**
   * The next look-back.
   *
   * @return the look-back
   */
  @Benchmark
  public Lookback lookback() {
    int t = at;
    at = (at + 1) % TOKENS;
    return pasts[t].advance(tokens[t]);
  }
}
