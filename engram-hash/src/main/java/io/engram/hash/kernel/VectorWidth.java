// SPDX-License-Identifier: Apache-2.0
package io.engram.hash.kernel;

import java.util.function.IntSupplier;
import jdk.incubator.vector.VectorShape;

/** How wide the widest vectors are that hold every element type; apart, as it needs the module. */
final class VectorWidth implements IntSupplier {
  /** In bits; below 128 if this JVM has none. */
  @Override
  public int getAsInt() {
    return VectorShape.preferredShape().vectorBitSize();
  }
}
