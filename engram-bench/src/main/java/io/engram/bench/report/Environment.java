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
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * What a run ran with, apart from the machine.
 *
 * @param jdk version and vendor of the JDK
 * @param jvmArgs options of the JVMs that measured
 * @param kernels which kernels were chosen, and why
 * @param rivals each rival with its version and how it is built, or {@code absent} and why
 * @param loadBefore load averages over 1, 5 and 15 minutes before the run, empty where unknown
 */
public record Environment(
    String jdk,
    List<String> jvmArgs,
    String kernels,
    Map<String, String> rivals,
    List<Double> loadBefore) {

  /** How what is said of a missing rival begins. */
  public static final String ABSENT = "absent";

  /** Checks. */
  public Environment {
    Checks.named("jdk", jdk);
    jvmArgs = Checks.list("jvmArgs", jvmArgs);
    Checks.named("kernels", kernels);
    rivals = Collections.unmodifiableMap(new TreeMap<>(Checks.present("rivals", rivals)));
    loadBefore = Checks.list("loadBefore", loadBefore);
  }

  /**
   * This JVM, now.
   *
   * @param rivals the rivals of this machine
   * @param moreJvmArgs options that are added for the JVMs that measure
   * @return what there is
   */
  public static Environment here(Map<String, String> rivals, List<String> moreJvmArgs) {
    List<String> args = new ArrayList<>(ManagementFactory.getRuntimeMXBean().getInputArguments());
    args.addAll(moreJvmArgs);
    // Where somebody keeps this repository, or Python, is no property of a run.
    args.removeIf(arg -> arg.startsWith("-Dengram.home=") || arg.startsWith("-Dengram.python="));
    return new Environment(
        System.getProperty("java.vm.version") + " (" + System.getProperty("java.vendor") + ")",
        args,
        KernelChoice.get().name().toLowerCase(Locale.ROOT) + " (" + KernelChoice.reason() + ")",
        rivals,
        load());
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
