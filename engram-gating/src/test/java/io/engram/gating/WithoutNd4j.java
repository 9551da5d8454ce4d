// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;

/** A program that uses the kernel; {@link WithoutNd4jTest} runs it where no ND4J is. */
final class WithoutNd4j {
  private WithoutNd4j() {}

  public static void main(String[] args) {
    RandomGenerator random = RandomGenerator.of("L64X128MixRandom");
    RandomLayer r =
        RandomLayer.of(
            Variants.demo(2, 16), Optional.of(Variants.DEMO_CONV), 16, Dtype.F32, random);
    GateKernel kernel = r.kernel();
    float[] rows = RandomLayer.values(random, 80 * 16);
    float[] streams = RandomLayer.values(random, 80 * 32);
    float[] out = new float[streams.length];
    ConvState state = kernel.newState(1);
    kernel.forward(GateCall.of(1, 80, rows, streams, out).withStates(List.of(state)));
    if (!Arrays.equals(out, kernel.forward(rows, streams)) || state.position() != 80) {
      throw new AssertionError("wrong result");
    }
    System.out.println("done with " + GateLoops.CHOSEN.getClass().getSimpleName());
  }
}
