// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.util.List;
import java.util.Objects;

/**
 * Everything that decides the row ids of a model, apart from the rule for positions before a
 * sequence: the vocabulary, the n-gram orders, the heads, and how multipliers and moduli are drawn.
 *
 * <p>A value, safe to share. The published variants differ in this record's fields only.
 *
 * @param vocabularySize how many distinct ids are hashed, at least 1: the compressed size where the
 *     variant compresses, the raw size elsewhere
 * @param orders n-gram orders in ascending order, each at least 1 and all different, such as 2, 3
 * @param headsPerOrder heads of each order, at least 1
 * @param slotsPerHead where the search for moduli starts, one value for each order, each at least
 *     2: the modulus of a head is a prime not below it
 * @param layerIds the layers that have a memory, in the order of the configuration, all different,
 *     numbered as the configuration numbers them
 * @param seed seed of the multipliers, not negative
 * @param generator how multipliers are drawn
 * @param primeSearch how moduli are chosen
 * @param rowAlignment the table of a layer is padded to a multiple of this many rows, at least 1
 */
public record HashScheme(
    int vocabularySize,
    List<Integer> orders,
    int headsPerOrder,
    List<Long> slotsPerHead,
    List<Integer> layerIds,
    long seed,
    Generator generator,
    PrimeSearch primeSearch,
    int rowAlignment) {

  /** How the odd multipliers of a layer are drawn. */
  public enum Generator {
    /** NumPy's {@code default_rng(seed + 10007 * layerId).integers} (paper demo, V4.1). */
    NUMPY_PCG64,
    /** splitmix64 of {@code seed + 10007 * position of the layer in the list} (Qwen PLE). */
    SPLITMIX64
  }

  /** How the prime moduli are chosen. All are different over the whole model in either case. */
  public enum PrimeSearch {
    /** Each order of each layer starts again at its slots and skips primes already taken. */
    RESTART_PER_ORDER,
    /** One run upwards through all heads of all layers, so that all orders have the same slots. */
    ONE_RUN
  }

  /** The highest n-gram order that is taken, far beyond any published one. */
  public static final int MAX_ORDER = 64;

  /**
   * The most columns of all layers together: what a hostile configuration can make us search for.
   */
  public static final int MAX_COLUMNS = 1 << 16;

  /** Checks every range and copies the lists. */
  public HashScheme {
    orders = List.copyOf(orders);
    slotsPerHead = List.copyOf(slotsPerHead);
    layerIds = List.copyOf(layerIds);
    Objects.requireNonNull(generator, "generator");
    Objects.requireNonNull(primeSearch, "primeSearch");
    require(vocabularySize >= 1, "vocabularySize is " + vocabularySize + ", expected at least 1");
    require(!orders.isEmpty(), "orders is empty, expected at least one n-gram order");
    for (int i = 0; i < orders.size(); i++) {
      int floor = i == 0 ? 1 : orders.get(i - 1) + 1;
      require(
          orders.get(i) >= floor,
          "orders " + orders + " must ascend from 1 upwards without repetition");
    }
    require(
        orders.getLast() <= MAX_ORDER,
        "the highest order is " + orders.getLast() + ", expected at most " + MAX_ORDER);
    require(headsPerOrder >= 1, "headsPerOrder is " + headsPerOrder + ", expected at least 1");
    require(
        (long) headsPerOrder * orders.size() * layerIds.size() <= MAX_COLUMNS,
        "headsPerOrder "
            + headsPerOrder
            + " gives more than "
            + MAX_COLUMNS
            + " columns in all layers together");
    require(
        headsPerOrder <= Integer.MAX_VALUE / orders.size(),
        "headsPerOrder " + headsPerOrder + " gives more columns than fit 31 bits");
    require(
        slotsPerHead.size() == orders.size(),
        "slotsPerHead " + slotsPerHead + " must have one value for each of the orders " + orders);
    for (long slots : slotsPerHead) {
      require(slots >= 2, "slotsPerHead " + slotsPerHead + " holds a value below 2");
    }
    require(
        primeSearch != PrimeSearch.ONE_RUN || slotsPerHead.stream().distinct().count() == 1,
        "slotsPerHead " + slotsPerHead + " differ, but one run of primes has one start");
    require(!layerIds.isEmpty(), "layerIds is empty, expected at least one layer");
    require(
        layerIds.stream().distinct().count() == layerIds.size(),
        "layerIds " + layerIds + " names a layer twice");
    for (int layer : layerIds) {
      require(layer >= 0, "layerIds " + layerIds + " holds a negative layer");
    }
    require(seed >= 0, "seed is " + seed + ", expected at least 0");
    require(rowAlignment >= 1, "rowAlignment is " + rowAlignment + ", expected at least 1");
  }

  /**
   * The highest n-gram order: how many ids one row id can depend on.
   *
   * @return the last of {@link #orders}
   */
  public int maxOrder() {
    return orders.getLast();
  }

  /**
   * Row ids of one position: orders times heads.
   *
   * @return the number of columns
   */
  public int columns() {
    return orders.size() * headsPerOrder;
  }

  private static void require(boolean holds, String otherwise) {
    if (!holds) {
      throw new IllegalArgumentException(otherwise);
    }
  }
}
