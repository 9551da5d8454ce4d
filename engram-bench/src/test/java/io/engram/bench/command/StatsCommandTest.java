// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramMemory;
import io.engram.MemoryOptions;
import io.engram.Tier;
import io.engram.testkit.Golden;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.stream.IntStream;
import jdk.jfr.Recording;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
@Timeout(120)
class StatsCommandTest {
  private static final int TOKENS = 64;

  /** A JVM with an open memory that is used until standard input ends. */
  static final class Server {
    private Server() {}

    public static void main(String[] arguments) throws Exception {
      try (EngramMemory memory = open(Path.of(arguments[0]))) {
        int[] ids = IntStream.range(0, TOKENS).toArray();
        System.out.println("open");
        while (System.in.available() == 0) {
          memory.lookup(memory.config().layerIds().getFirst(), ids);
          Thread.sleep(5);
        }
      }
    }
  }

  private static EngramMemory open(Path checkpoint) {
    return EngramMemory.open(checkpoint, MemoryOptions.builder().tier(Tier.MAPPED).build());
  }

  @Test
  void readsARecording(@TempDir Path directory) throws Exception {
    Path file = directory.resolve("memory.jfr");
    long rows;
    try (Recording recording = new Recording();
        EngramMemory memory = open(Golden.path("v41_mini"))) {
      recording.start();
      memory.lookup(memory.config().layerIds().getFirst(), IntStream.range(0, TOKENS).toArray());
      rows = (long) TOKENS * memory.config().hashing().columns();
      Thread.sleep(1200);
      recording.stop();
      recording.dump(file);
    }
    Run run = Run.of("stats", file.toString());
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("MAPPED"), run.out());
    assertTrue(run.out().contains(String.format("%,d rows", rows)), run.out());
    JsonArray layers =
        JsonParser.parseString(Run.of("stats", "--json", file.toString()).out()).getAsJsonArray();
    assertEquals(2, layers.size());
    assertEquals(
        rows,
        layers.asList().stream()
            .map(layer -> layer.getAsJsonObject().get("rows").getAsLong())
            .reduce(0L, Long::sum));
  }

  @Test
  void watchesARunningJvm() throws Exception {
    Process server =
        new ProcessBuilder(
                ProcessHandle.current().info().command().orElseThrow(),
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Server.class.getName(),
                Golden.path("v41_mini").toString())
            .redirectError(ProcessBuilder.Redirect.DISCARD)
            .start();
    try {
      assertEquals(
          "open", server.inputReader(StandardCharsets.UTF_8).readLine(), "the server's first line");
      Run run = Run.of("stats", "--json", String.valueOf(server.pid()));
      assertEquals(0, run.exitCode(), run.err());
      JsonObject layer =
          JsonParser.parseString(run.out()).getAsJsonArray().get(0).getAsJsonObject();
      assertEquals("MAPPED", layer.get("tier").getAsString());
      assertTrue(layer.get("rows").getAsLong() > 0, run.out());
      assertTrue(layer.get("rowsPerSecond").getAsDouble() > 0, run.out());
    } finally {
      server.destroyForcibly().waitFor();
    }
  }

  @Test
  void saysWhatIsMissing(@TempDir Path directory) throws Exception {
    Path file = directory.resolve("empty.jfr");
    try (Recording recording = new Recording()) {
      recording.start();
      recording.stop();
      recording.dump(file);
    }
    Run run = Run.of("stats", file.toString());
    assertEquals(EngramCommand.FAILED, run.exitCode());
    assertTrue(run.err().contains("no memory was open"), run.err());
    Run none = Run.of("stats", "999999999");
    assertEquals(EngramCommand.FAILED, none.exitCode());
    assertTrue(none.err().contains("999999999"), none.err());
  }
}
