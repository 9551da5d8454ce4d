// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.Dtype;
import io.engram.gating.EngramLayer.Output;
import java.lang.foreign.MemorySegment;
import java.lang.ref.Reference;
import java.util.List;
import java.util.function.Consumer;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;

/** {@link GateKernel} on the host memory of ND4J arrays. */
final class CpuForward implements EngramLayer.Forward {
  private final GateKernel kernel;

  CpuForward(GateKernel kernel) {
    this.kernel = kernel;
  }

  @Override
  public void forward(
      INDArray streams, INDArray rows, boolean[] live, List<ConvState> states, Output output) {
    run(streams, rows, live, output, call -> kernel.forward(call.withStates(states)));
  }

  @Override
  public EngramLayer.Tape record(INDArray streams, INDArray rows, boolean[] live, Output output) {
    GateTape tape = kernel.newTape();
    run(streams, rows, live, output, call -> kernel.forward(call, tape));
    return (outGradient, streamsGradient, rowsGradient, weightGradients) -> {
      INDArray own = HostMemory.contiguous(outGradient);
      try {
        kernel.backward(
            tape,
            HostMemory.of(own),
            HostMemory.of(rowsGradient),
            HostMemory.of(streamsGradient),
            weightGradients.weights());
      } finally {
        Reference.reachabilityFence(own);
        Reference.reachabilityFence(rowsGradient);
        Reference.reachabilityFence(streamsGradient);
      }
      HostMemory.written(streamsGradient);
      HostMemory.written(rowsGradient);
      weightGradients.arrays().values().forEach(HostMemory::written);
    };
  }

  @Override
  public void refresh() {
    kernel.refresh();
  }

  private static void run(
      INDArray streams, INDArray rows, boolean[] live, Output output, Consumer<GateCall> forward) {
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
            .withGates(HostMemory.of(output.gates()));
    if (live != null) {
      byte[] bytes = new byte[live.length];
      for (int i = 0; i < bytes.length; i++) {
        bytes[i] = (byte) (live[i] ? 1 : 0);
      }
      call = call.withLive(MemorySegment.ofArray(bytes));
    }
    try {
      forward.accept(call);
    } finally {
      Reference.reachabilityFence(ownStreams);
      Reference.reachabilityFence(ownRows);
      Reference.reachabilityFence(output);
    }
    HostMemory.written(output.streams());
    HostMemory.written(output.gates());
  }
}
