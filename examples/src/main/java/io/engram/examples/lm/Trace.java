// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.List;

/**
 * What went on inside a model over one sequence.
 *
 * @param hidden [layers + 1][tokens][width]: the mean of the residual streams before the first
 *     layer and after each one; {@link LanguageModel#logProbabilities} makes predictions of them
 * @param memoryLayers the layers that have a memory, ascending
 * @param gates for each of them [tokens][streams]: how much of the memory was let into each stream,
 *     0 to 1; 0 while the memory is off
 */
@SuppressWarnings("ArrayRecordComponent") // Never compared.
public record Trace(float[][][] hidden, List<Integer> memoryLayers, List<float[][]> gates) {
  /** Keeps the arrays as they are. */
  public Trace {
    memoryLayers = List.copyOf(memoryLayers);
    gates = List.copyOf(gates);
  }
}
