// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import io.engram.GateConfig.NormWeight;
import io.engram.GateConfig.Residual;
import io.engram.GateConfig.Rounding;
import io.engram.GateConfig.Shape;
import io.engram.GateConfig.ZeroDot;

/** The published variants' gates at any size. */
final class Variants {
  /** Of the demo and of Qwen: four taps, as far apart as the highest order. */
  static final ConvConfig DEMO_CONV = new ConvConfig(4, 3, 1e-5f);

  static final ConvConfig QWEN_CONV = new ConvConfig(4, 3, 1e-6f);

  private Variants() {}

  static GateConfig demo(int streams, int width) {
    return new GateConfig(
        streams,
        width,
        true,
        Shape.SIGNED_SQRT,
        ZeroDot.SIGN_ZERO,
        NormWeight.AS_STORED,
        0x1p-23f,
        Rounding.NONE,
        Residual.DELTA);
  }

  static GateConfig v41(int streams, int width) {
    return new GateConfig(
        streams,
        width,
        false,
        Shape.SIGNED_SQRT,
        ZeroDot.COPY_SIGN,
        NormWeight.AS_STORED,
        1e-20f,
        Rounding.BF16,
        Residual.IN_PLACE);
  }

  static GateConfig qwen(int streams, int width) {
    return new GateConfig(
        streams,
        width,
        false,
        Shape.SIGNED_SQRT,
        ZeroDot.SIGN_ZERO,
        NormWeight.ONE_PLUS,
        1e-6f,
        Rounding.NONE,
        Residual.DELTA);
  }

  /** The paper's equation 4: no square root. */
  static GateConfig paper(int streams, int width) {
    return new GateConfig(
        streams,
        width,
        false,
        Shape.PLAIN,
        ZeroDot.SIGN_ZERO,
        NormWeight.AS_STORED,
        0x1p-23f,
        Rounding.NONE,
        Residual.DELTA);
  }
}
