// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

/**
 * The projection of one block of tokens after the other, with the memory that it needs: the tokens
 * are laid out as the product wants them, then each group of outputs is asked for.
 *
 * <p>For one run at a time; its workers may call at once where a method says so. Nothing is
 * allocated once all workers have been seen.
 */
interface BlockProduct {
  /** What a run needs to know of a kernel's projection. */
  interface Maker {
    /** How the outputs are divided. */
    OutputGroups groups();

    /**
     * A product for one run.
     *
     * @param workers how many may call at once
     */
    BlockProduct forRun(int workers);
  }

  /**
   * A block begins.
   *
   * @param tokens 1 to {@link GateRun#BLOCK}
   */
  void start(int tokens);

  /**
   * Takes up to {@link GateLoops#TOKENS} tokens; by several workers at once.
   *
   * @param token the first of them, a multiple of {@link GateLoops#TOKENS}
   * @param count as many, or as few as are left of the block
   * @param rows [count, rowWidth]
   */
  void put(int token, int count, float[] rows);

  /** Pieces that have to be computed, in any order, before groups are asked for. */
  default int pieces() {
    return 0;
  }

  /** Computes a piece; by several workers at once. */
  default void piece(int piece) {
    throw new IndexOutOfBoundsException("piece " + piece + " of none");
  }

  /**
   * The outputs of one group, with their biases, rounded as the configuration says; by several
   * workers at once.
   *
   * @param worker whose scratch to use
   * @param item one of {@link Maker#groups}
   * @param out receives [tokens, groupWidth]
   */
  void group(int worker, int item, float[] out);
}
