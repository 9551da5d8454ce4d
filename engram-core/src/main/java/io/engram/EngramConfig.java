// SPDX-License-Identifier: Apache-2.0
package io.engram;

import io.engram.hash.HashScheme;
import io.engram.hash.WindowRule;
import io.engram.table.RowFormat;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * The one descriptor of a memory: everything in which the published variants differ, as data.
 *
 * <p>A value, safe to share.
 *
 * @param vocabularySize raw token ids are 0 to vocabularySize - 1
 * @param compressed whether raw ids are compressed before they are hashed (paper, section 2.2)
 * @param fillTokenId the raw id that stands for positions before the start of a sequence
 * @param boundaryTokenId the raw id that ends a segment, or {@link WindowRule#NO_BOUNDARY}
 * @param dead what a position without a token does to the n-grams that reach it
 * @param hashing orders, heads, layers and how multipliers and moduli are drawn
 * @param rowFormat how rows are stored
 * @param headDim values of one row, at least 1
 * @param gate how rows are let into the hidden state
 * @param conv the convolution behind the gate, where the variant has one
 */
public record EngramConfig(
    int vocabularySize,
    boolean compressed,
    int fillTokenId,
    int boundaryTokenId,
    WindowRule.Dead dead,
    HashScheme hashing,
    RowFormat rowFormat,
    int headDim,
    GateConfig gate,
    Optional<ConvConfig> conv) {

  /** Checks what the parts cannot check alone. */
  public EngramConfig {
    Objects.requireNonNull(dead, "dead");
    Objects.requireNonNull(hashing, "hashing");
    Objects.requireNonNull(rowFormat, "rowFormat");
    Objects.requireNonNull(gate, "gate");
    Objects.requireNonNull(conv, "conv");
    if (vocabularySize < 1) {
      throw new IllegalArgumentException(
          "vocabularySize is " + vocabularySize + ", expected at least 1");
    }
    if (fillTokenId < 0 || fillTokenId >= vocabularySize) {
      throw new IllegalArgumentException(
          "fillTokenId is " + fillTokenId + ", expected 0 to " + (vocabularySize - 1));
    }
    if (boundaryTokenId < WindowRule.NO_BOUNDARY || boundaryTokenId >= vocabularySize) {
      throw new IllegalArgumentException(
          "boundaryTokenId is " + boundaryTokenId + ", expected -1 to " + (vocabularySize - 1));
    }
    if (compressed
        ? hashing.vocabularySize() > vocabularySize
        : hashing.vocabularySize() != vocabularySize) {
      throw new IllegalArgumentException(
          "hashing covers "
              + hashing.vocabularySize()
              + " ids, which does not fit a vocabulary of "
              + vocabularySize
              + (compressed ? " before compression" : " without compression"));
    }
    if (headDim < 1) {
      throw new IllegalArgumentException("headDim is " + headDim + ", expected at least 1");
    }
    Math.multiplyExact(hashing.columns(), headDim);
  }

  /**
   * Values that one position retrieves: all its rows, in column order.
   *
   * @return columns * headDim
   */
  public int rowWidth() {
    return hashing.columns() * headDim;
  }

  /**
   * The layers that have a memory, numbered as the configuration numbers them.
   *
   * @return the layers in the configuration's order
   */
  public List<Integer> layerIds() {
    return hashing.layerIds();
  }
}
