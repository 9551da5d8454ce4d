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
    INDArray ownStreams = HostMemory.contiguous(streams);
    INDArray ownRows = HostMemory.contiguous(rows);
    GateCall call =
        GateCall.of(
                Math.toIntExact(streams.size(0)),
                Math.toIntExact(streams.size(1)),
                streams.dataType() == DataType.FLOAT ? Dtype.F32 : Dtype.BF16,
                HostMemory.of(ownRows),
                HostMemory.of(ownStreams),
                HostMemory.of(output.streams()))
            .withGates(HostMemory.of(output.gates()))
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

  @Override
  public EngramLayer.Tape record(INDArray streams, INDArray rows, boolean[] live, Output output) {
    throw new UnsupportedOperationException("backward of the CPU engine");
  }

  @Override
  public void refresh() {
    throw new UnsupportedOperationException("refresh of the CPU engine");
  }
}
