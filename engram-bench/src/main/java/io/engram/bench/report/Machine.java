// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * The machine that a run ran on.
 *
 * @param cpu name of the processor
 * @param model its family, model and stepping, since clouds give one name to several generations
 * @param instructions those of its instruction sets that kernels could use
 * @param cores cores that the JVM may use
 * @param caches size of each cache that one core sees, such as {@code L1d 32K}
 * @param memoryBytes installed memory
 * @param hugePages the setting of transparent huge pages: {@code always}, {@code madvise} or {@code
 *     never}
 * @param os name, version and architecture of the operating system
 * @param virtualised what it runs under, {@code no} on bare metal
 */
public record Machine(
    String cpu,
    String model,
    List<String> instructions,
    int cores,
    List<String> caches,
    long memoryBytes,
    String hugePages,
    String os,
    String virtualised) {

  private static final String UNKNOWN = "unknown";

  /** Flags of Linux, and what people call them. */
  private static final Map<String, String> SETS = sets();

  private static final Pattern CHOSEN = Pattern.compile("\\[(\\w+)]");

  private static Map<String, String> sets() {
    Map<String, String> sets = new LinkedHashMap<>();
    sets.put("avx2", "AVX2");
    sets.put("fma", "FMA");
    sets.put("avx512f", "AVX-512");
    sets.put("avx512_vnni", "VNNI");
    sets.put("avx512_bf16", "AVX-512-BF16");
    sets.put("amx_bf16", "AMX-BF16");
    sets.put("asimd", "NEON");
    sets.put("sve", "SVE");
    sets.put("sve2", "SVE2");
    sets.put("bf16", "BF16");
    return sets;
  }

  /** Checks. */
  public Machine {
    Checks.named("cpu", cpu);
    Checks.named("model", model);
    instructions = Checks.list("instructions", instructions);
    if (cores < 1) {
      throw new IllegalArgumentException("cores: " + cores + " is less than 1");
    }
    caches = Checks.list("caches", caches);
    if (memoryBytes < 1) {
      throw new IllegalArgumentException("memoryBytes: " + memoryBytes + " is less than 1");
    }
    Checks.named("hugePages", hugePages);
    Checks.named("os", os);
    Checks.named("virtualised", virtualised);
  }

  /**
   * This machine.
   *
   * @return what Linux says of it; elsewhere what the JVM knows, and "unknown" for the rest
   */
  public static Machine here() {
    return read(
        Path.of("/"),
        Runtime.getRuntime().availableProcessors(),
        System.getProperty("os.name")
            + " "
            + System.getProperty("os.version")
            + " "
            + System.getProperty("os.arch"));
  }

  /**
   * A machine by its files.
   *
   * @param root where its {@code proc} and {@code sys} are
   * @param cores cores that may be used
   * @param os the operating system
   */
  static Machine read(Path root, int cores, String os) {
    Map<String, String> processor = processor(text(root.resolve("proc/cpuinfo")));
    Set<String> flags =
        new TreeSet<>(
            List.of(
                processor
                    .getOrDefault("flags", processor.getOrDefault("Features", ""))
                    .split("\\s+", -1)));
    List<String> instructions =
        SETS.entrySet().stream()
            .filter(set -> flags.contains(set.getKey()))
            .map(Map.Entry::getValue)
            .toList();
    String model =
        processor.containsKey("cpu family")
            ? "family "
                + processor.get("cpu family")
                + ", model "
                + processor.get("model")
                + ", stepping "
                + processor.get("stepping")
            : processor.containsKey("CPU part")
                ? "implementer "
                    + processor.get("CPU implementer")
                    + ", part "
                    + processor.get("CPU part")
                : UNKNOWN;
    return new Machine(
        processor.getOrDefault("model name", System.getProperty("os.arch", UNKNOWN) + " processor"),
        model,
        instructions,
        cores,
        caches(root.resolve("sys/devices/system/cpu/cpu0/cache")),
        memory(text(root.resolve("proc/meminfo"))),
        hugePages(text(root.resolve("sys/kernel/mm/transparent_hugepage/enabled"))),
        os,
        virtualised(root, flags));
  }

  private static String text(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      return "";
    }
  }

  private static Map<String, String> processor(String cpuinfo) {
    Map<String, String> fields = new LinkedHashMap<>();
    cpuinfo
        .lines()
        .takeWhile(line -> !line.isBlank())
        .forEach(line -> {
          int colon = line.indexOf(':');
          if (colon > 0) {
            fields.put(line.substring(0, colon).strip(), line.substring(colon + 1).strip());
          }
        });
    return fields;
  }

  private static List<String> caches(Path directory) {
    List<String> caches = new ArrayList<>();
    try (Stream<Path> indices = Files.list(directory)) {
      for (Path index :
          indices.filter(p -> p.getFileName().toString().startsWith("index")).sorted().toList()) {
        String level = text(index.resolve("level")).strip();
        String size = text(index.resolve("size")).strip();
        if (!level.isEmpty() && !size.isEmpty()) {
          String kind =
              switch (text(index.resolve("type")).strip()) {
                case "Data" -> "d";
                case "Instruction" -> "i";
                default -> "";
              };
          caches.add("L" + level + kind + " " + size);
        }
      }
    } catch (IOException e) {
      return List.of();
    }
    return caches;
  }

  private static long memory(String meminfo) {
    Matcher total = Pattern.compile("MemTotal:\\s+(\\d+) kB").matcher(meminfo);
    return total.find() ? Long.parseLong(total.group(1)) * 1024 : Runtime.getRuntime().maxMemory();
  }

  private static String hugePages(String enabled) {
    Matcher chosen = CHOSEN.matcher(enabled);
    return chosen.find() ? chosen.group(1) : UNKNOWN;
  }

  private static String virtualised(Path root, Set<String> flags) {
    String hypervisor = text(root.resolve("sys/hypervisor/type")).strip();
    String vendor = text(root.resolve("sys/class/dmi/id/sys_vendor")).strip();
    String product = text(root.resolve("sys/class/dmi/id/product_name")).strip();
    String name =
        Stream.of(vendor, product)
            .filter(s -> !s.isEmpty())
            .reduce((a, b) -> a + " " + b)
            .orElse("");
    if (!hypervisor.isEmpty()) {
      return hypervisor;
    }
    if (flags.contains("hypervisor")) {
      return name.isEmpty() ? "yes" : name;
    }
    return flags.stream().allMatch(String::isEmpty) ? UNKNOWN : "no";
  }

  /**
   * What runs must share to be compared. The JDK and the operating system may change, since their
   * effect is worth seeing; the processor, its cores and its size of memory may not.
   *
   * @return a phrase that is equal for equal machines
   */
  public String kind() {
    return cpu
        + " ("
        + model
        + (instructions.isEmpty() ? "" : "; " + String.join(", ", instructions))
        + "), "
        + cores
        + (cores == 1 ? " core" : " cores")
        + ", "
        + Math.round(memoryBytes / (double) (1 << 30))
        + " GiB"
        + switch (virtualised) {
          case "no" -> "";
          case "yes" -> ", virtual";
          case UNKNOWN -> ", virtual or not is unknown";
          default -> ", virtual: " + virtualised;
        };
  }
}
