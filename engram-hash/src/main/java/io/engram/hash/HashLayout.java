// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * What a {@link HashScheme} comes down to for one layer: multipliers, moduli, offsets, rows. This
 * is what a checkpoint and the code that reads it must agree on to the last bit.
 *
 * <p>The columns of a position are order-major: all heads of the first order, then all heads of the
 * next. Column {@code c} of a position holds {@code offset(c) + hash % modulus(c)}, a row of one
 * table that all heads of the layer share.
 *
 * <p>Every product of an id below the vocabulary size and a multiplier fits a signed 64-bit
 * integer: a layout for which that does not hold cannot be made. Hashes are therefore never
 * negative and never wrap.
 *
 * <p>A value, immutable, safe to share. Source: docs/variants.md, section 2.
 */
public final class HashLayout {
  /** What the seed grows by from one layer to the next, in every published variant. */
  private static final long SEED_STEP = 10007;

  private final int layerId;
  private final int vocabularySize;
  private final List<Integer> orders;
  private final int headsPerOrder;
  private final long[] multipliers;
  private final long[] moduli;
  private final long[] offsets;
  private final long hashedRows;
  private final long rowCount;

  private HashLayout(HashScheme scheme, int layerId, long[] multipliers, long[] moduli) {
    this.layerId = layerId;
    vocabularySize = scheme.vocabularySize();
    orders = scheme.orders();
    headsPerOrder = scheme.headsPerOrder();
    this.multipliers = multipliers;
    this.moduli = moduli;
    checkMultipliers();
    offsets = new long[moduli.length];
    long rows = 0;
    try {
      for (int column = 0; column < moduli.length; column++) {
        offsets[column] = rows;
        rows = Math.addExact(rows, positive("modulus", column, moduli[column]));
      }
      hashedRows = rows;
      long blocks = Math.ceilDiv(rows, scheme.rowAlignment());
      rowCount = Math.multiplyExact(blocks, scheme.rowAlignment());
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "layer " + layerId + ": the moduli add up to 2^63 rows or more", e);
    }
  }

  private void checkMultipliers() {
    long largestId = vocabularySize - 1L;
    for (int k = 0; k < multipliers.length; k++) {
      long multiplier = positive("multiplier", k, multipliers[k]);
      if ((multiplier & 1) == 0) {
        throw new IllegalArgumentException(
            "layer " + layerId + ": multiplier " + k + " is " + multiplier + ", expected odd");
      }
      if (Math.multiplyHigh(largestId, multiplier) != 0 || largestId * multiplier < 0) {
        throw new IllegalArgumentException(
            "layer %d: multiplier %d is %d, times the largest id %d it does not fit 63 bits"
                .formatted(layerId, k, multiplier, largestId));
      }
    }
  }

  private long positive(String what, int index, long value) {
    if (value < 1) {
      throw new IllegalArgumentException(
          "layer %d: %s %d is %d, expected at least 1".formatted(layerId, what, index, value));
    }
    return value;
  }

  /**
   * Computes the layouts of all layers.
   *
   * @param scheme the scheme
   * @return one layout for each layer, in the order of {@link HashScheme#layerIds()}
   * @throws IllegalArgumentException if a seed, a modulus or a number of rows does not fit 63 bits
   */
  public static List<HashLayout> derive(HashScheme scheme) {
    long[][] moduli;
    try {
      moduli = PrimeModuli.of(scheme);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "slotsPerHead " + scheme.slotsPerHead() + " leaves too few primes below 2^63", e);
    }
    List<HashLayout> layouts = new ArrayList<>();
    for (int index = 0; index < moduli.length; index++) {
      int layerId = scheme.layerIds().get(index);
      long[] multipliers =
          switch (scheme.generator()) {
            case NUMPY_PCG64 -> numpyMultipliers(scheme, layerId);
            case SPLITMIX64 -> splitMixMultipliers(scheme, index);
          };
      layouts.add(new HashLayout(scheme, layerId, multipliers, moduli[index]));
    }
    return List.copyOf(layouts);
  }

  /** Every draw below this bound gives an odd multiplier whose products fit 63 bits. */
  private static long drawBound(HashScheme scheme) {
    return Math.max(1, Long.MAX_VALUE / scheme.vocabularySize() / 2);
  }

  private static long[] numpyMultipliers(HashScheme scheme, int layerId) {
    long seed;
    try {
      seed = Math.addExact(scheme.seed(), SEED_STEP * layerId);
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException(
          "seed %d + %d * layer %d does not fit 63 bits"
              .formatted(scheme.seed(), SEED_STEP, layerId),
          e);
    }
    NumpyPcg64 generator = new NumpyPcg64(seed);
    long bound = drawBound(scheme);
    long[] multipliers = new long[scheme.maxOrder()];
    Arrays.setAll(multipliers, k -> 2 * generator.nextLong(bound) + 1);
    return multipliers;
  }

  private static long[] splitMixMultipliers(HashScheme scheme, int index) {
    long base = scheme.seed() + SEED_STEP * index;
    long bound = drawBound(scheme);
    long[] multipliers = new long[scheme.maxOrder()];
    Arrays.setAll(
        multipliers,
        k -> {
          long draw = SplitMix64.mix(base + SplitMix64.GAMMA * (k + 1));
          return 2 * Long.remainderUnsigned(draw, bound) + 1;
        });
    return multipliers;
  }

  /**
   * Makes a layout from buffers that a checkpoint stores.
   *
   * <p>The buffers decide; the scheme gives the vocabulary size, the orders, the heads and the row
   * alignment. Compare the result with that of {@link #derive} by {@link #firstDifference} to learn
   * whether the two agree.
   *
   * @param scheme the scheme
   * @param layerId the layer, one of the scheme's
   * @param multipliers one odd multiplier for each shift from 0 to the highest order less one
   * @param moduli one modulus for each column, each at least 1
   * @param offsets one offset for each column: the sum of the moduli before it
   * @return the layout
   * @throws IllegalArgumentException if the layer is unknown or a buffer has the wrong length, a
   *     value out of range or an offset that is not the sum of the moduli before it
   */
  public static HashLayout stored(
      HashScheme scheme, int layerId, long[] multipliers, long[] moduli, long[] offsets) {
    if (!scheme.layerIds().contains(layerId)) {
      throw new IllegalArgumentException(
          "layer " + layerId + " is none of the scheme's layers " + scheme.layerIds());
    }
    checkLength(layerId, "multipliers", multipliers.length, scheme.maxOrder());
    checkLength(layerId, "moduli", moduli.length, scheme.columns());
    checkLength(layerId, "offsets", offsets.length, scheme.columns());
    HashLayout layout = new HashLayout(scheme, layerId, multipliers.clone(), moduli.clone());
    int column = Arrays.mismatch(layout.offsets, offsets);
    if (column >= 0) {
      throw new IllegalArgumentException(
          "layer %d: offset of column %d is %d, expected %d, the sum of the moduli before it"
              .formatted(layerId, column, offsets[column], layout.offsets[column]));
    }
    return layout;
  }

  private static void checkLength(int layerId, String what, int found, int expected) {
    if (found != expected) {
      throw new IllegalArgumentException(
          "layer " + layerId + ": found " + found + " " + what + ", expected " + expected);
    }
  }

  /**
   * The layer, numbered as the configuration numbers it.
   *
   * @return the layer's id
   */
  public int layerId() {
    return layerId;
  }

  /**
   * How many distinct ids the multipliers are made for.
   *
   * @return the vocabulary size
   */
  public int vocabularySize() {
    return vocabularySize;
  }

  /**
   * The n-gram orders.
   *
   * @return the orders, ascending, unmodifiable
   */
  public List<Integer> orders() {
    return orders;
  }

  /**
   * The highest n-gram order: how many ids one row id can depend on.
   *
   * @return the last of {@link #orders}
   */
  public int maxOrder() {
    return multipliers.length;
  }

  /**
   * Heads of each order.
   *
   * @return the number of heads
   */
  public int headsPerOrder() {
    return headsPerOrder;
  }

  /**
   * Row ids of one position: orders times heads.
   *
   * @return the number of columns
   */
  public int columns() {
    return moduli.length;
  }

  /**
   * The multiplier of the id that lies some positions back.
   *
   * @param shift how many positions back, from 0 to {@code maxOrder() - 1}
   * @return an odd positive number
   * @throws IndexOutOfBoundsException if the shift is out of range
   */
  public long multiplier(int shift) {
    return multipliers[Objects.checkIndex(shift, multipliers.length)];
  }

  /**
   * The modulus of a column: how many rows its head has.
   *
   * @param column from 0 to {@code columns() - 1}
   * @return the modulus, at least 1
   * @throws IndexOutOfBoundsException if the column is out of range
   */
  public long modulus(int column) {
    return moduli[Objects.checkIndex(column, moduli.length)];
  }

  /**
   * The first row of a column's head.
   *
   * @param column from 0 to {@code columns() - 1}
   * @return the sum of the moduli of the columns before it
   * @throws IndexOutOfBoundsException if the column is out of range
   */
  public long offset(int column) {
    return offsets[Objects.checkIndex(column, offsets.length)];
  }

  /**
   * All multipliers.
   *
   * @return a copy, by shift
   */
  public long[] multipliers() {
    return multipliers.clone();
  }

  /**
   * All moduli.
   *
   * @return a copy, by column
   */
  public long[] moduli() {
    return moduli.clone();
  }

  /**
   * All offsets.
   *
   * @return a copy, by column
   */
  public long[] offsets() {
    return offsets.clone();
  }

  /**
   * The rows that a hash can reach.
   *
   * @return the sum of the moduli
   */
  public long hashedRows() {
    return hashedRows;
  }

  /**
   * The rows of the layer's table: {@link #hashedRows} padded to the scheme's row alignment.
   *
   * @return the number of rows
   */
  public long rowCount() {
    return rowCount;
  }

  /**
   * Names the first thing in which another layout differs, for the message that refuses to start.
   *
   * @param other the layout to compare with
   * @return a clause such as "layer 14: multiplier 2 is 30921347202721, the other has
   *     30921347202720", or nothing if the two are equal
   */
  public Optional<String> firstDifference(HashLayout other) {
    if (layerId != other.layerId) {
      return difference("layer id", layerId, other.layerId);
    }
    if (vocabularySize != other.vocabularySize) {
      return difference("vocabulary size", vocabularySize, other.vocabularySize);
    }
    if (!orders.equals(other.orders)) {
      return difference("list of orders", orders, other.orders);
    }
    if (headsPerOrder != other.headsPerOrder) {
      return difference("number of heads per order", headsPerOrder, other.headsPerOrder);
    }
    int shift = Arrays.mismatch(multipliers, other.multipliers);
    if (shift >= 0) {
      return difference("multiplier " + shift, multipliers[shift], other.multipliers[shift]);
    }
    int column = Arrays.mismatch(moduli, other.moduli);
    if (column >= 0) {
      return difference("modulus of column " + column, moduli[column], other.moduli[column]);
    }
    // The offsets follow from the moduli.
    if (rowCount != other.rowCount) {
      return difference("number of rows", rowCount, other.rowCount);
    }
    return Optional.empty();
  }

  private Optional<String> difference(String what, Object here, Object there) {
    return Optional.of(
        "layer " + layerId + ": " + what + " is " + here + ", the other has " + there);
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof HashLayout layout && firstDifference(layout).isEmpty();
  }

  @Override
  public int hashCode() {
    return Objects.hash(
        layerId,
        vocabularySize,
        orders,
        Arrays.hashCode(multipliers),
        Arrays.hashCode(moduli),
        rowCount);
  }

  @Override
  public String toString() {
    return "HashLayout[layer %d, vocabulary %d, orders %s, %d heads per order, %d rows]"
        .formatted(layerId, vocabularySize, orders, headsPerOrder, rowCount);
  }
}
