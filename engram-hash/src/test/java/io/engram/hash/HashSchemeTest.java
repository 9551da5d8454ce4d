// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

@Tag("once")
class HashSchemeTest {
  private static Arguments bad(
      String named,
      int vocabulary,
      List<Integer> orders,
      int heads,
      List<Long> slots,
      List<Integer> layers,
      long seed,
      PrimeSearch search,
      int alignment) {
    return Arguments.of(named, vocabulary, orders, heads, slots, layers, seed, search, alignment);
  }

  static List<Arguments> bad() {
    PrimeSearch restart = PrimeSearch.RESTART_PER_ORDER;
    List<Integer> two = List.of(2, 3);
    List<Long> slots = List.of(10L, 11L);
    List<Integer> layers = List.of(0, 4);
    return List.of(
        bad("vocabularySize", 0, two, 1, slots, layers, 0, restart, 1),
        bad("orders", 9, List.of(), 1, List.of(), layers, 0, restart, 1),
        bad("orders", 9, List.of(0, 2), 1, slots, layers, 0, restart, 1),
        bad("orders", 9, List.of(3, 2), 1, slots, layers, 0, restart, 1),
        bad("orders", 9, List.of(2, 2), 1, slots, layers, 0, restart, 1),
        bad("headsPerOrder", 9, two, 0, slots, layers, 0, restart, 1),
        bad("headsPerOrder", 9, two, 1 << 30, slots, layers, 0, restart, 1),
        bad("slotsPerHead", 9, two, 1, List.of(10L), layers, 0, restart, 1),
        bad("slotsPerHead", 9, two, 1, List.of(10L, 1L), layers, 0, restart, 1),
        bad("slotsPerHead", 9, two, 1, slots, layers, 0, PrimeSearch.ONE_RUN, 1),
        bad("layerIds", 9, two, 1, slots, List.of(), 0, restart, 1),
        bad("layerIds", 9, two, 1, slots, List.of(1, 1), 0, restart, 1),
        bad("layerIds", 9, two, 1, slots, List.of(-1), 0, restart, 1),
        bad("seed", 9, two, 1, slots, layers, -1, restart, 1),
        bad("rowAlignment", 9, two, 1, slots, layers, 0, restart, 0));
  }

  @ParameterizedTest
  @MethodSource("bad")
  void badValuesAreRefusedByName(
      String named,
      int vocabulary,
      List<Integer> orders,
      int heads,
      List<Long> slots,
      List<Integer> layers,
      long seed,
      PrimeSearch search,
      int alignment) {
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class,
            () ->
                new HashScheme(
                    vocabulary,
                    orders,
                    heads,
                    slots,
                    layers,
                    seed,
                    Generator.NUMPY_PCG64,
                    search,
                    alignment));
    assertTrue(e.getMessage().startsWith(named), e.getMessage());
  }

  @Test
  void listsAreCopied() {
    List<Integer> layers = new ArrayList<>(List.of(1, 14));
    HashScheme scheme = Variants.deepSeek(9, List.of(2, 4), 3, 10, layers);
    layers.set(0, 7);
    assertEquals(List.of(1, 14), scheme.layerIds());
    assertEquals(4, scheme.maxOrder());
    assertEquals(6, scheme.columns());
  }

  @Test
  void windowRulesCheckTheirRanges() {
    assertThrows(IllegalArgumentException.class, () -> WindowRule.padded(-1));
    assertThrows(
        IllegalArgumentException.class, () -> new WindowRule(0, -2, WindowRule.Dead.REFUSED));
    assertThrows(
        IllegalArgumentException.class,
        () -> new WindowRule(0, WindowRule.NO_BOUNDARY, WindowRule.Dead.BOUNDARY));
  }
}
