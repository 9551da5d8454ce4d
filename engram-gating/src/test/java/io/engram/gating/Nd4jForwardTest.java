// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.Dtype;
import io.engram.gating.EngramLayer.Output;
import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** The numbers inside the ND4J engine that its results alone would not show. */
@Tag("once")
class Nd4jForwardTest {
  static Stream<GoldenLayer> layersWithKeysAndValue() {
    return GoldenLayer.all().filter(g -> g.keysAndValue() != null);
  }

  @ParameterizedTest
  @MethodSource("layersWithKeysAndValue")
  void keysAndValueAreTheReferencesBits(GoldenLayer golden) {
    Nd4jForward forward =
        new Nd4jForward(
            new PreparedLayer(golden.gate(), golden.conv(), golden.rowWidth(), golden.weights()));
    int tokens = golden.sequences() * golden.tokens();
    INDArray rows = Nd4j.createFromArray(golden.rows()).reshape(tokens, golden.rowWidth());
    assertArrayEquals(golden.keysAndValue(), forward.project(rows, null).dup('c').data().asFloat());
  }

  @Test
  void sumsAreRoundedOnceToTheNearestBfloat16() {
    RandomGenerator random = Seeds.random("ND4J rounding");
    double[] values = new double[100_000];
    Arrays.setAll(values, i -> Bfloat16Test.hard(random));
    float[] rounded = Nd4jForward.roundedToBfloat16(Nd4j.createFromArray(values)).data().asFloat();
    for (int i = 0; i < values.length; i++) {
      assertEquals(Bfloat16.round(values[i]), rounded[i], "of " + values[i]);
    }
  }

  /** What the engine relies on: ND4J rounds float32 to the nearest bfloat16, ties to even. */
  @Test
  void nd4jCastsToTheNearestBfloat16() {
    for (int low : new int[] {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff}) {
      float[] values = new float[0x7f80];
      for (int i = 0; i < values.length; i++) {
        values[i] = Float.intBitsToFloat((i << 16) | low);
      }
      INDArray single = Nd4j.createFromArray(values);
      INDArray assigned = Nd4j.create(DataType.BFLOAT16, values.length);
      assigned.assign(single);
      for (INDArray narrow : new INDArray[] {single.castTo(DataType.BFLOAT16), assigned}) {
        float[] cast = narrow.castTo(DataType.FLOAT).data().asFloat();
        for (int i = 0; i < values.length; i++) {
          assertEquals(Bfloat16.toFloat(Bfloat16.toBits(values[i])), cast[i], "of " + values[i]);
        }
      }
    }
  }

  @Test
  void longSequencesAreComputedInPieces() {
    RandomGenerator random = Seeds.random("pieces");
    RandomLayer r =
        RandomLayer.of(
            Variants.demo(2, 13), Optional.of(Variants.DEMO_CONV), 11, Dtype.F32, random);
    PreparedLayer layer = new PreparedLayer(r.gate(), r.conv(), 11, r.weights());
    int tokens = 41;
    INDArray rows = Nd4j.randn(DataType.FLOAT, 2, tokens, 11);
    INDArray streams = Nd4j.randn(DataType.FLOAT, 2, tokens, 2, 13);
    boolean[] live = new boolean[2 * tokens];
    for (int i = 0; i < live.length; i++) {
      live[i] = random.nextInt(5) > 0;
    }
    Output whole = output(streams);
    List<ConvState> wholeStates = List.of(state(r), state(r));
    new Nd4jForward(layer).forward(streams, rows, live, wholeStates, whole);
    // Seven tokens of each sequence at once.
    Nd4jForward inPieces = new Nd4jForward(layer, 2 * 7 * layer.outputs);
    for (List<ConvState> states : List.of(List.<ConvState>of(), List.of(state(r), state(r)))) {
      Output output = output(streams);
      inPieces.forward(streams, rows, live, states, output);
      assertArrayEquals(floats(whole.streams()), floats(output.streams()), 2e-5f);
      assertArrayEquals(floats(whole.gates()), floats(output.gates()), 1e-5f);
      for (int i = 0; i < states.size(); i++) {
        assertEquals(tokens, states.get(i).position());
        assertArrayEquals(wholeStates.get(i).ring(), states.get(i).ring(), 1e-5f);
      }
    }
    // A token refused in the last piece is named by its place, and no state has moved.
    rows.putScalar(new long[] {1, 40, 3}, Float.NaN);
    live[2 * tokens - 1] = true;
    List<ConvState> states = List.of(state(r), state(r));
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class,
            () -> inPieces.forward(streams, rows, live, states, output(streams)));
    assertTrue(e.getMessage().contains("sequence 1, token 40"), e.getMessage());
    assertEquals(0, states.get(0).position());
    assertEquals(0, states.get(1).position());
  }

  private static ConvState state(RandomLayer r) {
    return ConvState.start(r.gate(), r.conv().orElseThrow(), 2);
  }

  private static Output output(INDArray streams) {
    return new Output(
        Nd4j.create(DataType.FLOAT, streams.shape()),
        Nd4j.create(DataType.FLOAT, streams.size(0), streams.size(1), streams.size(2)));
  }

  private static float[] floats(INDArray array) {
    return array.dup('c').data().asFloat();
  }
}
