// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.kernel.KernelChoice;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** An engine with tensors of its own takes the kernel without ND4J on its class path. */
class WithoutNd4jTest {
  @Test
  void theKernelRunsWhereNoNd4jIs() throws Exception {
    String all =
        System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"));
    List<String> own =
        Arrays.stream(all.split(File.pathSeparator))
            .filter(entry -> !entry.contains("nd4j") && !entry.contains("bytedeco"))
            .toList();
    assertTrue(all.contains("nd4j"), "nothing was left out: " + all);
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    boolean vector = KernelChoice.get() == KernelChoice.VECTOR;
    if (vector) {
      command.add("--add-modules=jdk.incubator.vector");
    }
    command.addAll(
        List.of(
            "-Dengram.kernels=" + (vector ? "vector" : "scalar"),
            "-verbose:class",
            "-cp",
            String.join(File.pathSeparator, own),
            WithoutNd4j.class.getName()));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
    assertTrue(output.contains("done with " + (vector ? "Vector" : "Scalar")), output);
    assertTrue(output.contains("io.engram.gating.GateKernel"), "classes were not listed");
    for (String line : output.lines().toList()) {
      assertTrue(!line.contains("nd4j") && !line.contains("bytedeco"), line);
    }
  }
}
