// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.gating.EngramLayer.Engine;

class Nd4jEngramLayerTest extends EngramLayerContract {
  @Override
  Engine engine() {
    return Engine.ND4J;
  }

  @Override
  boolean sameBitsInAnyChunk() {
    return false;
  }
}
