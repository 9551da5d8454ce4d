// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import static io.engram.hash.kernel.KernelChoice.VECTOR;
import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class KernelDecisionTest {
  private static final KernelChoice.Machine AVX2 =
      new KernelChoice.Machine(256, "amd64", "mixed mode, sharing");
  private static final KernelChoice.Machine NO_MODULE =
      new KernelChoice.Machine(0, "amd64", "mixed mode, sharing");

  @ParameterizedTest
  @CsvSource({
    "auto, true, VECTOR",
    "auto, false, SCALAR",
    "AUTO, true, VECTOR",
    "scalar, true, SCALAR",
    "scalar, false, SCALAR",
    "vector, true, VECTOR",
    "Vector, true, VECTOR",
  })
  void decidesByPropertyAndModule(String asked, boolean present, KernelChoice expected) {
    assertEquals(expected, KernelChoice.decide(asked, present ? AVX2 : NO_MODULE).choice());
  }

  /** Where every vector would be an object, the Vector API is there and not taken unasked. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "256 | amd64 | mixed mode, sharing | VECTOR | is there",
        "512 | amd64 | mixed mode | VECTOR | is there",
        "256 | x86_64 | compiled mode | VECTOR | is there",
        "128 | aarch64 | mixed mode, sharing | VECTOR | is there",
        "512 | aarch64 | mixed mode, sharing | VECTOR | is there",
        "128 | amd64 | mixed mode, sharing | SCALAR | AVX2",
        "128 | x86_64 | mixed mode, sharing | SCALAR | AVX2",
        "64 | aarch64 | mixed mode | SCALAR | no vectors",
        "256 | amd64 | interpreted mode, sharing | SCALAR | only interprets",
        "256 | amd64 | mixed mode, emulated-client, sharing | SCALAR | client compiler",
      })
  void decidesByWhatIsFast(
      int bits, String arch, String compilers, KernelChoice expected, String reason) {
    KernelChoice.Machine machine = new KernelChoice.Machine(bits, arch, compilers);
    KernelChoice.Decision decision = KernelChoice.decide("auto", machine);
    assertEquals(expected, decision.choice());
    assertTrue(decision.reason().contains(reason), decision.reason());
    assertEquals(VECTOR, KernelChoice.decide("vector", machine).choice());
  }

  /** The same in JVMs that really are so, where the machine has vectors at all. */
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      nullValues = "-",
      value = {
        "- | SCALAR | only interprets | -Xint",
        "- | SCALAR | client compiler | -XX:TieredStopAtLevel=1",
        "vector | VECTOR | forced | -XX:TieredStopAtLevel=1",
      })
  void childrenDecide(String asked, KernelChoice expected, String reason, String option)
      throws Exception {
    assertChild(asked, expected, reason, option);
  }

  @ParameterizedTest
  @ValueSource(strings = {"-XX:UseAVX=1", "-XX:UseAVX=0", "-XX:MaxVectorSize=16"})
  void childrenWithoutAvx2Decide(String option) throws Exception {
    assumeTrue(Set.of("amd64", "x86_64").contains(System.getProperty("os.arch")));
    assertChild(null, KernelChoice.SCALAR, "no AVX2", option);
  }

  private static void assertChild(String asked, KernelChoice expected, String reason, String option)
      throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add(option);
    command.add("--add-modules=jdk.incubator.vector");
    if (asked != null) {
      command.add("-D" + KernelChoice.PROPERTY + "=" + asked);
    }
    command.addAll(
        List.of("-cp", System.getProperty("java.class.path"), ChosenKernels.class.getName()));
    Process child =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
    String said = new String(child.getInputStream().readAllBytes(), UTF_8).strip();
    assertEquals(0, child.waitFor(), said);
    assertTrue(said.startsWith(expected + " "), said);
    assertTrue(said.contains(reason), said);
    assertTrue(said.endsWith(" exact"), said);
  }

  @Test
  void aForcedChoiceThatCannotBeMetIsNoChoice() {
    KernelChoice.Decision decision = KernelChoice.decide("vector", NO_MODULE);
    assertNull(decision.choice());
    assertTrue(decision.reason().contains("--add-modules=jdk.incubator.vector"), decision.reason());
  }

  @Test
  void anUnknownValueIsNoChoice() {
    KernelChoice.Decision decision = KernelChoice.decide("avx", AVX2);
    assertNull(decision.choice());
    assertTrue(decision.reason().contains("avx"), decision.reason());
  }

  @Test
  void theFlagIsNamedWhereItIsMissing() {
    assertTrue(
        KernelChoice.decide("auto", NO_MODULE)
            .reason()
            .contains("--add-modules=jdk.incubator.vector"));
  }
}
