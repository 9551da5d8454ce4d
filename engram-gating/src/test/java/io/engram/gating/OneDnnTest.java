// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.Dtype;
import io.engram.Tensor;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.atomic.AtomicReference;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;

/** oneDNN, where the build puts it on the class path. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class OneDnnTest extends ProjectionContract {
  @BeforeAll
  static void isThere() {
    OneDnn.library();
  }

  @Override
  Projection pack(Tensor weights, int parts) {
    return OneDnn.pack(weights, parts);
  }

  @Override
  boolean roundsRows(Dtype weights) {
    return weights == Dtype.BF16 && OneDnn.roundsRows();
  }

  @Test
  void rowsOfBfloat16NumbersLoseNothing() {
    RandomGenerator random = Seeds.random("bfloat16 rows");
    assumeTrue(OneDnn.roundsRows(), "this processor does not multiply bfloat16 numbers itself");
    try (Arena arena = Arena.ofConfined()) {
      Tensor weights = random(arena, random, Dtype.BF16, 64, 128);
      MemorySegment x = arena.allocate(9 * 128 * 4, 64);
      float[] values = RandomLayer.values(random, 9 * 128);
      for (int i = 0; i < values.length; i++) {
        float rounded = Bfloat16.toFloat(Bfloat16.toBits(values[i]));
        x.setAtIndex(ValueLayout.JAVA_FLOAT, i, rounded);
      }
      MemorySegment out = result(arena, 9, 64);
      OneDnn.pack(weights, 1).multiply(0, x, 9, out);
      check(weights, x, 9, out, false);
    }
  }

  @Test
  void theThreadsOfTheCallerStayAsTheyWere() throws Exception {
    RandomGenerator random = Seeds.random("threads of the caller");
    AtomicReference<Throwable> thrown = new AtomicReference<>();
    Thread caller =
        Thread.ofPlatform()
            .uncaughtExceptionHandler((thread, e) -> thrown.set(e))
            .start(() -> {
              OneDnnFunctions.setThreads(3);
              try (Arena arena = Arena.ofConfined()) {
                Projection p = OneDnn.pack(random(arena, random, Dtype.F32, 16, 16), 1);
                assertEquals(3, OneDnnFunctions.threads());
                MemorySegment x = random(arena, random, Dtype.F32, 2, 16).data();
                p.multiply(0, x, 2, arena.allocate(2 * 16 * 4, 64));
                assertEquals(3, OneDnnFunctions.threads());
              }
            });
    caller.join();
    assertNull(thrown.get());
  }

  @Test
  void theVersionIsThatOfTheArtifact() {
    assertTrue(OneDnnFunctions.version().startsWith("3.11."), OneDnnFunctions.version());
  }
}
