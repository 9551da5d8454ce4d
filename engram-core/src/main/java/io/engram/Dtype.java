// SPDX-License-Identifier: Apache-2.0
package io.engram;

/** Element types of tensors, named as safetensors names them. All are little-endian. */
public enum Dtype {
  /** IEEE 754 binary64. */
  F64(8),
  /** IEEE 754 binary32. */
  F32(4),
  /** bfloat16: the upper half of a binary32. */
  BF16(2),
  /** IEEE 754 binary16. */
  F16(2),
  /** FP8 with 4 exponent and 3 mantissa bits, no infinities, NaN at 0x7F and 0xFF. */
  F8_E4M3(1),
  /** A power of two: 2^(byte - 127), NaN at 0xFF. */
  F8_E8M0(1),
  /** Signed 64-bit integer. */
  I64(8),
  /** Signed 32-bit integer. */
  I32(4),
  /** Unsigned 8-bit integer. */
  U8(1),
  /** One byte, 0 or 1. */
  BOOL(1);

  private final int bytes;

  Dtype(int bytes) {
    this.bytes = bytes;
  }

  /**
   * Size of one element.
   *
   * @return bytes of one element
   */
  public int bytes() {
    return bytes;
  }
}
