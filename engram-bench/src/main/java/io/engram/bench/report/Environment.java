// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import io.engram.hash.kernel.KernelChoice;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * What a run ran with, apart from the machine.
 *
 * @param jdk version and vendor of the JDK
 * @param jvmArgs options of the JVMs that measured
 * @param kernels which kernels were chosen, and why
 * @param rivals version of each rival's language, library or compiler; {@code absent} where it is
 *     not there
 * @param loadBefore load averages over 1, 5 and 15 minutes before the run, empty where unknown
 */
public record Environment(
    String jdk,
    List<String> jvmArgs,
    String kernels,
    Map<String, String> rivals,
    List<Double> loadBefore) {

  /** What the version of a missing rival is. */
  public static final String ABSENT = "absent";

  private static final String VERSIONS =
      """
      import sys, importlib
      print('python', sys.version.split()[0])
      for name in ('numpy', 'torch'):
          try:
              print(name, importlib.import_module(name).__version__)
          except ImportError:
              print(name, 'absent')
      """;

  /** Checks. */
  public Environment {
    Checks.named("jdk", jdk);
    jvmArgs = Checks.list("jvmArgs", jvmArgs);
    Checks.named("kernels", kernels);
    rivals = Collections.unmodifiableMap(new TreeMap<>(Checks.present("rivals", rivals)));
    loadBefore = Checks.list("loadBefore", loadBefore);
  }

  /**
   * This JVM, and the rivals of this machine.
   *
   * @param python the Python interpreter that rivals would run in
   * @param moreJvmArgs options that are added for the JVMs that measure
   * @return what there is now
   */
  public static Environment here(String python, List<String> moreJvmArgs) {
    List<String> args = new ArrayList<>(ManagementFactory.getRuntimeMXBean().getInputArguments());
    // Where somebody keeps this repository is no property of a run.
    args.removeIf(arg -> arg.startsWith("-Dengram.home="));
    args.addAll(moreJvmArgs);
    return new Environment(
        System.getProperty("java.vm.version") + " (" + System.getProperty("java.vendor") + ")",
        args,
        KernelChoice.get().name().toLowerCase(java.util.Locale.ROOT)
            + " ("
            + KernelChoice.reason()
            + ")",
        rivals(python),
        load());
  }

  private static Map<String, String> rivals(String python) {
    Map<String, String> versions = new TreeMap<>();
    for (String name : List.of("python", "numpy", "torch")) {
      versions.put(name, ABSENT);
    }
    Programs.say(List.of(python, "-c", VERSIONS))
        .ifPresent(lines ->
            lines
                .lines()
                .forEach(line -> {
                  int space = line.indexOf(' ');
                  versions.put(line.substring(0, space), line.substring(space + 1));
                }));
    versions.put(
        "gcc", Programs.say(List.of("gcc", "-dumpfullversion", "-dumpversion")).orElse(ABSENT));
    return versions;
  }

  private static List<Double> load() {
    try {
      String[] fields = Files.readString(Path.of("/proc/loadavg")).split(" ", -1);
      return List.of(
          Double.valueOf(fields[0]), Double.valueOf(fields[1]), Double.valueOf(fields[2]));
    } catch (IOException e) {
      double load = ManagementFactory.getOperatingSystemMXBean().getSystemLoadAverage();
      return load < 0 ? List.of() : List.of(load);
    }
  }

  /**
   * The load right before.
   *
   * @return runnable threads over the last minute, if known
   */
  public Optional<Double> loadOfAMinute() {
    return loadBefore.stream().findFirst();
  }
}
