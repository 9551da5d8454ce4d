// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class CacheCommandTest {
  @TempDir Path directory;

  /** Words that hardly ever follow each other twice. */
  private Path text(int words) throws IOException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < words; i++) {
      text.append(Long.toString((i * 0x9e3779b97f4a7c15L) >>> 20, 36)).append(' ');
    }
    return Files.writeString(directory.resolve("text.txt"), text);
  }

  private static double hitRate(JsonObject json, int cache) {
    return json.getAsJsonArray("caches")
        .get(cache)
        .getAsJsonObject()
        .getAsJsonObject("total")
        .get("hitRate")
        .getAsDouble();
  }

  private JsonObject json(String... more) throws IOException {
    String[] all = new String[more.length + 4];
    System.arraycopy(more, 0, all, 4, more.length);
    all[0] = "cache";
    all[1] = "--json";
    all[2] = "--text";
    all[3] = text(300).toString();
    Run run = Run.of(all);
    assertEquals(0, run.exitCode(), run.err());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }

  @Test
  void anAgentsPromptIsFoundAgainAndAPlainTextIsNot() throws IOException {
    JsonObject once = json("--preset", "v41");
    int tokens = once.get("tokens").getAsInt();
    assertEquals(264, once.get("rowBytes").getAsInt());
    assertTrue(hitRate(once, 1) < 0.1, once::toString);
    int prompt = tokens / 2;
    JsonObject agent =
        json("--preset", "v41", "--prompt", prompt + "", "--turn", "20", "--sizes", "32m,64m");
    assertEquals(2, agent.getAsJsonArray("caches").size());
    int turns = Math.ceilDiv(tokens - prompt, 20);
    double most = (double) (turns - 1) * prompt / ((long) turns * prompt + tokens - prompt);
    assertTrue(hitRate(agent, 1) > 0.9 * most, agent::toString);
  }

  @ParameterizedTest
  @ValueSource(strings = {"paper", "qwen"})
  void everyVariantHasAPicture(String preset) throws IOException {
    Run run = Run.of("cache", "--text", text(50).toString(), "--preset", preset);
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("order 3") && run.out().contains("16 GiB"), run.out());
  }

  @Test
  void readsACheckpointWithAndWithout() throws IOException {
    Path text = Files.writeString(directory.resolve("t.txt"), "the cat sat on the mat ".repeat(40));
    String checkpoint = Golden.path("v41_mini").toString();
    Run run =
        Run.of(
            "cache",
            "--checkpoint",
            checkpoint,
            "--text",
            text.toString(),
            "--measure",
            "1m",
            "--batch",
            "4");
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("A row as the checkpoint is"), run.out());
    assertTrue(run.out().contains("evictions"), run.out());
  }

  @Test
  void wrongCommandLinesAreRefused() throws IOException {
    String text = text(10).toString();
    String checkpoint = Golden.path("v41_mini").toString();
    for (String[] wrong :
        new String[][] {
          {"--preset", "v41", "--checkpoint", checkpoint},
          {"--measure", "1m"},
          {"--turn", "0"},
          {"--batch", "0"},
          {"--prompt", "-1"},
          {"--sizes", "12q"},
          {"--sizes", "99999999999g"}
        }) {
      String[] all = new String[wrong.length + 3];
      all[0] = "cache";
      all[1] = "--text";
      all[2] = text;
      System.arraycopy(wrong, 0, all, 3, wrong.length);
      assertEquals(2, Run.of(all).exitCode(), String.join(" ", all));
    }
    Run small = Run.of("cache", "--text", text, "--sizes", "100");
    assertEquals(1, small.exitCode());
    assertTrue(small.err().contains("expected at least"), small.err());
    Run prompt = Run.of("cache", "--text", text, "--prompt", "9999");
    assertEquals(1, prompt.exitCode());
    assertTrue(prompt.err().contains("prompt"), prompt.err());
    Run layer = Run.of("cache", "--text", text, "--layer", "3");
    assertEquals(1, layer.exitCode());
    assertTrue(layer.err().contains("layer 3"), layer.err());
  }
}
