// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.ArrayList;
import java.util.List;

/**
 * The losses of a run. Not thread-safe.
 *
 * <p>A loss is a mean over tokens, in nats.
 */
public final class LossCurve {
  private final List<Point> training = new ArrayList<>();
  private final List<Point> heldOut = new ArrayList<>();

  /**
   * One loss.
   *
   * @param step steps trained before it
   * @param loss in nats a token
   */
  public record Point(long step, double loss) {}

  /** A curve without points. */
  public LossCurve() {}

  void trained(long step, double loss) {
    training.add(new Point(step, loss));
  }

  void evaluated(long step, double loss) {
    heldOut.add(new Point(step, loss));
  }

  /**
   * The loss of each step's batch.
   *
   * @return one point a step, in order
   */
  public List<Point> training() {
    return List.copyOf(training);
  }

  /**
   * The losses of held-out text.
   *
   * @return one point a look, in order
   */
  public List<Point> heldOut() {
    return List.copyOf(heldOut);
  }

  /**
   * The last look at held-out text.
   *
   * @return its loss, or NaN if there was none
   */
  public double lastHeldOut() {
    return heldOut.isEmpty() ? Double.NaN : heldOut.getLast().loss();
  }

  /**
   * The curve as CSV: step, loss, and which of the two it is.
   *
   * @return lines that {@link #fromCsv} reads back to the bit
   */
  public String csv() {
    StringBuilder lines = new StringBuilder("step,loss,text\n");
    training.forEach(
        p -> lines.append(p.step()).append(',').append(p.loss()).append(",training\n"));
    heldOut.forEach(p -> lines.append(p.step()).append(',').append(p.loss()).append(",held-out\n"));
    return lines.toString();
  }

  /**
   * Reads what {@link #csv} wrote.
   *
   * @param csv the lines
   * @return the curve
   * @throws IllegalArgumentException if a line is of another form, naming it
   */
  public static LossCurve fromCsv(String csv) {
    LossCurve curve = new LossCurve();
    List<String> lines = csv.lines().toList();
    for (int line = 1; line < lines.size(); line++) {
      String[] cells = lines.get(line).split(",", -1);
      try {
        Point point = new Point(Long.parseLong(cells[0]), Double.parseDouble(cells[1]));
        switch (cells[2]) {
          case "training" -> curve.training.add(point);
          case "held-out" -> curve.heldOut.add(point);
          default -> throw new IllegalArgumentException(cells[2]);
        }
      } catch (IllegalArgumentException | ArrayIndexOutOfBoundsException e) {
        throw new IllegalArgumentException(
            "line " + (line + 1) + " of a loss curve is \"" + lines.get(line) + "\"", e);
      }
    }
    return curve;
  }
}
