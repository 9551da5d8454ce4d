// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

/**
 * How one row of a table is stored: its values, followed by its own scales where the format has
 * them. A row is the unit of reading and is always whole.
 */
public enum RowFormat {
  /** float32. */
  F32,
  /** bfloat16. */
  BF16,
  /** IEEE half precision. */
  F16,
  /**
   * FP8 E4M3 with one UE8M0 scale for each block of 32 values (V4.1): the value bytes of the row,
   * then its scale bytes. A value is e4m3(byte) * 2^(scale - 127), rounded to bfloat16. Scale byte
   * 255 is NaN and refused.
   */
  FP8_BLOCK32,
  /** FP8 E4M3 with one float32 scale for the whole table. */
  FP8_TENSOR;

  /** Values that share one scale in {@link #FP8_BLOCK32}. */
  public static final int BLOCK = 32;

  /**
   * Bytes of the values of one row.
   *
   * @param headDim values of a row, at least 1
   * @return bytes, without scales
   */
  public int valueBytes(int headDim) {
    return switch (this) {
      case F32 -> Math.multiplyExact(headDim, 4);
      case BF16, F16 -> Math.multiplyExact(headDim, 2);
      case FP8_BLOCK32, FP8_TENSOR -> headDim;
    };
  }

  /**
   * Bytes of the scales of one row.
   *
   * @param headDim values of a row, at least 1
   * @return bytes, 0 for formats without scales of their own
   */
  public int scaleBytes(int headDim) {
    return this == FP8_BLOCK32 ? (headDim + BLOCK - 1) / BLOCK : 0;
  }

  /**
   * Bytes of one stored row, scales included.
   *
   * @param headDim values of a row, at least 1
   * @return bytes of one row
   */
  public int rowBytes(int headDim) {
    return Math.addExact(valueBytes(headDim), scaleBytes(headDim));
  }
}
