// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.Locale;
import java.util.function.IntSupplier;
import java.util.function.Supplier;

/**
 * Which twin of every kernel runs in this JVM: decided once, logged once.
 *
 * <p>The Vector API is an incubator module, so it is there only if the JVM was started with {@code
 * --add-modules=jdk.incubator.vector}. Without it the scalar kernels run: the same numbers, more
 * slowly. They also run where the Vector API would make an object of each vector, which is slower
 * by far: in a JVM that only interprets or only has the client compiler, and on x86 without AVX2,
 * where many operations have no instruction. The system property {@code engram.kernels} ({@code
 * auto}, {@code scalar} or {@code vector}) forces one of them, and the first use fails if that
 * cannot be met.
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

  /**
   * What the choice depends on besides what is asked for.
   *
   * @param vectorBits width of the widest vectors of all element types; 0 without the Vector API
   * @param arch the system property {@code os.arch}
   * @param compilers the system property {@code java.vm.info}: "interpreted mode" of {@code -Xint},
   *     "emulated-client" where {@code -XX:TieredStopAtLevel=1} or {@code
   *     -XX:CompilationMode=quick-only} leaves the client compiler only
   */
  record Machine(int vectorBits, String arch, String compilers) {
    static Machine here() {
      return new Machine(
          vectorBitsHere(),
          System.getProperty("os.arch", ""),
          System.getProperty("java.vm.info", ""));
    }

    private static int vectorBitsHere() {
      if (ModuleLayer.boot().findModule(MODULE).isEmpty()) {
        return 0;
      }
      IntSupplier width = of(MethodHandles.lookup(), IntSupplier.class, "VectorWidth");
      return width.getAsInt();
    }

    boolean hasVectorApi() {
      return vectorBits > 0;
    }

    /** Why the Vector API would be slow, or null. */
    String slowBecause() {
      if (compilers.contains("interpreted mode")) {
        return "this JVM only interprets";
      }
      if (compilers.contains("emulated-client")) {
        return "this JVM has only the client compiler, which knows no vectors";
      }
      if (vectorBits < 128) {
        return "this JVM has no vectors";
      }
      boolean x86 = arch.equals("amd64") || arch.equals("x86_64") || arch.equals("x86");
      return x86 && vectorBits < 256 ? "vectors have " + vectorBits + " bits: no AVX2" : null;
    }
  }

  /** What was decided, or why nothing could be. */
  record Decision(KernelChoice choice, String reason, Level level) {}

  /** Deciding on first use, in its own class, keeps class loading free of deadlocks. */
  private static final class Holder {
    private static final Decision DECISION =
        decide(System.getProperty(PROPERTY, "auto"), Machine.here());

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
   * @param machine where
   * @return the decision, without a choice if what was asked for cannot be met
   */
  static Decision decide(String asked, Machine machine) {
    return switch (asked.toLowerCase(Locale.ROOT)) {
      case "scalar" -> new Decision(SCALAR, "forced by -D" + PROPERTY + "=scalar", Level.DEBUG);
      case "vector" ->
          machine.hasVectorApi()
              ? new Decision(VECTOR, "forced by -D" + PROPERTY + "=vector", Level.DEBUG)
              : new Decision(
                  null,
                  "-D"
                      + PROPERTY
                      + "=vector asks for the Vector API, which this JVM was started without: add"
                      + " --add-modules="
                      + MODULE,
                  Level.ERROR);
      case "auto" -> automatic(machine);
      default ->
          new Decision(
              null,
              "-D" + PROPERTY + "=" + asked + " is none of auto, scalar, vector",
              Level.ERROR);
    };
  }

  private static Decision automatic(Machine machine) {
    if (!machine.hasVectorApi()) {
      return new Decision(
          SCALAR,
          "the module " + MODULE + " is absent: add --add-modules=" + MODULE,
          Level.WARNING);
    }
    String slow = machine.slowBecause();
    return slow == null
        ? new Decision(VECTOR, "the module " + MODULE + " is there", Level.DEBUG)
        : new Decision(SCALAR, "the module " + MODULE + " is there, but " + slow, Level.INFO);
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
    return of(lookup, type, vectorClass);
  }

  /** Makes an object of a class that may need the Vector API. */
  private static <T> T of(MethodHandles.Lookup lookup, Class<T> type, String simpleName) {
    String name = lookup.lookupClass().getPackageName() + "." + simpleName;
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
