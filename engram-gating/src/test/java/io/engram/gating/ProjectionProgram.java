// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** A program that makes the projection that was asked for; {@link ProjectionChoiceTest} runs it. */
final class ProjectionProgram {
  private ProjectionProgram() {}

  public static void main(String[] args) {
    for (int attempt = 0; attempt < 2; attempt++) {
      try {
        ProjectionChoice choice = ProjectionChoice.get();
        System.out.println("chosen: " + choice);
        multiply(choice);
      } catch (IllegalStateException e) {
        System.out.println("refused: " + e.getMessage());
      }
    }
  }

  private static void multiply(ProjectionChoice choice) {
    Arena arena = Arena.ofAuto();
    Tensor weights =
        new Tensor(
            Dtype.F32,
            new long[] {2, 3},
            arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1, 2, 3, 4, 5, 6));
    MemorySegment x = arena.allocate(12, 64);
    x.copyFrom(MemorySegment.ofArray(new float[] {1, 10, 100}));
    MemorySegment out = arena.allocate(8, 64);
    Projection projection =
        switch (choice) {
          case ONEDNN -> OneDnn.pack(weights, 1);
          case OPENBLAS -> OpenBlas.pack(weights, 1);
          case SCALAR, VECTOR -> null;
        };
    if (projection != null) {
      projection.multiply(0, x, 1, out);
      System.out.println(
          "product: "
              + out.get(ValueLayout.JAVA_FLOAT, 0)
              + " "
              + out.get(ValueLayout.JAVA_FLOAT, 4));
    }
  }
}
