// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.Tensor;
import io.engram.checkpoint.Safetensors;
import io.engram.checkpoint.SafetensorsWriter;
import io.engram.testkit.Golden;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The command from outside, on the small checkpoints of the reference implementations. */
class ForwardCommandTest {
  @TempDir Path directory;
  private final Arena arena = Arena.ofShared();

  @AfterEach
  void close() {
    arena.close();
  }

  private Safetensors expected(String checkpoint) {
    return Safetensors.open(Golden.path(checkpoint).resolve("expected.safetensors"), arena);
  }

  private Safetensors forward(
      String checkpoint, int layer, SafetensorsWriter input, String... more) {
    Path in = directory.resolve("in.safetensors");
    Path out = directory.resolve("out.safetensors");
    input.write(in);
    List<String> arguments =
        new ArrayList<>(
            List.of(
                "forward",
                "--checkpoint",
                Golden.path(checkpoint).toString(),
                "--layer",
                Integer.toString(layer),
                "--input",
                in.toString(),
                "--output",
                out.toString()));
    arguments.addAll(List.of(more));
    Run run = Run.of(arguments.toArray(String[]::new));
    assertEquals(0, run.exitCode(), run.err());
    return Safetensors.open(out, arena);
  }

  private static String[] options(String engine, String chunks) {
    return chunks.isEmpty()
        ? new String[] {"--engine", engine}
        : new String[] {"--engine", engine, "--chunks", chunks};
  }

  private static long[] longs(Tensor tensor) {
    return tensor.data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
  }

  private static float[] floats(Tensor tensor) {
    return tensor.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
  }

  private static short[] shorts(Tensor tensor) {
    return tensor.data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
  }

  /** Distance in units of the last place: bfloat16 values in order are integers in order. */
  private static int ulps(short a, short b) {
    return Math.abs((a < 0 ? -(a & 0x7FFF) : a) - (b < 0 ? -(b & 0x7FFF) : b));
  }

  @ParameterizedTest
  @CsvSource({
    "cpu, 1, ''",
    "cpu, 5, '7,1,16'",
    "nd4j, 1, '7,1,16'",
    "nd4j, 5, ''",
    "cpu, 5, '23,0,1'",
  })
  void fusedFp8Layout(String engine, int layer, String chunks) {
    Safetensors expected = expected("v41_mini");
    Tensor streams = expected.tensor("streams");
    Safetensors out =
        forward(
            "v41_mini",
            layer,
            new SafetensorsWriter()
                .add("input_ids", expected.tensor("input_ids"))
                .add("hidden_states", streams)
                .add("mask", expected.tensor("mask")),
            options(engine, chunks));

    int tokens = 48;
    int columns = 12;
    long[] both = longs(expected.tensor("row_ids"));
    long[] rowIds = longs(out.tensor("row_ids"));
    for (int t = 0; t < tokens; t++) {
      int at = (t * 2 + (layer == 1 ? 0 : 1)) * columns;
      assertArrayEquals(
          Arrays.copyOfRange(both, at, at + columns),
          Arrays.copyOfRange(rowIds, t * columns, (t + 1) * columns));
    }
    short[] bf16Rows = shorts(expected.tensor("L" + layer + ".rows"));
    float[] rows = floats(out.tensor("rows"));
    for (int i = 0; i < rows.length; i++) {
      assertEquals(Float.intBitsToFloat(bf16Rows[i] << 16), rows[i]);
    }
    assertArrayEquals(
        floats(expected.tensor("L" + layer + ".gate")), floats(out.tensor("gate")), 1e-6f);
    assertEquals(streams.toString(), out.tensor("output").toString());
    short[] want = shorts(expected.tensor("L" + layer + ".out_masked"));
    short[] found = shorts(out.tensor("output"));
    for (int i = 0; i < want.length; i++) {
      int at = i;
      assertTrue(ulps(want[i], found[i]) <= 1, () -> "output " + at);
    }
  }

  @ParameterizedTest
  @CsvSource({"cpu, 1, ''", "cpu, 3, '6,1,6'", "nd4j, 1, '6,1,6'", "nd4j, 3, ''"})
  void splitTableLayout(String engine, int layer, String chunks) {
    Safetensors expected = expected("qwen_mini");
    Safetensors out =
        forward(
            "qwen_mini",
            layer,
            new SafetensorsWriter()
                .add("input_ids", expected.tensor("input_ids"))
                .add("hidden_states", expected.tensor("hidden_states")),
            options(engine, chunks));
    assertArrayEquals(
        longs(expected.tensor("L" + layer + ".row_ids")), longs(out.tensor("row_ids")));
    assertClose(
        floats(expected.tensor("L" + layer + ".output_delta")), floats(out.tensor("output")));
  }

  @ParameterizedTest
  @CsvSource({"cpu, 1, ''", "cpu, 15, '1,11,1'", "nd4j, 1, '1,11,1'", "nd4j, 15, ''"})
  void modulesLayout(String engine, int layer, String chunks) {
    Safetensors expected = expected("demo_mini");
    String l = "L" + layer;
    Safetensors out =
        forward(
            "demo_mini",
            layer,
            new SafetensorsWriter()
                .add("input_ids", expected.tensor("input_ids"))
                .add("hidden_states", expected.tensor(l + ".hidden_states")),
            options(engine, chunks));
    assertArrayEquals(longs(expected.tensor(l + ".row_ids")), longs(out.tensor("row_ids")));
    assertClose(floats(expected.tensor(l + ".output")), floats(out.tensor("output")));
  }

