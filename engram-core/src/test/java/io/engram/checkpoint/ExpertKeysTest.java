// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramFormatException;
import io.engram.plan.SparseBackbone;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

@Tag("once")
class ExpertKeysTest {
  @TempDir Path directory;

  private SparseBackbone read(String json) throws IOException {
    Path file = directory.resolve("config.json");
    Files.writeString(file, json);
    return ExpertKeys.read(file);
  }

  @Test
  void familiesAreRead() throws IOException {
    assertEquals(
        SparseBackbone.ofShapes(58, 7168, 2048, 256, 8),
        read(
            """
            {"hidden_size": 7168, "num_hidden_layers": 61, "first_k_dense_replace": 3,
             "moe_layer_freq": 1, "n_routed_experts": 256, "num_experts_per_tok": 8,
             "moe_intermediate_size": 2048, "intermediate_size": 18432}
            """));
    assertEquals(
        SparseBackbone.ofShapes(23, 2048, 768, 128, 8),
        read(
            """
            {"text_config": {"hidden_size": 2048, "num_hidden_layers": 48, "decoder_sparse_step": 2,
             "mlp_only_layers": [1], "num_experts": 128, "num_experts_per_tok": 8,
             "moe_intermediate_size": 768}}
            """));
    assertEquals(
        SparseBackbone.ofShapes(32, 4096, 14336, 8, 2),
        read(
            """
            {"hidden_size": 4096, "num_hidden_layers": 32, "num_local_experts": 8,
             "num_experts_per_tok": 2, "intermediate_size": 14336}
            """));
  }

  @Test
  void whatIsMissingOrImpossibleIsNamed() {
    assertProblem("n_routed_experts or num_experts", "{\"hidden_size\": 4}");
    String start =
        "{\"hidden_size\": 4, \"num_experts\": 8, \"moe_intermediate_size\": 3,"
            + " \"num_hidden_layers\": 2, ";
    assertProblem("num_experts_per_tok is 8", start + "\"num_experts_per_tok\": 8}");
    assertProblem("num_experts_per_tok is 0", start + "\"num_experts_per_tok\": 0}");
    assertProblem(
        "first_k_dense_replace is 2",
        start + "\"num_experts_per_tok\": 2, \"first_k_dense_replace\": 2}");
    assertProblem(
        "no layer with experts",
        start + "\"num_experts_per_tok\": 2, \"mlp_only_layers\": [0, 1]}");
    assertProblem(
        "moe_layer_freq is 0", start + "\"num_experts_per_tok\": 2, \"moe_layer_freq\": 0}");
  }

  private void assertProblem(String part, String json) {
    String message = assertThrows(EngramFormatException.class, () -> read(json)).getMessage();
    assertTrue(message.contains(part) && message.contains("config.json"), message);
  }
}
