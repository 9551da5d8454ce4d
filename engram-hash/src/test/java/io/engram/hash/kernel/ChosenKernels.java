// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import io.engram.hash.NgramHasher;
import io.engram.hash.WindowRule;
import java.util.List;
import java.util.Random;

/** A JVM's choice, its reason, and whether the kernels that it led to hash right. */
final class ChosenKernels {
  private ChosenKernels() {}

  public static void main(String[] args) {
    HashScheme scheme =
        new HashScheme(
            99_092,
            List.of(2, 3),
            8,
            List.of(16_000_000L, 16_000_000L),
            List.of(1),
            0,
            Generator.NUMPY_PCG64,
            PrimeSearch.RESTART_PER_ORDER,
            1);
    HashLayout layout = HashLayout.derive(scheme).getFirst();
    int[] ids = new Random(1).ints(200, 0, 99_092).toArray();
    long[] rows = new NgramHasher(layout, WindowRule.padded(2)).hash(ids);
    boolean exact = true;
    for (int p = 2; p < ids.length; p++) {
      long hash = ids[p] * layout.multiplier(0) ^ ids[p - 1] * layout.multiplier(1);
      for (int order = 0; order < 2; order++) {
        for (int column = order * 8; column < order * 8 + 8; column++) {
          exact &= rows[p * 16 + column] == layout.offset(column) + hash % layout.modulus(column);
        }
        hash ^= ids[p - 2] * layout.multiplier(2);
      }
    }
    System.out.println(
        KernelChoice.get() + " " + KernelChoice.reason() + (exact ? " exact" : " wrong"));
  }
}
