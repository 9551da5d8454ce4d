// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.testkit.Golden;
import io.engram.train.TrainingCheckpoint;
import io.engram.train.TrainingState;
import io.engram.vocab.TokenMap;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class ExportCommandTest {
  @TempDir Path directory;

  private Path run() {
    EngramConfig config =
        EngramConfig.paper()
            .rawVocabulary(50)
            .layers(1)
            .slotsPerHead(31)
            .headDim(4)
            .streams(1)
            .width(8)
            .build();
    Path run = directory.resolve("run");
    try (EngramMemory memory = EngramMemory.create(config, TokenMap.identity(50), 1)) {
      TrainingCheckpoint.save(run, TrainingState.builder().memory(memory).build());
    }
    return run;
  }

  @Test
  void aTrainingRunIsExportedAndLookedUp() {
    String run = run().toString();
    String target = directory.resolve("demo").toString();
    Run export = Run.of("export", "--layout", "demo", run, target, "--json");
    assertEquals(0, export.exitCode(), export.err());
    JsonObject facts = JsonParser.parseString(export.out()).getAsJsonObject();
    assertTrue(facts.get("bytes").getAsLong() > 0, export.out());
    Run saved =
        Run.of("lookup", "--checkpoint", run, "--layer", "1", "--rows", "0,7,300", "--json");
    Run found =
        Run.of("lookup", "--checkpoint", target, "--layer", "1", "--rows", "0,7,300", "--json");
    assertEquals(0, saved.exitCode(), saved.err());
    assertEquals(saved.out(), found.out());
    assertEquals(0, Run.of("verify", target).exitCode());
    assertTrue(Run.of("inspect", run).out().contains("layers.1.engram.table"));
  }

  @Test
  void theReleasedLayoutTakesATokenizer() {
    Path source = Golden.path("v41_mini");
    Path target = directory.resolve("v41");
    Run export =
        Run.of(
            "export",
            "--layout",
            "v41",
            "--tokenizer",
            source.resolve("tokenizer.json").toString(),
            "--file-size",
            "800kB",
            source.toString(),
            target.toString());
    assertEquals(0, export.exitCode(), export.err());
    assertTrue(export.out().contains("layers [1, 5]"), export.out());
    assertTrue(Files.exists(target.resolve("tokenizer.json")));
    assertTrue(Files.exists(target.resolve("model.safetensors.index.json")));
    assertEquals(0, Run.of("verify", target.toString()).exitCode());
  }

  @Test
  void whatCannotBeIsSaid() {
    String run = run().toString();
    String target = directory.resolve("target").toString();
    assertEquals(2, Run.of("export", "--layout", "other", run, target).exitCode());
    assertEquals(2, Run.of("export", run, target).exitCode());
    Run refused = Run.of("export", "--layout", "v41", run, target);
    assertEquals(1, refused.exitCode());
    assertTrue(refused.err().contains("gate.bias is true, expected false"), refused.err());
    assertTrue(Files.notExists(Path.of(target)));
  }
}
