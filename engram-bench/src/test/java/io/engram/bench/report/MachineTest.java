// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class MachineTest {
  @TempDir Path root;

  private void file(String name, String text) throws IOException {
    Path file = root.resolve(name);
    Files.createDirectories(file.getParent());
    Files.writeString(file, text);
  }

  private void linux(String flags) throws IOException {
    file(
        "proc/cpuinfo",
        """
        processor\t: 0
        vendor_id\t: AuthenticAMD
        cpu family\t: 25
        model\t\t: 1
        model name\t: AMD EPYC
        stepping\t: 1
        flags\t\t: fpu %s

        processor\t: 1
        model name\t: AMD EPYC
        flags\t\t: fpu avx512f
        """
            .formatted(flags));
    file("proc/meminfo", "MemTotal:       25165824 kB\nMemFree: 1 kB\n");
    file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    file("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
    file("sys/devices/system/cpu/cpu0/cache/index0/type", "Data\n");
    file("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n");
    file("sys/devices/system/cpu/cpu0/cache/index3/level", "3\n");
    file("sys/devices/system/cpu/cpu0/cache/index3/type", "Unified\n");
    file("sys/devices/system/cpu/cpu0/cache/index3/size", "32768K\n");
  }

  @Test
  void linuxIsRead() throws IOException {
    linux("avx2 fma hypervisor");
    Machine machine = Machine.read(root, 2, "Linux");
    assertEquals(
        new Machine(
            "AMD EPYC",
            "family 25, model 1, stepping 1",
            List.of("AVX2", "FMA"),
            2,
            List.of("L1d 32K", "L3 32768K"),
            25165824L << 10,
            "madvise",
            "Linux",
            "yes"),
        machine);
    assertEquals(
        "AMD EPYC (family 25, model 1, stepping 1; AVX2, FMA), 2 cores, 24 GiB, virtual",
        machine.kind());
  }

  @Test
  void bareMetalAndNamedHypervisorsAreToldApart() throws IOException {
    linux("avx2");
    assertEquals("no", Machine.read(root, 2, "Linux").virtualised());
    assertFalse(Machine.read(root, 2, "Linux").kind().contains("virtual"));
    file("sys/class/dmi/id/sys_vendor", "QEMU\n");
    assertEquals("no", Machine.read(root, 2, "Linux").virtualised());
    linux("avx2 hypervisor");
    assertEquals("QEMU", Machine.read(root, 2, "Linux").virtualised());
    file("sys/hypervisor/type", "xen\n");
    assertEquals("xen", Machine.read(root, 2, "Linux").virtualised());
  }

  @Test
  void instructionSetsCoresAndMemoryMakeAKind() throws IOException {
    linux("avx2 fma");
    String kind = Machine.read(root, 2, "Linux").kind();
    assertEquals(kind, Machine.read(root, 2, "a newer Linux").kind());
    assertNotEquals(kind, Machine.read(root, 4, "Linux").kind());
    linux("avx2 fma avx512f");
    assertNotEquals(kind, Machine.read(root, 2, "Linux").kind());
  }

  @Test
  void whatIsNotKnownIsSaidToBeUnknown() {
    Machine machine = Machine.read(root, 1, "Elsewhere");
    assertEquals("unknown", machine.model());
    assertEquals("unknown", machine.hugePages());
    assertEquals("unknown", machine.virtualised());
    assertTrue(machine.memoryBytes() > 0);
  }

  @Test
  void aDirectoryOutsideARepositoryHasNoCommit() {
    Commit commit = Commit.of(Path.of("/proc"));
    assertEquals("unknown", commit.id());
    assertEquals("unknown", commit.shortName());
    assertEquals("12345678+", new Commit("1234567890", "", true).shortName());
  }

  @Test
  void theEnvironmentIsThisOne() {
    Environment environment =
        Environment.here(
            Map.of("C", "gcc 12"), List.of("-Dx=y", "-Dengram.python=/somebody's/own/path"));
    assertEquals(Map.of("C", "gcc 12"), environment.rivals());
    assertTrue(environment.jvmArgs().contains("-Dx=y"));
    assertFalse(environment.jvmArgs().toString().contains("somebody"));
    assertTrue(environment.jdk().startsWith(System.getProperty("java.vm.version")));
    assertTrue(environment.kernels().contains("("), environment.kernels());
  }
}