  /** 1e-5 of the value, or of the typical value where a sum cancels to almost nothing. */
  private static void assertClose(float[] expected, float[] found) {
    assertEquals(expected.length, found.length);
    double squares = 0;
    for (float e : expected) {
      squares += e * e;
    }
    double typical = Math.sqrt(squares / expected.length);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(
          expected[i], found[i], 1e-5 * Math.max(Math.abs(expected[i]), typical), "value " + i);
    }
  }

  @Test
  void aFloat32HiddenStateIsWrittenAsFloat32() {
    Safetensors expected = expected("v41_mini");
    short[] bf16 = shorts(expected.tensor("streams"));
    float[] wide = new float[bf16.length];
    for (int i = 0; i < wide.length; i++) {
      wide[i] = Float.intBitsToFloat(bf16[i] << 16);
    }
    MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_FLOAT, wide);
    Safetensors out =
        forward(
            "v41_mini",
            1,
            new SafetensorsWriter()
                .add("input_ids", expected.tensor("input_ids"))
                .add("hidden_states", new Tensor(Dtype.F32, new long[] {2, 24, 4, 96}, data))
                .add("mask", expected.tensor("mask")));
    short[] rounded = shorts(expected.tensor("L1.out_masked"));
    float[] found = floats(out.tensor("output"));
    for (int i = 0; i < found.length; i++) {
      float want = Float.intBitsToFloat(rounded[i] << 16);
      assertEquals(want, found[i], Math.abs(want) / 128 + 1e-30f, "value " + i);
    }
  }

  private SafetensorsWriter input(int batch, int tokens, long id, float hidden) {
    long[] ids = new long[batch * tokens];
    Arrays.fill(ids, id);
    float[] streams = new float[batch * tokens * 4 * 96];
    Arrays.fill(streams, hidden);
    return new SafetensorsWriter()
        .add(
            "input_ids",
            new Tensor(
                Dtype.I64,
                new long[] {batch, tokens},
                arena.allocateFrom(ValueLayout.JAVA_LONG, ids)))
        .add(
            "hidden_states",
            new Tensor(
                Dtype.F32,
                new long[] {batch, tokens, 4, 96},
                arena.allocateFrom(ValueLayout.JAVA_FLOAT, streams)));
  }

  private Run refused(int layer, SafetensorsWriter input, String... more) {
    Path in = directory.resolve("in.safetensors");
    input.write(in);
    List<String> arguments =
        new ArrayList<>(
            List.of(
                "forward",
                "--checkpoint",
                Golden.path("v41_mini").toString(),
                "--layer",
                Integer.toString(layer),
                "--input",
                in.toString(),
                "--output",
                directory.resolve("out.safetensors").toString()));
    arguments.addAll(List.of(more));
    return Run.of(arguments.toArray(String[]::new));
  }

  private static void assertRefused(int exitCode, String message, Run run) {
    assertEquals(exitCode, run.exitCode(), run.err());
    assertTrue(run.err().contains(message), run.err());
    assertTrue(!run.err().contains("\tat "), "a stack trace: " + run.err());
  }

  @Test
  void badInputIsNamed() {
    assertRefused(1, "layer 2 has no memory", refused(2, input(1, 3, 5, 1)));
    assertRefused(
        1, "input_ids holds 644 at sequence 0, position 0", refused(1, input(1, 3, 644, 1)));
    assertRefused(
        1, "input_ids holds -1 at sequence 0, position 0", refused(1, input(1, 3, -1, 1)));
    assertRefused(1, "NaN", refused(1, input(1, 3, 5, Float.NaN)));
    assertRefused(1, "Infinity", refused(1, input(1, 3, 5, Float.POSITIVE_INFINITY)));
    assertRefused(2, "add up to 4", refused(1, input(1, 3, 5, 1), "--chunks", "2,2"));
    assertRefused(2, "--engine", refused(1, input(1, 3, 5, 1), "--engine", "tpu"));
    assertRefused(
        1,
        "the tensor 'input_ids' is not among",
        refused(
            1,
            new SafetensorsWriter()
                .add("ids", new Tensor(Dtype.U8, new long[] {1}, arena.allocate(1)))));
    SafetensorsWriter wrongMask =
        input(1, 3, 5, 1).add("mask", new Tensor(Dtype.U8, new long[] {3}, arena.allocate(3)));
    assertRefused(1, "mask is U8[3], expected U8[1, 3]", refused(1, wrongMask));
    SafetensorsWriter wrongWidth =
        new SafetensorsWriter()
            .add("input_ids", new Tensor(Dtype.I64, new long[] {1, 1}, arena.allocate(8)))
            .add(
                "hidden_states",
                new Tensor(Dtype.F32, new long[] {1, 1, 4, 95}, arena.allocate(4 * 95 * 4)));
    assertRefused(1, "expected [1, 1, 4, 96]", refused(1, wrongWidth));
  }

  @Test
  void aDeadPositionMayHoldAnything() {
    Safetensors out =
        forward(
            "v41_mini",
            1,
            input(1, 2, 5, Float.NaN)
                .add("mask", new Tensor(Dtype.U8, new long[] {1, 2}, arena.allocate(2))));
    for (float gate : floats(out.tensor("gate"))) {
      assertTrue(Float.isNaN(gate));
    }
    assertTrue(Float.isNaN(floats(out.tensor("output"))[0]), "streams pass through as they are");
  }

  @Test
  void sequencesWithoutTokensGiveEmptyTensors() {
    Safetensors out = forward("v41_mini", 1, input(2, 0, 0, 0));
    assertTrue(out.tensor("row_ids").hasShape(2, 0, 12));
    assertTrue(out.tensor("output").hasShape(2, 0, 4, 96));
  }
}
