// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.math.BigInteger;
import java.util.Arrays;

/**
 * The specification's words turned into the slowest code: every window is scanned anew, every
 * product is a big integer.
 */
final class ReferenceHasher {
  private final HashLayout layout;
  private final WindowRule rule;
  private final long[] multipliers;

  ReferenceHasher(HashLayout layout, WindowRule rule) {
    this(layout, rule, layout.multipliers());
  }

  ReferenceHasher(HashLayout layout, WindowRule rule, long[] multipliers) {
    this.layout = layout;
    this.rule = rule;
    this.multipliers = multipliers;
  }

  /** Row ids of a whole sequence. */
  long[] hash(int[] sequence) {
    int[] ids = sequence.clone();
    if (rule.dead() == WindowRule.Dead.BOUNDARY) {
      for (int i = 0; i < ids.length; i++) {
        ids[i] = ids[i] == Lookback.DEAD ? rule.boundary() : ids[i];
      }
    }
    long[] rows = new long[ids.length * layout.columns()];
    int at = 0;
    for (int p = 0; p < ids.length; p++) {
      for (int order : layout.orders()) {
        BigInteger hash = BigInteger.ZERO;
        for (int k = 0; k < order; k++) {
          BigInteger id = BigInteger.valueOf(seen(ids, p, k));
          hash = hash.xor(id.multiply(BigInteger.valueOf(multipliers[k])));
        }
        for (int head = 0; head < layout.headsPerOrder(); head++) {
          int column = layout.orders().indexOf(order) * layout.headsPerOrder() + head;
          rows[at++] =
              hash.mod(BigInteger.valueOf(layout.modulus(column)))
                  .add(BigInteger.valueOf(layout.offset(column)))
                  .longValueExact();
        }
      }
    }
    return rows;
  }

  /** The id that position p sees k positions back. */
  private int seen(int[] ids, int p, int k) {
    int start = 0;
    for (int i = 0; i < p; i++) {
      if (rule.boundary() != WindowRule.NO_BOUNDARY && ids[i] == rule.boundary()) {
        start = i + 1;
      }
    }
    boolean blocked = p - k < start;
    for (int i = Math.max(0, p - k); i <= p; i++) {
      blocked |= ids[i] == Lookback.DEAD;
    }
    return blocked ? rule.fill() : ids[p - k];
  }

  /** The rows of some positions of what {@link #hash} gave. */
  static long[] positions(long[] rows, int columns, int from, int to) {
    return Arrays.copyOfRange(rows, from * columns, to * columns);
  }
}
