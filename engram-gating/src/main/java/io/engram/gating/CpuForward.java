// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.gating.EngramLayer.Output;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.List;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.concurrency.AffinityManager.Location;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** {@link GateKernel} on the host memory of ND4J arrays. */
final class CpuForward implements EngramLayer.Forward {
  private final GateKernel kernel;

  CpuForward(GateKernel kernel) {
    this.kernel = kernel;
  }

  @Override
  public void forward(
      INDArray streams, INDArray rows, boolean[] live, List<ConvState> states, Output output) {
    INDArray ownStreams = contiguous(streams);
    INDArray ownRows = contiguous(rows);
    // What a backend with a queue has not done yet must be in memory before it is read.
    Nd4j.getExecutioner().commit();
    for (INDArray array : List.of(ownStreams, ownRows, output.streams(), output.gates())) {
      Nd4j.getAffinityManager().ensureLocation(array, Location.HOST);
    }
    GateCall call =
        GateCall.of(
                Math.toIntExact(streams.size(0)),
                Math.toIntExact(streams.size(1)),
                streams.dataType() == DataType.FLOAT ? Dtype.F32 : Dtype.BF16,
                memory(ownRows),
                memory(ownStreams),
                memory(output.streams()))
            .withGates(memory(output.gates()))
            .withStates(states);
    if (live != null) {
      byte[] bytes = new byte[live.length];
      for (int i = 0; i < bytes.length; i++) {
        bytes[i] = (byte) (live[i] ? 1 : 0);
      }
      call = call.withLive(MemorySegment.ofArray(bytes));
    }
    try {
      kernel.forward(call);
    } finally {
      Reference.reachabilityFence(ownStreams);
      Reference.reachabilityFence(ownRows);
      Reference.reachabilityFence(output);
    }
    Nd4j.getAffinityManager().tagLocation(output.streams(), Location.HOST);
    Nd4j.getAffinityManager().tagLocation(output.gates(), Location.HOST);
  }

  /** The array itself if its elements lie side by side in 'c' order, else a copy that does. */
  private static INDArray contiguous(INDArray array) {
    long expected = 1;
    for (int i = array.rank() - 1; i >= 0; i--) {
      if (array.size(i) != 1 && array.stride(i) != expected) {
        return array.dup('c');
      }
      expected *= array.size(i);
    }
    return array;
  }

  private static MemorySegment memory(INDArray array) {
    long element = array.dataType().width();
    return MemorySegment.ofAddress(array.data().pointer().address() + array.offset() * element)
        .reinterpret(array.length() * element);
  }
}
