// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Rows that are touched at every step move as in PyTorch, to rounding: torch_optimizers.py wrote
 * what it made of them.
 */
class TorchOptimizersTest {
  private static final long[] ROWS = {0, 1, 2};
  private static final int DIM = 10;

  static Stream<Arguments> rules() {
    Function<EngramTable, TableOptimizer> adam =
        table -> TableOptimizer.adam(table, AdamOptions.DEFAULT);
    return Stream.of(
        Arguments.of("adam", adam),
        Arguments.of("sgd", sgd(0, false)),
        Arguments.of("momentum", sgd(0.9, false)),
        Arguments.of("nesterov", sgd(0.9, true)));
  }

  private static Function<EngramTable, TableOptimizer> sgd(double momentum, boolean nesterov) {
    SgdOptions options = new SgdOptions(0.01, momentum, nesterov, StepOptions.DEFAULT);
    return table -> TableOptimizer.sgd(table, options);
  }

  private static JsonObject golden() throws IOException {
    try (Reader reader =
        new InputStreamReader(
            TorchOptimizersTest.class.getResourceAsStream("torch_optimizers.json"),
            StandardCharsets.UTF_8)) {
      return JsonParser.parseReader(reader).getAsJsonObject();
    }
  }

  private static float[] floats(JsonArray array) {
    float[] values = new float[array.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = array.get(i).getAsFloat();
    }
    return values;
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("rules")
  void rowsMoveAsInPyTorch(String rule, Function<EngramTable, TableOptimizer> make)
      throws IOException {
    JsonObject golden = golden();
    RamRowStore store = RamRowStore.create("layer 1", ROWS.length, 4 * DIM);
    store.write(0, ROWS.length, Trained.memory(floats(golden.getAsJsonArray("start"))), 0);
    try (EngramTable table = new EngramTable(store, RowFormat.F32, DIM);
        TableOptimizer optimizer = make.apply(table)) {
      TableGradients gradients = new TableGradients(table);
      JsonArray steps = golden.getAsJsonArray(rule);
      for (int step = 0; step < steps.size(); step++) {
        float[] gradient = floats(golden.getAsJsonArray("gradients").get(step).getAsJsonArray());
        gradients.add(ROWS, 0, ROWS.length, Trained.memory(gradient));
        optimizer.step(gradients);
        gradients.clear();
        float[] expected = floats(steps.get(step).getAsJsonArray());
        float[] rows = table.gather(ROWS);
        for (int i = 0; i < expected.length; i++) {
          assertEquals(
              expected[i], rows[i], 3 * Math.ulp(expected[i]) + 1e-7, "step " + step + ", " + i);
        }
      }
    }
  }
}
