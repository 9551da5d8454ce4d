// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.hash.kernel.KernelChoice;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.Locale;

/**
 * Which implementation of {@link Projection} this JVM uses: decided once, logged once.
 *
 * <p>Without a word from the user it is always a kernel of this library, scalar or vector as {@link
 * KernelChoice} says: with them a sequence cut into calls gives the same bits as the whole, which
 * no library of matrix products promises. The system property {@code engram.projection} ({@code
 * auto}, {@code scalar}, {@code vector}, {@code onednn} or {@code openblas}) asks for one, and the
 * first use fails if it cannot be had.
 *
 * <p>Thread-safe.
 */
enum ProjectionChoice {
  /** Plain Java loops. */
  SCALAR,
  /** The Vector API. */
  VECTOR,
  /** oneDNN ({@link OneDnn}). */
  ONEDNN,
  /** OpenBLAS ({@link OpenBlas}). */
  OPENBLAS;

  /** The system property that forces a choice. */
  static final String PROPERTY = "engram.projection";

  /** What was decided, or why nothing could be. */
  record Decision(ProjectionChoice choice, String reason, Level level) {}

  /** Deciding on first use, in its own class, keeps class loading free of deadlocks. */
  private static final class Holder {
    private static final Decision DECISION =
        decide(System.getProperty(PROPERTY, "auto"), KernelChoice.get(), KernelChoice.reason());

    static {
      if (DECISION.choice != null) {
        Logger log = System.getLogger("io.engram");
        log.log(DECISION.level, "Engram projection: {0} ({1})", DECISION.choice, DECISION.reason);
      }
    }
  }

  /**
   * Decides.
   *
   * @param asked the value of the system property
   * @param kernels the twin of the kernels that this JVM runs
   * @param why why it is that one
   * @return the decision, without a choice if what was asked for cannot be met
   */
  static Decision decide(String asked, KernelChoice kernels, String why) {
    String forced = "forced by -D" + PROPERTY + "=" + asked;
    return switch (asked.toLowerCase(Locale.ROOT)) {
      case "auto" ->
          new Decision(
              kernels == KernelChoice.VECTOR ? VECTOR : SCALAR,
              "as the other kernels; -D" + PROPERTY + " can ask for a library",
              Level.DEBUG);
      case "scalar" -> new Decision(SCALAR, forced, Level.DEBUG);
      case "vector" ->
          kernels == KernelChoice.VECTOR
              ? new Decision(VECTOR, forced, Level.DEBUG)
              : new Decision(
                  null,
                  "-D"
                      + PROPERTY
                      + "="
                      + asked
                      + " asks for the Vector API, which the kernels do not use ("
                      + why
                      + ")",
                  Level.ERROR);
      case "onednn" -> new Decision(ONEDNN, forced, Level.INFO);
      case "openblas" -> new Decision(OPENBLAS, forced, Level.INFO);
      default ->
          new Decision(
              null,
              "-D" + PROPERTY + "=" + asked + " is none of auto, scalar, vector, onednn, openblas",
              Level.ERROR);
    };
  }

  /**
   * The choice of this JVM. That a library was chosen does not say that it is there: making its
   * first projection does.
   *
   * @return the choice, the same at every call
   * @throws IllegalStateException if a forced choice cannot be met
   */
  static ProjectionChoice get() {
    // First, because a holder that fails to be set up fails differently the second time.
    KernelChoice.get();
    if (Holder.DECISION.choice == null) {
      throw new IllegalStateException(Holder.DECISION.reason);
    }
    return Holder.DECISION.choice;
  }
}
