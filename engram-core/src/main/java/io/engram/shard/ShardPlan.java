// SPDX-License-Identifier: Apache-2.0
package io.engram.shard;

import java.util.List;
import java.util.Objects;

/**
 * What a {@link ShardPlanner} found for a number of shards: every layout that there is, with its
 * balance on the sample, and the one to take.
 *
 * @param candidates the layouts, in the order of {@link ShardLayout.Kind}; whole heads only where
 *     there are at least as many as shards
 * @param proposal one of them
 * @param reason why, as a sentence
 */
public record ShardPlan(List<Candidate> candidates, Candidate proposal, String reason) {
  /** Copies the list. */
  public ShardPlan {
    candidates = List.copyOf(candidates);
    Objects.requireNonNull(proposal, "proposal");
    Objects.requireNonNull(reason, "reason");
  }

  /**
   * What the sample asks of one shard. Rows and pages of a chunk count once, however often it asks
   * for them.
   *
   * @param bytes size of the shard: its rows, packed
   * @param rows rows of all chunks
   * @param pages pages of {@link ShardPlanner#PAGE_BYTES} of all chunks, the shard being one run of
   *     packed rows that starts at a page
   */
  public record Load(long bytes, long rows, long pages) {}

  /**
   * A layout with its balance. All factors are 1 where shards are equal, and the number of shards
   * where one of them does all the work.
   *
   * @param layout the layout
   * @param loads what the sample asks of each shard, in order
   * @param slowest by what factor a chunk, whose shards are read at the same time, waits longer for
   *     its fullest shard than for the mean: sum of the largest over sum of the mean
   * @param decode the same for chunks of one token, as in decoding a single sequence
   */
  public record Candidate(ShardLayout layout, List<Load> loads, double slowest, double decode) {
    /** Copies the list. */
    public Candidate {
      Objects.requireNonNull(layout, "layout");
      loads = List.copyOf(loads);
      if (loads.size() != layout.shards()) {
        throw new IllegalArgumentException(loads.size() + " loads for " + layout);
      }
    }

    /**
     * Imbalance of the rows asked for.
     *
     * @return those of the fullest shard over the mean
     */
    public double rowSkew() {
      return skew(loads.stream().mapToLong(Load::rows).toArray());
    }

    /**
     * Imbalance of the pages asked for.
     *
     * @return those of the fullest shard over the mean
     */
    public double pageSkew() {
      return skew(loads.stream().mapToLong(Load::pages).toArray());
    }

    /**
     * Imbalance of the shards' sizes.
     *
     * @return bytes of the largest shard over the mean
     */
    public double byteSkew() {
      return skew(loads.stream().mapToLong(Load::bytes).toArray());
    }

    /**
     * How much more the busiest shard is asked for than the idlest.
     *
     * @return rows of the one over those of the other; infinite if the other is asked for none
     */
    public double rowSpread() {
      long most = loads.stream().mapToLong(Load::rows).max().orElseThrow();
      long least = loads.stream().mapToLong(Load::rows).min().orElseThrow();
      return (double) most / least;
    }

    private static double skew(long[] values) {
      double sum = 0;
      long most = 0;
      for (long value : values) {
        sum += value;
        most = Math.max(most, value);
      }
      return most * values.length / sum;
    }
  }
}
