// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.gating.EngramLayer.Engine;

class CpuEngramLayerTest extends EngramLayerContract {
  @Override
  Engine engine() {
    return Engine.CPU;
  }

  @Override
  boolean sameBitsInAnyChunk() {
    return true;
  }
}
