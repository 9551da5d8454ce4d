// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.random.RandomGenerator;

/** One named tensor among a model's dense parameters. */
final class Parameter {
  /** What training does with it. */
  enum Kind {
    /** Has weight decay. */
    MATRIX,
    /** Has none. */
    VECTOR,
    /** Has no gradient either. */
    BALANCE
  }

  /** Where it starts. */
  @FunctionalInterface
  interface Start {
    float value(RandomGenerator random, int index);
  }

  private final String name;
  private final long[] shape;
  private final Kind kind;
  private final Start start;
  private final int size;
  private int offset = -1;

  private Parameter(String name, Kind kind, Start start, long... shape) {
    this.name = name;
    this.shape = shape;
    this.kind = kind;
    this.start = start;
    long product = 1;
    for (long n : shape) {
      product = Math.multiplyExact(product, n);
    }
    this.size = Math.toIntExact(product);
  }

  static Parameter matrix(String name, double deviation, long... shape) {
    return new Parameter(
        name, Kind.MATRIX, (random, _) -> (float) (deviation * random.nextGaussian()), shape);
  }

  static Parameter vector(String name, float value, long... shape) {
    return new Parameter(name, Kind.VECTOR, (_, _) -> value, shape);
  }

  static Parameter of(String name, Kind kind, Start start, long... shape) {
    return new Parameter(name, kind, start, shape);
  }

  String name() {
    return name;
  }

  long[] shape() {
    return shape.clone();
  }

  Kind kind() {
    return kind;
  }

  Start start() {
    return start;
  }

  int size() {
    return size;
  }

  /** Index of its first value among all parameters. */
  int offset() {
    return offset;
  }

  void place(int at) {
    offset = at;
  }

  /** Its rows in an array of all parameters, or of all gradients. */
  Blas.Matrix in(float[] all) {
    return new Blas.Matrix(all, offset, Math.toIntExact(shape[shape.length - 1]));
  }
}
