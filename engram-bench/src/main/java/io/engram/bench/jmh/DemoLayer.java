// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.GateConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.bench.jmh.rival.PythonRival;
import io.engram.gating.GateCall;
import io.engram.gating.GateKernel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/** A layer of the shape of the paper's demo, with weights and inputs drawn from a fixed seed. */
final class DemoLayer implements AutoCloseable {
  private static final long SEED = 20_260_122;

  /** bfloat16 has 8 bits: PyTorch rounds each of some dozen steps to them. */
  private static final double BF16_TOLERANCE = 0.04;

  private static final double F32_TOLERANCE = 1e-4;

  private final Arena arena = Arena.ofShared();
  private final GateConfig gate;
  private final Optional<ConvConfig> conv = EngramConfig.paper().build().conv();
  private final Dtype dtype;
  private final int tokens;
  private final int rowWidth;
  private final LayerWeights drawn;
  private final LayerWeights weights;
  private final MemorySegment rows;
  private final MemorySegment streams;

  /**
   * Draws a layer.
   *
   * @param dtype of the projection and the streams: F32 or BF16
   */
  DemoLayer(Dtype dtype, int tokens) {
    this(dtype, tokens, EngramConfig.paper().build().rowWidth());
  }

  /** The same with rows of another width. */
  DemoLayer(Dtype dtype, int tokens, int rowWidth) {
    this(dtype, tokens, EngramConfig.paper().build().gate(), rowWidth);
  }

  /** The same of any size. */
  DemoLayer(Dtype dtype, int tokens, int streams, int width, int rowWidth) {
    this(dtype, tokens, sized(EngramConfig.paper().build().gate(), streams, width), rowWidth);
  }

  private static GateConfig sized(GateConfig gate, int streams, int width) {
    return new GateConfig(
        streams,
        width,
        gate.bias(),
        gate.shape(),
        gate.zeroDot(),
        gate.normWeight(),
        gate.normEps(),
        gate.rounding(),
        gate.residual());
  }

  private DemoLayer(Dtype dtype, int tokens, GateConfig gate, int rowWidth) {
    this.gate = gate;
    this.dtype = dtype;
    this.tokens = tokens;
    this.rowWidth = rowWidth;
    LayerWeights initial = LayerWeights.initial(gate, conv, rowWidth, SEED, arena);
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(SEED + 1);
    // A new layer's convolution is zero, and a product with zero could be left out.
    MemorySegment kernel = initial.conv().orElseThrow().data();
    for (long at = 0; at < kernel.byteSize(); at += Float.BYTES) {
      kernel.set(ValueLayout.JAVA_FLOAT, at, random.nextFloat(-0.5f, 0.5f));
    }
    drawn = initial;
    weights =
        dtype == Dtype.F32
            ? initial
            : new LayerWeights(
                new Tensor(
                    Dtype.BF16, initial.projection().shape(), asBf16(initial.projection().data())),
                initial.bias(),
                initial.keyNorm(),
                initial.queryNorm(),
                initial.convNorm(),
                initial.conv());
    rows = normal(random, (long) tokens * rowWidth);
    MemorySegment wide = normal(random, (long) tokens * channels());
    streams = dtype == Dtype.F32 ? wide : asBf16(wide);
  }

