// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.RowFormat;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * The one descriptor of a memory: everything in which the published variants differ, as data.
 *
 * <p>A value, safe to share. {@link #paper()}, {@link #v41Flash()} and {@link #qwenPle()} start
 * from a published variant; sizes, orders and vocabulary can be changed before it is built.
 *
 * @param vocabularySize raw token ids are 0 to vocabularySize - 1
 * @param compressed whether raw ids are compressed before they are hashed (paper, section 2.2)
 * @param fillTokenId the raw id that stands for positions before the start of a sequence
 * @param boundaryTokenId the raw id that ends a segment, or {@link WindowRule#NO_BOUNDARY}
 * @param dead what a position without a token does to the n-grams that reach it
 * @param hashing orders, heads, layers and how multipliers and moduli are drawn
 * @param rowFormat how rows are stored
 * @param headDim values of one row, at least 1
 * @param gate how rows are let into the hidden state
 * @param conv the convolution behind the gate, where the variant has one
 */
public record EngramConfig(
    int vocabularySize,
    boolean compressed,
    int fillTokenId,
    int boundaryTokenId,
    WindowRule.Dead dead,
    HashScheme hashing,
    RowFormat rowFormat,
    int headDim,
    GateConfig gate,
    Optional<ConvConfig> conv) {

  /** Checks what the parts cannot check alone. */
  public EngramConfig {
    Objects.requireNonNull(dead, "dead");
    Objects.requireNonNull(hashing, "hashing");
    Objects.requireNonNull(rowFormat, "rowFormat");
    Objects.requireNonNull(gate, "gate");
    Objects.requireNonNull(conv, "conv");
    if (vocabularySize < 1) {
      throw new IllegalArgumentException(
          "vocabularySize is " + vocabularySize + ", expected at least 1");
    }
    if (fillTokenId < 0 || fillTokenId >= vocabularySize) {
      throw new IllegalArgumentException(
          "fillTokenId is " + fillTokenId + ", expected 0 to " + (vocabularySize - 1));
    }
    if (boundaryTokenId < WindowRule.NO_BOUNDARY || boundaryTokenId >= vocabularySize) {
      throw new IllegalArgumentException(
          "boundaryTokenId is " + boundaryTokenId + ", expected -1 to " + (vocabularySize - 1));
    }
    if (compressed
        ? hashing.vocabularySize() > vocabularySize
        : hashing.vocabularySize() != vocabularySize) {
      throw new IllegalArgumentException(
          "hashing covers "
              + hashing.vocabularySize()
              + " ids, which does not fit a vocabulary of "
              + vocabularySize
              + (compressed ? " before compression" : " without compression"));
    }
    if (headDim < 1) {
      throw new IllegalArgumentException("headDim is " + headDim + ", expected at least 1");
    }
    Math.multiplyExact(hashing.columns(), headDim);
  }

  /**
   * Values that one position retrieves: all its rows, in column order.
   *
   * @return columns * headDim
   */
  public int rowWidth() {
    return hashing.columns() * headDim;
  }

  /**
   * The layers that have a memory, numbered as the configuration numbers them.
   *
   * @return the layers in the configuration's order
   */
  public List<Integer> layerIds() {
    return hashing.layerIds();
  }

  /**
   * The paper's variant with the defaults of its demo ({@code engram_demo_v1.py}): the vocabulary
   * of DeepSeek-V3, orders 2 and 3, 8 heads of 646,400 slots and 64 values, layers 1 and 15, biased
   * projections, signed-square-root gate, convolution, 4 streams of 1,024.
   *
   * @return a builder with these values
   */
  public static Builder paper() {
    Builder b = new Builder();
    b.vocabularySize = 128_815;
    b.compressedSize = 98_627;
    b.fillTokenId = 2;
    b.layerIds = List.of(1, 15);
    b.orders = List.of(2, 3);
    b.slotsPerHead = List.of(646_400L, 646_400L);
    b.headDim = 64;
    b.width = 1024;
    b.bias = true;
    b.normEps = 0x1p-23f;
    b.conv = Optional.of(new ConvConfig(4, 3, 1e-5f));
    return b;
  }

  /**
   * The memory of DeepSeek-V4.1-Flash as released: orders 2 to 4, 8 heads of 16,000,000 slots and
   * 256 values in FP8 with block scales, layers 1 and 14, no biases, no convolution, sums written
   * to the streams in place, positions of images dead.
   *
   * @return a builder with these values
   */
  public static Builder v41Flash() {
    Builder b = new Builder();
    b.vocabularySize = 129_280;
    b.compressedSize = 99_092;
    b.fillTokenId = 2;
    b.dead = WindowRule.Dead.BLOCKS;
    b.layerIds = List.of(1, 14);
    b.orders = List.of(2, 3, 4);
    b.slotsPerHead = List.of(16_000_000L, 16_000_000L, 16_000_000L);
    b.rowFormat = RowFormat.FP8_BLOCK32;
    b.headDim = 256;
    b.width = 5120;
    b.zeroDot = GateConfig.ZeroDot.COPY_SIGN;
    b.normEps = 1e-20f;
    b.rounding = GateConfig.Rounding.BF16;
    b.residual = GateConfig.Residual.IN_PLACE;
    return b;
  }

  /**
   * The n-gram memory (PLE) of Qwen3.8-Flash-Next as released: raw ids, segments that end at token
   * 248,044, splitmix64 multipliers, orders 2 and 3, 8 heads of 20,000,000 slots and 160 values in
   * bfloat16, layer 2 (counted from 1), zero-centred norm weights, convolution.
   *
   * @return a builder with these values
   */
  public static Builder qwenPle() {
    Builder b = new Builder();
    b.vocabularySize = 248_320;
    b.compressedSize = RAW;
    b.fillTokenId = 248_044;
    b.boundaryTokenId = 248_044;
    b.dead = WindowRule.Dead.BOUNDARY;
    b.layerIds = List.of(2);
    b.orders = List.of(2, 3);
    b.slotsPerHead = List.of(20_000_000L, 20_000_000L);
    b.seed = 1234;
    b.generator = HashScheme.Generator.SPLITMIX64;
    b.primeSearch = HashScheme.PrimeSearch.ONE_RUN;
    b.rowAlignment = 128;
    b.rowFormat = RowFormat.BF16;
    b.headDim = 160;
    b.width = 2560;
    b.normWeight = GateConfig.NormWeight.ONE_PLUS;
    b.normEps = 1e-6f;
    b.conv = Optional.of(new ConvConfig(4, 3, 1e-6f));
    return b;
  }

  private static final int RAW = -1;

  /** Changes some fields of a published variant. Not thread-safe. */
  public static final class Builder {
    private int vocabularySize;
    private int compressedSize;
    private int fillTokenId;
    private int boundaryTokenId = WindowRule.NO_BOUNDARY;
    private WindowRule.Dead dead = WindowRule.Dead.REFUSED;
    private List<Integer> layerIds = List.of();
    private List<Integer> orders = List.of();
    private int headsPerOrder = 8;
    private List<Long> slotsPerHead = List.of();
    private long seed;
    private HashScheme.Generator generator = HashScheme.Generator.NUMPY_PCG64;
    private HashScheme.PrimeSearch primeSearch = HashScheme.PrimeSearch.RESTART_PER_ORDER;
    private int rowAlignment = 1;
    private RowFormat rowFormat = RowFormat.F32;
    private int headDim;
    private int streams = 4;
    private int width;
    private boolean bias;
    private GateConfig.Shape shape = GateConfig.Shape.SIGNED_SQRT;
    private GateConfig.ZeroDot zeroDot = GateConfig.ZeroDot.SIGN_ZERO;
    private GateConfig.NormWeight normWeight = GateConfig.NormWeight.AS_STORED;
    private float normEps;
    private GateConfig.Rounding rounding = GateConfig.Rounding.NONE;
    private GateConfig.Residual residual = GateConfig.Residual.DELTA;
    private Optional<ConvConfig> conv = Optional.empty();

    private Builder() {}

    /**
     * A vocabulary whose ids are compressed before they are hashed.
     *
     * @param size raw ids
     * @param compressed distinct ids after compression
     * @return this
     */
    public Builder vocabulary(int size, int compressed) {
      this.vocabularySize = size;
      this.compressedSize = compressed;
      return this;
    }

    /**
     * A vocabulary whose ids are hashed as they are.
     *
     * @param size raw ids
     * @return this
     */
    public Builder rawVocabulary(int size) {
      return vocabulary(size, RAW);
    }

    /**
     * The raw id that stands for positions before a sequence. Where segments end at a token, use
     * {@link #boundary}, which sets both.
     *
     * @param tokenId a raw id
     * @return this
     */
    public Builder fill(int tokenId) {
      this.fillTokenId = tokenId;
      return this;
    }

    /**
     * The raw id that ends a segment; positions that may not be seen are filled with it, too.
     *
     * @param tokenId a raw id
     * @return this
     */
    public Builder boundary(int tokenId) {
      this.boundaryTokenId = tokenId;
      this.fillTokenId = tokenId;
      return this;
    }

    /**
     * What a position without a token does.
     *
     * @param rule the rule
     * @return this
     */
    public Builder dead(WindowRule.Dead rule) {
      this.dead = rule;
      return this;
    }

    /**
     * The layers that have a memory.
     *
     * @param ids layers, as the configuration numbers them
     * @return this
     */
    public Builder layers(Integer... ids) {
      this.layerIds = List.of(ids);
      return this;
    }

    /**
     * The n-gram orders. Slots of the first order so far are taken for all of them; the dilation of
     * the convolution, in the published variants the highest order, is left as it is: see {@link
     * #conv}.
     *
     * @param ascending orders in ascending order
     * @return this
     */
    public Builder orders(Integer... ascending) {
      this.orders = List.of(ascending);
      return slotsPerHead(slotsPerHead.getFirst());
    }

    /**
     * Heads of each order.
     *
     * @param heads at least 1
     * @return this
     */
    public Builder headsPerOrder(int heads) {
      this.headsPerOrder = heads;
      return this;
    }

    /**
     * Slots of a head, the same for all orders: the modulus is a prime from here upwards.
     *
     * @param slots at least 2
     * @return this
     */
    public Builder slotsPerHead(long slots) {
      this.slotsPerHead = Collections.nCopies(orders.size(), slots);
      return this;
    }

    /**
     * Slots of a head for each order.
     *
     * @param slots one value for each order
     * @return this
     */
    public Builder slotsPerHead(List<Long> slots) {
      this.slotsPerHead = List.copyOf(slots);
      return this;
    }

    /**
     * Seed of the multipliers.
     *
     * @param hashSeed not negative
     * @return this
     */
    public Builder seed(long hashSeed) {
      this.seed = hashSeed;
      return this;
    }

    /**
     * Pads tables to a multiple of some rows.
     *
     * @param rows at least 1
     * @return this
     */
    public Builder rowAlignment(int rows) {
      this.rowAlignment = rows;
      return this;
    }

    /**
     * How rows are stored.
     *
     * @param format the format
     * @return this
     */
    public Builder rowFormat(RowFormat format) {
      this.rowFormat = format;
      return this;
    }

    /**
     * Values of one row.
     *
     * @param values at least 1
     * @return this
     */
    public Builder headDim(int values) {
      this.headDim = values;
      return this;
    }

    /**
     * Residual streams.
     *
     * @param count at least 1
     * @return this
     */
    public Builder streams(int count) {
      this.streams = count;
      return this;
    }

    /**
     * Size of one residual stream.
     *
     * @param hiddenSize at least 1
     * @return this
     */
    public Builder width(int hiddenSize) {
      this.width = hiddenSize;
      return this;
    }

    /**
     * Epsilon of the key and query norms.
     *
     * @param eps positive
     * @return this
     */
    public Builder normEps(float eps) {
      this.normEps = eps;
      return this;
    }

    /**
     * The function between dot product and sigmoid.
     *
     * @param gateShape the shape
     * @return this
     */
    public Builder gateShape(GateConfig.Shape gateShape) {
      this.shape = gateShape;
      return this;
    }

    /**
     * The convolution behind the gate.
     *
     * @param config the convolution, or empty for none
     * @return this
     */
    public Builder conv(Optional<ConvConfig> config) {
      this.conv = config;
      return this;
    }

    /**
     * Builds the configuration.
     *
     * @return the configuration
     * @throws IllegalArgumentException if a value is out of range or two do not fit together
     */
    public EngramConfig build() {
      boolean compress = compressedSize != RAW;
      return new EngramConfig(
          vocabularySize,
          compress,
          fillTokenId,
          boundaryTokenId,
          dead,
          new HashScheme(
              compress ? compressedSize : vocabularySize,
              orders,
              headsPerOrder,
              slotsPerHead,
              layerIds,
              seed,
              generator,
              primeSearch,
              rowAlignment),
          rowFormat,
          headDim,
          new GateConfig(
              streams, width, bias, shape, zeroDot, normWeight, normEps, rounding, residual),
          conv);
    }
  }
}
