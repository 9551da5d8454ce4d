// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

/** Something that the library is measured against and that may not be there. */
public enum Rival {
  /** C, compiled by gcc or the compiler that {@value CRival#PROPERTY} names. */
  C,
  /** NumPy, in the Python that {@value PythonRival#PROPERTY} names. */
  NUMPY,
  /** PyTorch on the CPU, in the same Python. */
  TORCH,
  /** ND4J's own operations. */
  ND4J,
  /** LMDB by lmdbjava, which only the benchmarks' own jar has. */
  LMDB,
  /** RocksDB by rocksdbjni, which only the benchmarks' own jar has. */
  ROCKSDB;

  /**
   * Whether a rival is there.
   *
   * @param rival the rival
   * @param present whether it is there
   * @param detail its version and how it is built, or why it is absent
   */
  public record Presence(Rival rival, boolean present, String detail) {}
}
