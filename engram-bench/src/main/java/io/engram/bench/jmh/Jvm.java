// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh;

/** Options that every fork needs, so that none silently runs the scalar kernels. */
final class Jvm {
  static final String VECTOR = "--add-modules=jdk.incubator.vector";
  static final String NATIVE = "--enable-native-access=ALL-UNNAMED";
  static final String UNSAFE = "--sun-misc-unsafe-memory-access=allow";

  private Jvm() {}
}
