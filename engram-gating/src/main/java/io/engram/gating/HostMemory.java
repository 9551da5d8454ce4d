// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.function.Consumer;
import org.nd4j.linalg.api.concurrency.AffinityManager.Location;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** The host memory of ND4J arrays. */
final class HostMemory {
  private HostMemory() {}

  /**
   * The memory of a contiguous array in 'c' order, with what it holds now. It is the array's: keep
   * the array reachable while the memory is in use.
   */
  static MemorySegment of(INDArray array) {
    // What a backend with a queue has not done yet must be in memory before it is read.
    Nd4j.getExecutioner().commit();
    Nd4j.getAffinityManager().ensureLocation(array, Location.HOST);
    long element = array.dataType().width();
    return MemorySegment.ofAddress(array.data().pointer().address() + array.offset() * element)
        .reinterpret(array.length() * element);
  }

  /** The array itself if its elements lie side by side in 'c' order, else a copy that does. */
  static INDArray contiguous(INDArray array) {
    return isContiguous(array) ? array : array.dup('c');
  }

  static boolean isContiguous(INDArray array) {
    long expected = 1;
    for (int i = array.rank() - 1; i >= 0; i--) {
      if (array.size(i) != 1 && array.stride(i) != expected) {
        return false;
      }
      expected *= array.size(i);
    }
    return true;
  }

  /** Says that the host's memory of an array is what it holds from now on. */
  static void written(INDArray array) {
    Nd4j.getAffinityManager().tagLocation(array, Location.HOST);
  }

  /** A contiguous FLOAT array as a tensor over its own memory, which keeps the array. */
  static Tensor tensor(INDArray array) {
    MemorySegment memory = of(array);
    return new Tensor(
        Dtype.F32,
        array.shape(),
        MemorySegment.ofAddress(memory.address())
            .reinterpret(memory.byteSize(), Arena.ofAuto(), new Keeper(array)));
  }

  /** Cleans up nothing: it is there for what it refers to. */
  private record Keeper(INDArray array) implements Consumer<MemorySegment> {
    @Override
    public void accept(MemorySegment memory) {}
  }
}
