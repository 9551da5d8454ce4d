// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.engram.hash.kernel.KernelChoice;
import org.junit.jupiter.api.Test;

class KernelChoiceTest {
  @Test
  void theKernelsThatTheBuildAskedForRan() {
    assertEquals(System.getProperty("engram.kernels.expected"), KernelChoice.get().name());
  }
}
