// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@Tag("once")
class KernelDecisionTest {
  @ParameterizedTest
  @CsvSource({
    "auto, true, VECTOR",
    "auto, false, SCALAR",
    "AUTO, true, VECTOR",
    "scalar, true, SCALAR",
    "scalar, false, SCALAR",
    "vector, true, VECTOR",
    "Vector, true, VECTOR",
  })
  void decidesByPropertyAndModule(String asked, boolean present, KernelChoice expected) {
    assertEquals(expected, KernelChoice.decide(asked, present).choice());
  }

  @Test
  void aForcedChoiceThatCannotBeMetIsNoChoice() {
    KernelChoice.Decision decision = KernelChoice.decide("vector", false);
    assertNull(decision.choice());
    assertTrue(decision.reason().contains("--add-modules=jdk.incubator.vector"), decision.reason());
  }

  @Test
  void anUnknownValueIsNoChoice() {
    KernelChoice.Decision decision = KernelChoice.decide("avx", true);
    assertNull(decision.choice());
    assertTrue(decision.reason().contains("avx"), decision.reason());
  }

  @Test
  void theFlagIsNamedWhereItIsMissing() {
    assertTrue(
        KernelChoice.decide("auto", false).reason().contains("--add-modules=jdk.incubator.vector"));
  }
}