  private MemorySegment normal(RandomGenerator random, long values) {
    MemorySegment data = arena.allocate(values * Float.BYTES, 64);
    for (long i = 0; i < values; i++) {
      data.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) random.nextGaussian());
    }
    return data;
  }

  private MemorySegment asBf16(MemorySegment floats) {
    long values = floats.byteSize() / Float.BYTES;
    MemorySegment narrow = arena.allocate(values * Short.BYTES, 64);
    for (long i = 0; i < values; i++) {
      int bits = floats.getAtIndex(ValueLayout.JAVA_INT, i);
      int rounded = bits + 0x7FFF + (bits >>> 16 & 1);
      narrow.setAtIndex(ValueLayout.JAVA_SHORT, i, (short) (rounded >>> 16));
    }
    return narrow;
  }

  /** Streams or results as float32, whatever they are. */
  MemorySegment asFloats(MemorySegment values) {
    if (dtype == Dtype.F32) {
      return values;
    }
    long count = values.byteSize() / Short.BYTES;
    MemorySegment wide = arena.allocate(count * Float.BYTES, 64);
    for (long i = 0; i < count; i++) {
      int bits = values.getAtIndex(ValueLayout.JAVA_SHORT, i) << 16;
      wide.setAtIndex(ValueLayout.JAVA_INT, i, bits);
    }
    return wide;
  }

  double tolerance() {
    return dtype == Dtype.F32 ? F32_TOLERANCE : BF16_TOLERANCE;
  }

  GateConfig gate() {
    return gate;
  }

  Optional<ConvConfig> conv() {
    return conv;
  }

  int rowWidth() {
    return rowWidth;
  }

  int channels() {
    return gate().streams() * gate().width();
  }

  LayerWeights weights() {
    return weights;
  }

  /** The projection in float32, as it was drawn. */
  MemorySegment projection() {
    return drawn.projection().data();
  }

  MemorySegment bias() {
    return drawn.bias().orElseThrow().data();
  }

  MemorySegment rows() {
    return rows;
  }

  MemorySegment streams() {
    return streams;
  }

  GateKernel kernel() {
    return GateKernel.of(gate(), conv(), rowWidth(), weights);
  }

  /** Normal draws of the size of the streams, in float32. */
  MemorySegment newGradient() {
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(SEED + 2);
    return normal(random, (long) tokens * channels());
  }

  /** Memory for so many floats. */
  MemorySegment newFloats(long count) {
    return arena.allocate(count * Float.BYTES, 64);
  }

  /** Zeros in the shape of the weights. */
  LayerWeights newGradients() {
    return LayerWeights.zeros(gate, conv, rowWidth, arena);
  }

  MemorySegment newOutput() {
    return arena.allocate(streams.byteSize(), 64);
  }

  GateCall call(MemorySegment out) {
    return GateCall.of(1, tokens, dtype, rows, streams, out);
  }

  /**
   * The same layer in PyTorch.
   *
   * @param mode eager or compiled
   * @param projection separate or fused
   */
  PythonRival python(int threads, String mode, String projection) {
    return python(PythonRival.start(threads), "layer", threads, mode, projection);
  }

  /** The same with its backward, for a gradient of its results. */
  PythonRival python(int threads, String mode, String projection, MemorySegment outGradient) {
    PythonRival python = PythonRival.start(threads);
    python.write("out_gradient", outGradient);
    return python(python, "layer-step", threads, mode, projection);
  }

  private PythonRival python(
      PythonRival python, String what, int threads, String mode, String projection) {
    python.write("projection", projection());
    python.write("bias", bias());
    python.write("key_norm", drawn.keyNorm().data());
    python.write("query_norm", drawn.queryNorm().data());
    python.write("conv_norm", drawn.convNorm().orElseThrow().data());
    python.write("conv", drawn.conv().orElseThrow().data());
    python.write("rows", rows);
    python.write("streams", asFloats(streams));
    String about =
        python.setup(
            "%s mode=%s projection=%s dtype=%s threads=%d tokens=%d streams=%d width=%d"
                    .formatted(
                        what,
                        mode,
                        projection,
                        dtype,
                        threads,
                        tokens,
                        gate().streams(),
                        gate().width())
                + " row_width=%d taps=%d dilation=%d eps=%s conv_eps=%s"
                    .formatted(
                        rowWidth(),
                        conv().orElseThrow().kernelSize(),
                        conv().orElseThrow().dilation(),
                        gate().normEps(),
                        conv().orElseThrow().normEps()));
    System.out.println("# " + about);
    return python;
  }

  @Override
  public void close() {
    arena.close();
  }
}
