// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.shard.ShardLayout;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class ShardsCommandTest {
  @TempDir Path directory;

  private Path text(int characters) throws IOException {
    return Files.writeString(directory.resolve("text.txt"), DemoText.ofJdk(characters).text());
  }

  private static JsonObject json(Run run) {
    assertEquals(0, run.exitCode(), run.err());
    return JsonParser.parseString(run.out()).getAsJsonObject();
  }

  private static JsonObject layout(JsonObject plan, String name) {
    for (JsonElement each : plan.getAsJsonArray("layouts")) {
      if (each.getAsJsonObject().get("layout").getAsString().equals(name)) {
        return each.getAsJsonObject();
      }
    }
    throw new AssertionError(name + " is not in " + plan);
  }

  /** On a real text, of which a cache keeps everything: its pairs repeat, its fours do not. */
  @Test
  void contiguousHeadsAreSkewedOnARealText() throws IOException {
    Path text = text(300_000);
    for (String variant : new String[] {"v41", "paper", "qwen"}) {
      JsonObject figures =
          json(
              Run.of(
                  "shards",
                  "--preset",
                  variant,
                  "--text",
                  text.toString(),
                  "--chunk",
                  "1000000",
                  "--shards",
                  "2,4,8",
                  "--json"));
      assertTrue(figures.get("tokens").getAsInt() > 40_000, figures::toString);
      for (JsonElement each : figures.getAsJsonArray("plans")) {
        JsonObject plan = each.getAsJsonObject();
        assertEquals("strided-heads", plan.get("proposal").getAsString());
        assertEquals(
            plan.get("shards").getAsInt(),
            ShardLayout.parse(plan.get("description").getAsString()).shards());
        double contiguous = layout(plan, "contiguous-heads").get("rowSpread").getAsDouble();
        double strided = layout(plan, "strided-heads").get("rowSpread").getAsDouble();
        assertTrue(contiguous > 1.25, () -> variant + ": contiguous " + contiguous);
        assertTrue(strided < 1.05, () -> variant + ": strided " + strided);
        assertTrue(layout(plan, "row-wise").get("fullest").getAsDouble() < 1.05, plan::toString);
      }
    }
  }

  @Test
  void aCheckpointsTableIsDividedByItsOwnTokens() throws IOException {
    String checkpoint = Golden.path("v41_mini").toString();
    JsonObject figures =
        json(
            Run.of(
                "shards",
                "--checkpoint",
                checkpoint,
                "--text",
                text(3_000).toString(),
                "--layer",
                "1",
                "--shards",
                "3,100",
                "--json"));
    assertEquals(12, figures.get("heads").getAsInt());
    JsonObject hundred = figures.getAsJsonArray("plans").get(1).getAsJsonObject();
    assertEquals("row-wise", hundred.get("proposal").getAsString());
    assertEquals(100, layout(hundred, "row-wise").getAsJsonArray("rows").size());
    Path ids = Files.writeString(directory.resolve("ids"), "413 420 263 415");
    Run run =
        Run.of("shards", "--checkpoint", checkpoint, "--tokens", ids.toString(), "--shards", "2");
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("4 tokens in chunks of 4"), run.out());
    assertTrue(run.out().contains("> strided-heads"), run.out());
  }

  @Test
  void whatCannotBeIsSaid() throws IOException {
    String checkpoint = Golden.path("v41_mini").toString();
    assertEquals(2, Run.of("shards", "--checkpoint", checkpoint, "--preset", "paper").exitCode());
    assertEquals(2, Run.of("shards", "--preset", "other").exitCode());
    assertEquals(2, Run.of("shards", "--text", "a", "--tokens", "b").exitCode());
    Path ids = Files.writeString(directory.resolve("ids"), "413 420");
    for (String[] wrong :
        new String[][] {
          {"--layer", "7", "layer 7 has no memory"},
          {"--shards", "0", "0 shards, expected 1"},
          {"--shards", "999999", "shards"},
          {"--chunk", "0", "chunks of 0 tokens"}
        }) {
      Run run =
          Run.of(
              "shards", "--checkpoint", checkpoint, "--tokens", ids.toString(), wrong[0], wrong[1]);
      assertEquals(1, run.exitCode(), run.out());
      assertTrue(run.err().contains(wrong[2]), run.err());
    }
  }
}
