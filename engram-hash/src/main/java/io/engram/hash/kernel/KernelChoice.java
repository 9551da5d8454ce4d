// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.Locale;
import java.util.function.Supplier;

/**
 * Which twin of every kernel runs in this JVM: decided once, logged once.
 *
 * <p>The Vector API is an incubator module, so it is there only if the JVM was started with {@code
 * --add-modules=jdk.incubator.vector}. Without it the scalar kernels run: the same numbers, more
 * slowly. The system property {@code engram.kernels} ({@code auto}, {@code scalar} or {@code
 * vector}) forces one of them, and the first use fails if that cannot be met.
 *
 * <p>Thread-safe.
 */
public enum KernelChoice {
  /** Plain Java loops. */
  SCALAR,
  /** The Vector API. */
  VECTOR;

  /** The system property that forces a choice. */
  public static final String PROPERTY = "engram.kernels";

  private static final String MODULE = "jdk.incubator.vector";

  /** What was decided, or why nothing could be. */
  record Decision(KernelChoice choice, String reason, Level level) {}

  /** Deciding on first use, in its own class, keeps class loading free of deadlocks. */
  private static final class Holder {
    private static final Decision DECISION =
        decide(
            System.getProperty(PROPERTY, "auto"),
            ModuleLayer.boot().findModule(MODULE).isPresent());

    static {
      if (DECISION.choice != null) {
        Logger log = System.getLogger("io.engram");
        log.log(DECISION.level, "Engram kernels: {0} ({1})", DECISION.choice, DECISION.reason);
      }
    }
  }

  /**
   * Decides.
   *
   * @param asked the value of the system property
   * @param present whether the JVM has the Vector API
   * @return the decision, without a choice if what was asked for cannot be met
   */
  static Decision decide(String asked, boolean present) {
    return switch (asked.toLowerCase(Locale.ROOT)) {
      case "scalar" -> new Decision(SCALAR, "forced by -D" + PROPERTY + "=scalar", Level.DEBUG);
      case "vector" ->
          present
              ? new Decision(VECTOR, "forced by -D" + PROPERTY + "=vector", Level.DEBUG)
              : new Decision(
                  null,
                  "-D"
                      + PROPERTY
                      + "=vector asks for the Vector API, which this JVM was started without: add"
                      + " --add-modules="
                      + MODULE,
                  Level.ERROR);
      case "auto" ->
          present
              ? new Decision(VECTOR, "the module " + MODULE + " is there", Level.DEBUG)
              : new Decision(
                  SCALAR,
                  "the module " + MODULE + " is absent: add --add-modules=" + MODULE,
                  Level.WARNING);
      default ->
          new Decision(
              null,
              "-D" + PROPERTY + "=" + asked + " is none of auto, scalar, vector",
              Level.ERROR);
    };
  }

  /**
   * The choice of this JVM.
   *
   * @return the choice, the same at every call
   * @throws IllegalStateException if a forced choice cannot be met
   */
  public static KernelChoice get() {
    // Thrown from here, not while the holder is set up, so that every use fails alike.
    if (Holder.DECISION.choice == null) {
      throw new IllegalStateException(Holder.DECISION.reason);
    }
    return Holder.DECISION.choice;
  }

  /**
   * Why that choice was made, and what to add for the faster one.
   *
   * @return one clause, without a full stop
   */
  public static String reason() {
    return Holder.DECISION.reason;
  }

  /**
   * Makes the chosen twin of a kernel.
   *
   * @param <T> the kernel's type
   * @param lookup a lookup of the package that holds the vector twin
   * @param type the kernel's type
   * @param scalar makes the scalar twin
   * @param vectorClass simple name of the vector twin: a class of the lookup's package with a
   *     constructor without parameters
   * @return the chosen twin
   * @throws LinkageError if the vector twin is chosen and missing from the jar
   */
  public static <T> T make(
      MethodHandles.Lookup lookup,
      Class<T> type,
      Supplier<? extends T> scalar,
      String vectorClass) {
    if (get() == SCALAR) {
      return scalar.get();
    }
    String name = lookup.lookupClass().getPackageName() + "." + vectorClass;
    try {
      Class<?> vector = lookup.findClass(name);
      return type.cast(lookup.findConstructor(vector, MethodType.methodType(void.class)).invoke());
    } catch (ReflectiveOperationException e) {
      throw new LinkageError(name + " is missing from the jar of its module", e);
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new LinkageError(name + " could not be made", e);
    }
  }
}
