// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/** Which rivals are there. Each is looked for once; thread-safe. */
public final class Rivals {
  private static final Map<Rival, Rival.Presence> FOUND = new ConcurrentHashMap<>();

  private Rivals() {}

  /**
   * Looks for all rivals.
   *
   * @return one for each, in the order of {@link Rival}
   */
  public static List<Rival.Presence> available() {
    return Arrays.stream(Rival.values()).map(Rivals::presence).toList();
  }

  /**
   * Looks for one rival. The first time that may take seconds.
   *
   * @param rival the rival
   * @return whether it is there
   */
  public static Rival.Presence presence(Rival rival) {
    return FOUND.computeIfAbsent(rival, Rivals::look);
  }

  /**
   * Why a benchmark cannot run here, if so.
   *
   * @param benchmark full name of a benchmark: class, dot, method
   * @return the absent rival and the reason, or nothing if it can run
   * @throws IllegalArgumentException if there is no such benchmark
   */
  public static Optional<Rival.Presence> absentFor(String benchmark) {
    return need(benchmark).map(Rivals::presence).filter(p -> !p.present());
  }

  /**
   * What a benchmark needs.
   *
   * @param benchmark full name of a benchmark: class, dot, method
   * @return the rival that it runs, or nothing if it runs the library
   * @throws IllegalArgumentException if there is no such benchmark
   */
  public static Optional<Rival> need(String benchmark) {
    int dot = benchmark.lastIndexOf('.');
    try {
      for (Method method : Class.forName(benchmark.substring(0, dot)).getDeclaredMethods()) {
        if (method.getName().equals(benchmark.substring(dot + 1))) {
          return Optional.ofNullable(method.getAnnotation(Needs.class)).map(Needs::value);
        }
      }
    } catch (ClassNotFoundException e) {
      throw new IllegalArgumentException("no benchmark " + benchmark, e);
    }
    throw new IllegalArgumentException("no benchmark " + benchmark);
  }

  private static Rival.Presence look(Rival rival) {
    try {
      String detail =
          switch (rival) {
            case C -> CRival.compiler();
            case NUMPY -> "NumPy " + PythonRival.version("numpy");
            case TORCH -> "PyTorch " + PythonRival.version("torch");
            case ND4J -> classes("org.nd4j.linalg.factory.Nd4j", "ND4J");
            case LMDB -> classes("org.lmdbjava.Env", "lmdbjava");
            case ROCKSDB -> classes("org.rocksdb.RocksDB", "rocksdbjni");
          };
      return new Rival.Presence(rival, true, detail);
    } catch (RivalException e) {
      return new Rival.Presence(rival, false, e.getMessage());
    }
  }

  private static String classes(String name, String library) {
    try {
      Class<?> found = Class.forName(name, false, Rivals.class.getClassLoader());
      String version = found.getPackage().getImplementationVersion();
      return version == null ? library : library + " " + version;
    } catch (ClassNotFoundException e) {
      throw new RivalException(
          library + " is not on the class path; the jar that -Pbenchmarks builds has it", e);
    }
  }
}
