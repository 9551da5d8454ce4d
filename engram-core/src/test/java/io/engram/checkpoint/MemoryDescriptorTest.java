// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.EngramFormatException;
import io.engram.GateConfig;
import io.engram.hash.HashScheme;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

@Tag("once")
class MemoryDescriptorTest {
  @TempDir Path directory;

  static List<EngramConfig> configs() {
    EngramConfig plain = EngramConfig.paper().seed(Long.MAX_VALUE).normEps(1.1754944e-38f).build();
    return List.of(
        plain,
        EngramConfig.v41Flash().build(),
        EngramConfig.qwenPle().build(),
        EngramConfig.paper()
            .slotsPerHead(List.of(3_000_000_019L, 7L))
            .conv(Optional.empty())
            .build(),
        EngramConfig.paper()
            .rawVocabulary(300)
            .fill(299)
            .gateShape(GateConfig.Shape.PLAIN)
            .rowFormat(RowFormat.F16)
            .rowAlignment(9)
            .headsPerOrder(3)
            .layers(7, 2)
            .build());
  }

  private EngramConfig written(EngramConfig config) throws IOException {
    Path file = directory.resolve("config.json");
    Files.writeString(file, MemoryDescriptor.json(config));
    return MemoryDescriptor.read(file);
  }

  @ParameterizedTest
  @MethodSource("configs")
  void everyFieldComesBack(EngramConfig config) throws IOException {
    assertEquals(config, written(config));
    assertEquals(List.of(), MemoryDescriptor.differences(config, written(config)));
  }

  /** A field that is added to a record and forgotten here would be lost without a sign. */
  @Test
  void everyComponentIsWritten() {
    String json = MemoryDescriptor.json(EngramConfig.paper().build());
    for (Class<? extends Record> type :
        List.of(EngramConfig.class, HashScheme.class, GateConfig.class, ConvConfig.class)) {
      for (RecordComponent component : type.getRecordComponents()) {
        String key = component.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
        assertTrue(json.contains("\"" + key + "\""), () -> key + " of " + type);
      }
    }
  }

  @Test
  void differencesAreNamed() {
    assertEquals(
        List.of(
            "conv.dilation is absent, expected 3",
            "conv.kernel_size is absent, expected 4",
            "conv.norm_eps is absent, expected 0.00001",
            "gate.width is 7, expected 1024",
            "hashing.seed is \"5\", expected \"0\""),
        MemoryDescriptor.differences(
                EngramConfig.paper().build(),
                EngramConfig.paper().seed(5).width(7).conv(Optional.empty()).build())
            .stream()
            .map(d -> d.replace("1.0E-5", "0.00001"))
            .toList());
  }

  @Test
  void whatIsWrongIsNamed() throws IOException {
    Path file = directory.resolve("config.json");
    String good = MemoryDescriptor.json(EngramConfig.paper().build());
    for (List<String> change :
        List.of(
            List.of("\"seed\": \"0\"", "\"seed\": 0", "engram_memory.hashing.seed is 0"),
            List.of("\"version\": 1", "\"version\": 2", "engram_memory.version is 2"),
            List.of("\"DELTA\"", "\"ADD\"", "engram_memory.gate.residual is 'ADD'"),
            List.of("\"bias\": true", "\"bias\": 1", "engram_memory.gate.bias is 1"),
            List.of("\"head_dim\": 64", "\"head_dim\": 0", "headDim is 0"),
            List.of("\"head_dim\": 64,", "", "engram_memory.head_dim is missing"))) {
      Files.writeString(file, good.replace(change.get(0), change.get(1)));
      String message =
          assertThrows(EngramFormatException.class, () -> MemoryDescriptor.read(file)).getMessage();
      assertTrue(message.contains(change.get(2)), message);
    }
  }
}
