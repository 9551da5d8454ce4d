// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.Dtype;
import io.engram.EngramMemory;
import io.engram.gating.EngramLayer;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Optional;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** {@code engram forward --engine nd4j}: apart, so that ND4J starts only where it is asked for. */
final class Nd4jForward {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private Nd4jForward() {}

  static ForwardCommand.Layer layer(EngramMemory memory, int layer) {
    EngramLayer engine = EngramLayer.load(memory, layer, EngramLayer.Engine.ND4J);
    int streams = memory.config().gate().streams();
    int width = memory.config().gate().width();
    int rowWidth = memory.config().rowWidth();
    return call -> {
      long b = call.sequences();
      long t = call.tokens();
      boolean narrow = call.dtype() == Dtype.BF16;
      INDArray hidden =
          array(floats(call.streams(), narrow), b, t, streams, width)
              .castTo(narrow ? DataType.BFLOAT16 : DataType.FLOAT);
      INDArray rows = array(floats(call.rows(), false), b, t, rowWidth);
      Optional<INDArray> live =
          call.live()
              .map(bytes -> {
                float[] flags = new float[(int) (b * t)];
                for (int i = 0; i < flags.length; i++) {
                  flags[i] = bytes.get(ValueLayout.JAVA_BYTE, i);
                }
                return array(flags, b, t);
              });
      EngramLayer.Output output =
          engine.forward(new EngramLayer.Input(hidden, rows, live, call.states()));
      write(output.streams(), call.out(), narrow);
      call.gates().ifPresent(gates -> write(output.gates(), gates, false));
    };
  }

  private static INDArray array(float[] values, long... shape) {
    return Nd4j.createFromArray(values).reshape('c', shape);
  }

  private static float[] floats(MemorySegment data, boolean bf16) {
    if (!bf16) {
      return data.toArray(FLOAT);
    }
    short[] bits = data.toArray(SHORT);
    float[] values = new float[bits.length];
    for (int i = 0; i < values.length; i++) {
      values[i] = Float.intBitsToFloat(bits[i] << 16);
    }
    return values;
  }

  private static void write(INDArray array, MemorySegment out, boolean bf16) {
    float[] values = array.castTo(DataType.FLOAT).dup('c').data().asFloat();
    for (int i = 0; i < values.length; i++) {
      if (bf16) {
        out.set(SHORT, i * 2L, (short) (Float.floatToRawIntBits(values[i]) >>> 16));
      } else {
        out.set(FLOAT, i * 4L, values[i]);
      }
    }
  }
}
