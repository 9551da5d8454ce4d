// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Tensor;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** OpenBLAS, from the preset that the ND4J backend of the tests brings along. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class OpenBlasTest extends ProjectionContract {
  @Override
  Projection pack(Tensor weights, int parts) {
    return OpenBlas.pack(weights, parts);
  }
}
