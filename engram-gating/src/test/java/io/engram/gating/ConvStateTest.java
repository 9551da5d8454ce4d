// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.ConvConfig;
import io.engram.Dtype;
import io.engram.GateConfig;
import io.engram.testkit.Seeds;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;

class ConvStateTest {
  private static final GateConfig GATE = Variants.demo(2, 11);
  private static final ConvConfig CONV = Variants.DEMO_CONV;
  private static final int ROW_WIDTH = 8;
  private static final int CHANNELS = 22;

  private final RandomGenerator random = Seeds.random("ConvState");
  private final RandomLayer layer =
      RandomLayer.of(GATE, Optional.of(CONV), ROW_WIDTH, Dtype.F32, random);
  private final GateKernel kernel = layer.kernel();
  private final float[] rows = RandomLayer.values(random, 60 * ROW_WIDTH);
  private final float[] streams = RandomLayer.values(random, 60 * CHANNELS);

  /** The outputs of positions from to to - 1, computed from a state. */
  private float[] run(ConvState state, int from, int to) {
    float[] out = new float[(to - from) * CHANNELS];
    kernel.forward(
        GateCall.of(
                1,
                to - from,
                Arrays.copyOfRange(rows, from * ROW_WIDTH, to * ROW_WIDTH),
                Arrays.copyOfRange(streams, from * CHANNELS, to * CHANNELS),
                out)
            .withStates(List.of(state)));
    return out;
  }

  @Test
  void aForkGoesItsOwnWay() {
    ConvState state = kernel.newState(3);
    run(state, 0, 17);
    ConvState fork = state.fork();
    // The fork sees other tokens, which the first must not notice.
    run(fork, 30, 36);
    assertEquals(17, state.position());
    assertEquals(23, fork.position());
    ConvState other = kernel.newState(0);
    run(other, 0, 17);
    assertArrayEquals(run(other, 17, 25), run(state, 17, 25));
  }

  @Test
  void positionsAreTakenBackAsFarAsThereIsRoom() {
    ConvState state = kernel.newState(4);
    float[] once = run(state, 0, 20);
    state.rollBack(3);
    assertEquals(17, state.position());
    assertArrayEquals(Arrays.copyOfRange(once, 17 * CHANNELS, 18 * CHANNELS), run(state, 17, 18));
    // Two of four are left, for position 18 was written over the first that was given up.
    state.rollBack(0);
    state.rollBack(2);
    assertEquals(16, state.position());
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> state.rollBack(1));
    assertTrue(e.getMessage().contains("0 of the 4"), e.getMessage());
    assertEquals(16, state.position());
    assertArrayEquals(Arrays.copyOfRange(once, 16 * CHANNELS, 20 * CHANNELS), run(state, 16, 20));
  }

  @Test
  void takingBackTooManyIsRefused() {
    ConvState state = kernel.newState(2);
    assertThrows(IllegalArgumentException.class, () -> state.rollBack(1));
    assertThrows(IllegalArgumentException.class, () -> state.rollBack(-1));
    run(state, 0, 1);
    state.rollBack(1);
    assertEquals(0, state.position());
    run(state, 0, 30);
    assertThrows(IllegalArgumentException.class, () -> state.rollBack(3));
    ConvState none = kernel.newState(0);
    run(none, 0, 5);
    assertThrows(IllegalArgumentException.class, () -> none.rollBack(1));
    assertThrows(IllegalArgumentException.class, () -> kernel.newState(-1));
  }

  @Test
  void bytesCarryTheStateToAnotherProcess() {
    for (int seen : new int[] {0, 1, 8, 9, 13, 40}) {
      ConvState state = kernel.newState(4);
      run(state, 0, seen);
      state.rollBack(Math.min(seen, 2));
      ConvState copy = ConvState.fromBytes(GATE, CONV, state.toBytes());
      assertEquals(state.position(), copy.position());
      assertArrayEquals(state.toBytes(), copy.toBytes());
      int from = Math.max(seen - 2, 0);
      assertArrayEquals(run(state, from, from + 12), run(copy, from, from + 12));
      state.rollBack(4);
      copy.rollBack(4);
      assertArrayEquals(run(state, from + 8, from + 20), run(copy, from + 8, from + 20));
    }
  }

  @Test
  void damagedOrForeignBytesAreRefused() {
    ConvState state = kernel.newState(1);
    run(state, 0, 12);
    byte[] bytes = state.toBytes();
    for (int i = 0; i < bytes.length; i++) {
      byte[] damaged = bytes.clone();
      damaged[i] ^= 0x10;
      assertThrows(
          IllegalArgumentException.class,
          () -> ConvState.fromBytes(GATE, CONV, damaged),
          "byte " + i);
    }
    for (int length = 0; length < bytes.length; length++) {
      byte[] cut = Arrays.copyOf(bytes, length);
      assertThrows(
          IllegalArgumentException.class, () -> ConvState.fromBytes(GATE, CONV, cut), "" + length);
    }
    IllegalArgumentException e =
        assertThrows(
            IllegalArgumentException.class,
            () -> ConvState.fromBytes(Variants.demo(2, 12), CONV, bytes));
    assertTrue(
        e.getMessage().contains("channels 22") && e.getMessage().contains("channels 24"),
        e.getMessage());
    assertThrows(
        IllegalArgumentException.class,
        () -> ConvState.fromBytes(GATE, new ConvConfig(4, 2, 1e-5f), bytes));
  }

  @Test
  void aConvolutionOfOneTapCarriesNothing() {
    RandomLayer one =
        RandomLayer.of(
            GATE, Optional.of(new ConvConfig(1, 3, 1e-5f)), ROW_WIDTH, Dtype.F32, random);
    GateKernel oneTap = one.kernel();
    ConvState state = oneTap.newState(0);
    float[] out = new float[5 * CHANNELS];
    GateCall call =
        GateCall.of(
            1, 5, Arrays.copyOf(rows, 5 * ROW_WIDTH), Arrays.copyOf(streams, 5 * CHANNELS), out);
    oneTap.forward(call.withStates(List.of(state)));
    float[] with = out.clone();
    oneTap.forward(call);
    assertArrayEquals(out, with);
    assertEquals(
        5, ConvState.fromBytes(GATE, new ConvConfig(1, 3, 1e-5f), state.toBytes()).position());
  }

  @Test
  void aStateMayBeLongerThanABlockOfTokens() {
    // Ten taps at distance nine reach 81 positions back, over more than one block.
    ConvConfig conv = new ConvConfig(10, 9, 1e-5f);
    RandomLayer far = RandomLayer.of(GATE, Optional.of(conv), ROW_WIDTH, Dtype.F32, random);
    int tokens = 3 * GateRun.BLOCK + 5;
    float[] allRows = RandomLayer.values(random, tokens * ROW_WIDTH);
    float[] allStreams = RandomLayer.values(random, tokens * CHANNELS);
    float[] out = far.kernel().forward(allRows, allStreams);
    ReferenceLayer expected = new ReferenceLayer(far, 1, tokens, allRows, allStreams, null);
    for (int i = 0; i < out.length; i++) {
      assertEquals(expected.output[i], out[i], 2e-5, "element " + i);
    }
  }

  @Test
  void aStateInUseIsRefused() {
    ConvState state = kernel.newState(0);
    state.claim();
    assertThrows(IllegalStateException.class, () -> run(state, 0, 1));
    state.release();
    run(state, 0, 1);
    assertEquals(1, state.position());
    assertFalse(state.toString().isEmpty());
  }
}
