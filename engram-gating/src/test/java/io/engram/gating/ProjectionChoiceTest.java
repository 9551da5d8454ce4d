// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.kernel.KernelChoice;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Which projection is used, and what is said where it cannot be had. */
@Tag("once")
class ProjectionChoiceTest {
  @TempDir Path cache;

  @Test
  void thisLibrarysOwnKernelsAreTheDefault() {
    assertEquals(
        ProjectionChoice.VECTOR,
        ProjectionChoice.decide("auto", KernelChoice.VECTOR, "why").choice());
    assertEquals(
        ProjectionChoice.SCALAR,
        ProjectionChoice.decide("auto", KernelChoice.SCALAR, "why").choice());
    assertEquals(KernelChoice.get().name(), ProjectionChoice.get().name());
  }

  @ParameterizedTest
  @CsvSource({"scalar", "onednn", "openblas", "OneDNN", "OpenBLAS"})
  void theOthersAreUsedIfAskedFor(String asked) {
    for (KernelChoice kernels : KernelChoice.values()) {
      ProjectionChoice.Decision decision = ProjectionChoice.decide(asked, kernels, "why");
      assertEquals(
          ProjectionChoice.valueOf(asked.toUpperCase(Locale.ROOT)), decision.choice(), asked);
      assertEquals("forced by -Dengram.projection=" + asked, decision.reason());
    }
  }

  @Test
  void whatCannotBeMetIsSaid() {
    assertEquals(
        ProjectionChoice.VECTOR,
        ProjectionChoice.decide("vector", KernelChoice.VECTOR, "why").choice());
    ProjectionChoice.Decision without =
        ProjectionChoice.decide("vector", KernelChoice.SCALAR, "the module is absent");
    assertNull(without.choice());
    assertTrue(without.reason().contains("the module is absent"), without.reason());
    ProjectionChoice.Decision unknown = ProjectionChoice.decide("mkl", KernelChoice.VECTOR, "");
    assertNull(unknown.choice());
    assertEquals(
        "-Dengram.projection=mkl is none of auto, scalar, vector, onednn, openblas",
        unknown.reason());
  }

  @ParameterizedTest
  @CsvSource({"onednn, oneDNN, org.bytedeco:dnnl:", "openblas, OpenBLAS, org.bytedeco:openblas:"})
  @EnabledOnOs(OS.LINUX)
  void aMissingLibraryIsRefusedWithTheArtifactToAdd(String asked, String name, String artifact)
      throws Exception {
    String output = run(entry -> !entry.contains("bytedeco"), "-Dengram.projection=" + asked);
    List<String> refusals = lines(output, "refused: ");
    assertEquals(2, refusals.size(), output);
    for (String refusal : refusals) {
      assertTrue(
          refusal.startsWith(
              "refused: " + name + " is not on the class path: add the artifact " + artifact),
          refusal);
      assertTrue(refusal.contains("with the classifier linux-"), refusal);
    }
    assertEquals(List.of(), List.of(cache.toFile().list()), "made for nothing");
  }

  @ParameterizedTest
  @CsvSource({"onednn, dnnl", "openblas, openblas"})
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void theArtifactNamedIsTheOneTested(String asked, String artifact) throws Exception {
    String output = run(entry -> !entry.contains("bytedeco"), "-Dengram.projection=" + asked);
    String version = output.replaceAll("(?s).*org\\.bytedeco:" + artifact + ":(\\S+) .*", "$1");
    assertTrue(
        Arrays.stream(classPath())
            .anyMatch(entry -> entry.contains(artifact + "-" + version + "-linux-x86_64")),
        version);
  }

