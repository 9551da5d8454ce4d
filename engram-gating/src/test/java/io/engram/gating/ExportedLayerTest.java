// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.CheckpointExporter;
import io.engram.checkpoint.CheckpointExporter.Layout;
import io.engram.table.RowFormat;
import io.engram.testkit.Seeds;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What a memory computes after it was exported: here, and in Python. */
@Tag("once")
class ExportedLayerTest {
  private static final int TOKENS = 40;
  private static final int VOCABULARY = 60;

  @TempDir Path directory;

  private final RandomGenerator random = Seeds.random("ExportedLayerTest");

  private EngramMemory trained(EngramConfig.Builder builder) {
    EngramConfig config =
        builder
            .vocabulary(VOCABULARY, 45)
            .layers(1, 4)
            .slotsPerHead(101)
            .headsPerOrder(2)
            .streams(3)
            .width(24)
            .build();
    int[] values = new int[VOCABULARY];
    for (int id = 0; id < VOCABULARY; id++) {
      values[id] = id < 45 ? id : random.nextInt(45);
    }
    EngramMemory memory = EngramMemory.create(config, TokenMap.of(values), random.nextLong());
    for (int layer : config.layerIds()) {
      LayerWeights weights = memory.weights(layer);
      Stream.of(
              Optional.of(weights.keyNorm()),
              Optional.of(weights.queryNorm()),
              weights.convNorm(),
              weights.conv())
          .flatMap(Optional::stream)
          .forEach(this::fill);
    }
    return memory;
  }

  /** As after training: neither neutral nor zero. */
  private void fill(Tensor tensor) {
    for (long at = 0; at < tensor.data().byteSize(); at += Float.BYTES) {
      tensor.data().set(ValueLayout.JAVA_FLOAT, at, random.nextFloat(-1.5f, 1.5f));
    }
  }

  private int[] ids() {
    return random.ints(TOKENS, 0, VOCABULARY).toArray();
  }

  private float[] streams(EngramMemory memory) {
    float[] streams =
        new float[TOKENS * memory.config().gate().streams() * memory.config().gate().width()];
    for (int i = 0; i < streams.length; i++) {
      streams[i] = (float) random.nextGaussian();
    }
    return streams;
  }

  private static float[] outputs(EngramMemory memory, int layer, int[] ids, float[] streams) {
    float[] out = new float[streams.length];
    GateKernel.load(memory, layer)
        .forward(GateCall.of(1, ids.length, memory.lookup(layer, ids), streams, out));
    return out;
  }

  @Test
  void theDemosLayoutComputesTheSameBits() {
    try (EngramMemory memory = trained(EngramConfig.paper().headDim(8));
        EngramMemory opened =
            EngramMemory.open(
                CheckpointExporter.of(memory, Layout.DEMO).write(directory.resolve("demo")))) {
      int[] ids = ids();
      float[] streams = streams(memory);
      for (int layer : memory.config().layerIds()) {
        assertArrayEquals(
            outputs(memory, layer, ids, streams), outputs(opened, layer, ids, streams));
      }
    }
  }

  /** Half a step of FP8 is a sixteenth of a value: outputs differ, but not by more than a tenth. */
  @Test
  void theReleasedLayoutComputesNearlyTheSame() {
    try (EngramMemory memory =
            trained(EngramConfig.v41Flash().headDim(32).rowFormat(RowFormat.F32));
        EngramMemory opened =
            EngramMemory.open(
                CheckpointExporter.of(memory, Layout.V41).write(directory.resolve("v41")))) {
      int[] ids = ids();
      float[] streams = streams(memory);
      for (int layer : memory.config().layerIds()) {
        float[] expected = outputs(memory, layer, ids, streams);
        float[] found = outputs(opened, layer, ids, streams);
        double error = 0;
        double written = 0;
        for (int i = 0; i < expected.length; i++) {
          error += Math.pow(found[i] - expected[i], 2);
          written += Math.pow(expected[i] - streams[i], 2);
        }
        double relative = Math.sqrt(error / written);
        System.out.println("relative error of what is written, in FP8: " + relative);
        assertTrue(relative > 0 && relative < 0.1, () -> "error " + relative);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void pythonComputesTheSame(RowFormat format) throws Exception {
    String python = python();
    Path script = directory.resolve("demo_layer.py");
    try (InputStream source = getClass().getResourceAsStream("demo_layer.py")) {
      Files.copy(Objects.requireNonNull(source, "demo_layer.py"), script);
    }
    try (EngramMemory memory = trained(EngramConfig.paper().headDim(8).rowFormat(format).seed(3))) {
      // Several files, so that the index is read as well.
      Path target =
          CheckpointExporter.of(memory, Layout.DEMO)
              .shardBytes(20_000)
              .write(directory.resolve("exported"));
      int[] ids = ids();
      float[] streams = streams(memory);
      write(directory.resolve("ids"), MemorySegment.ofArray(ids));
      write(directory.resolve("streams"), MemorySegment.ofArray(streams));
      for (int layer : memory.config().layerIds()) {
        run(
            python,
            script.toString(),
            target.toString(),
            Integer.toString(layer),
            directory.resolve("ids").toString(),
            directory.resolve("streams").toString(),
            directory.resolve("rows").toString(),
            directory.resolve("outputs").toString());
        long[] rows = new long[memory.rowIds(layer, ids).length];
        read("rows").asLongBuffer().get(rows);
        assertArrayEquals(memory.rowIds(layer, ids), rows);
        float[] expected = new float[streams.length];
        read("outputs").asFloatBuffer().get(expected);
        float[] found = outputs(memory, layer, ids, streams);
        double worst = 0;
        for (int i = 0; i < expected.length; i++) {
          double error = Math.abs(found[i] - expected[i]) / Math.max(1, Math.abs(expected[i]));
          worst = Math.max(worst, error);
        }
        System.out.println("largest relative difference to Python: " + worst);
        assertTrue(worst < 1e-5, "differs by " + worst);
      }
    }
  }

  private static void write(Path file, MemorySegment values) throws IOException {
    Files.write(file, values.toArray(ValueLayout.JAVA_BYTE));
  }

  private ByteBuffer read(String name) throws IOException {
    return ByteBuffer.wrap(Files.readAllBytes(directory.resolve(name)))
        .order(ByteOrder.LITTLE_ENDIAN);
  }

  private static String python() throws Exception {
    String named = System.getProperty("engram.python", System.getenv("ENGRAM_PYTHON"));
    String python = named == null || named.isBlank() ? "python3" : named;
    boolean there;
    try {
      Process process =
          new ProcessBuilder(python, "-c", "import numpy, torch").redirectErrorStream(true).start();
      process.getInputStream().readAllBytes();
      there = process.waitFor() == 0;
    } catch (IOException e) {
      there = false;
    }
    assumeTrue(
        there,
        "skipped: "
            + python
            + " has no numpy and torch; ENGRAM_PYTHON or -Dengram.python names one that has");
    return python;
  }

  private static void run(String... command) throws Exception {
    Process process = new ProcessBuilder(List.of(command)).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(2, TimeUnit.MINUTES), "Python does not end");
    assertEquals(0, process.exitValue(), said);
  }
}
