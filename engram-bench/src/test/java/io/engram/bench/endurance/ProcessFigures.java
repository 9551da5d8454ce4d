// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;

/** What the system says of this process. Linux only. */
final class ProcessFigures {
  private static final Path STATUS = Path.of("/proc/self/status");

  private ProcessFigures() {}

  static boolean available() {
    return Files.isReadable(STATUS);
  }

  /** The lines of {@code /proc/self/status} that are in kB, in bytes. */
  static Map<String, Long> memory() {
    Map<String, Long> bytes = new TreeMap<>();
    try {
      for (String line : Files.readAllLines(STATUS)) {
        String[] words = line.split("\\s+", -1);
        if (words.length == 3 && words[2].equals("kB")) {
          bytes.put(words[0].replace(":", ""), 1024 * Long.parseLong(words[1]));
        }
      }
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
    return bytes;
  }

  /** Resident memory that is no page of a file. */
  static long anonymous() {
    return memory().get("RssAnon");
  }

  static long openFiles() {
    try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
      return files.count();
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  static long peakHeap() {
    long peak = 0;
    for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
      if (pool.getType() == MemoryType.HEAP) {
        peak += pool.getPeakUsage().getUsed();
      }
    }
    return peak;
  }

  static String mib(long bytes) {
    return "%d MiB".formatted(bytes >> 20);
  }
}
