// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.abort;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramMemory;
import io.engram.bench.command.EngramCommand;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Checkpoints of the released shapes, opened, verified and served in place by a small JVM. */
@Tag("once")
class FullSizeTest {
  @TempDir Path directory;

  @FunctionalInterface
  private interface Builder {
    void build(Path directory, RandomGenerator random) throws IOException;
  }

  private void build(String test, Builder builder) throws IOException, InterruptedException {
    assumeTrue(
        SparseFiles.supported(directory),
        "the file system of " + directory + " has no sparse files, or du is missing");
    long start = System.nanoTime();
    try {
      builder.build(directory, Seeds.random("FullSizeTest." + test));
    } catch (IOException e) {
      abort("a sparse file of the released size is refused here: " + e);
    }
    long apparent = 0;
    try (Stream<Path> files = Files.list(directory)) {
      for (Path file : files.toList()) {
        apparent += Files.size(file);
      }
    }
    System.out.printf(
        "%s: %.1f GB apparent, %s allocated, built in %.1f s%n",
        test,
        apparent / 1e9,
        ProcessFigures.mib(SparseFiles.allocated(directory)),
        (System.nanoTime() - start) / 1e9);
  }

  private void served(String test) throws IOException, InterruptedException {
    ChildJvm verified = ChildJvm.run(List.of("-Xmx512m"), EngramCommand.class, "verify", directory);
    System.out.printf("%s verify: %.1f s%n", test, verified.seconds());
    assertEquals(0, verified.exitCode(), verified.output());
    assertTrue(verified.output().contains("checks, all hold"), verified.output());
    for (String kernels : List.of("scalar", "vector")) {
      List<String> options = new ArrayList<>(ChildJvm.kernels(kernels));
      options.add("-Xmx512m");
      ChildJvm child = ChildJvm.run(options, FullSizeReader.class, directory, System.nanoTime());
      System.out.printf("%s %s: %.1f s%n%s", test, kernels, child.seconds(), child.output());
      assertEquals(0, child.exitCode(), child.output());
      assertTrue(child.output().contains(", 0 wrong"), child.output());
    }
  }

  /** One wrong byte of some 200 GB must be found by what the children run. */
  private void oneWrongByteIsFound(Path file, long position) throws IOException {
    try (EngramMemory memory = FullSizeReader.open(directory)) {
      try (FileChannel channel =
          FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
        ByteBuffer one = ByteBuffer.allocate(1);
        channel.read(one, position);
        one.put(0, (byte) (one.get(0) ^ 0x40)).rewind();
        channel.write(one, position);
      }
      FullSizeReader.Findings findings = FullSizeReader.read(memory, directory, 1);
      assertEquals(1, findings.wrong(), findings::toString);
    }
  }

  @Test
  void v41IsServedInPlace() throws IOException, InterruptedException {
    build("v41", SparseCheckpoint::v41);
    served("v41");
    long beyond = (1L << 36) / 256 + 1;
    oneWrongByteIsFound(
        directory.resolve("model-00047-of-00048.safetensors"),
        SparseCheckpoint.RELEASED_OFFSETS.getFirst() + 256 * beyond + 17);
  }

  @Test
  void pleIsServedInPlace() throws IOException, InterruptedException {
    build("ple", SparseCheckpoint::ple);
    served("ple");
    try (EngramMemory memory = EngramMemory.open(directory)) {
      System.out.println("as the library chooses: " + memory.tiers());
      assertEquals(0, FullSizeReader.read(memory, directory, 2).wrong());
    }
  }
}
