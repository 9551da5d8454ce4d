// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/**
 * All dense parameters of a model in one flat ND4J array, matrices first, so that one call of an
 * updater and one norm serve them all; and their copy on the heap, which the parts compute with.
 */
final class Parameters {
  private final List<Parameter> all = new ArrayList<>();
  private int matrixSize;
  private float[] values;
  private INDArray array;
  private MemorySegment memory;

  /** Registers a tensor; before {@link #allocate}. */
  Parameter add(Parameter parameter) {
    all.add(parameter);
    return parameter;
  }

  /** Gives each tensor its place and its first values. */
  void allocate(long seed) {
    int at = 0;
    for (Parameter.Kind kind : Parameter.Kind.values()) {
      for (Parameter parameter : all) {
        if (parameter.kind() == kind) {
          parameter.place(at);
          at = Math.addExact(at, parameter.size());
        }
      }
      if (kind == Parameter.Kind.MATRIX) {
        matrixSize = at;
      }
    }
    values = new float[at];
    RandomGenerator random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
    for (Parameter parameter : all) {
      for (int i = 0; i < parameter.size(); i++) {
        values[parameter.offset() + i] = parameter.start().value(random, i);
      }
    }
    array = Nd4j.create(DataType.FLOAT, 1, at);
    memory = memoryOf(array);
    MemorySegment.copy(values, 0, memory, ValueLayout.JAVA_FLOAT, 0, at);
  }

  /** The memory of an array that is no view, open as long as the array is reachable. */
  static MemorySegment memoryOf(INDArray array) {
    return MemorySegment.ofAddress(array.data().address())
        .reinterpret(array.length() * Float.BYTES);
  }

  int size() {
    return values.length;
  }

  /** Values before this index belong to matrices. */
  int matrixSize() {
    return matrixSize;
  }

  List<Parameter> all() {
    return all;
  }

  /** The parameter that a value belongs to. */
  Parameter at(int index) {
    for (Parameter parameter : all) {
      if (index >= parameter.offset() && index < parameter.offset() + parameter.size()) {
        return parameter;
      }
    }
    throw new IndexOutOfBoundsException(index);
  }

  /** The heap's copy: to be read only. */
  float[] values() {
    return values;
  }

  /** [1, size]. Whoever changes it calls {@link #changed}. */
  INDArray array() {
    return array;
  }

  /** The memory of {@link #array}. */
  MemorySegment memory() {
    return memory;
  }

  /** The memory of one tensor. */
  MemorySegment memory(Parameter parameter) {
    return memory.asSlice(
        (long) parameter.offset() * Float.BYTES, (long) parameter.size() * Float.BYTES);
  }

  /** Name and element of the first value that is not finite. */
  Optional<String> firstNotFinite() {
    for (int i = 0; i < values.length; i++) {
      if (!Float.isFinite(values[i])) {
        Parameter parameter = at(i);
        return Optional.of(parameter.name() + " at element " + (i - parameter.offset()));
      }
    }
    return Optional.empty();
  }

  /** Copies the array to the heap. */
  void changed() {
    MemorySegment.copy(memory, ValueLayout.JAVA_FLOAT, 0, values, 0, values.length);
  }
}
