// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.table.NarrowFloat;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Objects;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * The dense weights of one layer in one canonical form, whatever names and shapes a checkpoint has.
 * S is streams, W width, E the row width (columns * head dim), K the taps of the convolution.
 *
 * @param projection F32, BF16 or F8_E4M3 [(S+1)*W, E]: the key matrices of stream 0 to S-1, then
 *     the value matrix, so that one product gives all keys and the value
 * @param projectionScales F8_E8M0 [ceil((S+1)*W / 32), ceil(E / 32)] for an F8_E4M3 projection: the
 *     weight in row o and column e is the number stored there * the scale in row o/32 and column
 *     e/32; empty for the other types
 * @param bias F32 [(S+1)*W] in the same order, where the variant has biases
 * @param keyNorm F32 [S, W], as stored (see {@link GateConfig#normWeight})
 * @param queryNorm F32 [S, W], as stored
 * @param convNorm F32 [S, W], as stored, where the variant has a convolution
 * @param conv F32 [S*W, K], tap K-1 on the position itself, channel = stream * W + index, where the
 *     variant has a convolution
 */
public record LayerWeights(
    Tensor projection,
    Optional<Tensor> projectionScales,
    Optional<Tensor> bias,
    Tensor keyNorm,
    Tensor queryNorm,
    Optional<Tensor> convNorm,
    Optional<Tensor> conv) {

  private static final ValueLayout.OfShort BF16 =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Rows, and columns, of an F8_E4M3 projection that share a scale. */
  public static final int SCALE_BLOCK = 32;

  /** Refuses null. */
  public LayerWeights {
    Objects.requireNonNull(projection, "projection");
    Objects.requireNonNull(projectionScales, "projectionScales");
    Objects.requireNonNull(bias, "bias");
    Objects.requireNonNull(keyNorm, "keyNorm");
    Objects.requireNonNull(queryNorm, "queryNorm");
    Objects.requireNonNull(convNorm, "convNorm");
    Objects.requireNonNull(conv, "conv");
  }

  /**
   * Weights whose projection needs no scales.
   *
   * @param projection F32 or BF16, as the record's
   * @param bias as the record's
   * @param keyNorm as the record's
   * @param queryNorm as the record's
   * @param convNorm as the record's
   * @param conv as the record's
   */
  public LayerWeights(
      Tensor projection,
      Optional<Tensor> bias,
      Tensor keyNorm,
      Tensor queryNorm,
      Optional<Tensor> convNorm,
      Optional<Tensor> conv) {
    this(projection, Optional.empty(), bias, keyNorm, queryNorm, convNorm, conv);
  }

  /**
   * The projection for those who multiply with wider numbers: an F8_E4M3 projection as BF16, which
   * loses nothing, and any other as it is.
   *
   * @param arena owns the memory of a projection that is widened
   * @return F32 or BF16 [(S+1)*W, E]
   * @throws IllegalArgumentException naming row and column if a weight is not a number, or bfloat16
   *     cannot hold it
   */
  public Tensor widenedProjection(Arena arena) {
    if (projection.dtype() != Dtype.F8_E4M3) {
      return projection;
    }
    long[] shape = projection.shape();
    MemorySegment data = arena.allocate(Tensor.byteSize(Dtype.BF16, shape), 64);
    short[] row = new short[Math.toIntExact(shape[1])];
    for (int r = 0; r < shape[0]; r++) {
      widenProjectionRow(r, row);
      MemorySegment.copy(row, 0, data, BF16, (long) r * row.length * Short.BYTES, row.length);
    }
    return new Tensor(Dtype.BF16, shape, data);
  }

  /**
   * One row of an F8_E4M3 projection as bfloat16.
   *
   * @param row 0 to (S+1)*W - 1
   * @param out receives the bits of E numbers
   * @throws IllegalArgumentException as {@link #widenedProjection}
   */
  public void widenProjectionRow(int row, short[] out) {
    byte[] codes = bytes(projection, row);
    byte[] scales = bytes(projectionScales.orElseThrow(), row / SCALE_BLOCK);
    int column = NarrowFloat.widenScaled(codes, scales, SCALE_BLOCK, out);
    if (column >= 0) {
      throw new IllegalArgumentException(
          "projection holds a NaN or a number that bfloat16 cannot hold in row %d column %d: %s * %s"
              .formatted(
                  row,
                  column,
                  NarrowFloat.e4m3(codes[column]),
                  NarrowFloat.e8m0(scales[column / SCALE_BLOCK])));
    }
  }

  private static byte[] bytes(Tensor tensor, int row) {
    byte[] bytes = new byte[Math.toIntExact(tensor.shape()[1])];
    MemorySegment.copy(
        tensor.data(), ValueLayout.JAVA_BYTE, (long) row * bytes.length, bytes, 0, bytes.length);
    return bytes;
  }

  /**
   * Weights for a new layer: projections and biases uniform within 1/sqrt(E) as a linear layer of
   * PyTorch starts, norms neutral, and a convolution of zeros, so that its branch adds nothing at
   * first (paper, section 4.1).
   *
   * @param gate the gate
   * @param convolution the convolution, if the variant has one
   * @param rowWidth columns * head dim
   * @param seed seed of the projections; the same seed gives the same weights everywhere
   * @param arena owns the memory
   * @return the weights, projections in F32
   */
  public static LayerWeights initial(
      GateConfig gate, Optional<ConvConfig> convolution, int rowWidth, long seed, Arena arena) {
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
    long outputs = gate.projectionRows();
    float bound = (float) (1 / Math.sqrt(rowWidth));
    long[] perStream = {gate.streams(), gate.width()};
    float neutral = gate.normWeight() == GateConfig.NormWeight.ONE_PLUS ? 0 : 1;
    Tensor projection = filled(arena, () -> random.nextFloat(-bound, bound), outputs, rowWidth);
    return new LayerWeights(
        projection,
        gate.bias()
            ? Optional.of(filled(arena, () -> random.nextFloat(-bound, bound), outputs))
            : Optional.empty(),
        filled(arena, () -> neutral, perStream),
        filled(arena, () -> neutral, perStream),
        convolution.map(c -> filled(arena, () -> neutral, perStream)),
        convolution.map(
            c -> filled(arena, () -> 0f, (long) gate.streams() * gate.width(), c.kernelSize())));
  }

  /**
   * Zeros in the shape of a layer's weights: what their gradients are added up in.
   *
   * @param gate the gate
   * @param convolution the convolution, if the variant has one
   * @param rowWidth columns * head dim
   * @param arena owns the memory
   * @return zeros, all in F32
   */
  public static LayerWeights zeros(
      GateConfig gate, Optional<ConvConfig> convolution, int rowWidth, Arena arena) {
    long outputs = gate.projectionRows();
    long[] perStream = {gate.streams(), gate.width()};
    return new LayerWeights(
        zeros(arena, outputs, rowWidth),
        gate.bias() ? Optional.of(zeros(arena, outputs)) : Optional.empty(),
        zeros(arena, perStream),
        zeros(arena, perStream),
        convolution.map(c -> zeros(arena, perStream)),
        convolution.map(c -> zeros(arena, (long) gate.streams() * gate.width(), c.kernelSize())));
  }

  private static Tensor zeros(Arena arena, long... shape) {
    return new Tensor(Dtype.F32, shape, arena.allocate(Tensor.byteSize(Dtype.F32, shape), 64));
  }

  private static Tensor filled(Arena arena, FloatSupplier values, long... shape) {
    MemorySegment data = arena.allocate(Tensor.byteSize(Dtype.F32, shape), 64);
    for (long at = 0; at < data.byteSize(); at += 4) {
      data.set(ValueLayout.JAVA_FLOAT, at, values.get());
    }
    return new Tensor(Dtype.F32, shape, data);
  }

  @FunctionalInterface
  private interface FloatSupplier {
    float get();
  }

  /**
   * Checks every shape and dtype against a configuration.
   *
   * @param gate the gate
   * @param convolution the convolution, if the variant has one
   * @param rowWidth columns * head dim
   * @throws IllegalArgumentException naming the first tensor that does not fit
   */
  public void check(GateConfig gate, Optional<ConvConfig> convolution, int rowWidth) {
    long outputs = gate.projectionRows();
    boolean scaled = projection.dtype() == Dtype.F8_E4M3;
    if (!scaled && projection.dtype() != Dtype.F32 && projection.dtype() != Dtype.BF16) {
      throw new IllegalArgumentException(
          "projection is " + projection + ", expected F32, BF16 or F8_E4M3");
    }
    checkShape("projection", projection, outputs, rowWidth);
    if (projectionScales.isPresent() != scaled) {
      throw new IllegalArgumentException(
          "projectionScales "
              + (scaled ? "are missing" : "are there")
              + " for a projection of "
              + projection.dtype());
    }
    projectionScales.ifPresent(t -> {
      if (t.dtype() != Dtype.F8_E8M0) {
        throw new IllegalArgumentException("projectionScales are " + t + ", expected F8_E8M0");
      }
      checkShape(
          "projectionScales",
          t,
          Math.ceilDiv(outputs, SCALE_BLOCK),
          Math.ceilDiv(rowWidth, SCALE_BLOCK));
    });
    checkPresence("bias", bias, gate.bias());
    bias.ifPresent(t -> checkF32("bias", t, outputs));
    checkF32("keyNorm", keyNorm, gate.streams(), gate.width());
    checkF32("queryNorm", queryNorm, gate.streams(), gate.width());
    checkPresence("convNorm", convNorm, convolution.isPresent());
    checkPresence("conv", conv, convolution.isPresent());
    convNorm.ifPresent(t -> checkF32("convNorm", t, gate.streams(), gate.width()));
    conv.ifPresent(t ->
        checkF32(
            "conv",
            t,
            (long) gate.streams() * gate.width(),
            convolution.orElseThrow().kernelSize()));
  }

  private static void checkPresence(String name, Optional<Tensor> tensor, boolean expected) {
    if (tensor.isPresent() != expected) {
      throw new IllegalArgumentException(
          name + (expected ? " is missing" : " is there, but the variant has none"));
    }
  }

  private static void checkF32(String name, Tensor tensor, long... shape) {
    if (tensor.dtype() != Dtype.F32) {
      throw new IllegalArgumentException(name + " is " + tensor + ", expected F32");
    }
    checkShape(name, tensor, shape);
  }

  private static void checkShape(String name, Tensor tensor, long... shape) {
    if (!tensor.hasShape(shape)) {
      throw new IllegalArgumentException(
          name + " is " + tensor + ", expected " + Arrays.toString(shape));
    }
  }
}
