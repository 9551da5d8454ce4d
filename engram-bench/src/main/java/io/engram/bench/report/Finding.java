// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.List;
import java.util.Locale;

/**
 * What one run found about one aim.
 *
 * @param id the aim's short name
 * @param what the aim's sentence
 * @param ours which benchmark was ours
 * @param rival which rival was the fastest, or null if none was measured
 * @param direction how the ratio is read
 * @param bound the ratio that is aimed at
 * @param ratios the ratio in each round, or null if there is none
 * @param note what is missing from the comparison, or null
 */
public record Finding(
    String id,
    String what,
    String ours,
    String rival,
    Aim.Direction direction,
    double bound,
    List<Double> ratios,
    String note) {

  /** Checks, and rounds the ratios to what is worth keeping. */
  public Finding {
    Checks.named("id", id);
    Checks.named("what", what);
    Checks.named("ours", ours);
    Checks.present("direction", direction);
    if (!(bound > 0)) {
      throw new IllegalArgumentException(id + ": the bound " + bound + " is no positive number");
    }
    if (ratios != null) {
      Checks.named("rival", rival);
      ratios =
          new Spread(ratios)
              .rounds().stream()
                  .map(ratio ->
                      new java.math.BigDecimal(ratio)
                          .round(new java.math.MathContext(4))
                          .doubleValue())
                  .toList();
    } else {
      Checks.named("note", note);
    }
  }

  /**
   * The ratio over the rounds.
   *
   * @return median, lowest and highest, or null if there is no ratio
   */
  public Spread ratio() {
    return ratios == null ? null : new Spread(ratios);
  }

  /**
   * Whether the median reaches the aim.
   *
   * @return false also if there is no ratio
   */
  public boolean met() {
    return ratios != null && direction.meets(ratio().median(), bound);
  }

  /**
   * How many times as fast as the rival we are: the one scale on which all aims can be drawn.
   *
   * @return the speed over the rival's, or null if there is no ratio
   */
  public Spread speed() {
    return ratios == null || direction == Aim.Direction.TIMES_AS_FAST ? ratio() : ratio().inverse();
  }

  /**
   * The aim on the scale of {@link #speed()}.
   *
   * @return how many times as fast as the rival we want to be
   */
  public double speedAimed() {
    return direction == Aim.Direction.TIMES_AS_FAST ? bound : 1 / bound;
  }

  /**
   * The aim in words.
   *
   * @return such as {@code ≥ 12 ×} or {@code ≤ 0.8 of the time}
   */
  public String aim() {
    return direction == Aim.Direction.TIMES_AS_FAST
        ? "≥ " + plain(bound) + " ×"
        : "≤ " + plain(bound) + " of the time";
  }

  /**
   * Whether the aim is met, or by how much it is missed.
   *
   * @return a phrase
   */
  public String verdict() {
    if (ratios == null) {
      return "no comparison: " + note;
    }
    Spread ratio = ratio();
    double missed =
        direction == Aim.Direction.TIMES_AS_FAST
            ? 1 - ratio.median() / bound
            : ratio.median() / bound - 1;
    String verdict =
        met()
            ? "met"
            : String.format(
                Locale.ROOT,
                missed < 0.0995 ? "missed by %.1f %%" : "missed by %.0f %%",
                100 * missed);
    boolean sure =
        direction.meets(ratio.lowest(), bound) == direction.meets(ratio.highest(), bound);
    return verdict
        + (sure ? "" : (met() ? ", not in every round" : ", met in some rounds"))
        + (note == null ? "" : "; " + note);
  }

  private static String plain(double value) {
    return new java.math.BigDecimal(Double.toString(value)).stripTrailingZeros().toPlainString();
  }
}