  @ParameterizedTest
  @CsvSource({"onednn, ONEDNN, libdnnl.so.3", "openblas, OPENBLAS, libopenblas.so.0"})
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void aLibraryAskedForIsUnpackedOnceAndRuns(String asked, String chosen, String file)
      throws Exception {
    // Of JavaCPP and ND4J there is nothing but the jar that holds the library.
    Predicate<String> needed =
        entry ->
            !entry.contains("nd4j")
                && !entry.contains("javacpp")
                && (!entry.contains("bytedeco") || entry.contains("linux-x86_64"));
    long modified = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
      String output = run(needed, "-Dengram.projection=" + asked);
      assertEquals(
          List.of("chosen: " + chosen, "chosen: " + chosen), lines(output, "chosen: "), output);
      assertEquals(
          List.of("product: 321.0 654.0", "product: 321.0 654.0"),
          lines(output, "product: "),
          output);
      assertEquals(
          1, output.split("Engram projection: " + chosen, -1).length - 1, "logged: " + output);
      Path unpacked = only(file);
      long now = Files.getLastModifiedTime(unpacked).toMillis();
      assertTrue(attempt == 0 || now == modified, "unpacked again");
      modified = now;
    }
  }

  @ParameterizedTest
  @CsvSource({"onednn, libdnnl.so.3", "openblas, libopenblas.so.0"})
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void processesMayUnpackAtOnce(String asked, String file) throws Exception {
    List<Process> processes = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      processes.add(start(entry -> true, "-Dengram.projection=" + asked));
    }
    for (Process process : processes) {
      String output = output(process);
      assertEquals(2, lines(output, "product: 321.0 654.0").size(), output);
    }
    assertNotNull(only(file));
    try (Stream<Path> files = Files.walk(cache)) {
      assertEquals(
          List.of(),
          files.filter(path -> path.toString().endsWith(".part")).toList(),
          "what was half unpacked is gone");
    }
  }

  @Test
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void aDamagedFileIsUnpackedAgain() throws Exception {
    run(entry -> true, "-Dengram.projection=openblas");
    Path library = only("libopenblas.so.0");
    long size = Files.size(library);
    Files.write(library, new byte[100]);
    String output = run(entry -> true, "-Dengram.projection=openblas");
    assertEquals(2, lines(output, "product: 321.0 654.0").size(), output);
    assertEquals(size, Files.size(library));
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void onlyADirectoryOfThisUserAloneIsTrusted() throws IOException {
    Path own = Files.createDirectory(cache.resolve("own"));
    Files.setPosixFilePermissions(own, PosixFilePermissions.fromString("rwx------"));
    BundledLibrary.checkPrivate(own);
    Path open = Files.createDirectory(cache.resolve("open"));
    Files.setPosixFilePermissions(open, PosixFilePermissions.fromString("rwxrwxrwx"));
    Path link = Files.createSymbolicLink(cache.resolve("link"), own);
    Path file = Files.createFile(cache.resolve("file"));
    for (Path refused : List.of(open, link, file)) {
      IOException e = assertThrows(IOException.class, () -> BundledLibrary.checkPrivate(refused));
      assertTrue(e.getMessage().contains(refused.toString()), e.getMessage());
    }
  }

  @Test
  @EnabledOnOs(value = OS.LINUX, architectures = "amd64")
  void aDirectoryThatCannotBeWrittenIsNamed() throws Exception {
    Path file = Files.createFile(cache.resolve("file"));
    String output = run(entry -> true, "-Dengram.projection=openblas", "-Dengram.cache=" + file);
    List<String> refusals = lines(output, "refused: OpenBLAS cannot be unpacked");
    assertEquals(2, refusals.size(), output);
    assertTrue(refusals.getFirst().contains("-Dengram.cache="), output);
  }

  private Path only(String file) throws IOException {
    try (Stream<Path> files = Files.walk(cache)) {
      List<Path> found = files.filter(path -> path.endsWith(file)).toList();
      assertEquals(1, found.size(), found.toString());
      return found.getFirst();
    }
  }

  private static List<String> lines(String output, String start) {
    return output.lines().filter(line -> line.startsWith(start)).toList();
  }

  private static String[] classPath() {
    return System.getProperty("surefire.test.class.path", System.getProperty("java.class.path"))
        .split(File.pathSeparator);
  }

  private String run(Predicate<String> classPath, String... options) throws Exception {
    return output(start(classPath, options));
  }

  private static String output(Process process) throws Exception {
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
    return output;
  }

  private Process start(Predicate<String> classPath, String... options) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-Dengram.kernels=scalar");
    command.add("-Dengram.cache=" + cache);
    command.addAll(List.of(options));
    command.add("-cp");
    command.add(
        String.join(File.pathSeparator, Arrays.stream(classPath()).filter(classPath).toList()));
    command.add(ProjectionProgram.class.getName());
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }
}
