// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import java.util.Collections;
import java.util.List;
import java.util.Objects;

/**
 * How experts and a memory share the sparse parameters of a model (paper, section 3).
 *
 * <p>Of the parameters that a token does not use, total less active ones, a share rho stays with
 * routed experts: top-k + rho * (experts at rho = 1, less top-k) of them. What the others had
 * becomes slots of a memory, so that total and active parameters stay as they are. The memory's
 * dense part, {@link #gateParameters}, is used by every token, small, and not in the share.
 *
 * <p>A value, safe to share.
 *
 * @param backbone the model without a memory
 * @param memory the memory's shape; its slots are not used
 */
public record AllocationPlan(SparseBackbone backbone, EngramConfig memory) {
  /** Where the paper's loss begins to be lowest. */
  public static final double OPTIMUM_FROM = 0.75;

  /** Where it ceases to be. */
  public static final double OPTIMUM_TO = 0.85;

  private static final long FEWEST_SLOTS = 2;

  /** Checks that both are there. */
  public AllocationPlan {
    Objects.requireNonNull(backbone, "backbone");
    Objects.requireNonNull(memory, "memory");
  }

  /**
   * The allocation whose number of experts is nearest to a ratio. Slots are the most that the freed
   * parameters pay for, with moduli as they will be: distinct primes, which are larger than the
   * slots from which they are searched.
   *
   * @param rho share of the sparse parameters that experts keep, from 0 to 1
   * @return the allocation; without a memory where no expert is gone, or where what they had is not
   *     enough for two slots a head
   */
  public Allocation at(double rho) {
    if (!(rho >= 0 && rho <= 1)) {
      throw new IllegalArgumentException("rho is " + rho + ", expected 0 to 1");
    }
    int inactive = backbone.experts() - backbone.activeExperts();
    int kept = (int) Math.round(rho * inactive);
    long freed =
        kept == inactive ? 0 : Math.round((inactive - kept) * backbone.parametersPerExpert());
    long slots = most(freed);
    return new Allocation(
        (double) kept / inactive,
        backbone.activeExperts() + kept,
        freed,
        slots,
        memory.headDim(),
        slots == 0 ? List.of() : layouts(slots));
  }

  /**
   * The ratio at which tables of some slots are paid for, experts taken as divisible.
   *
   * @param slotsPerHead where the search for moduli starts, at least 2
   * @return the ratio; less than 0 if all inactive experts together do not pay for such tables
   */
  public double ratioFor(long slotsPerHead) {
    Check.atLeast(slotsPerHead, FEWEST_SLOTS, "slotsPerHead");
    return 1 - (double) tableParameters(slotsPerHead) / backbone.sparseParameters();
  }

  /**
   * Parameters of tables of some slots.
   *
   * @param slotsPerHead where the search for moduli starts, at least 2
   * @return rows * head dim, over all layers
   */
  public long tableParameters(long slotsPerHead) {
    Check.atLeast(slotsPerHead, FEWEST_SLOTS, "slotsPerHead");
    long rows =
        layouts(slotsPerHead).stream().mapToLong(HashLayout::rowCount).reduce(0, Math::addExact);
    return Math.multiplyExact(rows, (long) memory.headDim());
  }

  /**
   * Parameters of the memory that every token uses: key and value projections with their biases,
   * norms, and the convolution, in all its layers.
   *
   * @return a positive number, which depends on no ratio
   */
  public long gateParameters() {
    long streams = memory.gate().streams();
    long width = memory.gate().width();
    long one = Math.multiplyExact((streams + 1) * width, (long) memory.rowWidth());
    one += memory.gate().bias() ? (streams + 1) * width : 0;
    one += 2 * streams * width;
    one += memory.conv().map(c -> streams * width * (c.kernelSize() + 1)).orElse(0L);
    return Math.multiplyExact(memory.layerIds().size(), one);
  }

  /** The largest start of the search for moduli whose tables are paid for, or 0. */
  private long most(long freed) {
    long heads = (long) memory.hashing().columns() * memory.layerIds().size();
    // Moduli are no smaller than the start, so that this many cannot be exceeded.
    long high = freed / Math.multiplyExact(heads, (long) memory.headDim());
    if (high < FEWEST_SLOTS || tableParameters(FEWEST_SLOTS) > freed) {
      return 0;
    }
    long low = FEWEST_SLOTS;
    while (low < high) {
      long middle = low + (high - low + 1) / 2;
      if (tableParameters(middle) <= freed) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  private List<HashLayout> layouts(long slots) {
    HashScheme scheme = memory.hashing();
    return HashLayout.derive(
        new HashScheme(
            scheme.vocabularySize(),
            scheme.orders(),
            scheme.headsPerOrder(),
            Collections.nCopies(scheme.orders().size(), slots),
            scheme.layerIds(),
            scheme.seed(),
            scheme.generator(),
            scheme.primeSearch(),
            scheme.rowAlignment()));
  }
}
