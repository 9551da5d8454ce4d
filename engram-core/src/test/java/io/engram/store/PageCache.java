// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Path;

/** Makes files cold, for tests of what waits for the disk. */
final class PageCache {
  private PageCache() {}

  /**
   * Drops a file from the page cache, which the system does not do while the file is mapped. Skips
   * the test where that cannot be done.
   */
  static void evict(Path file) throws IOException, InterruptedException {
    Process process;
    try {
      process =
          new ProcessBuilder(
                  "dd", "of=" + file, "oflag=nocache", "conv=notrunc,fdatasync", "count=0")
              .redirectErrorStream(true)
              .redirectOutput(ProcessBuilder.Redirect.DISCARD)
              .start();
    } catch (IOException e) {
      assumeTrue(false, "no dd that drops a file from the page cache: " + e);
      return;
    }
    assumeTrue(process.waitFor() == 0, "this dd does not drop a file from the page cache");
  }
}
