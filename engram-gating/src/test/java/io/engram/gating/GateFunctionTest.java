// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.engram.GateConfig;
import io.engram.testkit.Golden;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class GateFunctionTest {
  private static final float ASIDE = (float) (1 / (1 + Math.exp(-1e-3)));

  private final GateFunction signZero = new GateFunction(Variants.demo(1, 16));
  private final GateFunction copySign = new GateFunction(Variants.v41(1, 16));
  private final GateFunction plain = new GateFunction(Variants.paper(1, 16));

  @Test
  void zeroFollowsItsRule() {
    assertEquals(0.5f, signZero.gate(0f));
    assertEquals(0.5f, signZero.gate(-0f));
    assertEquals(0.50025f, copySign.gate(0f), 1e-8f);
    assertEquals(0.49975f, copySign.gate(-0f), 1e-8f);
    assertEquals(0.5f, plain.gate(0f));
  }

  @Test
  void smallDotsAreRaisedToTheClamp() {
    for (GateFunction function : new GateFunction[] {signZero, copySign}) {
      assertEquals(ASIDE, function.gate(Float.MIN_VALUE));
      assertEquals(ASIDE, function.gate(9e-7f));
      assertEquals(1 - ASIDE, function.gate(-9e-7f), 1e-7f);
      assertTrue(function.gate(2e-6f) > ASIDE);
    }
  }

  @Test
  void largeDotsSaturate() {
    assertEquals(1f, copySign.gate(Float.POSITIVE_INFINITY));
    assertEquals(0f, copySign.gate(Float.NEGATIVE_INFINITY));
    assertEquals(1 / (1 + Math.exp(-3)), signZero.gate(9f), 1e-7);
    assertEquals(1 / (1 + Math.exp(9)), plain.gate(-9f), 1e-7);
    assertTrue(Float.isNaN(copySign.gate(Float.NaN)));
  }

  @Test
  void slopesAreTheDerivativesAndZeroWhereTheClampHolds() {
    for (float dot : new float[] {-30f, -2.5f, -0.1f, -2e-6f, 2e-6f, 0.003f, 1f, 7f, 30f}) {
      double step = 1e-3 * Math.abs(dot);
      double root = Math.sqrt(Math.abs(dot));
      for (GateFunction function : new GateFunction[] {signZero, copySign}) {
        double expected = (rooted(dot + step) - rooted(dot - step)) / (2 * step);
        assertEquals(expected, function.slope(dot), 1e-5 * expected, "root of " + dot);
        assertTrue(function.slope(dot) <= 0.125 / root * 1.001);
      }
      // Below zero, where the sigmoid is exact however small it is.
      double size = -Math.abs(dot);
      double expected = (sigmoid(size + step) - sigmoid(size - step)) / (2 * step);
      assertEquals(expected, plain.slope(dot), 1e-3 * expected, "plain " + dot);
    }
    for (GateFunction function : new GateFunction[] {signZero, copySign}) {
      for (float dot : new float[] {0f, -0f, 9e-7f, -9e-7f, Float.MIN_VALUE}) {
        assertEquals(0, function.slope(dot), "at " + dot);
      }
      assertTrue(function.slope(1e-6f) > 100, "the clamp itself lets the gradient through");
      assertEquals(0, function.slope(Float.NEGATIVE_INFINITY));
      assertTrue(Double.isNaN(function.slope(Float.NaN)));
    }
    assertEquals(0.25, plain.slope(0f));
  }

  private static double rooted(double dot) {
    return sigmoid(Math.copySign(Math.sqrt(Math.abs(dot)), dot));
  }

  private static double sigmoid(double x) {
    return 1 / (1 + Math.exp(-x));
  }

  @Test
  void sumsAreNormalisedByTheWidthOfOneStream() {
    // Key and stream of all twos and weight one: both norms are 1, the dot 16 / sqrt(16).
    assertEquals(plain.gate(4f), plain.gate(64, 64, 64), 1e-7f);
    // Nothing but eps under the roots: no division by zero.
    assertEquals(0.5f, signZero.gate(0, 0, 0));
    assertEquals(ASIDE, copySign.gate(0, 0, 0));
  }

  @Test
  void publishedGatesOfTheRealCheckpointAreReproduced() {
    GateFunction function =
        new GateFunction(
            new GateConfig(
                4,
                5120,
                false,
                GateConfig.Shape.SIGNED_SQRT,
                GateConfig.ZeroDot.COPY_SIGN,
                GateConfig.NormWeight.AS_STORED,
                1e-20f,
                GateConfig.Rounding.BF16,
                GateConfig.Residual.IN_PLACE));
    int count = 0;
    for (JsonElement element :
        Golden.json("v41_real_checkpoint_layer1_published.json").getAsJsonArray("gate_records")) {
      JsonObject record = element.getAsJsonObject();
      double expected = record.get("gate").getAsDouble();
      float gate =
          function.gate(
              5120 * record.get("key_mean_sq").getAsDouble(),
              5120 * record.get("h_mean_sq").getAsDouble(),
              record.get("raw_weighted_dot").getAsDouble());
      assertEquals(expected, gate, 1e-6 * expected, record.toString());
      count++;
    }
    assertEquals(8, count);
  }
}
