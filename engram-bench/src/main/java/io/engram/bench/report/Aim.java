// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Collectors;

/**
 * What is to be reached, as a ratio of two benchmarks of one run.
 *
 * @param id a short name that stays the same when the words change
 * @param what the sentence that people read
 * @param ours what is measured of this library
 * @param rivals what it is compared with; the fastest of them in each round counts
 * @param direction how the ratio is read
 * @param bound the ratio that is aimed at, positive
 */
public record Aim(
    String id, String what, Pick ours, List<Pick> rivals, Direction direction, double bound) {

  /** How a ratio is read. */
  public enum Direction {
    /** The rival's time over ours, which should be at least the bound. */
    TIMES_AS_FAST,
    /** Our time over the rival's, which should be at most the bound. */
    OF_THE_TIME;

    /**
     * The ratio.
     *
     * @param ours our time
     * @param rival the rival's time
     * @return their ratio
     */
    public double ratio(double ours, double rival) {
      return this == TIMES_AS_FAST ? rival / ours : ours / rival;
    }

    /**
     * Whether a ratio reaches a bound.
     *
     * @param ratio the ratio
     * @param bound the bound
     * @return true if it is met exactly or better
     */
    public boolean meets(double ratio, double bound) {
      return this == TIMES_AS_FAST ? ratio >= bound : ratio <= bound;
    }
  }

  /** Checks. */
  public Aim {
    Checks.named("id", id);
    Checks.named("what", what);
    Checks.present("ours", ours);
    rivals = Checks.list("rivals", rivals);
    if (rivals.isEmpty()) {
      throw new IllegalArgumentException(id + ": no rivals");
    }
    Checks.present("direction", direction);
    if (!(bound > 0) || Double.isInfinite(bound)) {
      throw new IllegalArgumentException(id + ": the bound " + bound + " is no positive number");
    }
  }

  /**
   * Compares what was measured.
   *
   * @param all what one run measured
   * @return what was found, or null if the run neither measured nor tried what this is about
   */
  public Finding find(List<Measured> all) {
    List<Measured> mine = all.stream().filter(ours::fits).toList();
    List<Measured> theirs =
        all.stream().filter(one -> rivals.stream().anyMatch(pick -> pick.fits(one))).toList();
    if (mine.isEmpty() || theirs.isEmpty()) {
      return null;
    }
    if (mine.size() > 1) {
      throw new IllegalArgumentException(
          id
              + ": "
              + ours
              + " leaves a choice of "
              + mine.stream().map(Measured::label).collect(Collectors.joining(", ")));
    }
    List<String> troubles = new ArrayList<>();
    Measured me = mine.getFirst();
    List<Measured> there = new ArrayList<>();
    for (Measured one : theirs) {
      if (one.whole()) {
        there.add(one);
      } else {
        troubles.add(trouble(one));
      }
    }
    if (!me.whole() || there.isEmpty()) {
      if (!me.whole()) {
        troubles.addFirst(trouble(me));
      }
      return new Finding(
          id, what, me.label(), null, direction, bound, null, String.join("; ", troubles));
    }
    List<Double> ratios = new ArrayList<>();
    int rounds = me.rounds().size();
    for (Measured one : there) {
      rounds = Math.min(rounds, one.rounds().size());
    }
    for (int round = 0; round < rounds; round++) {
      double best = Double.POSITIVE_INFINITY;
      for (Measured one : there) {
        best = Math.min(best, one.seconds(round));
      }
      ratios.add(direction.ratio(me.seconds(round), best));
    }
    Measured fastest =
        there.stream().min(Comparator.comparingDouble(one -> one.seconds().median())).orElseThrow();
    return new Finding(
        id,
        what,
        me.label(),
        fastest.label(),
        direction,
        bound,
        ratios,
        troubles.isEmpty() ? null : "without " + String.join("; ", troubles));
  }

  private static String trouble(Measured one) {
    return one.label()
        + (one.failed() == null ? " (absent: " + one.absent() : " (failed: " + one.failed())
        + ")";
  }
}
