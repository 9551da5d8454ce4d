// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertThrows;

import io.engram.Dtype;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** OpenBLAS, from the preset that the ND4J backend of the tests brings along. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class OpenBlasTest extends ProjectionContract {
  @Override
  Projection pack(Tensor weights, int parts) {
    return OpenBlas.pack(weights, parts);
  }

  @Test
  void weightsWhoseArenaIsClosedAreNotRead() {
    RandomGenerator random = Seeds.random("closed weights");
    Arena arena = Arena.ofShared();
    Projection projection = pack(random(arena, random, Dtype.F32, 40, 16), 2);
    try (Arena own = Arena.ofConfined()) {
      MemorySegment x = random(own, random, Dtype.F32, 3, 16).data();
      MemorySegment out = result(own, 3, 40);
      projection.multiply(0, x, 3, out);
      arena.close();
      assertThrows(IllegalStateException.class, () -> projection.multiply(0, x, 3, out));
      assertThrows(IllegalStateException.class, () -> projection.multiply(1, x, 1, out));
    }
  }
}
